//! The configuration as it is meant: every default filled in, every value valid. What the operator wrote, and where,
//! stays behind in `rules::conf`.

use crate::words::cert::{Account, Fingerprint, Held, KeyKind, Slot, Want, Window};
use crate::words::fault::Place;
use crate::words::name::Name;
use crate::words::time::Span;
use core::fmt;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;
use zeroize::Zeroize as _;

/// Everything that one configuration file says.
#[derive(Clone, Debug)]
pub struct Config {
    pub mds: Vec<Md>,
    /// The virtual hosts, in the order of the file; `base` is the server outside of them.
    pub sites: Vec<Site>,
    pub base: Site,
    pub ports: PortMap,
    /// As `Listen` says, or as follows from the port map.
    pub listen: Vec<Listen>,
    pub store: PathBuf,
    /// `None` is `MDControlSocket off`.
    pub control: Option<PathBuf>,
    /// `None` is the default: a random moment of up to 30 s before a first issuance.
    pub initial_delay: Option<Span>,
    pub check_interval: Span,
    /// Whether each MD's host tells the public about its certificates.
    pub certificate_status: bool,
    /// Whether the control socket has the view of all MDs.
    pub server_status: bool,
    /// How many connections of strangers are open at once.
    pub connections: usize,
    /// How many of them a single host may have.
    pub per_host: usize,
    /// How long to wait for another daemon to leave the store; `None` is `MDStoreLocks off`.
    pub locks: Option<Span>,
    /// What is no fault but worth a line: old names, an MD that nobody uses.
    pub notices: Vec<String>,
}

impl Config {
    /// Whether another daemon writes the store: `MDStoreLocks off`, and nothing is driven here.
    pub fn only_reads(&self) -> bool {
        self.locks.is_none() && !self.mds.iter().any(Md::driven)
    }

    /// Whether what stands in this place is of use to one of the MDs. What an MD had before the operator's own is.
    pub fn asks_for(&self, slot: &Slot) -> bool {
        let md = self.mds.iter().find(|md| md.name == slot.md);
        md.is_some_and(|md| match md.statics.is_empty() {
            true => md.keys.iter().any(|kind| kind.family() == slot.family),
            false => true,
        })
    }

    /// How long to wait for the store's lock.
    pub fn patience(&self) -> Span {
        self.locks.unwrap_or(Self::PATIENCE)
    }

    /// What `MDStoreLocks on` means.
    const PATIENCE: Span = Span::secs(5);

    /// What need not outlive a boot is kept beside the control socket.
    pub fn state(&self) -> Option<PathBuf> {
        Some(self.control.as_ref()?.parent()?.join("state"))
    }
}

/// Nothing is managed, and every setting has its default.
impl Default for Config {
    fn default() -> Self {
        Self {
            mds: vec![],
            sites: vec![],
            base: Site::default(),
            ports: PortMap { http: Some(80), https: Some(443) },
            listen: vec![],
            store: "/var/lib/edgemd".into(),
            control: Some("/run/edgemd/control.sock".into()),
            initial_delay: None,
            check_interval: Span::hours(12),
            certificate_status: true,
            server_status: true,
            connections: 256,
            per_host: 64,
            locks: Some(Self::PATIENCE),
            notices: vec![],
        }
    }
}

