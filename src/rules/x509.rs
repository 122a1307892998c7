//! Facts of a certificate chain, and whether it is the one that was asked for.

use crate::rules::der;
use crate::words::cert::{Held, KeyKind};
use crate::words::config::Chain;
use crate::words::fault::Refusal;
use crate::words::name::{Labels, Name};
use crate::words::time::{Span, Unix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::nom::Parser;

/// The names that go into an order and its certificate request: those under a wildcard of the same list are dropped,
/// because public CAs refuse a request that says the same thing twice.
pub fn requested(names: &[Name]) -> Vec<&Name> {
    let spare = |name: &Name| names.iter().any(|other| other != name && other.covers(name));
    names.iter().filter(|name| !spare(name)).collect()
}

/// What a certificate says of itself; `since` is when we got it. What it has counts as asked for.
pub fn facts(der: &[u8], kind: KeyKind, ca: &str, since: Unix) -> Result<Held, String> {
    let leaf = parse(der)?;
    let must_staple = must_staple(&leaf);
    let sha256 = ring::digest::digest(&ring::digest::SHA256, der);
    Ok(Held {
        names: names_of(&leaf),
        kind,
        ca: ca.into(),
        not_before: moment(leaf.validity().not_before.timestamp()),
        not_after: moment(leaf.validity().not_after.timestamp()),
        since,
        serial: leaf.raw_serial().into(),
        sha256: sha256.as_ref().try_into().expect("a SHA-256 has 32 bytes"),
        must_staple,
        staple_asked: must_staple,
        authority: authority_of(&leaf),
        profile: None,
    })
}

/// The keyIdentifier of a certificate's issuer; nothing where there is none, or no certificate.
pub fn authority(der: &[u8]) -> Vec<u8> {
    parse(der).map(|leaf| authority_of(&leaf)).unwrap_or_default()
}

/// The extension is the SEQUENCE of RFC 5280 §4.2.1.1, in which the keyIdentifier is \[0\] and comes first.
fn authority_of(leaf: &X509Certificate<'_>) -> Vec<u8> {
    match extension(leaf, AUTHORITY_KEY) {
        Some([0x30, _, 0x80, length, rest @ ..]) => rest.get(..usize::from(*length)).unwrap_or_default().into(),
        _ => vec![],
    }
}

/// id-ce 35.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 35];

/// Whether it has the TLS feature extension (RFC 7633 §4) with status_request, which is number 5 (RFC 6066 §8).
fn must_staple(leaf: &X509Certificate<'_>) -> bool {
    extension(leaf, TLS_FEATURE_DER).is_some_and(|feature| feature.windows(3).any(|integer| integer == [2, 1, 5]))
}

/// RFC 7633 §3: id-pe 24.
pub const TLS_FEATURE: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 24];
const TLS_FEATURE_DER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
/// A SEQUENCE of the one INTEGER.
pub const STATUS_REQUEST: [u8; 5] = [0x30, 3, 2, 1, 5];

/// Who issued it: the organization and its own name there, as far as they can be read.
pub fn issuer(der: &[u8]) -> String {
    let Ok(leaf) = parse(der) else { return String::new() };
    let name = leaf.issuer();
    // Printing the whole of it would bring a table of all there is: 40 KB.
    let parts = name.iter_organization().chain(name.iter_common_name()).filter_map(|part| part.as_str().ok());
    parts.collect::<Vec<_>>().join(", ")
}

/// Whether a chain, leaf first, is the one that is wished for, without a look at any other.
pub fn pleases(chain: &[Vec<u8>], wish: &Chain) -> bool {
    match wish {
        Chain::Shortest => chain.len() == 1,
        Chain::Under(name) => chain.last().and_then(|top| parse(top).ok()).is_some_and(|top| {
            let mut names = top.issuer().iter_common_name();
            names.any(|known| known.as_str().is_ok_and(|known| known == name))
        }),
    }
}

/// The facts of a chain, leaf first, whose leaf is for this key (its SubjectPublicKeyInfo, DER), whatever names it has and
/// however old it is.
pub fn paired(chain: &[Vec<u8>], public_key: &[u8], kind: KeyKind, ca: &str, since: Unix) -> Result<Held, String> {
    let first = chain.first().ok_or("there is no certificate")?;
    if parse(first)?.public_key().raw != public_key {
        return Err("it is for another key".into());
    }
    facts(first, kind, ca, since)
}

