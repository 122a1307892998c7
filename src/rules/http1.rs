//! What is asked of the listeners, and what follows from it.
//!
//! The order of the verdicts: over http challenge, redirect to https, status of the certificate, back end, 404; over https
//! status of the certificate, 503 while there is none, back end, 404.

use crate::rules::redirect::{self, Hsts, Moved};
use crate::rules::status;
use crate::words::answers::Answers;
use crate::words::board::{Board, Report};
use crate::words::config::{Challenge, Config, Md, RequireHttps, Site, Way};
use crate::words::name::Name;
use crate::words::sorted::Map;
use crate::words::time::Unix;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest head that is read.
pub const HEAD_MAX: usize = 8192;
/// The most header lines in it.
const LINES_MAX: usize = 64;
const TOO_LONG: &str = "the head of the request is over 8 KiB";
const TOO_MANY: &str = "the request has more than 64 header lines";
/// The longest token of a challenge; longer ones are nobody's.
const TOKEN_MAX: usize = 128;
const CHALLENGES: &str = "/.well-known/acme-challenge/";
const STATUS: &str = "/.httpd/certificate-status";

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
    /// 431, and why.
    TooLarge(&'static str),
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
        Ok(_) => Reading::TooLarge(TOO_LONG),
        Err(httparse::Error::TooManyHeaders) => Reading::TooLarge(TOO_MANY),
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
    if !seen.host.is_none_or(is_host) {
        return Err("the Host is neither a name nor an address");
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
    if host.is_empty() || !is_host(host) {
        return Err(NONE);
    }
    Ok((Some(host), if path.is_empty() { "/" } else { path }))
}

/// Whether this is a host with or without a port (RFC 9112 §3.2), of the characters that one can have (RFC 3986 §3.2.2).
fn is_host(text: &str) -> bool {
    let (good, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (name, port) = text.split_at_checked(text.find(':').unwrap_or(text.len())).unwrap_or_default();
            let mut hex = 0;
            let one = |byte: u8| {
                if hex > 0 {
                    hex -= 1;
                    return byte.is_ascii_hexdigit();
                }
                hex = if byte == b'%' { 2 } else { 0 };
                hex > 0 || byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
            };
            (name.bytes().all(one) && hex == 0, port)
        }
    };
    good && (port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit())))
}

/// `host`, of `host:port` or `[v6]:port`; brackets and a final dot are no part of it.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    let host = host.split_once(':').map_or(host, |(name, _)| name);
    host.strip_suffix('.').unwrap_or(host)
}

/// What counts for strangers, precomputed from the configuration.
#[derive(Debug, Default)]
pub struct Facade {
    /// The names of all MDs; a wildcard's is what comes after `*.`.
    names: Map<String, Known>,
    wildcards: Map<String, Known>,
    certificate_status: bool,
    /// In the order of the file.
    sites: Vec<Site>,
    base: Site,
}

/// What counts for a name of an MD.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The place of its MD in the configuration, where its report stands on the board, too.
    at: usize,
    /// Whether http-01 may prove it: then nobody else answers challenges under it.
    ours: bool,
    https: RequireHttps,
}

/// What else a verdict depends on, looked at when it matters.
pub struct Around<'a> {
    /// Whether the request came over https.
    pub tls: bool,
    /// The MD whose certificate was shown then; `None` is a fallback.
    pub shown: Option<&'a Name>,
    /// Where the request came in.
    pub local: &'a dyn Fn() -> SocketAddr,
    /// The wall clock, believable or not.
    pub clock: fn() -> Option<Unix>,
    pub answers: &'a Answers,
    pub board: &'a Board,
}

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<'a> {
    /// 200 with this key authorization.
    Answer(String),
    /// 405: a challenge's answer is fetched, nothing else.
    NotAllowed,
    Moved(Moved),
    /// 200 with this JSON.
    Status(String),
    /// 503: there is no certificate yet that anybody could trust.
    Unready,
    NotFound,
    Backend(&'a Way),
}

impl Facade {
    pub fn new(config: &Config) -> Self {
        let http_arrives = config.ports.http.is_some();
        let (mut names, mut wildcards) = (Map::new(), Map::new());
        for (at, md) in config.mds.iter().enumerate() {
            let by_http = md.driven() && by_http(md, http_arrives);
            for name in &md.names {
                let (name, list, ours) = match name.as_str().strip_prefix("*.") {
                    Some(parent) => (parent, &mut wildcards, false),
                    None => (name.as_str(), &mut names, by_http),
                };
                let known = list.or_insert(name.to_owned(), Known { at, ours, https: md.require_https });
                known.ours |= ours;
            }
        }
        let certificate_status = config.certificate_status;
        Self { names, wildcards, certificate_status, sites: config.sites.clone(), base: config.base.clone() }
    }