/// One managed domain.
#[derive(Clone, Debug, Serialize)]
pub struct Md {
    pub name: Name,
    pub names: Vec<Name>,
    #[serde(skip)]
    pub place: Place,
    pub drive: DriveMode,
    /// Whether a virtual host or an export uses it, or the file has no virtual host at all.
    pub used: bool,
    /// Directory URLs, in the order in which they are to be tried; never empty.
    pub cas: Vec<String>,
    /// Those for each of `keys`, where a CA has another directory for another kind of key.
    #[serde(skip)]
    pub cas_by_key: Vec<Vec<String>>,
    /// Trust roots for talking to the CA (PEM); `None` is the built-in ones.
    pub roots: Option<PathBuf>,
    pub proxy: Option<String>,
    /// Trust roots for the proxy (PEM); `None` is those for the CA.
    pub proxy_roots: Option<PathBuf>,
    /// The account at the CA's own site that ours is bound to.
    pub binding: Option<Binding>,
    /// Which of the CA's chains; `None` is its own.
    pub chain: Option<Chain>,
    /// After how many failures the next CA is tried.
    pub failover: u32,
    /// The CA's profile that is wished for, and whether nothing else will do.
    pub profile: Option<String>,
    pub profile_mandatory: bool,
    /// `accepted`, or the URL of the terms that were accepted.
    pub agreement: Option<String>,
    /// `mailto:` URLs.
    pub contacts: Vec<String>,
    /// One key and one certificate each; never empty, no family twice.
    pub keys: Vec<KeyKind>,
    pub reuse_key: bool,
    /// Whether the TLS feature extension is asked for (RFC 7633).
    pub must_staple: bool,
    pub stapling: Stapling,
    /// Certificates of the operator's own, each with its key; served and watched.
    pub statics: Vec<Static>,
    pub window: Window,
    /// Whether the CA's own window counts, too.
    pub ari: bool,
    /// From here on a certificate that was not renewed is warned of.
    pub warn: Window,
    /// How long after its notBefore a renewed certificate is taken into use.
    pub activation: Span,
    pub retry: Span,
    /// As written, unfiltered, or `None` for what is possible.
    pub challenges: Option<Vec<Challenge>>,
    /// The program that puts answers to dns-01 into DNS, and its arguments.
    pub dns_command: Option<Vec<String>>,
    /// `MDChallengeDns01Version 1`: it is told only the name of what it takes away.
    pub dns_forgets: bool,
    /// How long DNS may take to show an answer; `None`: nobody looks.
    pub dns_wait: Option<Span>,
    /// Where answers to http-01 are written too, for a web server that owns port 80.
    pub webroot: Option<PathBuf>,
    /// Whether the Internet's 443 arrives at a listener of ours.
    pub tls_arrives: bool,
    pub require_https: RequireHttps,
    pub export: Option<Export>,
    /// The program and its arguments; the MD's name is added at the call.
    pub notify: Option<Vec<String>>,
    /// Likewise; the event and the MD's name are added at the call.
    pub message: Option<Vec<String>>,
    /// `host:port` where the new certificate is to be seen after a notification.
    pub served_at: Option<String>,
    pub hook_limit: Span,
}

impl Md {
    /// An MD of this name, with every default.
    pub fn plain(name: Name, place: Place) -> Self {
        Self {
            names: vec![name.clone()],
            name,
            place,
            drive: DriveMode::Auto,
            used: true,
            cas: vec![],
            cas_by_key: vec![],
            roots: None,
            proxy: None,
            proxy_roots: None,
            binding: None,
            chain: None,
            failover: 5,
            profile: None,
            profile_mandatory: false,
            agreement: None,
            contacts: vec![],
            keys: vec![KeyKind::P256],
            reuse_key: false,
            must_staple: false,
            stapling: Stapling { on: false, window: Window::Percent(33), keep: Span::days(7) },
            statics: vec![],
            window: Window::Percent(33),
            ari: true,
            warn: Window::Percent(10),
            activation: Span::ZERO,
            retry: Span::secs(30),
            challenges: None,
            dns_command: None,
            dns_forgets: false,
            dns_wait: Some(Span::mins(2)),
            webroot: None,
            tls_arrives: false,
            require_https: RequireHttps::Off,
            export: None,
            notify: None,
            message: None,
            served_at: None,
            hook_limit: Span::secs(60),
        }
    }

    /// The directories for certificates with this kind of key.
    pub fn cas_for(&self, kind: KeyKind) -> &[String] {
        let at = self.keys.iter().position(|key| *key == kind);
        at.and_then(|at| self.cas_by_key.get(at)).unwrap_or(&self.cas)
    }

    /// The place of the account that it uses at this CA.
    pub fn account_at(&self, ca: &str) -> String {
        Account::place_of(ca, self.binding.as_ref().map(|binding| binding.kid.as_str()))
    }

    /// Whether this account is of use to it.
    pub fn uses(&self, account: &Account) -> bool {
        self.cas.contains(&account.ca) && self.account_at(&account.ca) == account.place()
    }

    /// Whether the operator has named this way.
    pub fn proves_by(&self, challenge: Challenge) -> bool {
        self.challenges.as_ref().is_some_and(|listed| listed.contains(&challenge))
    }

    /// Whether the CA may be asked for it.
    pub fn driven(&self) -> bool {
        match self.drive {
            DriveMode::Always => true,
            DriveMode::Auto => self.used && self.statics.is_empty(),
            DriveMode::Manual => false,
        }
    }

    /// The certificates that this MD asks for, one for each of its keys; none where it has the operator's own, unless it is
    /// driven even so. `fingerprint` is that of [`Md`] itself.
    pub fn wants(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Want> + '_ {
        let has_own = !self.statics.is_empty();
        let keys = if has_own && self.drive != DriveMode::Always { &[][..] } else { &self.keys };
        // The operator's own is what others are given.
        keys.iter().map(move |kind| {
            let want = self.want(*kind, fingerprint);
            Want { tells: want.tells && !has_own, ..want }
        })
    }