/// The facts of a chain, leaf first, that a CA gave for these names and this key (its SubjectPublicKeyInfo, DER); or
/// what is wrong with it. Without a clock its dates are not judged against today.
pub fn accept(
    chain: &[Vec<u8>],
    public_key: &[u8],
    names: &[Name],
    kind: KeyKind,
    ca: &str,
    now: Option<Unix>,
) -> Result<Held, Refusal> {
    judge(chain, public_key, names, kind, ca, now)
        .map_err(|why| Refusal::ours("looking at the new certificate", "bad-certificate", why))
}

fn judge(
    chain: &[Vec<u8>],
    public_key: &[u8],
    names: &[Name],
    kind: KeyKind,
    ca: &str,
    now: Option<Unix>,
) -> Result<Held, String> {
    let mut held = paired(chain, public_key, kind, ca, Unix::default())?;
    held.since = now.unwrap_or(held.not_before);
    let covered = |name: &Name| held.covers(core::slice::from_ref(name));
    let missing: Vec<&str> = names.iter().filter(|name| !covered(name)).map(Name::as_str).collect();
    if !missing.is_empty() {
        return Err(format!("it does not cover {}", missing.join(", ")));
    }
    // RFC 5280 §4.1.2.2 ends at 20. They stand in every status, and in the address of the CA's advice.
    if held.serial.len().max(held.authority.len()) > 64 {
        return Err("its serial number or its issuer's key id is longer than 64 bytes".into());
    }
    if held.not_after <= held.not_before {
        return Err(format!("it ends ({}) before it begins ({})", held.not_after, held.not_before));
    }
    if let Some(now) = now {
        if held.not_after <= now {
            return Err(format!("it has expired already, at {}; the clock here says {now}", held.not_after));
        }
        // One after the other would wear the flash out.
        if held.not_after <= now.plus(Span::mins(2)) {
            return Err(format!("it ends at once, at {}; the clock here says {now}", held.not_after));
        }
        if held.not_before > now.plus(AHEAD) {
            return Err(format!("it is valid only from {}; the clock here says {now}", held.not_before));
        }
    }
    linked(chain)?;
    Ok(held)
}

/// How far a certificate's beginning may lie in the future: a clock that is a time zone off is common, and harmless.
pub(super) const AHEAD: Span = Span::days(1);

/// Each certificate must be issued by the next one; signatures are left to those who hold the roots.
pub fn linked(chain: &[Vec<u8>]) -> Result<(), String> {
    for (at, (below, above)) in chain.iter().zip(chain.iter().skip(1)).enumerate() {
        let issued = parse(below)?.issuer().as_raw() == parse(above)?.subject().as_raw();
        if !issued {
            return Err(format!("the chain is broken: certificate {} is not issued by certificate {}", at + 1, at + 2));
        }
    }
    Ok(())
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    // What all the extensions say would take 30 KB of code to read; we look into four.
    match X509CertificateParser::new().with_deep_parse_extensions(false).parse(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("it can't be read: bytes follow its end".into()),
        Err(_) => Err("it can't be read: it is not DER of X.509".into()),
    }
}

/// What is in an extension; where it stands twice, in the first.
pub(super) fn extension<'a>(cert: &X509Certificate<'a>, oid: &[u8]) -> Option<&'a [u8]> {
    cert.extensions().iter().find(|extension| extension.oid.as_bytes() == oid).map(|extension| extension.value)
}

/// The names that a client looks at (RFC 5280 §4.2.1.6); other kinds, and what is no name of ours, are left out.
fn names_of(leaf: &X509Certificate<'_>) -> Vec<Name> {
    let mut names = Vec::new();
    let mut list =
        extension(leaf, ALTERNATIVE_NAME).and_then(|list| der::only(list, der::SEQUENCE)).unwrap_or_default();
    while let Some((tag, name, rest)) = der::split(list) {
        list = rest;
        let text = match tag {
            DNS_NAME => core::str::from_utf8(name).ok().map(str::to_string),
            IP_ADDRESS => address(name).map(|address| address.to_string()),
            _ => None,
        };
        names.extend(text.and_then(|text| Name::parse(&text, Labels::One).ok()));
    }
    names
}

/// id-ce 17, and of its GeneralNames a dNSName and an iPAddress.
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

pub(super) fn moment(secs: i64) -> Unix {
    Unix::from_secs(u64::try_from(secs).unwrap_or(0))
}

