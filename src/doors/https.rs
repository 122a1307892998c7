//! The way to a CA: one connection for each errand, by a blocking client in a thread of its own.

mod line;
mod proxy;

use crate::rules::acme::headers::retry_after;
use crate::rules::acme::types::{Method, Reply, Request};
use crate::rules::tame::tame;
use crate::streams::tls;
use crate::words::fault::Trouble;
use crate::words::time::Span;
use core::fmt;
use line::{STACK, ThreadLine};
use proxy::{Through, tls_in};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use ureq::config::Config;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Error, Proxy, Timeout};

/// How a CA is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// Trust roots (PEM); `None` is the built-in ones.
    pub roots: Option<PathBuf>,
    pub proxy: Option<String>,
    /// Trust roots for a proxy that speaks TLS; `None` is those for the CA.
    pub proxy_roots: Option<PathBuf>,
}

pub trait Wire {
    /// Prepares a line; nothing is sent before its first call.
    fn dial(&mut self, route: &Route) -> Result<Box<dyn Line>, Trouble>;
}

/// One errand's connection, closed when it is dropped. It carries one call at a time, and nobody waits for it.
pub trait Line {
    /// Begins a call.
    fn ask(&mut self, request: Request);
    /// What came of it: once, when it is there.
    fn heard(&mut self) -> Option<Result<Reply, Trouble>>;
}

/// Rung, from another thread, whenever some line has something to be heard.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// The Internet.
pub struct SystemWire {
    bell: Bell,
}

/// How long a call may take, and its parts.
struct Limits {
    connect: Span,
    silence: Span,
    whole: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Span::secs(20), silence: Span::secs(30), whole: Span::secs(120) }
    }
}

/// RFC 8555's answers are some kB; nobody sends a router more than this.
const LARGEST: u64 = 1 << 20;

/// Only a directory may be moved, and not in circles.
const REDIRECTS: u32 = 3;

/// Longer than the longest poll, so that a connection outlives it.
const IDLE: Span = Span::mins(6);

/// A record of TLS is 16 kB; ureq's default is eight times that, twice.
const INPUT: usize = 16 << 10;
const OUTPUT: usize = 8 << 10;

impl SystemWire {
    pub fn new(bell: Bell) -> Self {
        Self { bell }
    }
}

impl Wire for SystemWire {
    fn dial(&mut self, route: &Route) -> Result<Box<dyn Line>, Trouble> {
        let client = Client::new(route, Limits::default())?;
        Ok(Box::new(ThreadLine::start(client, self.bell.clone())?))
    }
}

/// Makes calls and waits for their answers, each within its limits.
struct Client {
    agent: Agent,
    limits: Limits,
    proxied: bool,
}

impl Client {
    fn new(route: &Route, limits: Limits) -> Result<Self, Trouble> {
        Self::by(route, limits, OneLookup::default())
    }

    fn by(route: &Route, limits: Limits, lookup: OneLookup) -> Result<Self, Trouble> {
        let roots = match &route.roots {
            Some(path) => read_roots("MDCACertificateFile", path)?,
            None => RootCerts::WebPki,
        };
        let proxy_roots = match &route.proxy_roots {
            Some(path) => read_roots("MDHttpProxyCACertificateFile", path)?,
            None => roots.clone(),
        };
        let proxy = match &route.proxy {
            Some(url) => Some(Proxy::new(url).map_err(|why| Trouble::new("using MDHttpProxy", why))?),
            None => None,
        };
        let proxied = proxy.is_some();
        let to_proxy = proxied.then(|| config(proxy_roots, None, &limits));
        let connector = Through { proxy: to_proxy, inner: DefaultConnector::default() };
        let agent = Agent::with_parts(config(roots, proxy, &limits), connector, lookup);
        Ok(Self { agent, limits, proxied })
    }
}

