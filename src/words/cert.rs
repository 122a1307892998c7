//! The nouns of one certificate: what is wanted, what is held, what was tried; and the step that follows.

use crate::words::fault::{Failure, Trouble};
use crate::words::name::Name;
use crate::words::secret::Secret;
use crate::words::time::{Span, Unix};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The kind of a certificate's key. One MD has at most one certificate of each [`KeyKind::family`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum KeyKind {
    P256,
    P384,
    /// RSA with this many bits: 2048, 3072 or 4096.
    Rsa(u16),
}

impl KeyKind {
    /// One of each family.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Rsa(2048)];

    /// All of [`KeyKind::family`]'s words.
    pub const FAMILIES: [&'static str; 3] = ["secp256r1", "secp384r1", "rsa"];

    /// The same of certificates that are the operator's own; these never change places.
    const OWN: [&'static str; 3] = ["own-secp256r1", "own-secp384r1", "own-rsa"];

    /// The word that mod_md's status uses; two sizes of RSA are one family.
    pub fn family(self) -> &'static str {
        match self {
            Self::P256 => "secp256r1",
            Self::P384 => "secp384r1",
            Self::Rsa(_) => "rsa",
        }
    }
}

/// As an operator writes it: `P-256`, `RSA 2048`.
impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
        }
    }
}

/// How early: a fixed time, or a part of the certificate's real life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Window {
    Fixed(Span),
    Percent(u8),
}

impl Window {
    /// The length of the window at the end of a life of this length.
    pub fn of(self, life: Span) -> Span {
        match self {
            Self::Fixed(span) => span,
            Self::Percent(percent) => life.percent(u32::from(percent)),
        }
    }
}

/// The normal form that status shows: `10d`, `33%`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(span) => span.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How far a fingerprint goes: enough to tell two configurations of one MD apart.
pub type Fingerprint = [u8; 8];

/// One certificate that the configuration asks for: an MD, seen for one of its keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Want {
    pub md: Name,
    pub names: Vec<Name>,
    pub kind: KeyKind,
    /// The directory URLs of the CAs that it may come from, in the order in which they are tried.
    pub cas: Vec<String>,
    /// After how many failures the next one of them is tried.
    pub failover: u32,
    /// Whether it shall have the TLS feature extension (RFC 7633).
    pub must_staple: bool,
    pub window: Window,
    /// Whether the CA's own window counts, too (RFC 9773).
    pub ari: bool,
    /// Whether we may talk to the CA about it at all.
    pub driven: bool,
    /// How long after its notBefore a renewed certificate is taken into use.
    pub activation: Span,
    /// Whether somebody is to be told of a new certificate: an export or a script.
    pub tells: bool,
    /// Whether the CA says that the one we have is revoked.
    pub revoked: bool,
    /// Whether somebody asked for a new one, due or not.
    pub forced: bool,
    /// The base of the back-off.
    pub retry: Span,
    /// Changes with anything that the operator wrote for this MD.
    pub fingerprint: Fingerprint,
}

impl Want {
    pub fn slot(&self) -> Slot {
        Slot { md: self.md.clone(), family: self.kind.family() }
    }
}

/// Facts of the certificate that we own. Its key and chain travel beside it, as a [`Bundle`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    pub names: Vec<Name>,
    pub kind: KeyKind,
    /// The directory URL of the CA that gave it.
    pub ca: String,
    pub not_before: Unix,
    pub not_after: Unix,
    /// When we got it, by our clock.
    pub since: Unix,
    /// The DER integer's content, as it stands in the certificate.
    pub serial: Vec<u8>,
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// Whether it has the TLS feature extension (RFC 7633).
    #[serde(skip)]
    pub must_staple: bool,
    /// Whether it was asked for with it: a CA may give what it likes, and is not asked for the same again.
    #[serde(skip)]
    pub staple_asked: bool,
    /// The keyIdentifier of its issuer's key (RFC 5280 §4.2.1.1); empty where it names none.
    #[serde(skip)]
    pub authority: Vec<u8>,
    /// The CA's profile that it was ordered with.
    #[serde(skip)]
    pub profile: Option<String>,
}