/// The body of a fuzz target: what is read of a certificate is in it, and what is accepted has all that was asked for.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let now = Unix::from_secs(1_800_000_000);
    assert!(authority(bytes).len() <= 255);
    let _ = issuer(bytes);
    let Ok(held) = facts(bytes, KeyKind::P256, "https://ca.example", now) else { return };
    if let Some(theirs) = names_by_library(bytes) {
        // It does not look at the bit that says whether a thing is made of parts; in DER it stands as it has to.
        let ours = &held.names;
        assert!(ours.iter().all(|name| theirs.contains(name)), "{ours:?} {theirs:?}");
        let odd = ours.is_empty() || bytes.iter().any(|byte| matches!(byte, 0xa2 | 0xa7));
        assert!(odd || *ours == theirs, "{ours:?} {theirs:?}");
    }
    for name in &held.names {
        crate::words::name::fuzz(name.as_str().as_bytes());
        assert!(held.covers(core::slice::from_ref(name)));
    }
    assert!(bytes.windows(held.serial.len().max(1)).any(|part| part == held.serial) || held.serial.is_empty());
    let chain = [bytes.to_vec()];
    assert!(pleases(&chain, &Chain::Shortest) && linked(&chain).is_ok());
    let key = parse(bytes).map(|leaf| leaf.public_key().raw.to_vec()).unwrap_or_default();
    match accept(&chain, &key, &held.names, KeyKind::P256, "https://ca.example", Some(now)) {
        Ok(held) => assert!(held.not_before < held.not_after && now < held.not_after && held.serial.len() <= 64),
        Err(refusal) => assert!(!refusal.detail.contains(char::is_control), "{}", refusal.detail),
    }
    assert!(accept(&chain, &[1], &held.names, KeyKind::P256, "https://ca.example", Some(now)).is_err());
}