    pub fn judge(&self, head: &Head<'_>, around: &Around<'_>) -> Verdict<'_> {
        let host = head.host.map(normal).unwrap_or_default();
        if let Some(rest) = head.path.strip_prefix(CHALLENGES).filter(|_| !around.tls) {
            let token = rest.split(['?', '#']).next().unwrap_or_default();
            if let Some(answer) = around.answers.find(token).filter(|_| is_token(token)) {
                return match head.method {
                    "GET" | "HEAD" => Verdict::Answer(answer),
                    _ => Verdict::NotAllowed,
                };
            }
            if self.names.get(&host).is_some_and(|known| known.ours) {
                return Verdict::NotFound;
            }
        }
        if let Some(known) = self.known(&host) {
            if !around.tls
                && let Some(moved) = moved(known, head, &host, around)
            {
                return Verdict::Moved(moved);
            }
            let asked = self.certificate_status && is_status(head);
            let status = |report: &Report| status::public_json(report).to_string();
            if let Some(json) = asked.then(|| report(around.board, known, &host, status)).flatten() {
                return Verdict::Status(json);
            }
            let holds = |report: &Report| report.certs.iter().any(|cert| cert.held.is_some());
            if around.tls && report(around.board, known, &host, holds) == Some(false) {
                return Verdict::Unready;
            }
        }
        if around.tls && around.shown.is_none() {
            return Verdict::Unready;
        }
        let way = self.site(&host, around.local).proxy.as_ref();
        way.map_or(Verdict::NotFound, Verdict::Backend)
    }

    /// Whether a client that came over https shall remember to do so again: never while it had to be shown a certificate
    /// that it can't accept for good, or another host's.
    pub fn hsts(&self, head: &Head<'_>, around: &Around<'_>) -> Hsts {
        let host = head.host.map(normal).unwrap_or_default();
        let (Some(known), Some(shown)) = (self.known(&host), around.shown) else { return Hsts::Never };
        let now = (around.clock)();
        let welcome = |report: &Report| report.md.name == *shown && redirect::welcomes(report, &host, now);
        match report(around.board, known, &host, welcome) {
            Some(true) if known.https == RequireHttps::Permanent => Hsts::Add,
            Some(true) => Hsts::Theirs,
            _ => Hsts::Never,
        }
    }

    /// Whether TLS of some site is passed through, untouched.
    pub fn passes_through(&self) -> bool {
        self.sites.iter().chain([&self.base]).any(|site| site.passthrough.is_some())
    }

    /// Where TLS goes that asks for this host here.
    pub fn passthrough(&self, host: Option<&str>, local: SocketAddr) -> Option<&Way> {
        self.site(host.unwrap_or_default(), &|| local).passthrough.as_ref()
    }

    /// What there is to know about a host, if it is an MD's.
    fn known(&self, host: &str) -> Option<Known> {
        self.names.get(host).or_else(|| self.wildcards.get(host.split_once('.')?.1)).copied()
    }

    /// The site that is called so at this address; the first site there, if none is; the base server, where there is none.
    fn site(&self, host: &str, local: &dyn Fn() -> SocketAddr) -> &Site {
        if self.sites.is_empty() {
            return &self.base;
        }
        let local = local();
        let here = |site: &&Site, addr: Option<IpAddr>| site.addrs.contains(&(addr, local.port()));
        for addr in [Some(local.ip().to_canonical()), None] {
            let mut sites = self.sites.iter().filter(|site| here(site, addr)).peekable();
            let Some(first) = sites.peek().copied() else { continue };
            return sites.find(|site| site.names.iter().any(|name| covers(name, host))).unwrap_or(first);
        }
        &self.base
    }
}

/// Where a request over http is sent, if its MD wants that and https is ready for it.
fn moved(known: Known, head: &Head<'_>, host: &str, around: &Around<'_>) -> Option<Moved> {
    let moved = redirect::moved(known.https, head.method, host, head.path)?;
    let now = (around.clock)();
    report(around.board, known, host, |report| redirect::welcomes(report, host, now))?.then_some(moved)
}