fn config(roots: RootCerts, proxy: Option<Proxy>, limits: &Limits) -> Config {
    let tls =
        TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(Arc::new(tls::provider())).build();
    Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .http_status_as_error(false)
        .user_agent(concat!("edgemd/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(limits.connect.duration()))
        .timeout_connect(Some(limits.connect.duration()))
        .timeout_per_read(Some(limits.silence.duration()))
        .timeout_per_write(Some(limits.silence.duration()))
        .timeout_global(Some(limits.whole.duration()))
        // One less than the buffer: a head that fills it would be taken for a connection that was closed.
        .max_response_header_size(INPUT - 1)
        .input_buffer_size(INPUT)
        .output_buffer_size(OUTPUT)
        .max_idle_connections(1)
        .max_idle_age(IDLE.duration())
        .build()
}

fn read_roots(directive: &str, path: &Path) -> Result<RootCerts, Trouble> {
    let trouble = |why: &dyn fmt::Display| Trouble::new(format!("reading {directive} {}", path.display()), why);
    let text = std::fs::read(path).map_err(|why| trouble(&why))?;
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(root)) => roots.push(root),
            Ok(_) => {}
            Err(_) => return Err(trouble(&"it is not PEM")),
        }
    }
    // The client would pass over what it can't read, and then trust nobody without saying why.
    let usable = roots.iter().map(|root| root.der().into());
    let (count, _) = rustls::RootCertStore::empty().add_parsable_certificates(usable);
    if count == 0 {
        return Err(trouble(&"there is no usable certificate in it"));
    }
    Ok(RootCerts::new_with_certs(&roots))
}

impl Client {
    fn call(&self, request: &Request) -> Result<Reply, Trouble> {
        let answer = self.send(request).and_then(|answer| read(answer, request));
        answer.map_err(|error| {
            let place = place(&request.url);
            let doing = if self.proxied { format!("{place} through the proxy") } else { place.into() };
            Trouble::new(doing, self.sentence(&error))
        })
    }

    fn send(&self, request: &Request) -> Result<Response<Body>, Error> {
        let secure = request.url.starts_with("https://");
        let accept = request.accept.unwrap_or("*/*");
        match request.method {
            Method::Get => {
                let call = self.agent.get(&request.url).header("accept", accept);
                call.config().https_only(secure).max_redirects(REDIRECTS).build().call()
            }
            Method::Head => self.agent.head(&request.url).config().max_redirects(0).build().call(),
            Method::Post | Method::Ocsp => {
                let jose = request.method == Method::Post;
                let kind = if jose { "application/jose+json" } else { "application/ocsp-request" };
                let call = self.agent.post(&request.url).header("accept", accept).header("content-type", kind);
                call.config().max_redirects(0).build().send(request.body.as_slice())
            }
        }
    }

    /// What went wrong, for people.
    fn sentence(&self, error: &Error) -> String {
        match error {
            Error::HostNotFound => "this host is not known; is there a network, and does DNS work?".into(),
            Error::Timeout(Timeout::Resolve) => format!("DNS did not answer within {}", self.limits.connect),
            Error::Timeout(Timeout::Connect) => format!("no connection within {}", self.limits.connect),
            Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => format!("silent for {}", self.limits.silence),
            Error::Timeout(_) => format!("not done within {}", self.limits.whole),
            Error::BodyExceedsLimit(_) => "the CA answered more than 1 MB".into(),
            Error::LargeResponseHeader(..) => "the head of the CA's answer is too long".into(),
            Error::TooManyRedirects => format!("the CA redirects more than {REDIRECTS} times"),
            Error::RequireHttpsOnly(_) => "the CA sends us from https to http".into(),
            Error::ConnectProxyFailed(why) => format!("the proxy refused: {}", tame(why)),
            Error::Rustls(why) => tls_sentence(why, "the CA's own server", "MDCACertificateFile"),
            Error::Other(why) => why.to_string(),
            Error::Io(why) => io_sentence(why),
            // Sentences of the client's own, in which the other side's Location may stand.
            other => tame(&other.to_string()),
        }
    }
}

fn io_sentence(error: &io::Error) -> String {
    if let Some(why) = tls_in(error) {
        return tls_sentence(why, "the CA's own server", "MDCACertificateFile");
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection was closed".into()
        }
        _ => error.to_string(),
    }
}

/// `who` shows a certificate; the roots that it has to come from stand in `directive`.
fn tls_sentence(error: &rustls::Error, who: &str, directive: &str) -> String {
    use rustls::CertificateError as Bad;
    let rustls::Error::InvalidCertificate(why) = error else { return format!("TLS: {error}") };
    let said = match why {
        Bad::UnknownIssuer | Bad::BadSignature => {
            return format!(
                "the certificate of {who} comes from nobody who is trusted here; {directive} can name the roots of a \
                 private CA, unless a captive portal stands in between"
            );
        }
        Bad::Expired | Bad::ExpiredContext { .. } => "has expired; is the clock right?",
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => "is not valid yet; is the clock right?",
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "is for another name",
        _ => return format!("the certificate of {who} is not good: {why}"),
    };
    format!("the certificate of {who} {said}")
}

