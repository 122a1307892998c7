//! What a word can say: times, windows, ports, keys, CAs, URLs. Each reader's error is a fragment that follows the word.

use super::lex::shown;
use crate::words::cert::{KeyKind, Window};
use crate::words::config::{Backend, Layout};
use crate::words::time::Span;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

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

/// A CA, by the name that all know or by its URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ca {
    Known(&'static KnownCa),
    Url(String),
}

#[derive(PartialEq, Eq, Debug)]
pub struct KnownCa {
    pub name: &'static str,
    url: &'static str,
    /// Where the CA has another directory for RSA keys.
    rsa: Option<&'static str>,
}

const fn known(name: &'static str, url: &'static str) -> KnownCa {
    KnownCa { name, url, rsa: None }
}

pub static LETSENCRYPT: KnownCa = known("LetsEncrypt", "https://acme-v02.api.letsencrypt.org/directory");

static KNOWN: [KnownCa; 7] = [
    known("LetsEncrypt-Test", "https://acme-staging-v02.api.letsencrypt.org/directory"),
    known("ZeroSSL", "https://acme.zerossl.com/v2/DV90"),
    known("Google", "https://dv.acme-v02.api.pki.goog/directory"),
    known("Google-Test", "https://dv.acme-v02.test-api.pki.goog/directory"),
    KnownCa {
        name: "SSLcom",
        url: "https://acme.ssl.com/sslcom-dv-ecc",
        rsa: Some("https://acme.ssl.com/sslcom-dv-rsa"),
    },
    known("Actalis", "https://acme-api.actalis.com/acme/directory"),
    known("Sectigo", "https://acme.sectigo.com/v2/DV"),
];

impl Ca {
    /// The directory for certificates with this kind of key.
    pub fn url(&self, kind: KeyKind) -> &str {
        match self {
            Self::Url(url) => url,
            Self::Known(KnownCa { rsa: Some(rsa), .. }) if matches!(kind, KeyKind::Rsa(_)) => rsa,
            Self::Known(known) => known.url,
        }
    }
}

/// The error is a whole sentence here: it says the word itself.
pub fn ca(text: &str) -> Result<Ca, String> {
    let mut all = std::iter::once(&LETSENCRYPT).chain(&KNOWN);
    if let Some(known) = all.find(|known| known.name.eq_ignore_ascii_case(text)) {
        return Ok(Ca::Known(known));
    }
    if text.eq_ignore_ascii_case("buypass") || text.eq_ignore_ascii_case("buypass-test") {
        return Err(format!("the ACME service of {text} has ended; choose another CA"));
    }
    if !text.contains("://") {
        let names: Vec<_> = std::iter::once(&LETSENCRYPT).chain(&KNOWN).map(|known| known.name).collect();
        let names = names.join(", ");
        return Err(format!(
            "The CA name '{}' is not known and it is not a URL either; known are {names}",
            shown(text)
        ));
    }
    match url(text) {
        Ok(parts) if parts.scheme == "https" || (parts.scheme == "http" && is_loopback(parts.host)) => {
            Ok(Ca::Url(text.into()))
        }
        Ok(_) => Err("the URL of a CA must begin with https:// (http:// only for this machine itself)".into()),
        Err(why) => Err(format!("the URL of the CA {why}")),
    }
}

fn is_loopback(host: &str) -> bool {
    let addr = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || addr.parse().is_ok_and(|addr: IpAddr| addr.is_loopback())
}

/// The parts of an absolute URL.
pub struct Url<'a> {
    /// In lower case.
    pub scheme: String,
    pub userinfo: bool,
    pub host: &'a str,
    pub port: Option<u16>,
    /// From the first slash behind the authority on.
    pub path: &'a str,
}