/// The names as x509-parser reads them, if it can read all extensions.
fn names_by_library(bytes: &[u8]) -> Option<Vec<Name>> {
    use x509_parser::extensions::GeneralName;
    let (_, cert) = X509CertificateParser::new().parse(bytes).ok()?;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    let extension = cert.subject_alternative_name().ok()??;
    let text = extension.value.general_names.iter().filter_map(text);
    Some(text.filter_map(|text| Name::parse(&text, Labels::One).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
        PublicKeyData, SanType,
    };
    use time::OffsetDateTime;

    const BEGIN: i64 = 1_790_000_000;
    const END: i64 = BEGIN + 90 * 86_400;

    fn name(text: &str) -> Name {
        Name::parse(text, Labels::One).unwrap()
    }

    fn names(list: &[&str]) -> Vec<Name> {
        list.iter().map(|text| name(text)).collect()
    }

    fn at(secs: i64) -> Option<Unix> {
        Some(moment(secs))
    }

    struct Made {
        chain: Vec<Vec<u8>>,
        public_key: Vec<u8>,
    }

    fn made(sans: &[&str], begin: i64, end: i64) -> Made {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Test Issuer");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap().der().to_vec();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans
            .iter()
            .map(|text| match text.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName((*text).try_into().unwrap()),
            })
            .collect();
        params.not_before = OffsetDateTime::from_unix_timestamp(begin).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(end).unwrap();
        let leaf = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().der().to_vec();
        Made { chain: vec![leaf, root], public_key: key.subject_public_key_info() }
    }

    fn verdict(made: &Made, list: &[&str], now: Option<Unix>) -> Result<Held, String> {
        accept(&made.chain, &made.public_key, &names(list), KeyKind::P256, "https://ca", now).map_err(|refusal| {
            assert_eq!(refusal.problem, "bad-certificate");
            refusal.detail
        })
    }

    #[test]
    fn a_good_chain_and_its_facts() {
        let made = made(&["a.example.org", "*.example.net", "192.0.2.1", "2001:db8::1"], BEGIN, END);
        let asked = ["a.example.org", "b.example.net", "192.0.2.1", "2001:db8::1"];
        let held = verdict(&made, &asked, at(BEGIN + 5)).unwrap();
        assert_eq!(held.names, names(&["a.example.org", "*.example.net", "192.0.2.1", "2001:db8::1"]));
        assert_eq!((held.not_before, held.not_after), (moment(BEGIN), moment(END)));
        assert_eq!(held.since, moment(BEGIN + 5));
        assert!(!held.serial.is_empty());
        assert_eq!(verdict(&made, &asked, None).unwrap().since, moment(BEGIN));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = made(&["a.example.org"], BEGIN, END);
        let says = |result: Result<Held, String>, why: &str| {
            let said = result.unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        let asked = &["a.example.org"];
        says(
            verdict(&good, &["a.example.org", "b.example.org", "c.example.org"], at(BEGIN)),
            "it does not cover b.example.org, c.example.org",
        );
        says(verdict(&good, asked, at(END)), "it has expired already, at 2026-");
        says(verdict(&good, asked, at(BEGIN - 86_401)), "it is valid only from 2026-");
        assert!(verdict(&good, asked, at(BEGIN - 86_400)).is_ok());
        assert!(verdict(&good, asked, at(END - 121)).is_ok());
        let other = made(&["a.example.org"], BEGIN, END);
        let swapped = Made { chain: good.chain.clone(), public_key: other.public_key.clone() };
        says(verdict(&swapped, asked, None), "it is for another key");
        let backwards = made(asked, END, BEGIN);
        says(verdict(&backwards, asked, None), "before it begins");
        let broken = Made { chain: vec![good.chain[0].clone(), good.chain[0].clone()], ..swapped };
        let broken = Made { public_key: good.public_key.clone(), ..broken };
        says(verdict(&broken, asked, None), "certificate 1 is not issued by certificate 2");
        let nothing = Made { chain: vec![], public_key: vec![] };
        says(verdict(&nothing, asked, None), "there is no certificate");
    }

    #[test]
    fn rfc_7633_must_staple_is_status_request_among_the_features() {
        let key = KeyPair::generate().unwrap();
        for (features, has) in [
            (None, false),
            (Some(STATUS_REQUEST.to_vec()), true),
            (Some(vec![0x30, 6, 2, 1, 17, 2, 1, 5]), true),
            (Some(vec![0x30, 3, 2, 1, 17]), false),
        ] {
            let mut params = CertificateParams::new(["a.example.org".to_string()]).unwrap();
            let extension = |content: &Vec<u8>| CustomExtension::from_oid_content(&TLS_FEATURE, content.clone());
            params.custom_extensions.extend(features.as_ref().map(extension));
            let held = facts(params.self_signed(&key).unwrap().der(), KeyKind::P256, "ca", moment(BEGIN)).unwrap();
            assert_eq!((held.must_staple, held.staple_asked), (has, has), "{features:?}");
        }
    }

    #[test]
    fn rfc_5280_4_2_1_1_the_key_of_the_issuer_is_named() {
        let ca_key = KeyPair::generate().unwrap();
        let mut issuer = CertificateParams::default();
        issuer.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 5]);
        let mut params = CertificateParams::new(["a.example.org".to_string()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(issuer, ca_key)).unwrap();
        assert_eq!(authority(leaf.der()), [7; 5]);
        assert_eq!(facts(leaf.der(), KeyKind::P256, "ca", moment(BEGIN)).unwrap().authority, [7; 5]);
        assert_eq!(authority(b"no certificate"), [0; 0]);
    }

    #[test]
    fn a_serial_number_has_an_end() {
        let key = KeyPair::generate().unwrap();
        for (bytes, says) in
            [(64, None), (65, Some("its serial number or its issuer's key id is longer than 64 bytes"))]
        {
            let mut params = CertificateParams::new(["a.example.org".to_string()]).unwrap();
            params.serial_number = Some(vec![1; bytes].into());
            let leaf = params.self_signed(&key).unwrap().der().to_vec();
            let public_key = key.subject_public_key_info();
            let said = verdict(&Made { chain: vec![leaf], public_key }, &["a.example.org"], None);
            assert_eq!(said.err().as_deref(), says, "{bytes}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let good = made(&["a.example.org"], BEGIN, END);
        let leaf = &good.chain[0];
        for cut in 0..leaf.len() {
            assert!(facts(&leaf[..cut], KeyKind::P256, "ca", moment(0)).is_err(), "{cut}");
        }
        let mut longer = leaf.clone();
        longer.push(0);
        assert!(facts(&longer, KeyKind::P256, "ca", moment(0)).unwrap_err().contains("bytes follow its end"));
        for flip in 0..leaf.len() {
            let mut bytes = leaf.clone();
            bytes[flip] ^= 0x55;
            let _ = facts(&bytes, KeyKind::P256, "ca", moment(0));
        }
    }

    #[test]
    fn names_under_a_wildcard_are_not_asked_for_twice() {
        let list = names(&["example.org", "*.example.org", "a.example.org", "b.a.example.org"]);
        let asked: Vec<&str> = requested(&list).into_iter().map(Name::as_str).collect();
        assert_eq!(asked, ["example.org", "*.example.org", "b.a.example.org"]);
    }
}
