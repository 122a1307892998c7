//! The shelf: the certificates that TLS shows, put by the keeper and taken by each handshake. One of the three locks.

use crate::streams::tls::ACME;
use crate::words::answers::Answers;
use crate::words::cert::{Bundle, KeyKind};
use crate::words::config::Config;
use crate::words::fault::Trouble;
use crate::words::name::{Labels, Name};
use crate::words::sorted::{Map, Set};
use crate::words::time::{Span, Unix};
use core::fmt;
use rustls::crypto::ring::sign::{RsaSigningKey, any_ecdsa_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, SignatureScheme};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// By MD.
#[derive(Default)]
pub struct Shelf(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// In the order of the configuration.
    mds: Vec<Place>,
    names: Map<String, usize>,
    /// A wildcard's is what comes after `*.`.
    wildcards: Map<String, usize>,
    /// Who is shown to a client that names nobody whom we know.
    default: usize,
    pairs: Map<Name, Vec<Arc<CertifiedKey>>>,
    open: bool,
}

struct Place {
    md: Name,
    names: Vec<Name>,
    /// Self-signed, for as long as there is nothing better; and its end.
    fallback: Option<(Unix, Arc<CertifiedKey>)>,
}

impl Shelf {
    /// What is shown for this MD from the next handshake on, the preferred first.
    pub fn put(&self, md: &Name, pairs: &[(KeyKind, Bundle)]) -> Result<(), Trouble> {
        let pairs: Result<Vec<_>, _> = pairs.iter().map(|(kind, bundle)| certified(*kind, bundle)).collect();
        let pairs = pairs.map_err(|why| Trouble::new(format!("serving the certificate of {md}"), why))?;
        self.lock().pairs.insert(md.clone(), pairs);
        Ok(())
    }

    /// What goes with these pairs from the next handshake on, one for each in their order (RFC 6066 §8).
    pub fn staple(&self, md: &Name, responses: &[Option<&[u8]>]) {
        let mut inner = self.lock();
        let Some(pairs) = inner.pairs.get_mut(md) else { return };
        for (pair, response) in pairs.iter_mut().zip(responses) {
            if pair.ocsp.as_deref() != *response {
                let ocsp = response.map(<[u8]>::to_vec);
                *pair = Arc::new(CertifiedKey { ocsp, ..CertifiedKey::clone(pair) });
            }
        }
    }

    /// All that is held has been put there: from now on who finds nothing gets a fallback.
    pub fn open(&self) {
        self.lock().open = true;
    }

    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// The MD whose certificate is shown to who asks for this host; `None` where that is a fallback.
    pub fn shown(&self, host: Option<&str>) -> Option<Name> {
        let host = host.map(str::to_ascii_lowercase);
        let inner = self.lock();
        let md = &inner.mds.get(inner.place(host.as_deref()))?.md;
        inner.pairs.get(md).is_some_and(|pairs| !pairs.is_empty()).then(|| md.clone())
    }

    /// A configuration: who is there, and under which names.
    pub fn arrange(&self, config: &Config) {
        let mut inner = self.lock();
        let mut before: Map<Name, Place> = inner.mds.drain(..).map(|place| (place.md.clone(), place)).collect();
        let Inner { mds, names, wildcards, default, pairs, .. } = &mut *inner;
        names.clear();
        wildcards.clear();
        for (at, md) in config.mds.iter().enumerate() {
            for name in &md.names {
                let (list, name) = match name.as_str().strip_prefix("*.") {
                    Some(parent) => (&mut *wildcards, parent),
                    None => (&mut *names, name.as_str()),
                };
                list.or_insert(name.to_owned(), at);
            }
            let same = before.remove(&md.name).filter(|place| place.names == md.names);
            let fallback = same.and_then(|place| place.fallback);
            mds.push(Place { md: md.name.clone(), names: md.names.clone(), fallback });
        }
        let kept: Set<&Name> = config.mds.iter().map(|md| &md.name).collect();
        pairs.retain(|md, _| kept.contains(md));
        let of_base = config.base.names.iter().find_map(|name| names.get(name).copied());
        *default = of_base.unwrap_or(0);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The place of the MD that is to be shown to a client that asks for this host.
    fn place(&self, host: Option<&str>) -> usize {
        let Some(host) = host else {
            // A client that says no name has connected to an address.
            let by_address = |place: &Place| place.names.iter().any(|name| name.ip().is_some());
            return self.mds.iter().position(by_address).unwrap_or(self.default);
        };
        let found = self.names.get(host).or_else(|| self.wildcards.get(host.split_once('.')?.1));
        found.copied().unwrap_or(self.default)
    }
}

/// Makes certificates that only we sign.
#[derive(Clone, Copy)]
pub struct Forge {
    /// For these names, from one moment to another.
    pub self_signed: fn(&[Name], Unix, Unix) -> Result<Bundle, Trouble>,
    /// The answer of RFC 8737 §3 to a challenge: for this name, with this key authorization.
    pub answer: fn(&Name, &str, Unix) -> Result<Bundle, Trouble>,
}

/// Chooses for each handshake.
pub struct Chooser {
    pub shelf: Arc<Shelf>,
    pub answers: Arc<Answers>,
    pub forge: Forge,
    pub clock: fn() -> Option<Unix>,
}

/// How long a self-signed certificate is good, and how long before its end it is made anew.
const FALLBACK: Span = Span::days(14);
const EARLY: Span = Span::days(1);

impl Chooser {
    fn now(&self) -> Unix {
        (self.clock)().unwrap_or_default()
    }