/// RFC 3986 §3, as far as we use it.
pub fn url(text: &str) -> Result<Url<'_>, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("has no scheme; write it as in https://host/path")?;
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("has a space in it");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (userinfo, authority) = match authority.rsplit_once('@') {
        Some((_, authority)) => (true, authority),
        None => (false, authority),
    };
    // The colons of an IPv6 address stand in brackets.
    let colon = authority.rfind(':').filter(|at| authority.rfind(']').is_none_or(|bracket| bracket < *at));
    let (host, number) = match colon.map(|at| authority.split_at(at)) {
        Some((host, number)) => (host, Some(number.trim_start_matches(':'))),
        None => (authority, None),
    };
    let number = match number {
        Some(number) => Some(port(number).ok_or("has an invalid port")?),
        None => None,
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    if !sound {
        return Err("has no valid host");
    }
    Ok(Url { scheme: scheme.to_ascii_lowercase(), userinfo, host, port: number, path })
}

/// `http://host:port` of a proxy. Its credentials would end up in logs and status, so it can't have any.
pub fn proxy(text: &str) -> Result<String, &'static str> {
    let parts = match url(text) {
        _ if !["http://", "https://"].iter().any(|scheme| starts_with_word(text, scheme)) => {
            return Err("scheme must be http or https");
        }
        Err("has an invalid port") => return Err("invalid port"),
        Err(_) => return Err("invalid host name"),
        Ok(parts) => parts,
    };
    let port = parts.port.ok_or("invalid port: write it as in http://proxy.example.org:8080")?;
    if parts.userinfo {
        return Err("a user or password in it is not supported");
    }
    if !matches!(parts.path, "" | "/") {
        return Err("nothing may follow the port");
    }
    Ok(format!("{}://{}:{port}", parts.scheme, parts.host))
}

/// Whether `text` begins with `start`, in any case.
pub fn starts_with_word(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Where `ProxyPass` leads: `http://addr:port/`, `unix:/path`, or mod_proxy's `unix:/path|http://name/`.
pub fn backend(text: &str) -> Result<Backend, &'static str> {
    if starts_with_word(text, "unix:") {
        let path = text.split_once(':').map_or("", |(_, path)| path);
        let path = path.split_once('|').map_or(path, |(path, _)| path);
        let absolute = path.starts_with('/');
        return if absolute { Ok(Backend::Unix(PathBuf::from(path))) } else { Err("needs an absolute path") };
    }
    let parts = url(text).map_err(|_| "is no back end; write http://address:port/ or unix:/path")?;
    if parts.scheme != "http" || parts.userinfo {
        return Err("is no back end that edgemd can talk to; write http://address:port/ or unix:/path");
    }
    if !matches!(parts.path, "" | "/") {
        return Err("has a path; only a whole site can be passed on, to http://address:port/");
    }
    Ok(Backend::Tcp(format!("{}:{}", parts.host, parts.port.unwrap_or(80))))
}

/// A contact as a CA takes it: a mail address gets its `mailto:`, any other URL stays.
pub fn contact(text: &str) -> Result<String, &'static str> {
    let bad = "is no mail address";
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return Err(bad);
    }
    let (scheme, rest) = text.split_once(':').unwrap_or(("mailto", text));
    if !scheme.eq_ignore_ascii_case("mailto") {
        let letters = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
        let sound = letters && !rest.is_empty();
        return if sound { Ok(text.into()) } else { Err(bad) };
    }
    match rest.rsplit_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(format!("mailto:{rest}")),
        _ => Err(bad),
    }
}