    /// A certificate of the operator's own is what this asks for: from no CA, and not of us.
    pub fn want_of_own(&self, held: &Held, fingerprint: Fingerprint) -> Want {
        // Nothing was renewed, so there is no message of it.
        let tells = self.export.is_some() || self.notify.is_some();
        let (cas, must_staple) = (vec![String::new()], held.must_staple);
        Want { cas, must_staple, driven: false, tells, ..self.want(held.kind, fingerprint) }
    }

    fn want(&self, kind: KeyKind, fingerprint: Fingerprint) -> Want {
        Want {
            md: self.name.clone(),
            names: self.names.clone(),
            kind,
            cas: self.cas_for(kind).to_vec(),
            failover: self.failover,
            must_staple: self.must_staple,
            window: self.window,
            ari: self.ari,
            driven: self.driven(),
            activation: self.activation,
            tells: self.export.is_some() || self.notify.is_some() || self.message.is_some(),
            revoked: false,
            forced: false,
            retry: self.retry,
            fingerprint,
        }
    }
}

/// What a CA's own site gives to those who have an account there (RFC 8555 §7.3.4).
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    pub kid: String,
    /// As written: base64url, it is hoped.
    pub hmac: String,
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.hmac.zeroize();
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding(..)")
    }
}

/// One of the chains that a CA has for a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum Chain {
    Shortest,
    /// Whose topmost issuer has this common name.
    Under(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum DriveMode {
    Auto,
    Manual,
    Always,
}

/// Whether visitors over http are sent to https, and for how long they may remember it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum RequireHttps {
    Off,
    Temporary,
    Permanent,
}

/// A challenge type of RFC 8555 §8 or its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Challenge {
    Http01,
    TlsAlpn01,
    Dns01,
    DnsPersist01,
}

impl Challenge {
    pub const ALL: [Self; 4] = [Self::Http01, Self::TlsAlpn01, Self::Dns01, Self::DnsPersist01];

    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|challenge| challenge.word().eq_ignore_ascii_case(word))
    }

    /// The word on the wire and in `MDCAChallenges`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
            Self::DnsPersist01 => "dns-persist-01",
        }
    }
}

/// Whether and how long the CA's own word goes with a certificate (RFC 6960, RFC 6066 §8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Stapling {
    pub on: bool,
    /// The part of a response's life in which a newer one is asked for.
    pub window: Window,
    /// How long it stays in the store.
    pub keep: Span,
}

/// A certificate of the operator's own, and its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Static {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// PEM files for other programs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Export {
    pub dir: PathBuf,
    pub layout: Layout,
    /// Owner and group of the files; `None` leaves them as they come.
    pub owner: Option<u32>,
    pub group: Option<u32>,
    /// The mode of the files that hold a key; nobody else may ever read them.
    pub mode: u32,
}

impl Export {
    /// To this folder, for the daemon's own user.
    pub fn to(dir: PathBuf, layout: Layout) -> Self {
        Self { dir, layout, owner: None, group: None, mode: 0o600 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Layout {
    /// `<md>.crt` (the chain) and `<md>.key`.
    Pair,
    /// The pair, and `<md>.pem` with both in one file.
    Combined,
    /// OpenWrt's: `<md>.crt`, `.key`, `.fullchain.crt`, `.chain.crt`, `.combined.crt`.
    Acme,
    /// certbot's: `<md>/cert.pem`, `chain.pem`, `fullchain.pem`, `privkey.pem`.
    Live,
}

/// A virtual host, or the server outside of them: what it is called, and where requests go that are not ours.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// ServerName and ServerAlias, lower-cased, without ports; aliases may be wildcards.
    pub names: Vec<String>,
    /// Where it listens; empty for the base server.
    pub addrs: Vec<(Option<IpAddr>, u16)>,
    pub tls: bool,
    pub proxy: Option<Way>,
    /// Where TLS goes that is not a CA's, untouched.
    pub passthrough: Option<Way>,
}

/// A way to a back end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    pub to: Backend,
    pub header: ProxyProtocol,
}

/// Whether a line before everything else tells the back end who is there (HAProxy's PROXY protocol).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyProtocol {
    #[default]
    Off,
    V1,
    V2,
}

/// Where `ProxyPass` leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Backend {
    /// `host:port`, to be resolved when it is needed.
    Tcp(String),
    Unix(PathBuf),
}

/// On which local port the Internet's 80 and 443 arrive; `None` is "it does not arrive".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortMap {
    pub http: Option<u16>,
    pub https: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Listen {
    /// `None`: all addresses, IPv4 and IPv6.
    pub addr: Option<IpAddr>,
    pub port: u16,
    pub tls: bool,
}