    /// A CA looks for its answer: nobody else is shown, and for a name without one the handshake fails.
    fn answer(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = asked(hello.server_name()?)?;
        let key_authorization = self.answers.find_for(&name)?;
        self.made((self.forge.answer)(&name, &key_authorization, self.now()))
    }

    fn shown(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().map(str::to_ascii_lowercase);
        let mut inner = self.shelf.lock();
        let place = inner.place(host.as_deref());
        let inner = &mut *inner;
        let place = inner.mds.get_mut(place)?;
        match inner.pairs.get(&place.md) {
            Some(pairs) if !pairs.is_empty() => choose(pairs, hello.signature_schemes()),
            _ => self.fallback(place),
        }
    }

    fn fallback(&self, place: &mut Place) -> Option<Arc<CertifiedKey>> {
        let now = self.now();
        if let Some((until, pair)) = &place.fallback
            && now.plus(EARLY) < *until
        {
            return Some(pair.clone());
        }
        let until = now.plus(FALLBACK);
        let pair = self.made((self.forge.self_signed)(&place.names, now, until))?;
        place.fallback = Some((until, pair.clone()));
        Some(pair)
    }

    fn made(&self, bundle: Result<Bundle, Trouble>) -> Option<Arc<CertifiedKey>> {
        let certified =
            |bundle| certified(KeyKind::P256, &bundle).map_err(|why| Trouble::new("making a certificate", why));
        bundle.and_then(certified).inspect_err(|trouble| log::error!("{trouble}")).ok()
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME)) {
            true => self.answer(&hello),
            false => self.shown(&hello),
        }
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chooser(..)")
    }
}

/// The first whose signatures the client can verify.
fn choose(pairs: &[Arc<CertifiedKey>], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
    pairs.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).cloned()
}

fn certified(kind: KeyKind, bundle: &Bundle) -> Result<Arc<CertifiedKey>, Error> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&bundle.key[..]));
    let key: Arc<dyn SigningKey> = match kind {
        KeyKind::P256 | KeyKind::P384 => any_ecdsa_type(&der)?,
        KeyKind::Rsa(_) => Arc::new(RsaSigningKey::new(&der)?),
    };
    let chain = bundle.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// The name that a CA wants to see proven; an address is asked for by its reverse name (RFC 8738 §6).
fn asked(sni: &str) -> Option<Name> {
    let text = sni.to_ascii_lowercase();
    let address = if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
        v4(digits).map(IpAddr::V4)
    } else {
        text.strip_suffix(".ip6.arpa").and_then(v6).map(IpAddr::V6)
    };
    let text = address.map_or(text, |address| address.to_string());
    Name::parse(&text, Labels::One).ok()
}

fn v4(digits: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = digits.split('.');
    for byte in bytes.iter_mut().rev() {
        *byte = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then(|| bytes.into())
}

fn v6(digits: &str) -> Option<Ipv6Addr> {
    let mut number = 0_u128;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        if digit.len() != 1 {
            return None;
        }
        number = number << 4 | u128::from(u8::from_str_radix(digit, 16).ok()?);
        count += 1;
    }
    (count == 32).then(|| number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_by_its_reverse_name() {
        let v6 = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
        for (sni, name) in [
            ("Router.example.org", "router.example.org"),
            ("7.2.0.192.in-addr.arpa", "192.0.2.7"),
            (v6.as_str(), "2001:db8::1"),
            ("300.2.0.192.in-addr.arpa", "300.2.0.192.in-addr.arpa"),
            ("1.7.2.0.192.in-addr.arpa", "1.7.2.0.192.in-addr.arpa"),
        ] {
            assert_eq!(asked(sni).map(|name| name.to_string()).as_deref(), Some(name), "{sni}");
        }
    }
}