/// The layouts of an export; the inner `None` is one that is still to come.
pub fn layout(text: &str) -> Option<Option<Layout>> {
    match text.to_ascii_lowercase().as_str() {
        "pair" => Some(Some(Layout::Pair)),
        "combined" => Some(Some(Layout::Combined)),
        "acme" | "live" => Some(None),
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
    fn md_300_025_known_cas() {
        for (text, url) in [
            ("LetsEncrypt", "https://acme-v02.api.letsencrypt.org/directory"),
            ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
            ("letsencrypt-test", "https://acme-staging-v02.api.letsencrypt.org/directory"),
            ("LETSEncrypt-TESt", "https://acme-staging-v02.api.letsencrypt.org/directory"),
            ("SSLcom", "https://acme.ssl.com/sslcom-dv-ecc"),
            ("https://ca.example.org:9000/acme/directory", "https://ca.example.org:9000/acme/directory"),
            ("http://127.0.0.2:4000/", "http://127.0.0.2:4000/"),
            ("http://[::1]:4000/", "http://[::1]:4000/"),
            ("http://localhost/dir", "http://localhost/dir"),
        ] {
            assert_eq!(ca(text).map(|ca| ca.url(KeyKind::P256).to_string()).as_deref(), Ok(url), "{text}");
        }
        assert_eq!(ca("sslcom").unwrap().url(KeyKind::Rsa(2048)), "https://acme.ssl.com/sslcom-dv-rsa");
        for text in ["buypass", "Buypass-Test"] {
            assert!(ca(text).unwrap_err().contains("has ended"), "{text}");
        }
    }

    #[test]
    fn md_100_006_bad_urls_of_a_ca() {
        for (text, why) in [
            ("acme.example.org", "The CA name 'acme.example.org' is not known and it is not a URL either"),
            ("https://acme example.org/", "has a space in it"),
            ("https://acme.example.org:-1/", "has an invalid port"),
            ("https://acme.example.org:0/", "has an invalid port"),
            ("https://", "has no valid host"),
            ("https:///directory", "has no valid host"),
            ("https://[::1/", "has no valid host"),
            ("http://acme.example.org/", "must begin with https://"),
            ("http://127.0.0.1.example.org/", "must begin with https://"),
            ("ftp://acme.example.org/", "must begin with https://"),
        ] {
            let fault = ca(text).unwrap_err();
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }

    #[test]
    fn md_300_018_proxies() {
        for (text, meant) in [
            ("http://proxy.example.org:8080", Ok("http://proxy.example.org:8080")),
            ("HTTPS://[::1]:8080/", Ok("https://[::1]:8080")),
            ("localhost:8080", Err("scheme must be http or https")),
            ("socks5://localhost:8080", Err("scheme must be http or https")),
            ("http://localhost:-443", Err("invalid port")),
            ("http://localhost:70000", Err("invalid port")),
            ("http://:80", Err("invalid host name")),
            ("http://user:secret@localhost:80", Err("a user or password in it is not supported")),
        ] {
            assert_eq!(proxy(text).as_deref(), meant.as_ref().map(|text| *text), "{text}");
        }
        assert!(proxy("http://localhost").unwrap_err().starts_with("invalid port"));
    }

    #[test]
    fn back_ends_and_contacts() {
        assert_eq!(backend("http://127.0.0.1:8000/"), Ok(Backend::Tcp("127.0.0.1:8000".into())));
        assert_eq!(backend("http://[::1]"), Ok(Backend::Tcp("[::1]:80".into())));
        assert_eq!(backend("unix:/run/ui.sock|http://ui/"), Ok(Backend::Unix("/run/ui.sock".into())));
        for text in ["unix:ui.sock", "https://ui:443/", "http://ui:80/app", "http://u@ui:80/", "ui:80", "!", ""] {
            assert!(backend(text).is_err(), "{text}");
        }
        assert_eq!(contact("admin@example.org").as_deref(), Ok("mailto:admin@example.org"));
        assert_eq!(contact("MailTo:admin@example.org").as_deref(), Ok("mailto:admin@example.org"));
        assert_eq!(contact("tel:+1-201-555-0123").as_deref(), Ok("tel:+1-201-555-0123"));
        for text in ["", "admin", "@example.org", "admin@", "a b@example.org", "mailto:", ":x"] {
            assert!(contact(text).is_err(), "{text}");
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