/// Reads the answer to its end, so that the connection can be used again.
fn read(mut answer: Response<Body>, request: &Request) -> Result<Reply, Error> {
    let body = match request.method {
        Method::Head => Vec::new(),
        _ => answer.body_mut().with_config().limit(LARGEST).read_to_vec()?,
    };
    let headers = answer.headers();
    // Then its end is wherever somebody has cut the connection. JSON and DER are not whole without theirs, a chain may be.
    let open = ["content-length", "transfer-encoding"].iter().all(|name| header(headers, name).is_none());
    if open && answer.status() == 200 && request.accept.is_some_and(|kind| kind.contains("pem")) {
        return Err(Error::Other("the CA does not say how long its chain is, so that a part may be missing".into()));
    }
    let wait = header(headers, "retry-after");
    Ok(Reply {
        status: answer.status().as_u16(),
        content_type: header(headers, "content-type").map(Into::into),
        location: header(headers, "location").map(|to| resolve(&request.url, to)),
        nonce: header(headers, "replay-nonce").map(Into::into),
        retry_after: wait.and_then(|value| retry_after(value, header(headers, "date"), None)),
        links: headers.get_all("link").iter().filter_map(|value| Some(value.to_str().ok()?.into())).collect(),
        body,
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// RFC 9110 §10.2.2: a Location may be a path on the server that was asked.
fn resolve(asked: &str, to: &str) -> String {
    match asked.split_once("://") {
        Some((scheme, rest)) if to.starts_with('/') && !to.starts_with("//") => {
            [scheme, "://", rest.split(['/', '?', '#']).next().unwrap_or(rest), to].concat()
        }
        _ => to.into(),
    }
}

/// Host and port of a URL, without a user or a password that it may hold.
fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, place)| place)
}

/// The client looks a host up before each request, even where the connection is still there, and starts a thread for
/// it. A line speaks to one host, so it asks once.
#[derive(Default)]
struct OneLookup {
    known: Mutex<Option<(Uri, ResolvedSocketAddrs)>>,
}

impl Resolver for OneLookup {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, addresses)) = &*known
            && at.authority() == uri.authority()
            && at.scheme() == uri.scheme()
        {
            return Ok(addresses.clone());
        }
        let addresses = look_up(uri, config, timeout)?;
        *known = Some((uri.clone(), addresses.clone()));
        Ok(addresses)
    }
}

/// The system's own lookup knows no time limit. The client's way of giving it one panics where no thread is to be had.
fn look_up(uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
    let (say, heard) = channel();
    let (uri, config) = (uri.clone(), config.clone());
    let ask = move || DefaultResolver::default().resolve(&uri, &config, NextTimeout::default());
    let lookup = move || drop(say.send(ask()));
    let thread = Builder::new().name("lookup".into()).stack_size(STACK).spawn(lookup);
    thread.map_err(|error| Error::Other(format!("no thread to look the host up: {error}").into()))?;
    match heard.recv_timeout(*timeout.after) {
        Ok(Err(Error::Io(_))) => Err(Error::HostNotFound),
        Ok(found) => found,
        Err(_) => Err(Error::Timeout(timeout.reason)),
    }
}

