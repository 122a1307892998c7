//! What a word can say: times, windows, ports, addresses, keys. Each reader's error is a fragment that follows the word.

use crate::words::cert::{KeyKind, Window};
use crate::words::config::Layout;
use crate::words::time::Span;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a number without a unit counts.
#[derive(Clone, Copy)]
pub enum Unit {
    Days,
    Seconds,
}

/// `30s`, `12h`, `10`.
pub fn span(text: &str, unit: Unit) -> Result<Span, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, written) = text.split_at(end);
    let of = match (written.to_ascii_lowercase().as_str(), unit) {
        ("d", _) | ("", Unit::Days) => Span::days,
        ("s", _) | ("", Unit::Seconds) => Span::secs,
        ("h", _) => Span::hours,
        ("mi", _) => Span::mins,
        ("ms", _) => Span::millis,
        _ => return Err("has unrecognized format; write a number with d, h, mi, s or ms".into()),
    };
    digits.parse().map(of).map_err(|_| "has unrecognized format; write a number with d, h, mi, s or ms".into())
}

/// `10d`, `33%`.
pub fn window(text: &str) -> Result<Window, String> {
    let Some(percent) = text.strip_suffix('%') else { return span(text, Unit::Days).map(Window::Fixed) };
    if percent.is_empty() || !percent.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has unrecognized format; write a duration or a percentage, as in 10d or 33%".into());
    }
    match percent.parse() {
        Ok(percent @ 0..100u8) => Ok(Window::Percent(percent)),
        _ => Err("is too long: a length of 100% or more is not allowed.".into()),
    }
}

/// One side of a port map: the Internet's port, and the local one or `None`.
pub fn mapped(text: &str) -> Result<(u16, Option<u16>), &'static str> {
    let (outer, inner) = text.split_once(':').ok_or("no ':' after first port number")?;
    let outer = match outer.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        other => other.parse::<i64>().map_err(|_| "unable to parse first port number")?,
    };
    let outer = match outer {
        80 => 80,
        443 => 443,
        _ => return Err("mapped port number must be 80 or 443"),
    };
    if inner == "-" {
        return Ok((outer, None));
    }
    let inner = inner.parse::<i64>().map_err(|_| "unable to parse second port number")?;
    match u16::try_from(inner) {
        Ok(inner @ 1..) => Ok((outer, Some(inner))),
        _ => Err("invalid number for port map, must be in ]0,65535]"),
    }
}

pub fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// `*:443`, `192.0.2.1:80`, `[::1]:8443`; `None` is any address.
pub fn addr_port(text: &str) -> Result<(Option<IpAddr>, u16), &'static str> {
    let (addr, number) = text.rsplit_once(':').ok_or("has no port; write it as in *:443")?;
    let number = port(number).ok_or("has no valid port; a port is a number from 1 to 65535")?;
    match addr_of(addr) {
        Some(addr) => Ok((addr, number)),
        None => Err("has no valid address; write *, an IPv4 address, or an IPv6 address in brackets"),
    }
}

fn addr_of(text: &str) -> Option<Option<IpAddr>> {
    if text == "*" || text.eq_ignore_ascii_case("_default_") {
        return Some(None);
    }
    let addr = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    addr.map(Some)
}

/// The keys of `MDPrivateKeys`; an error names the number of the word that it is about.
pub fn keys(words: &[&str]) -> Result<Vec<KeyKind>, (usize, String)> {
    let mut keys: Vec<KeyKind> = Vec::new();
    let mut words = words.iter().copied().enumerate().peekable();
    if words.peek().is_none() {
        return Err((0, "needs to specify the private key type".into()));
    }
    while let Some((at, word)) = words.next() {
        let lower = word.to_ascii_lowercase();
        let kind = match lower.as_str() {
            "default" if at == 0 && words.peek().is_none() => KeyKind::P256,
            "default" => return Err((at, "'Default' allows no other parameter".into())),
            "p-256" | "secp256r1" => KeyKind::P256,
            "p-384" | "secp384r1" => KeyKind::P384,
            "rsa" => match words.next_if(|(_, next)| next.starts_with(|c: char| c.is_ascii_digit())) {
                Some((at, bits)) => rsa(bits).map_err(|why| (at, why))?,
                None => KeyKind::Rsa(2048),
            },
            other => match other.strip_prefix("rsa") {
                Some(bits) if bits.starts_with(|c: char| c.is_ascii_digit()) => rsa(bits).map_err(|why| (at, why))?,
                _ => {
                    let why = "unsupported private key type; there are RSA, P-256 (secp256r1) and P-384 (secp384r1)";
                    return Err((at, why.into()));
                }
            },
        };
        if keys.iter().any(|key| key.family() == kind.family()) {
            let family = match kind {
                KeyKind::Rsa(_) => "RSA",
                KeyKind::P256 => "P-256",
                KeyKind::P384 => "P-384",
            };
            return Err((at, format!("two keys of type '{family}' are not possible.")));
        }
        keys.push(kind);
    }
    Ok(keys)
}

