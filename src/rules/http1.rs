//! What is asked of port 80, and what follows from it: a challenge's answer, the back end, or 404.
//!
//! The order of the verdicts: challenge, back end, 404.

use crate::words::answers::Answers;
use crate::words::config::{Backend, Challenge, Config, Md, Site};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The longest head that is read.
pub const HEAD_MAX: usize = 8192;
/// The most header lines in it.
const LINES_MAX: usize = 64;
/// The longest token of a challenge; longer ones are nobody's.
const TOKEN_MAX: usize = 128;
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// A request's head, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    pub method: &'a str,
    /// With its query; of an absolute target only what follows the host.
    pub path: &'a str,
    /// Without its port; of an absolute target this, not the header's (RFC 9112 §3.2.2).
    pub host: Option<&'a str>,
    /// HTTP/1.0 or HTTP/1.1.
    pub minor: u8,
    /// Whether the connection stays open after the answer, if it is for us to say.
    pub keep: bool,
    /// Whether a body follows.
    pub body: bool,
    /// How many bytes it took.
    pub length: usize,
}

/// What a buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading<'a> {
    Complete(Head<'a>),
    /// Not yet a whole head.
    More,
    /// 400, and why.
    Malformed(&'static str),
    /// 431.
    TooLarge,
}

/// Reads a head from the start of a connection's bytes.
pub fn read(bytes: &[u8]) -> Reading<'_> {
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => {
            head(&request, length).map_or_else(Reading::Malformed, Reading::Complete)
        }
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => Reading::More,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Reading::TooLarge,
        Err(httparse::Error::Version) => Reading::Malformed("this is neither HTTP/1.0 nor HTTP/1.1"),
        Err(_) => Reading::Malformed("this is no HTTP request"),
    }
}

fn head<'a>(request: &httparse::Request<'_, 'a>, length: usize) -> Result<Head<'a>, &'static str> {
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err("the request line is not whole");
    };
    let mut seen = Lines::default();
    for line in request.headers.iter() {
        seen.note(line.name, line.value)?;
    }
    if seen.host.is_none() && minor == 1 {
        return Err("an HTTP/1.1 request needs a Host");
    }
    if seen.chunked && (seen.length.is_some() || minor == 0) {
        return Err("the length of the body is ambiguous");
    }
    let body = seen.chunked || seen.length.is_some_and(|length| length > 0);
    if method == "CONNECT" || (method == "HEAD" && body) {
        return Err("CONNECT, and HEAD with a body, are not served");
    }
    let (host, path) = split_target(method, target)?;
    Ok(Head {
        method,
        path,
        host: host.or(seen.host).map(without_port),
        minor,
        keep: !seen.close && (minor == 1 || seen.keep),
        body,
        length,
    })
}

/// The header lines that decide about framing; every shape that two readers could frame differently is refused
/// (RFC 9112 §11.2), before a library or a back end sees it.
#[derive(Default)]
struct Lines<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep: bool,
}

impl<'a> Lines<'a> {
    fn note(&mut self, name: &str, value: &'a [u8]) -> Result<(), &'static str> {
        if name.eq_ignore_ascii_case("host") {
            let host = core::str::from_utf8(value).map_err(|_| "the Host is not text")?;
            if self.host.replace(host).is_some() {
                return Err("there are two Hosts");
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            let digits = core::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok()).ok_or("the Content-Length is not a number")?;
            if self.length.replace(length).is_some() {
                return Err("there are two Content-Lengths");
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("the only Transfer-Encoding here is chunked");
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }
}

/// A target of any of the forms that a server understands (RFC 9112 §3.2): the host in it, if any, and the path.
fn split_target<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, &'a str), &'static str> {
    const NONE: &str = "the target is neither a path nor a URL";
    if target.starts_with('/') {
        return Ok((None, target));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(NONE)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(NONE);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).ok_or(NONE)?;
    if host.is_empty() || host.contains('@') {
        return Err(NONE);
    }
    Ok((Some(host), if path.is_empty() { "/" } else { path }))
}

/// `host`, of `host:port` or `[v6]:port`; brackets and a final dot are no part of it.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    let host = host.split_once(':').map_or(host, |(name, _)| name);
    host.strip_suffix('.').unwrap_or(host)
}

/// What counts on port 80, precomputed from the configuration.
#[derive(Debug, Default)]
pub struct Facade {
    /// The names that http-01 may prove: nobody else answers challenges under them.
    ours: BTreeSet<String>,
    /// The plain ones, in the order of the file.
    sites: Vec<Site>,
    base: Option<Backend>,
}

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// 200 with this key authorization.
    Answer(String),
    /// 405: a challenge's answer is fetched, nothing else.
    NotAllowed,
    NotFound,
    Backend(&'a Backend),
}

impl Facade {
    pub fn new(config: &Config) -> Self {
        let http_arrives = config.ports.http.is_some();
        let mut ours = BTreeSet::new();
        for md in config.mds.iter().filter(|md| md.driven() && by_http(md, http_arrives)) {
            let names = md.names.iter().filter(|name| !name.is_wildcard());
            ours.extend(names.map(|name| name.as_str().to_owned()));
        }
        let sites = config.sites.iter().filter(|site| !site.tls);
        let sites = sites.map(|site| Site { proxy: site.proxy.clone().or(config.base.proxy.clone()), ..site.clone() });
        Self { ours, sites: sites.collect(), base: config.base.proxy.clone() }
    }

    /// A request that came in at `local`.
    pub fn judge(&self, head: &Head<'_>, local: SocketAddr, answers: &Answers) -> Verdict<'_> {
        let host = head.host.map(normal).unwrap_or_default();
        if let Some(rest) = head.path.strip_prefix(CHALLENGES) {
            let token = rest.split(['?', '#']).next().unwrap_or_default();
            if let Some(answer) = answers.find(token).filter(|_| is_token(token)) {
                return match head.method {
                    "GET" | "HEAD" => Verdict::Answer(answer),
                    _ => Verdict::NotAllowed,
                };
            }
            if self.ours.contains(&host) {
                return Verdict::NotFound;
            }
        }
        self.backend(&host, local).map_or(Verdict::NotFound, Verdict::Backend)
    }

    /// The back end of the site that is called so at this address; of the first site there, if none is.
    fn backend(&self, host: &str, local: SocketAddr) -> Option<&Backend> {
        let here = |site: &&Site, addr: Option<IpAddr>| site.addrs.contains(&(addr, local.port()));
        for addr in [Some(local.ip()), None] {
            let mut sites = self.sites.iter().filter(|site| here(site, addr)).peekable();
            let Some(first) = sites.peek().copied() else { continue };
            return sites.find(|site| site.names.iter().any(|name| covers(name, host))).unwrap_or(first).proxy.as_ref();
        }
        self.base.as_ref()
    }
}

/// Whether http-01 is among the MD's challenges; an unwritten list holds what is possible.
fn by_http(md: &Md, http_arrives: bool) -> bool {
    md.challenges.as_ref().map_or(http_arrives, |written| written.contains(&Challenge::Http01))
}

/// The normal form of a host, as a name has it.
fn normal(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => {
            host.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.')).is_some_and(|l| !l.is_empty())
        }
        None => name == host,
    }
}

/// Whether a token can be one at all (RFC 8555 §8.3).
fn is_token(text: &str) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= TOKEN_MAX && text.bytes().all(base64url)
}