/// Looks at the report of the MD that has this host, which holds only what a name can hold. After a reload the board is
/// of the old configuration for a moment, and the report in another place or missing.
fn report<T>(board: &Board, known: Known, host: &str, view: impl FnOnce(&Report) -> T) -> Option<T> {
    let has = |report: &&Report| report.md.names.iter().any(|name| name.serves(host));
    board.read(|reports| reports.get(known.at).filter(has).or_else(|| reports.iter().find(has)).map(view))
}

fn is_status(head: &Head<'_>) -> bool {
    let path = head.path.split(['?', '#']).next();
    path == Some(STATUS) && matches!(head.method, "GET" | "HEAD")
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

/// The body of a fuzz target: what is left out of a head cannot complete it, and what follows it cannot change it.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Reading::Complete(head) = read(bytes) {
        let (whole, _) = bytes.split_at_checked(head.length).expect("a head is no longer than what was read");
        assert_eq!(read(whole), Reading::Complete(head));
        let short = whole.split_last().map_or(&[][..], |(_, rest)| rest);
        assert_eq!(read(short), Reading::More);
        let local = || SocketAddr::from(([127, 0, 0, 1], 80));
        let (answers, board) = (Answers::default(), Board::default());
        let tls = bytes.len().is_multiple_of(2);
        let around = Around { tls, shown: None, local: &local, clock: || None, answers: &answers, board: &board };
        let verdict = if tls { Verdict::Unready } else { Verdict::NotFound };
        assert_eq!(Facade::default().judge(&head, &around), verdict);
        if let Some(moved) = redirect::moved(RequireHttps::Permanent, head.method, "r.example", head.path) {
            let line = moved.field.strip_suffix("\r\n").expect("it is a line");
            assert!(!line.chars().any(|c| c.is_ascii_control()), "{line:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::board::CertReport;
    use crate::words::cert::Held;
    use crate::words::config::{Backend, DriveMode, PortMap, ProxyProtocol};
    use crate::words::fault::Place;
    use crate::words::name::Labels;
    use crate::words::time::Span;
    use std::sync::Arc;

    fn md(names: &[&str], challenges: Option<&[Challenge]>) -> Md {
        let names: Vec<Name> = names.iter().map(|name| Name::parse(name, Labels::Two).unwrap()).collect();
        let place = Place { file: "edgemd.conf".into(), line: 1, column: 1 };
        let plain = Md::plain(names.first().unwrap().clone(), place);
        Md { names, challenges: challenges.map(<[Challenge]>::to_vec), ..plain }
    }

    fn tcp(port: u16) -> Option<Way> {
        Some(Way { to: Backend::Tcp(format!("127.0.0.1:{port}")), header: ProxyProtocol::Off })
    }

    fn site(addr: Option<&str>, port: u16, names: &[&str], proxy: Option<Way>) -> Site {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let addrs = vec![(addr.map(|ip| ip.parse().unwrap()), port)];
        Site { names, addrs, tls: port == 443, proxy, passthrough: None }
    }

    fn config(mds: Vec<Md>, sites: Vec<Site>, base: Option<Way>) -> Config {
        Config {
            mds,
            sites,
            base: Site { proxy: base, ..Site::default() },
            ports: PortMap { http: Some(80), https: None },
            ..Config::default()
        }
    }

    fn complete(text: &str) -> Head<'_> {
        match read(text.as_bytes()) {
            Reading::Complete(head) => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    const LOCAL: fn() -> SocketAddr = || SocketAddr::from(([192, 0, 2, 1], 80));

    fn around<'a>(local: &'a dyn Fn() -> SocketAddr, answers: &'a Answers, board: &'a Board) -> Around<'a> {
        Around { tls: false, shown: None, local, clock: || Some(NOW), answers, board }
    }

    /// The verdict where there are no answers and no certificates.
    fn plain<'f>(facade: &'f Facade, text: &str, local: &dyn Fn() -> SocketAddr) -> Verdict<'f> {
        facade.judge(&complete(text), &around(local, &Answers::default(), &Board::default()))
    }

    /// Ten years after the oldest certificate here begins, long after this program was built.
    const NOW: Unix = Unix::from_secs(2_000_000_000);

    /// The reports of these MDs, each with a certificate for these names until then.
    fn board(mds: &[Md], held: &[(&[&str], Unix)]) -> Board {
        let certs = |at: usize| held.get(at).map(|(names, until)| cert(names, *until)).into_iter().collect();
        let reports = mds.iter().enumerate().map(|(at, md)| Report::sample(Arc::new(md.clone()), certs(at)));
        let board = Board::default();
        board.post(reports.collect());
        board
    }

    fn cert(names: &[&str], not_after: Unix) -> CertReport {
        let names = names.iter().map(|name| Name::parse(name, Labels::Two).unwrap()).collect();
        CertReport::sample(Some(Held::sample(names, not_after.minus(Span::days(90)), not_after)))
    }

    /// `302 https://…`, `status`, or what else becomes of it.
    fn said(verdict: &Verdict<'_>) -> String {
        match verdict {
            Verdict::Moved(moved) => {
                let place = moved.field.strip_prefix("Location: ").unwrap().trim_end();
                format!("{} {place}", moved.status.split(' ').next().unwrap())
            }
            Verdict::Status(_) => "status".into(),
            Verdict::Backend(_) => "back".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn md_502_109_only_the_names_of_an_md_are_redirected() {
        let names: &[&str] = &["r.example.org", "home.example.org", "2001:db8::1", "*.wild.example.org"];
        let mut one = md(names, None);
        one.require_https = RequireHttps::Temporary;
        let mut two = md(&["p.example.org"], None);
        two.require_https = RequireHttps::Permanent;
        let mds = vec![one, two, md(&["off.example.org"], None)];
        let later = NOW.plus(Span::days(1));
        let board = board(&mds, &[(names, later), (&["p.example.org"], later), (&["off.example.org"], later)]);
        let facade = Facade::new(&config(mds, Vec::new(), tcp(8000)));
        let answers = Answers::default();
        answers.put("token", "token.print");
        for (method, target, host, what) in [
            ("GET", "/a?b", "r.example.org", "302 https://r.example.org/a?b"),
            ("GET", "/a?b", "R.Example.ORG.", "302 https://r.example.org/a?b"),
            ("GET", "/", "r.example.org:8080", "302 https://r.example.org/"),
            ("HEAD", "/", "home.example.org", "302 https://home.example.org/"),
            ("PUT", "/x", "home.example.org", "307 https://home.example.org/x"),
            ("GET", "/", "[2001:DB8:0::1]:80", "302 https://[2001:db8::1]/"),
            ("GET", "/", "any.wild.example.org", "302 https://any.wild.example.org/"),
            ("GET", "/", "p.example.org", "301 https://p.example.org/"),
            ("POST", "/", "p.example.org", "308 https://p.example.org/"),
            ("GET", "http://p.example.org:80/q", "other.example", "301 https://p.example.org/q"),
            ("GET", "http://other.example/q", "p.example.org", "back"),
            ("GET", "/", "other.example", "back"),
            ("GET", "/", "example.org", "back"),
            ("GET", "/", "wild.example.org", "back"),
            ("GET", "/", "a.b.wild.example.org", "back"),
            ("GET", "/", ".wild.example.org", "back"),
            ("GET", "/", "*.wild.example.org", "back"),
            ("GET", "/", "", "back"),
            ("GET", "/", "off.example.org", "back"),
            ("OPTIONS", "*", "p.example.org", "back"),
            ("GET", "/.well-known/security.txt", "p.example.org", "back"),
            ("GET", "/.well-known/acme-challenge/token", "p.example.org", "Answer(\"token.print\")"),
            ("GET", "/.well-known/acme-challenge/other", "p.example.org", "NotFound"),
            // The redirect comes first; a name without one says it itself.
            ("GET", STATUS, "p.example.org", "301 https://p.example.org/.httpd/certificate-status"),
            ("GET", STATUS, "off.example.org", "status"),
            ("HEAD", "/.httpd/certificate-status?x", "off.example.org", "status"),
            ("POST", STATUS, "off.example.org", "back"),
            ("GET", "/.httpd/certificate-status/", "off.example.org", "back"),
            ("GET", STATUS, "other.example", "back"),
        ] {
            let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let verdict = facade.judge(&complete(&text), &around(&LOCAL, &answers, &board));
            assert_eq!(said(&verdict), what, "{text:?}");
        }
    }

    #[test]
    fn nobody_is_sent_to_a_certificate_that_locks_out() {
        let mut one = md(&["r.example.org", "new.example.org"], None);
        one.require_https = RequireHttps::Permanent;
        let mds = vec![md(&["other.example.org"], None), one];
        let facade = Facade::new(&config(mds.clone(), Vec::new(), tcp(8000)));
        let answers = Answers::default();
        let at = |board: &Board, host: &str, clock: fn() -> Option<Unix>| {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let around = Around { clock, ..around(&LOCAL, &answers, board) };
            matches!(facade.judge(&complete(&text), &around), Verdict::Moved(_))
        };
        let none: (&[&str], Unix) = (&["other.example.org"], NOW.plus(Span::days(1)));
        let with = |names: &[&str], until: Unix| board(&mds, &[none, (names, until)]);
        let now: fn() -> Option<Unix> = || Some(NOW);
        let r: &[&str] = &["r.example.org"];
        assert!(!at(&Board::default(), "r.example.org", now), "nothing is known yet");
        assert!(!at(&board(&mds, &[none]), "r.example.org", now), "nothing is held");
        assert!(at(&with(r, NOW.plus(Span::secs(1))), "r.example.org", now));
        assert!(!at(&with(r, NOW), "r.example.org", now), "it has expired");
        assert!(!at(&with(r, NOW.plus(Span::days(1))), "new.example.org", now), "it is not on the certificate yet");
        assert!(at(&with(&["*.example.org"], NOW.plus(Span::days(1))), "new.example.org", now));
        // A clock that was never set says nothing about an end.
        assert!(at(&with(r, NOW), "r.example.org", || None));
        assert!(at(&with(r, NOW), "r.example.org", || Some(Unix::from_secs(0))));
        // After a reload the board is of the old configuration for a moment.
        let moved: Vec<Md> = mds.iter().rev().cloned().collect();
        let later = NOW.plus(Span::days(1));
        assert!(at(&board(&moved, &[(r, later), none]), "r.example.org", now));
    }

    #[test]
    fn md_920_001_003_the_public_status() {
        let mds = vec![md(&["r.example.org"], None)];
        let text = format!("GET {STATUS} HTTP/1.1\r\nHost: r.example.org\r\n\r\n");
        let (head, answers) = (complete(&text), Answers::default());
        let held = board(&mds, &[(&["r.example.org"], NOW)]);
        let on = config(mds.clone(), Vec::new(), tcp(8000));
        let off = Config { certificate_status: false, ..on.clone() };
        let facade = Facade::new(&on);
        let Verdict::Status(json) = facade.judge(&head, &around(&LOCAL, &answers, &held)) else { panic!("no status") };
        assert!(json.contains("\"serial\":\"0ABC\""), "{json}");
        let facade = Facade::new(&off);
        assert_eq!(said(&facade.judge(&head, &around(&LOCAL, &answers, &held))), "back");
    }

    #[test]
    fn over_https_an_md_without_a_certificate_is_unready() {
        let mds = vec![md(&["r.example.org"], None), md(&["none.example.org"], None)];
        let facade = Facade::new(&config(mds.clone(), Vec::new(), tcp(8000)));
        let (answers, board) = (Answers::default(), board(&mds, &[(&["r.example.org"], NOW.plus(Span::days(1)))]));
        let verdict = |tls: bool, host: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let shown = tls.then_some(&mds[0].name).filter(|_| host != "fallback.example");
            said(&facade.judge(&complete(&text), &Around { tls, shown, ..around(&LOCAL, &answers, &board) }))
        };
        assert_eq!([verdict(true, "fallback.example"), verdict(true, "other.example")], ["Unready", "back"]);
        assert_eq!(verdict(true, "none.example.org"), "Unready");
        assert_eq!(verdict(true, "r.example.org"), "back");
        assert_eq!([verdict(false, "none.example.org"), verdict(false, "r.example.org")], ["back", "back"]);
    }

    #[test]
    fn only_who_can_come_again_is_told_to_come_by_https() {
        let mut mds = vec![md(&["p.example.org"], None), md(&["t.example.org"], None)];
        (mds[0].require_https, mds[1].require_https) = (RequireHttps::Permanent, RequireHttps::Temporary);
        let later = NOW.plus(Span::days(1));
        let facade = Facade::new(&config(mds.clone(), Vec::new(), tcp(8000)));
        let answers = Answers::default();
        let told = |shown: Option<usize>, host: &str, until: Unix| {
            let shown = shown.map(|at| &mds[at].name);
            let board = board(&mds, &[(&["p.example.org"], until), (&["t.example.org"], until)]);
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            facade.hsts(&complete(&text), &Around { tls: true, shown, ..around(&LOCAL, &answers, &board) })
        };
        assert_eq!(told(Some(0), "P.example.org:443", later), Hsts::Add);
        assert_eq!(
            told(None, "p.example.org", later),
            Hsts::Never,
            "the words of http, or under a fallback, count for nothing"
        );
        assert_eq!(told(Some(0), "p.example.org", NOW), Hsts::Never, "its certificate has expired");
        assert_eq!(told(Some(1), "p.example.org", later), Hsts::Never, "another's certificate was shown");
        assert_eq!(told(Some(1), "t.example.org", later), Hsts::Theirs);
        assert_eq!(told(Some(0), "other.example.org", later), Hsts::Never);
    }

    #[test]
    fn tls_is_passed_through_where_a_site_says_so() {
        let through = Site { passthrough: tcp(9), ..site(None, 443, &["through.example"], None) };
        let sites = vec![site(None, 443, &["a.example"], None), through];
        let facade = Facade::new(&config(Vec::new(), sites.clone(), None));
        let local = SocketAddr::from(([192, 0, 2, 1], 443));
        assert!(facade.passes_through());
        assert_eq!(facade.passthrough(Some("through.example"), local), tcp(9).as_ref());
        for (host, port) in [(Some("a.example"), 443), (None, 443), (Some("through.example"), 444)] {
            assert_eq!(facade.passthrough(host, SocketAddr::new(local.ip(), port)), None, "{host:?} {port}");
        }
        assert!(!Facade::new(&config(Vec::new(), sites[..1].to_vec(), None)).passes_through());
        let base = Site { passthrough: tcp(9), ..Site::default() };
        assert!(Facade::new(&Config { base, ..config(Vec::new(), Vec::new(), None) }).passes_through());
    }

    #[test]
    fn the_table_of_answers() {
        let dns_only: &[Challenge] = &[Challenge::Dns01];
        let mut mute = md(&["mute.example.org"], None);
        mute.drive = DriveMode::Manual;
        let mds = vec![
            md(&["r.example.org", "2001:db8::1", "*.wild.example.org"], None),
            md(&["dns.example.org"], Some(dns_only)),
            mute,
        ];
        let facade = Facade::new(&config(mds, Vec::new(), tcp(8000)));
        let answers = Answers::default();
        let long = "a".repeat(TOKEN_MAX + 1);
        // Such tokens no CA gives.
        for token in ["tok-en_1", "", "a.b", &long] {
            answers.put(token, "tok-en_1.print");
        }
        let board = Board::default();
        let backend = tcp(8000).unwrap();
        let (back, no) = (Verdict::Backend(&backend), Verdict::NotFound);
        let yes = Verdict::Answer("tok-en_1.print".into());
        let path = |token: &str| format!("{CHALLENGES}{token}");
        for (method, target, host, verdict) in [
            ("GET", path("tok-en_1"), "r.example.org", &yes),
            ("HEAD", path("tok-en_1"), "r.example.org", &yes),
            ("GET", path("tok-en_1"), "nobody.example", &yes),
            ("GET", path("tok-en_1?x=1"), "r.example.org", &yes),
            ("GET", format!("http://r.example.org{}", path("tok-en_1")), "", &yes),
            ("POST", path("tok-en_1"), "r.example.org", &Verdict::NotAllowed),
            ("OPTIONS", path("tok-en_1"), "r.example.org", &Verdict::NotAllowed),
            ("GET", path("wrong"), "r.example.org", &no),
            ("POST", path("wrong"), "r.example.org", &no),
            ("GET", path("wrong"), "R.Example.ORG", &no),
            ("GET", path("wrong"), "r.example.org:8080", &no),
            ("GET", path("wrong"), "r.example.org.", &no),
            ("GET", path("wrong"), "[2001:DB8:0::1]:80", &no),
            ("GET", format!("http://r.example.org{}", path("wrong")), "other.example", &no),
            ("GET", path(""), "r.example.org", &no),
            ("GET", path("a.b"), "r.example.org", &no),
            ("GET", path("tok-en_1/x"), "r.example.org", &no),
            ("GET", path("tok-en_1%20"), "r.example.org", &no),
            ("GET", path(&long), "r.example.org", &no),
            ("GET", path("wrong"), "other.example", &back),
            ("GET", path("wrong"), "", &back),
            ("GET", path("wrong"), "dns.example.org", &back),
            ("GET", path("wrong"), "mute.example.org", &back),
            ("GET", path("wrong"), "a.wild.example.org", &back),
            ("GET", path("wrong"), "xr.example.org", &back),
            ("GET", "/.well-known/acme-challenge".into(), "r.example.org", &back),
            ("GET", "/.well-known/other".into(), "r.example.org", &back),
            ("GET", "/".into(), "r.example.org", &back),
            ("OPTIONS", "*".into(), "r.example.org", &back),
        ] {
            let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(facade.judge(&complete(&text), &around(&LOCAL, &answers, &board)), *verdict, "{text:?}");
        }
    }

    #[test]
    fn md_720_008_without_http_01_the_path_is_left_to_others() {
        let mds = vec![md(&["dns.example.org"], Some(&[Challenge::Dns01]))];
        let facade = Facade::new(&config(mds, Vec::new(), tcp(1)));
        let text = format!("GET {CHALLENGES}foreign HTTP/1.1\r\nHost: dns.example.org\r\n\r\n");
        assert!(matches!(plain(&facade, &text, &LOCAL), Verdict::Backend(_)));
        // Unwritten, but port 80 does not arrive.
        let mut config = config(vec![md(&["dns.example.org"], None)], Vec::new(), tcp(1));
        config.ports.http = None;
        let facade = Facade::new(&config);
        assert!(matches!(plain(&facade, &text, &LOCAL), Verdict::Backend(_)));
    }

    #[test]
    fn a_site_is_chosen_as_apache_chooses_it() {
        let sites = vec![
            site(None, 443, &["a.example"], tcp(1)),
            site(None, 80, &["a.example", "*.a.example"], tcp(2)),
            site(None, 80, &["b.example", "*.b.example"], tcp(3)),
            site(Some("192.0.2.9"), 80, &["c.example"], tcp(4)),
        ];
        let facade = Facade::new(&config(Vec::new(), sites, tcp(9)));
        let at = |local: &str, host: &str| {
            let local: SocketAddr = local.parse().unwrap();
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            match plain(&facade, &text, &|| local) {
                Verdict::Backend(Way { to: Backend::Tcp(addr), .. }) => addr.clone(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(at("192.0.2.1:80", "a.example"), "127.0.0.1:2");
        assert_eq!(at("192.0.2.1:80", "X.a.example"), "127.0.0.1:2");
        assert_eq!(at("192.0.2.1:80", "b.example"), "127.0.0.1:3");
        assert_eq!(at("192.0.2.1:80", "x.b.example"), "127.0.0.1:3");
        assert_eq!(at("192.0.2.1:80", "xb.example"), "127.0.0.1:2", "a label ends at a dot");
        assert_eq!(at("192.0.2.1:80", ".b.example"), "127.0.0.1:2", "no label is none");
        assert_eq!(at("192.0.2.1:443", "a.example"), "127.0.0.1:1", "the port decides, as it does about TLS");
        assert_eq!(at("192.0.2.1:80", "unknown.example"), "127.0.0.1:2", "the first site is the default");
        assert_eq!(at("192.0.2.9:80", "a.example"), "127.0.0.1:4", "an address of its own goes first");
        assert_eq!(at("192.0.2.1:8080", "a.example"), "127.0.0.1:9", "no site listens there");
    }

    #[test]
    fn without_a_back_end_it_is_404() {
        let facade = Facade::new(&config(Vec::new(), Vec::new(), None));
        assert_eq!(plain(&facade, "GET / HTTP/1.0\r\n\r\n", &LOCAL), Verdict::NotFound);
    }

    #[test]
    fn heads() {
        let get = "GET /x HTTP/1.1\r\nHost: h\r\n";
        for (text, keep, body) in [
            (format!("{get}\r\n"), true, false),
            (format!("{get}Connection: Close\r\n\r\n"), false, false),
            (format!("{get}Connection: keep-alive, close\r\n\r\n"), false, false),
            (format!("{get}Content-Length: 0\r\n\r\n"), true, false),
            (format!("{get}Content-Length: 5\r\n\r\n12345"), true, true),
            (format!("{get}Transfer-Encoding: Chunked\r\n\r\n"), true, true),
            ("GET /x HTTP/1.0\r\n\r\n".into(), false, false),
            ("GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".into(), true, false),
        ] {
            let head = complete(&text);
            assert_eq!((head.keep, head.body), (keep, body), "{text:?}");
            assert_eq!(head.length, text.find("\r\n\r\n").unwrap() + 4);
        }
    }

    #[test]
    fn hosts() {
        for (target, header, host, path) in [
            ("/", "r.example:8080", Some("r.example"), "/"),
            ("/", "[::1]:80", Some("::1"), "/"),
            ("/", "[::1]", Some("::1"), "/"),
            ("/", "r.example.", Some("r.example"), "/"),
            ("/", "", Some(""), "/"),
            ("http://a.example", "b.example", Some("a.example"), "/"),
            ("HTTPS://a.example:1/p?q", "b.example", Some("a.example"), "/p?q"),
            ("http://a.example?q", "b.example", Some("a.example"), "?q"),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: {header}\r\n\r\n");
            let head = complete(&text);
            assert_eq!((head.host, head.path), (host, path), "{text:?}");
        }
        assert_eq!(complete("GET / HTTP/1.0\r\n\r\n").host, None);
    }

    #[test]
    fn md_502_109_a_host_is_a_name_or_an_address() {
        for (host, good) in [
            ("r.example", true),
            ("r.example:", true),
            ("192.0.2.1:80", true),
            ("[2001:db8::1]:80", true),
            ("xn--bcher-kva.example", true),
            ("my_nas", true),
            ("a%2Db", true),
            ("", true),
            ("a b", false),
            ("u@a", false),
            ("a:80:90", false),
            ("a:http", false),
            ("[::1", false),
            ("::1", false),
            ("[a]", false),
            ("[::1]a", false),
            ("a/evil", false),
            ("a@evil.example/.wild.example.org", false),
            ("evil.example?.wild.example.org", false),
            ("<script>", false),
            ("a\"b", false),
            ("a%2", false),
            ("a%zz", false),
            ("b\u{fc}cher", false),
        ] {
            for version in ["1.0", "1.1"] {
                let text = format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n");
                assert_eq!(matches!(read(text.as_bytes()), Reading::Complete(_)), good, "{host:?}");
                let text = format!("GET http://{host}/ HTTP/{version}\r\nHost: h\r\n\r\n");
                let reading = read(text.as_bytes());
                // What comes after a slash or a question mark is no part of the host there.
                let cut = host.is_empty() || host.contains(['/', '?']);
                assert!(cut || matches!(reading, Reading::Complete(_)) == good, "{text:?}");
            }
        }
    }

    #[test]
    fn md_502_120_what_can_be_framed_twice_is_refused() {
        let lines = |lines: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        for text in [
            lines("Content-Length: 5\r\nContent-Length: 5\r\n"),
            lines("Content-Length: +5\r\n"),
            lines("Content-Length: 5, 5\r\n"),
            lines("Content-Length: 99999999999999999999\r\n"),
            lines("Content-Length:\r\n"),
            lines("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            lines("Transfer-Encoding: gzip, chunked\r\n"),
            lines("Transfer-Encoding: identity\r\n"),
            lines("Transfer-Encoding: \u{b}chunked\r\n"),
            lines("Content-Length : 5\r\n"),
            lines("X: a\r\n Content-Length: 5\r\n"),
            lines("Host: other\r\n"),
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            "GET / HTTP/1.1\r\n\r\n".into(),
            "GET https:// HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "GET x HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n".into(),
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n".into(),
            "GET /\r\n\r\n".into(),
            "GET / x HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "\u{16}\u{3}\u{1}\u{2}".into(),
        ] {
            assert!(matches!(read(text.as_bytes()), Reading::Malformed(_)), "{text:?}: {:?}", read(text.as_bytes()));
        }
    }

    #[test]
    fn a_head_has_8_kib() {
        let text = |length: usize| {
            let start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
        };
        assert_eq!(complete(&text(HEAD_MAX)).length, HEAD_MAX);
        assert_eq!(read(text(HEAD_MAX + 1).as_bytes()), Reading::TooLarge(TOO_LONG));
        assert_eq!(read(&text(HEAD_MAX).as_bytes()[..HEAD_MAX - 1]), Reading::More);
        assert_eq!(read(&text(HEAD_MAX + 1).as_bytes()[..HEAD_MAX]), Reading::TooLarge(TOO_LONG));
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(LINES_MAX));
        assert_eq!(read(many.as_bytes()), Reading::TooLarge(TOO_MANY));
        assert_eq!(read(b""), Reading::More);
        // A long Host is just that.
        let host = "h".repeat(7000);
        assert_eq!(complete(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).host, Some(host.as_str()));
    }
}