fn rsa(bits: &str) -> Result<KeyKind, String> {
    match bits.parse::<u64>() {
        Ok(2048) => Ok(KeyKind::Rsa(2048)),
        Ok(3072) => Ok(KeyKind::Rsa(3072)),
        Ok(4096) => Ok(KeyKind::Rsa(4096)),
        Ok(..2048) => Err("must be 2048 or higher in order to be considered safe.".into()),
        Ok(_) => Err("an RSA key has 2048, 3072 or 4096 bits".into()),
        Err(_) => Err("the bits of an RSA key are a number: 2048, 3072 or 4096".into()),
    }
}

/// The layouts of an export.
pub fn layout(text: &str) -> Option<Layout> {
    match text.to_ascii_lowercase().as_str() {
        "pair" => Some(Layout::Pair),
        "combined" => Some(Layout::Combined),
        "acme" => Some(Layout::Acme),
        "live" => Some(Layout::Live),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md_300_017_durations_and_windows() {
        for (text, meant) in [
            ("10", Window::Fixed(Span::days(10))),
            ("10D", Window::Fixed(Span::days(10))),
            ("90Mi", Window::Fixed(Span::mins(90))),
            ("1h", Window::Fixed(Span::hours(1))),
            ("7s", Window::Fixed(Span::secs(7))),
            ("100ms", Window::Fixed(Span::millis(100))),
            ("33%", Window::Percent(33)),
            ("99%", Window::Percent(99)),
            ("18446744073709551615d", Window::Fixed(Span::days(u64::MAX))),
        ] {
            assert_eq!(window(text), Ok(meant), "{text}");
        }
        assert_eq!(window("10").unwrap().to_string(), "10d");
        for text in
            ["dec-31", "1y", "", "d", "-1", "+1", "1 d", "1dd", "1.5d", "٣d", "99999999999999999999", "%", "+1%"]
        {
            assert!(window(text).unwrap_err().contains("has unrecognized format"), "{text}");
        }
        for text in ["100%", "102%", "256%", "99999999999999999999%"] {
            assert!(window(text).unwrap_err().contains("a length of 100% or more is not allowed."), "{text}");
        }
        assert_eq!(span("30", Unit::Seconds), Ok(Span::secs(30)));
        assert!(span("30%", Unit::Seconds).is_err());
    }

    #[test]
    fn port_maps() {
        for (text, meant) in [
            ("http:8080", Ok((80, Some(8080)))),
            ("HTTPS:-", Ok((443, None))),
            ("80:65535", Ok((80, Some(65535)))),
            ("443:443", Ok((443, Some(443)))),
            ("http8080", Err("no ':' after first port number")),
            ("ftp:21", Err("unable to parse first port number")),
            ("81:80", Err("mapped port number must be 80 or 443")),
            ("http:", Err("unable to parse second port number")),
            ("http:80x", Err("unable to parse second port number")),
            ("http:0", Err("invalid number for port map, must be in ]0,65535]")),
            ("http:-1", Err("invalid number for port map, must be in ]0,65535]")),
            ("http:65536", Err("invalid number for port map, must be in ]0,65535]")),
        ] {
            assert_eq!(mapped(text), meant, "{text}");
        }
    }

    #[test]
    fn md_300_015_016_keys() {
        let read = |text: &str| keys(&text.split_whitespace().collect::<Vec<_>>());
        for (text, meant) in [
            ("Default", vec![KeyKind::P256]),
            ("RSA", vec![KeyKind::Rsa(2048)]),
            ("rsa 3072", vec![KeyKind::Rsa(3072)]),
            ("RSA4096 P-256 SECP384R1", vec![KeyKind::Rsa(4096), KeyKind::P256, KeyKind::P384]),
        ] {
            assert_eq!(read(text), Ok(meant), "{text}");
        }
        for (text, at, why) in [
            ("", 0, "needs to specify the private key type"),
            ("Default RSA 1024", 0, "'Default' allows no other parameter"),
            ("P-256 default", 1, "'Default' allows no other parameter"),
            ("RSA 1024", 1, "must be 2048 or higher in order to be considered safe."),
            ("rsa1024", 0, "must be 2048 or higher in order to be considered safe."),
            ("RSA 8192", 1, "an RSA key has 2048, 3072 or 4096 bits"),
            ("RSA 2049", 1, "an RSA key has 2048, 3072 or 4096 bits"),
            ("RSA 2048x", 1, "the bits of an RSA key are a number: 2048, 3072 or 4096"),
            ("rsa 2048 rsa 4096", 2, "two keys of type 'RSA' are not possible."),
            ("p-256 secp384r1 P-256", 2, "two keys of type 'P-256' are not possible."),
            ("ed25519", 0, "unsupported private key type; there are RSA, P-256 (secp256r1) and P-384 (secp384r1)"),
        ] {
            assert_eq!(read(text), Err((at, why.into())), "{text}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(addr_port("*:443"), Ok((None, 443)));
        assert_eq!(addr_port("_default_:443"), Ok((None, 443)));
        assert_eq!(addr_port("[::1]:80"), Ok((Some(IpAddr::V6(Ipv6Addr::LOCALHOST)), 80)));
        for text in ["*", "443", "*:*", "*:0", "*:+1", "::1:80", "example.org:80", "[127.0.0.1]:80", ""] {
            assert!(addr_port(text).is_err(), "{text}");
        }
    }
}
