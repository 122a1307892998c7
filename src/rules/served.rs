//! Whether a server shows the certificate that it was notified of (MDNotifyServed).

use crate::rules::x509;
use crate::words::cert::KeyKind;
use crate::words::name::Name;
use crate::words::time::{Span, Unix};

/// A server takes a moment to reload: how long to wait for the next look after so many looks in vain. After the last one
/// nobody believes that it ever will.
pub fn pause(looks: u8) -> Option<Span> {
    [1, 2, 4].get(usize::from(looks)).map(|secs| Span::secs(*secs))
}

/// The name for which a server is asked: one that its certificate has.
pub fn name(names: &[Name]) -> String {
    let wildcard = |name: &Name| name.as_str().strip_prefix("*.").map(|parent| format!("www.{parent}"));
    let plain = names.iter().find(|name| name.ip().is_none() && wildcard(name).is_none());
    let first = || names.iter().find_map(wildcard).or(names.first().map(Name::to_string));
    plain.map(Name::to_string).or_else(first).unwrap_or_default()
}

/// Whether the certificate (DER) that a server shows is one of those with these SHA-256; what it is if it is not.
pub fn judge(leaf: &[u8], ours: &[[u8; 32]]) -> Result<(), String> {
    match x509::facts(leaf, KeyKind::P256, "", Unix::default()) {
        Ok(shown) if ours.contains(&shown.sha256) => Ok(()),
        Ok(shown) => Err(format!(
            "another certificate is served there, with serial {}, until {}",
            shown.serial_hex(),
            shown.not_after
        )),
        Err(why) => Err(format!("another certificate is served there; {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::Labels;

    #[test]
    fn a_few_looks_over_some_seconds() {
        assert_eq!((0..5).map_while(pause).map(Span::as_secs).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(pause(u8::MAX), None);
    }

    #[test]
    fn a_server_is_asked_for_a_name_that_it_has() {
        for (names, asked) in [
            ("*.example.org 192.0.2.1 b.example.org a.example.org", "b.example.org"),
            ("192.0.2.1 *.example.org", "www.example.org"),
            ("2001:db8::1 192.0.2.1", "2001:db8::1"),
        ] {
            let names: Vec<Name> = names.split(' ').map(|text| Name::parse(text, Labels::One).unwrap()).collect();
            assert_eq!(name(&names), asked);
        }
    }

    #[test]
    fn what_is_shown_instead_is_said() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_string()]).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from(0x3f2_u64));
        params.not_after = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let leaf = params.self_signed(&key).unwrap().der().to_vec();
        let sha256: [u8; 32] = ring::digest::digest(&ring::digest::SHA256, &leaf).as_ref().try_into().unwrap();
        assert_eq!(judge(&leaf, &[[0; 32], sha256]), Ok(()));
        let why = "another certificate is served there, with serial 03F2, until 2027-01-15T08:00:00Z";
        assert_eq!(judge(&leaf, &[[0; 32]]), Err(why.into()));
        assert!(judge(b"nothing", &[[0; 32]]).unwrap_err().contains("it can't be read"));
    }
}