impl fmt::Debug for OneLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneLookup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;
    use std::time::Instant;

    /// A server on loopback that says what it is told to, and passes on what it heard.
    struct Server {
        address: SocketAddr,
        heard: Receiver<String>,
        thread: Option<JoinHandle<u32>>,
    }

    enum Say {
        Answer(String),
        /// Closes the connection without a word.
        Close,
        /// Waits until the client has gone.
        Silence,
        /// Closes it after these words.
        Part(String),
        /// Says the first once, and the second until the client has gone.
        Endless(&'static str, &'static str),
    }

    fn ok(body: &str) -> Say {
        Say::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    impl Server {
        fn new(script: Vec<Say>) -> Self {
            Self::with(script, |stream| Box::new(stream))
        }

        fn with(script: Vec<Say>, wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (sender, heard) = channel();
            let thread = std::thread::spawn(move || serve(&listener, script, &sender, wrap));
            Self { address, heard, thread: Some(thread) }
        }

        fn url(&self, path: &str) -> String {
            format!("http://{}{path}", self.address)
        }

        /// How many connections there were, after the whole script was said.
        fn connections(mut self) -> u32 {
            self.thread.take().unwrap().join().unwrap()
        }
    }

    trait Stream: Read + Write {}
    impl<T: Read + Write> Stream for T {}

    fn serve(
        listener: &TcpListener,
        script: Vec<Say>,
        heard: &Sender<String>,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream>,
    ) -> u32 {
        let mut script = script.into_iter().peekable();
        let mut connections = 0;
        while script.peek().is_some() {
            let mut stream = BufReader::new(wrap(listener.accept().unwrap().0));
            connections += 1;
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|count| count > 0) {}
                if !head.ends_with("\r\n\r\n") {
                    // A handshake that fails is a turn of the script too.
                    if head.is_empty() && matches!(script.peek(), Some(Say::Close)) {
                        script.next();
                    }
                    break;
                }
                let length = head
                    .to_lowercase()
                    .split_once("content-length: ")
                    .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                heard.send(head + &String::from_utf8(body).unwrap()).unwrap();
                match script.next() {
                    Some(Say::Answer(text)) => stream.get_mut().write_all(text.as_bytes()).unwrap_or(()),
                    Some(Say::Silence) => while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {},
                    Some(Say::Part(text)) => {
                        stream.get_mut().write_all(text.as_bytes()).unwrap_or(());
                        break;
                    }
                    Some(Say::Endless(first, again)) => {
                        let again = again.repeat(100);
                        let mut said = stream.get_mut().write_all(first.as_bytes());
                        while said.is_ok() {
                            said = stream.get_mut().write_all(again.as_bytes());
                        }
                    }
                    Some(Say::Close) | None => break,
                }
                if script.peek().is_none() {
                    break;
                }
            }
        }
        connections
    }

    fn ask(method: Method, url: String) -> Request {
        Request { method, url, accept: None, body: Vec::new() }
    }

    fn client(route: &Route) -> Client {
        Client::new(route, Limits::default()).unwrap()
    }

    fn fails(server: &Server, limits: Limits) -> String {
        let client = Client::new(&Route::default(), limits).unwrap();
        client.call(&ask(Method::Get, server.url("/directory"))).unwrap_err().why
    }

    /// A line whose answers ring here.
    fn line() -> (Box<dyn Line>, Receiver<()>) {
        let (ring, rung) = channel();
        let bell = Arc::new(move || ring.send(()).unwrap_or(()));
        (SystemWire::new(bell).dial(&Route::default()).unwrap(), rung)
    }

    #[test]
    fn a_line_rings_when_there_is_something_to_be_heard() {
        let server = Server::new(vec![ok("{}"), ok("[]")]);
        let (mut line, rung) = line();
        assert_eq!(line.heard(), None);
        for body in ["{}", "[]"] {
            line.ask(ask(Method::Get, server.url("/directory")));
            rung.recv().unwrap();
            assert_eq!(line.heard().unwrap().unwrap().body, body.as_bytes());
            assert_eq!(line.heard(), None, "each answer once");
        }
        assert_eq!(server.connections(), 1);
    }

    #[test]
    fn nobody_waits_for_a_line_that_hangs() {
        let server = Server::new(vec![Say::Silence]);
        let (mut line, rung) = line();
        line.ask(ask(Method::Get, server.url("/directory")));
        server.heard.recv().unwrap();
        assert_eq!(line.heard(), None);
        drop(line);
        assert_eq!(rung.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty), "the call goes on without anybody");
    }

    #[test]
    fn one_connection_for_all_requests() {
        let answer = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nLocation: https://ca/1\r\n\
            Replay-Nonce: abc\r\nRetry-After: Sun, 06 Nov 1994 08:49:40 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            Link: <https://ca/a>;rel=\"index\"\r\nLink: <https://ca/b>;rel=\"up\"\r\nContent-Length: 2\r\n\r\n{}";
        let head = "HTTP/1.1 200 OK\r\nReplay-Nonce: n1\r\nContent-Length: 0\r\n\r\n";
        let chunked = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let server = Server::new(vec![
            ok("{}"),
            Say::Answer(head.into()),
            Say::Answer(answer.into()),
            Say::Answer(chunked.into()),
        ]);
        let line = client(&Route::default());
        let reply = line.call(&ask(Method::Get, server.url("/directory"))).unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]));
        let reply = line.call(&ask(Method::Head, server.url("/nonce"))).unwrap();
        assert_eq!(reply.nonce.as_deref(), Some("n1"));
        let post = Request {
            accept: Some("application/pem-certificate-chain"),
            body: b"signed".to_vec(),
            ..ask(Method::Post, server.url("/order"))
        };
        let reply = line.call(&post).unwrap();
        let expected = Reply {
            status: 201,
            content_type: Some("application/json".into()),
            location: Some("https://ca/1".into()),
            nonce: Some("abc".into()),
            retry_after: Some(Span::secs(3)),
            links: vec!["<https://ca/a>;rel=\"index\"".into(), "<https://ca/b>;rel=\"up\"".into()],
            body: b"{}".to_vec(),
        };
        assert_eq!(reply, expected);
        let reply = line.call(&post).unwrap();
        assert_eq!((reply.status, &reply.body[..]), (404, &b"abc"[..]));
        let heard: Vec<String> = (0..4).map(|_| server.heard.recv().unwrap().to_lowercase()).collect();
        assert!(heard[0].starts_with("get /directory http/1.1\r\n"), "{}", heard[0]);
        assert!(heard[1].starts_with("head /nonce "), "{}", heard[1]);
        assert!(heard[2].starts_with("post /order ") && heard[2].ends_with("\r\n\r\nsigned"), "{}", heard[2]);
        assert!(heard[2].contains("content-type: application/jose+json\r\n"), "{}", heard[2]);
        assert!(heard[2].contains("accept: application/pem-certificate-chain\r\n"), "{}", heard[2]);
        for head in heard {
            assert!(head.contains(concat!("user-agent: edgemd/", env!("CARGO_PKG_VERSION"), "\r\n")), "{head}");
        }
        assert_eq!(server.connections(), 1);
    }

    #[test]
    fn only_a_directory_may_be_moved() {
        let moved = || Say::Answer("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".into());
        let server = Server::new(vec![moved(), moved(), moved(), ok("here")]);
        let reply = client(&Route::default()).call(&ask(Method::Get, server.url("/directory"))).unwrap();
        assert_eq!(reply.body, b"here");
        let server = Server::new(vec![moved(), moved(), moved(), moved()]);
        assert_eq!(fails(&server, Limits::default()), "the CA redirects more than 3 times");
        let server = Server::new(vec![moved()]);
        let reply = client(&Route::default()).call(&ask(Method::Post, server.url("/order"))).unwrap();
        assert_eq!((reply.status, reply.location.as_deref()), (302, Some(server.url("/elsewhere").as_str())));
        assert_eq!(server.connections(), 1);
    }

    #[test]
    fn trouble_is_told_in_words() {
        let large = "x".repeat(1_048_577);
        assert_eq!(fails(&Server::new(vec![ok(&large)]), Limits::default()), "the CA answered more than 1 MB");
        assert_eq!(fails(&Server::new(vec![Say::Close]), Limits::default()), "the connection was closed");
        let cut = Say::Answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".into());
        assert_eq!(fails(&Server::new(vec![cut]), Limits::default()), "the connection was closed");
        let short = Limits { silence: Span::millis(50), ..Limits::default() };
        assert_eq!(fails(&Server::new(vec![Say::Silence]), short), "silent for 50ms");
        let short = Limits { whole: Span::millis(50), ..Limits::default() };
        assert_eq!(fails(&Server::new(vec![Say::Silence]), short), "not done within 50ms");
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://user:secret@{unused}/directory");
        let trouble = client(&Route::default()).call(&ask(Method::Get, url)).unwrap_err();
        assert_eq!(trouble.to_string(), format!("{unused}: Connection refused"));
        let trouble = client(&Route::default()).call(&ask(Method::Get, "https://nobody.invalid/".into())).unwrap_err();
        assert!(trouble.to_string().starts_with("nobody.invalid: this host is not known"), "{trouble}");
    }

    /// Whatever byte of an answer is the last: it is a trouble or the whole answer, and the next call is as good as ever.
    #[test]
    fn an_answer_may_break_off_at_any_byte() {
        let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nReplay-Nonce: abc\r\nLocation: /o/1\r\n";
        let sized = format!("{head}Content-Length: 20\r\n\r\n{{\"status\":\"pending\"}}");
        let chunks = "8\r\n{\"status\r\nc;x=y\r\n\":\"pending\"}\r\n0\r\nX: y\r\n\r\n";
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        for (answer, needed) in [(&sized, sized.len()), (&chunked, chunked.len())] {
            let parts = (0..=answer.len()).flat_map(|at| [Say::Part(answer[..at].into()), ok("{}")]);
            let server = Server::new(parts.collect());
            let line = client(&Route::default());
            let post = Request { body: b"signed".to_vec(), ..ask(Method::Post, server.url("/order")) };
            for at in 0..=answer.len() {
                let first = line.call(&post);
                match &first {
                    Err(trouble) => assert!(at < needed, "{at}: {trouble}"),
                    Ok(reply) => {
                        assert!(at + 12 > needed && reply.body == b"{\"status\":\"pending\"}", "{at}: {reply:?}")
                    }
                }
                // After a whole answer the line is kept; that the other side has left it may show in the next call.
                let next = line.call(&post).or_else(|no| if first.is_ok() { line.call(&post) } else { Err(no) });
                assert_eq!(next.unwrap().body, b"{}", "after {at}");
            }
        }
    }

    /// A chain without its last certificate is one, too.
    #[test]
    fn a_chain_has_to_say_how_long_it_is() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/pem-certificate-chain; charset=utf-8\r\n";
        let chain = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let (open, json) =
            (format!("{head}\r\n{chain}"), "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}");
        let sized = format!("{head}Content-Length: {}\r\n\r\n{chain}", chain.len());
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chain}\r\n0\r\n\r\n", chain.len());
        let server = Server::new([&open, json, &sized, &chunked].map(|answer| Say::Part(answer.into())).into());
        let chain_of =
            Request { accept: Some("application/pem-certificate-chain"), ..ask(Method::Post, server.url("/cert")) };
        let call = || client(&Route::default()).call(&chain_of);
        let json_of = || client(&Route::default()).call(&ask(Method::Post, server.url("/order")));
        let said = call().unwrap_err().why;
        assert_eq!(said, "the CA does not say how long its chain is, so that a part may be missing");
        assert_eq!(json_of().unwrap().body, b"{}");
        assert_eq!((call().unwrap().body, call().unwrap().body), (chain.into(), chain.into()));
    }

    /// What comes without end fills the head, or ends with the time that a call may take.
    #[test]
    fn an_answer_without_end_ends() {
        let short = || Limits { whole: Span::millis(300), ..Limits::default() };
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let long = "the head of the CA's answer is too long";
        for (first, again, says) in [
            ("", "HTTP/1.1 100 Continue\r\n\r\n", long),
            ("", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", long),
            (chunked, "X: y\r\n", "not done within 300ms"),
        ] {
            let server = Server::new(vec![Say::Endless(first, again)]);
            assert_eq!(fails(&server, short()), says, "{again}");
        }
    }

    #[test]
    fn a_proxy_is_asked_for_a_tunnel() {
        let through = |server: &Server| {
            let route = Route { proxy: Some(server.url("")), ..Route::default() };
            client(&route).call(&ask(Method::Get, "http://ca.example/directory".into()))
        };
        let server = Server::new(vec![Say::Answer("HTTP/1.1 200 OK\r\n\r\n".into()), ok("{}")]);
        assert_eq!(through(&server).unwrap().body, b"{}");
        assert!(server.heard.recv().unwrap().starts_with("CONNECT ca.example:80 "));
        assert!(server.heard.recv().unwrap().starts_with("GET /directory "));
        assert_eq!(server.connections(), 1);
        let no = Say::Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".into());
        let trouble = through(&Server::new(vec![no])).unwrap_err().to_string();
        assert!(trouble.starts_with("ca.example through the proxy: the proxy refused: "), "{trouble}");
        let route = Route { proxy: Some("::".into()), ..Route::default() };
        let trouble = Client::new(&route, Limits::default()).err().unwrap().to_string();
        assert!(trouble.starts_with("using MDHttpProxy: "), "{trouble}");
    }

    fn pair(name: &str) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_string()]).unwrap().self_signed(&key).unwrap();
        (certificate.der().to_vec(), key)
    }

    fn tls_server(script: Vec<Say>, (certificate, key): &(Vec<u8>, KeyPair)) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone().into()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let config = Arc::new(config);
        Server::with(script, move |stream| {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            Box::new(rustls::StreamOwned::new(session, stream))
        })
    }

    #[test]
    fn trust_is_what_the_route_says() {
        let dir = std::env::temp_dir().join(format!("edgemd-https-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        // By address: a machine without /etc/hosts does not know localhost.
        let (mine, other) = (pair("127.0.0.1"), pair("router.example"));
        let file = dir.join("roots.pem");
        let write = |text: &str| std::fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
        write(&[&mine, &other].map(|(certificate, _)| crate::rules::pem::encode("CERTIFICATE", certificate)).concat());
        let route = Route { roots: Some(file.clone()), ..Route::default() };

        let server = tls_server(vec![ok("{}"), ok("{}")], &mine);
        let line = client(&route);
        for _ in 0..2 {
            let url = format!("https://{}/directory", server.address);
            assert_eq!(line.call(&ask(Method::Get, url)).unwrap().body, b"{}");
        }
        assert_eq!(server.connections(), 1);

        for (pair, route, says) in [
            (&mine, Route::default(), "MDCACertificateFile can name the roots of a private CA"),
            (&other, route, "the certificate of the CA's own server is for another name"),
        ] {
            let server = tls_server(vec![Say::Close], pair);
            let line = client(&route);
            let url = format!("https://{}/directory", server.address);
            let trouble = line.call(&ask(Method::Get, url)).unwrap_err();
            assert!(trouble.why.contains(says), "{trouble}");
            assert_eq!(server.connections(), 1);
        }

        let dial = |path: &Path| {
            let route = Route { roots: Some(path.into()), ..Route::default() };
            Client::new(&route, Limits::default()).err().unwrap().to_string()
        };
        let said = dial(&dir.join("absent.pem"));
        assert!(
            said.starts_with("reading MDCACertificateFile ") && said.contains("absent.pem: No such file"),
            "{said}"
        );
        for garbage in ["", "words", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            write(garbage);
            assert!(dial(&file).ends_with("there is no usable certificate in it"), "{garbage}");
        }
        write("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
        assert!(dial(&file).ends_with("it is not PEM"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// A proxy that speaks TLS, with roots of its own: the CA's are not good for it, nor its own for the CA.
    #[test]
    fn md_300_018_a_proxy_has_roots_of_its_own() {
        let dir = std::env::temp_dir().join(format!("edgemd-proxy-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (proxy, ca) = (pair("127.0.0.1"), pair("ca.example"));
        let file = |name: &str, (certificate, _): &(Vec<u8>, KeyPair)| {
            let path = dir.join(name);
            let text = crate::rules::pem::encode("CERTIFICATE", certificate);
            std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            Some(path)
        };
        let (of_proxy, of_ca) = (file("proxy.pem", &proxy), file("ca.pem", &ca));
        let call = |server: &Server, roots: &Option<PathBuf>, proxy_roots: &Option<PathBuf>| {
            let proxy = Some(format!("https://{}", server.address));
            let route = Route { roots: roots.clone(), proxy, proxy_roots: proxy_roots.clone() };
            client(&route).call(&ask(Method::Get, "http://ca.example/directory".into()))
        };
        let tunnel = || Say::Answer("HTTP/1.1 200 OK\r\n\r\n".into());
        for (roots, proxy_roots) in [(&of_ca, &of_proxy), (&of_proxy, &None)] {
            let server = tls_server(vec![tunnel(), ok("{}")], &proxy);
            assert_eq!(call(&server, roots, proxy_roots).unwrap().body, b"{}");
            assert!(server.heard.recv().unwrap().starts_with("CONNECT ca.example:80 "));
            assert_eq!(server.connections(), 1);
        }
        for (roots, proxy_roots) in [(&of_proxy, &of_ca), (&of_ca, &None), (&None, &None)] {
            let server = tls_server(vec![Say::Close], &proxy);
            let said = call(&server, roots, proxy_roots).unwrap_err().to_string();
            let why = "ca.example through the proxy: the certificate of the proxy comes from nobody who is trusted here; \
                       MDHttpProxyCACertificateFile can name the roots";
            assert!(said.starts_with(why), "{said}");
            assert_eq!(server.connections(), 1);
        }
        // Inside the tunnel it is the CA's own certificate that counts, and only its roots.
        for (roots, fine) in [(&of_ca, true), (&of_proxy, false)] {
            let inner = ca.1.serialize_der();
            let server = nested_server(&proxy, (ca.0.clone(), inner));
            let route = Route {
                roots: roots.clone(),
                proxy: Some(format!("https://{}", server.0)),
                proxy_roots: of_proxy.clone(),
            };
            let came = client(&route).call(&ask(Method::Get, "https://ca.example/directory".into()));
            match came {
                Ok(reply) => assert!(fine && reply.body == b"{}"),
                Err(trouble) => assert!(!fine && trouble.why.contains("the CA's own server"), "{trouble}"),
            }
            server.1.join().unwrap();
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// A proxy that speaks TLS, and behind it a CA that does so, too.
    fn nested_server(proxy: &(Vec<u8>, KeyPair), ca: (Vec<u8>, Vec<u8>)) -> (SocketAddr, JoinHandle<()>) {
        let config = |certificate: Vec<u8>, key: Vec<u8>| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = rustls::ServerConfig::builder_with_provider(provider);
            let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
            let pair = builder.with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.into()));
            rustls::ServerConnection::new(Arc::new(pair.unwrap())).unwrap()
        };
        let (outer, inner) = (config(proxy.0.clone(), proxy.1.serialize_der()), config(ca.0, ca.1));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let head = |stream: &mut dyn Read| {
            let mut head = vec![];
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            head.ends_with(b"\r\n\r\n")
        };
        let thread = std::thread::spawn(move || {
            let mut tunnel = rustls::StreamOwned::new(outer, listener.accept().unwrap().0);
            assert!(head(&mut tunnel));
            tunnel.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut stream = rustls::StreamOwned::new(inner, tunnel);
            if head(&mut stream) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            }
        });
        (address, thread)
    }

    /// A name whose first addresses are no good: IPv6 that leads nowhere, and one where nobody is.
    #[test]
    fn an_address_that_does_not_answer_is_passed_over_in_time() {
        let server = Server::new(vec![ok("{}")]);
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let away: SocketAddr = "[100::1]:443".parse().unwrap();
        let mut addresses = DefaultResolver::default().empty();
        for address in [away, nobody, "192.0.2.1:443".parse().unwrap(), server.address] {
            addresses.push(address);
        }
        let url = "http://ca.example/directory";
        let known = Mutex::new(Some((url.parse().unwrap(), addresses)));
        let lookup = OneLookup { known };
        let limits = Limits { connect: Span::secs(4), ..Limits::default() };
        let line = Client::by(&Route::default(), limits, lookup).unwrap();
        let began = Instant::now();
        assert_eq!(line.call(&ask(Method::Get, url.into())).unwrap().body, b"{}");
        assert!(began.elapsed().as_secs() < 4);
    }

    #[test]
    fn a_location_is_a_url_or_a_path() {
        for (to, whole) in [
            ("/acct/1?a=/", "https://ca.example:14000/acct/1?a=/"),
            ("http://other/acct/1", "http://other/acct/1"),
            ("//other/acct/1", "//other/acct/1"),
            ("acct/1", "acct/1"),
            ("", ""),
        ] {
            assert_eq!(resolve("https://ca.example:14000/new-account", to), whole);
        }
        for asked in ["http://h/a", "http://h", "http://h?q"] {
            assert_eq!(resolve(asked, "/b"), "http://h/b");
        }
    }

    #[test]
    fn a_place_holds_no_secret() {
        for (url, said) in [
            ("https://ca.example.org/directory", "ca.example.org"),
            ("https://user:secret@ca.example.org:14000/d@x", "ca.example.org:14000"),
            ("http://[::1]:4000?x", "[::1]:4000"),
            ("ca", "ca"),
        ] {
            assert_eq!(place(url), said);
        }
    }
}