impl Held {
    /// What tests begin with: it came when it begins, and the rest is as good as any.
    #[doc(hidden)]
    pub fn sample(names: Vec<Name>, from: Unix, until: Unix) -> Self {
        Self {
            names,
            kind: KeyKind::P256,
            ca: "https://ca.example/dir".into(),
            not_before: from,
            not_after: until,
            since: from,
            serial: vec![0x0a, 0xbc],
            sha256: [0xcd; 32],
            must_staple: false,
            staple_asked: false,
            authority: vec![],
            profile: None,
        }
    }

    pub fn life(&self) -> Span {
        self.not_after.since(self.not_before)
    }

    /// `03F2…`: the serial in upper-case hexadecimal, as status and browsers show it.
    pub fn serial_hex(&self) -> String {
        let digits = self.serial.iter().skip_while(|byte| **byte == 0);
        let text: String = digits.map(|byte| format!("{byte:02X}")).collect();
        if text.is_empty() { "00".into() } else { text }
    }

    /// Whether every one of these names is on the certificate, itself or under a wildcard.
    pub fn covers(&self, names: &[Name]) -> bool {
        names.iter().all(|name| self.names.iter().any(|held| held.covers(name)))
    }
}

/// A private key (PKCS#8) and its certificate chain (leaf first), all DER.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub key: Secret,
    pub chain: Vec<Vec<u8>>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bundle(..)")
    }
}

/// One certificate's place: an MD and one of its key families; what is the operator's own has a place beside it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot {
    pub md: Name,
    pub family: &'static str,
}

impl Slot {
    /// `None` where no kind of key has a family of this name.
    pub fn new(md: Name, family: &str) -> Option<Self> {
        let family = KeyKind::FAMILIES.into_iter().chain(KeyKind::OWN).find(|known| *known == family)?;
        Some(Self { md, family })
    }

    /// The place of the operator's own certificate with this kind of key.
    pub fn own(md: Name, kind: KeyKind) -> Self {
        let family = KeyKind::FAMILIES.into_iter().zip(KeyKind::OWN).find(|(family, _)| *family == kind.family());
        Self { md, family: family.map_or(kind.family(), |(_, own)| own) }
    }

    pub fn is_own(&self) -> bool {
        KeyKind::OWN.contains(&self.family)
    }
}

/// `example.org (rsa)`: for the log.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.md, self.family)
    }
}

/// Our account with one CA.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// The CA's directory URL.
    pub ca: String,
    /// `None` where it was never learnt: the key finds it again.
    pub url: Option<String>,
    /// PKCS#8.
    pub key: Secret,
    /// The `mailto:` URLs that the CA knows.
    pub contacts: Vec<String>,
    pub agreement: Option<String>,
    /// Which account at the CA's own site it is bound to (RFC 8555 §7.3.4).
    #[serde(skip)]
    pub kid: Option<String>,
    /// The key that is to take the place of the other, PKCS#8; until the CA's answer is here it may know either.
    #[serde(skip)]
    pub next: Option<Secret>,
}

impl Account {
    /// What tells it apart from all others.
    pub fn place(&self) -> String {
        Self::place_of(&self.ca, self.kid.as_deref())
    }

