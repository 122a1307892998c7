//! Which types of challenge can be answered for an MD, and what stands in the way of the others.

use crate::rules::acme::proving::{MISMATCH, UNSUITABLE};
use crate::words::config::{Challenge, Config, Md};
use crate::words::fault::Refusal;

/// The types that can be answered, the preferred first, or why no order can be begun. A list of the operator's own is
/// taken at its word.
pub fn possible(md: &Md, config: &Config) -> Result<Vec<Challenge>, Refusal> {
    let mut reasons = vec![];
    let list = md.challenges.clone().unwrap_or_else(|| {
        // First what needs no port but the one that is used anyway.
        let mut list = vec![Challenge::TlsAlpn01, Challenge::Http01, Challenge::Dns01, Challenge::DnsPersist01];
        list.retain(|challenge| match obstacle(*challenge, md, config) {
            Some(why) => {
                reasons.push(format!("{}: {why}", challenge.word()));
                false
            }
            None => true,
        });
        list
    });
    if list.is_empty() {
        let why = format!("{UNSUITABLE} {}", reasons.join("; "));
        return Err(Refusal::ours("choosing a challenge", MISMATCH, why));
    }
    let dns = |challenge: &Challenge| matches!(challenge, Challenge::Dns01 | Challenge::DnsPersist01);
    match md.names.iter().find(|name| name.is_wildcard()) {
        Some(name) if !list.iter().any(dns) => {
            reasons.retain(|reason| reason.starts_with("dns"));
            let why = format!("only dns-01 can prove a wildcard; {}", reasons.join("; "));
            Err(Refusal::ours(&format!("proving {name}"), MISMATCH, why))
        }
        _ => Ok(list),
    }
}

fn obstacle(challenge: Challenge, md: &Md, config: &Config) -> Option<String> {
    let ports = config.ports;
    match challenge {
        Challenge::TlsAlpn01 if md.tls_arrives => None,
        Challenge::TlsAlpn01 => Some(nobody(443, ports.https, "https")),
        Challenge::Http01
            if md.webroot.is_some() || config.listen.iter().any(|it| !it.tls && Some(it.port) == ports.http) =>
        {
            None
        }
        Challenge::Http01 => Some(nobody(80, ports.http, "http")),
        Challenge::Dns01 if md.dns_command.is_some() => None,
        Challenge::Dns01 => Some("there is no command for it (MDChallengeDns01)".into()),
        // A person has to publish a record first.
        Challenge::DnsPersist01 => Some("MDCAChallenges does not name it".into()),
    }
}

/// Why nobody of ours is reached on the Internet's port.
fn nobody(port: u16, local: Option<u16>, scheme: &str) -> String {
    match local {
        None => format!("port {port} does not arrive here (MDPortMap {scheme}:-)"),
        Some(local) => {
            format!("port {port} arrives on port {local} (MDPortMap), where nobody listens for {scheme} (Listen)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::config::{Listen, PortMap};
    use crate::words::fault::Place;
    use crate::words::name::{Labels, Name};

    fn md(name: &str) -> Md {
        let name = Name::parse(name, Labels::Two).unwrap();
        Md::plain(name, Place { file: "edgemd.conf".into(), line: 1, column: 1 })
    }

    fn config(http: Option<u16>, listen: &[(u16, bool)]) -> Config {
        let listen = listen.iter().map(|(port, tls)| Listen { addr: None, port: *port, tls: *tls }).collect();
        Config { ports: PortMap { http, https: None }, listen, ..Config::default() }
    }

    #[test]
    fn http_01_needs_a_port_that_arrives_and_a_listener_there() {
        for (http, listen, possible_so, why) in [
            (Some(80), &[(80, false)][..], true, ""),
            (Some(8080), &[(443, true), (8080, false)], true, ""),
            (None, &[(80, false)], false, "http-01: port 80 does not arrive here (MDPortMap http:-)"),
            (
                Some(99),
                &[(80, false)],
                false,
                "http-01: port 80 arrives on port 99 (MDPortMap), where nobody listens for http (Listen)",
            ),
            (Some(80), &[(80, true)], false, "http-01: port 80 arrives on port 80"),
            (Some(80), &[], false, "http-01: port 80 arrives on port 80"),
        ] {
            let config = config(http, listen);
            match possible(&md("a.example"), &config) {
                Ok(list) => assert!(possible_so && list == [Challenge::Http01], "{http:?} {listen:?}"),
                Err(refusal) => {
                    assert!(!possible_so && refusal.problem == MISMATCH, "{http:?} {listen:?}: {refusal}");
                    let begin = "choosing a challenge: challenge-mismatch: None of the ACME challenge methods configured \
                                 for this domain are suitable. tls-alpn-01: port 443 does not arrive here (MDPortMap https:-)";
                    let text = refusal.to_string();
                    assert!(text.starts_with(begin) && text.contains(why), "{text}");
                    for other in ["; dns-01: ", "; dns-persist-01: "] {
                        assert!(text.contains(other), "{text}");
                    }
                }
            }
            let listed = Md { challenges: Some(vec![Challenge::Http01]), ..md("a.example") };
            assert_eq!(possible(&listed, &config), Ok(vec![Challenge::Http01]), "what is written is not filtered");
            let webroot = Md { webroot: Some("/srv/www".into()), ..md("a.example") };
            assert_eq!(possible(&webroot, &config), Ok(vec![Challenge::Http01]), "another server has the port");
        }
    }

    #[test]
    fn tls_alpn_01_needs_443_and_comes_first() {
        let tls = Md { tls_arrives: true, ..md("a.example") };
        let both = config(Some(80), &[(80, false)]);
        assert_eq!(possible(&tls, &both), Ok(vec![Challenge::TlsAlpn01, Challenge::Http01]));
        assert_eq!(possible(&tls, &config(None, &[])), Ok(vec![Challenge::TlsAlpn01]));
        let ports = PortMap { http: None, https: Some(8443) };
        let refusal = possible(&md("a.example"), &Config { ports, ..config(None, &[]) }).unwrap_err();
        let why = "tls-alpn-01: port 443 arrives on port 8443 (MDPortMap), where nobody listens for https (Listen)";
        assert!(refusal.detail.contains(why), "{refusal}");
    }

    #[test]
    fn md_720_001_a_wildcard_needs_dns() {
        let config = config(Some(80), &[(80, false)]);
        let mut md = md("a.example");
        md.names.push(Name::parse("*.b.example", Labels::Two).unwrap());
        let refusal = possible(&md, &config).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "proving *.b.example: challenge-mismatch: only dns-01 can prove a wildcard; dns-01: there is no command for it \
             (MDChallengeDns01); dns-persist-01: MDCAChallenges does not name it"
        );
        md.dns_command = Some(vec!["/usr/bin/dns".into()]);
        assert_eq!(possible(&md, &config), Ok(vec![Challenge::Http01, Challenge::Dns01]));
        let listed = Md { challenges: Some(vec![Challenge::DnsPersist01]), ..md };
        assert_eq!(possible(&listed, &config), Ok(vec![Challenge::DnsPersist01]));
    }
}
