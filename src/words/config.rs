//! The configuration as it is meant: every default filled in, every value valid. What the operator wrote, and where,
//! stays behind in `rules::conf`.

use crate::words::cert::{Fingerprint, KeyKind, Want, Window};
use crate::words::fault::Place;
use crate::words::name::Name;
use crate::words::time::Span;
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;

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
    /// What is no fault but worth a line: old names, an MD that nobody uses.
    pub notices: Vec<String>,
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
    /// Trust roots for talking to the CA (PEM); `None` is the built-in ones.
    pub roots: Option<PathBuf>,
    pub proxy: Option<String>,
    /// `accepted`, or the URL of the terms that were accepted.
    pub agreement: Option<String>,
    /// `mailto:` URLs.
    pub contacts: Vec<String>,
    /// One key and one certificate each; never empty, no family twice.
    pub keys: Vec<KeyKind>,
    pub window: Window,
    pub retry: Span,
    /// As written, unfiltered, or `None` for what is possible.
    pub challenges: Option<Vec<Challenge>>,
    pub require_https: RequireHttps,
    pub export: Option<Export>,
    /// The program and its arguments; the MD's name is added at the call.
    pub notify: Option<Vec<String>>,
    pub hook_limit: Span,
}

impl Md {
    /// Whether the CA may be asked for it.
    pub fn driven(&self) -> bool {
        match self.drive {
            DriveMode::Always => true,
            DriveMode::Auto => self.used,
            DriveMode::Manual => false,
        }
    }

    /// The certificates that this MD asks for, one for each of its keys. `fingerprint` is that of [`Md`] itself.
    pub fn wants(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Want> + '_ {
        self.keys.iter().map(move |kind| Want {
            md: self.name.clone(),
            names: self.names.clone(),
            kind: *kind,
            ca: self.cas.first().cloned().unwrap_or_default(),
            window: self.window,
            driven: self.driven(),
            tells: self.export.is_some() || self.notify.is_some(),
            forced: false,
            retry: self.retry,
            fingerprint,
        })
    }
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Challenge {
    Http01,
    TlsAlpn01,
    Dns01,
    DnsPersist01,
}

impl Challenge {
    pub const ALL: [Self; 4] = [Self::Http01, Self::TlsAlpn01, Self::Dns01, Self::DnsPersist01];

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

/// PEM files for other programs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Export {
    pub dir: PathBuf,
    pub layout: Layout,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Layout {
    /// `<md>.crt` (the chain) and `<md>.key`.
    Pair,
    /// The pair, and `<md>.pem` with both in one file.
    Combined,
}

/// A virtual host, or the server outside of them: what it is called, and where requests go that are not ours.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// ServerName and ServerAlias, lower-cased, without ports; aliases may be wildcards.
    pub names: Vec<String>,
    /// Where it listens; empty for the base server.
    pub addrs: Vec<(Option<IpAddr>, u16)>,
    pub tls: bool,
    pub proxy: Option<Backend>,
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