    /// Accounts at one CA that are bound to different ones at its own site are different accounts. No URL has a space.
    pub fn place_of(ca: &str, kid: Option<&str>) -> String {
        kid.map_or_else(|| ca.into(), |kid| format!("{ca} {kid}"))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// A count of failures and the moment before which there is no next try.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Backoff {
    pub failures: u32,
    pub until: Option<Unix>,
    /// The newest failure, for status.
    pub last: Option<Failure>,
    pub last_at: Option<Unix>,
}

/// What was tried for a want, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tried {
    /// The want that `order` and `tell` speak of; for any other one they count as never tried.
    pub fingerprint: Fingerprint,
    pub order: Backoff,
    /// The waits that CAs imposed, one each. They belong to the CA and not to the want: a changed configuration does not
    /// forgive them.
    pub imposed: Vec<Imposed>,
    /// The certificate (its SHA-256) that was told of last.
    pub told: Option<[u8; 32]>,
    /// It has to be told of once more.
    pub owed: bool,
    /// The one for which MDNotifyCmd has answered 0 while more of its telling is still owed.
    pub notified: Option<[u8; 32]>,
    /// How often it was looked for in vain where it should be served since then.
    pub looks: u8,
    pub tell: Backoff,
    /// The files that were exported when it was told, each with its whole path.
    pub exported: Vec<String>,
    /// The certificate (its SHA-256) that we had revoked last.
    #[serde(skip)]
    pub revoked: Option<[u8; 32]>,
    /// What the CA said last of its renewal. It is worth no flash.
    #[serde(skip)]
    pub advice: Option<Advice>,
}

impl Tried {
    /// The CA may be asked again now, unless it has nothing to say; but once only before its time.
    pub fn ask_anew(&mut self) {
        if let Some(advice) = self.advice.as_mut().filter(|advice| advice.again != NEVER && !advice.hurried) {
            (advice.again, advice.hurried) = (Unix::default(), true);
        }
    }
}

/// When no event is in sight: the nap's own limits wake the loop long before it.
pub const NEVER: Unix = Unix::from_millis(u64::MAX);

/// What the CA that gave a certificate says of when to renew it (RFC 9773).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Advice {
    /// The certificate, by its SHA-256.
    pub sha256: [u8; 32],
    pub window: Option<Suggested>,
    /// It is not asked again before this moment.
    pub again: Unix,
    /// How often in a row it could not be asked.
    pub failures: u32,
    /// It was asked before its time already.
    pub hurried: bool,
}

/// A window for a renewal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suggested {
    pub start: Unix,
    pub end: Unix,
    /// The moment in it that was drawn for us; it stays while the window does.
    pub at: Unix,
    /// Where the CA says why.
    pub explanation: Option<String>,
}

/// `ca` (a directory URL) does not want to hear from us before `until`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Imposed {
    pub ca: String,
    pub until: Unix,
}

/// What to do next for one want.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The clock can't be believed: serve what is held, judge nothing.
    NoClock,
    /// Nothing before this moment.
    Wait { until: Unix },
    /// Somebody is owed the news of the certificate that is held.
    Tell,
    /// Ask the CA when it wants the certificate that is held to be renewed.
    Ask,
    /// Get a certificate.
    Order { why: Why },
}

/// Why a certificate is to be ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    Missing,
    Renamed,
    OtherCa,
    OtherKey,
    OtherStaple,
    Expired,
    Revoked,
    Due,
    Asked,
    Forced,
}

/// For the log and the status: `because …`.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no certificate",
            Self::Renamed => "the certificate does not cover all names",
            Self::OtherCa => "the certificate is from no CA that is configured",
            Self::OtherKey => "the certificate has another kind of key",
            Self::OtherStaple => "the certificate is not as MDMustStaple says",
            Self::Expired => "the certificate has expired",
            Self::Revoked => "its CA has revoked the certificate",
            Self::Due => "the certificate is in its renewal window",
            Self::Asked => "the CA asks for its renewal",
            Self::Forced => "it was asked for",
        })
    }
}

/// How a step ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A new certificate was committed.
    Ordered,
    OrderFailed(Failure),
    /// The operator's command does not want an order to begin now.
    Vetoed(Trouble),
    /// MDNotifyCmd has answered 0, for the certificate with this SHA-256.
    Notified([u8; 32]),
    /// It is not served yet where it should be.
    Unseen(Trouble),
    /// The exports (these paths) are in place and all commands have answered 0, for the certificate with this SHA-256.
    Told {
        sha256: [u8; 32],
        exported: Vec<String>,
    },
    TellFailed(Trouble),
}
