//! What a word can point to: a CA, a proxy, a back end, a mailbox. Each reader's error is a fragment that follows the word.

use super::lex::shown;
use super::values::port;
use crate::words::cert::KeyKind;
use crate::words::config::Backend;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

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
        Ok(parts) if parts.userinfo => Err("a user or password in the URL of a CA is not supported".into()),
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
    let (host, number) = match authority.rsplit_once(':').filter(|(_, number)| !number.contains(']')) {
        Some((host, number)) => (host, Some(number)),
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

/// `host:port`, to connect to.
pub fn host_port(text: &str) -> Result<String, &'static str> {
    let bad = "is no host:port; an IPv6 address stands in brackets, as in [::1]:443";
    let whole = format!("tcp://{text}");
    match url(&whole) {
        Ok(Url { port: Some(port), userinfo: false, path: "", host, .. }) => Ok(format!("{host}:{port}")),
        _ => Err(bad),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
            ("http://localhost:80/x", Err("nothing may follow the port")),
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
        for text in [
            "",
            "admin",
            "@example.org",
            "admin@",
            "a b@example.org",
            "a\x01@example.org",
            "ü@example.org",
            "mailto:",
            ":x",
        ] {
            assert!(contact(text).is_err(), "{text}");
        }
    }
}
