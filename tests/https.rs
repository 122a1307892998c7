//! The https side through real sockets: which certificate is shown to whom, a CA's own handshakes, what is served, what
//! is passed through.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod fake;

use edgemd::doors::front::shelf::{Forge, Shelf};
use edgemd::doors::front::{Front, Shared};
use edgemd::doors::keys;
use edgemd::words::answers::Answers;
use edgemd::words::board::Board;
use edgemd::words::cert::{Bundle, Held, KeyKind};
use edgemd::words::config::{Backend, Config, Listen, Md, PortMap, ProxyProtocol, RequireHttps, Site, Way};
use edgemd::words::fault::Place;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use fake::report::report;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use smol::LocalExecutor;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

const A: &str = "a.example.org";
const B: &str = "b.example.org";

fn name(text: &str) -> Name {
    Name::parse(text, Labels::One).unwrap()
}

fn md(names: &[&str]) -> Md {
    let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
    Md { names: names.clone(), ..Md::plain(names[0].clone(), Place { file: "f".into(), line: 1, column: 1 }) }
}

fn now() -> Unix {
    edgemd::doors::clock::wall().unwrap()
}

/// A pair as a CA would give it, but for who signed it.
fn pair(kind: KeyKind, names: &[&str]) -> Bundle {
    let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
    if kind == KeyKind::P256 {
        return keys::self_signed(&names, now(), now().plus(Span::days(90))).unwrap();
    }
    let key = keys::generate(kind).unwrap();
    let algorithm = if kind == KeyKind::P384 { &rcgen::PKCS_ECDSA_P384_SHA384 } else { &rcgen::PKCS_RSA_SHA256 };
    let der = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&(&key[..]).into(), algorithm).unwrap();
    let params = rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    Bundle { key, chain: vec![params.self_signed(&der).unwrap().der().to_vec()] }
}

type Deed = Box<dyn FnOnce(&mut Front) + Send>;

struct Server {
    addr: SocketAddr,
    answers: Arc<Answers>,
    board: Arc<Board>,
    shelf: Arc<Shelf>,
    deeds: Option<smol::channel::Sender<Deed>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(config: Config) -> Self {
        let (answers, board, shelf) = (Arc::<Answers>::default(), Arc::<Board>::default(), Arc::<Shelf>::default());
        let shared = Shared {
            answers: answers.clone(),
            board: board.clone(),
            clock: edgemd::doors::clock::wall,
            shelf: shelf.clone(),
            forge: Forge { self_signed: keys::self_signed, answer: keys::answer },
        };
        let (deeds, taken) = smol::channel::unbounded::<Deed>();
        let thread = thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let mut front = Front::new(executor.clone(), shared);
            let work = async {
                while let Ok(deed) = taken.recv().await {
                    deed(&mut front);
                }
            };
            async_io::block_on(executor.run(work));
        });
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut server = Self { addr: any, answers, board, shelf, deeds: Some(deeds), thread: Some(thread) };
        let listen = Listen { addr: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 0, tls: true };
        server.addr = server.act(move |front| {
            front.listen(&[listen]).unwrap();
            front.bound()[0]
        });
        server.face(config);
        server.shelf.open();
        server
    }

    fn act<T: Send + 'static>(&self, deed: impl FnOnce(&mut Front) -> T + Send + 'static) -> T {
        let (say, heard) = std::sync::mpsc::channel();
        let deed: Deed = Box::new(move |front| say.send(deed(front)).unwrap());
        assert!(self.deeds.as_ref().unwrap().try_send(deed).is_ok());
        heard.recv().unwrap()
    }

    /// A configuration whose sites on port 443 are at the port that the test got.
    fn face(&self, mut config: Config) {
        for site in &mut config.sites {
            site.addrs = vec![(None, self.addr.port())];
        }
        self.act(move |front| front.face(&config));
    }

    fn show(&self, md: &str, pairs: &[(KeyKind, Bundle)]) {
        self.shelf.put(&name(md), pairs).unwrap();
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// A whole handshake; the error is the client's.
    fn tls(&self, client: &Client) -> Result<Tls, String> {
        handshake(self.tcp(), client)
    }

    fn get(&self, host: &str, path: &str) -> String {
        self.ask(host, host, path)
    }

    /// In a handshake for the one a request for the other.
    fn ask(&self, sni: &str, host: &str, path: &str) -> String {
        let mut tls = self.tls(&Client::of(sni)).unwrap();
        write!(tls, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        tls.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.deeds = None;
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// What a client asks for and can verify.
struct Client {
    host: Option<&'static str>,
    alpn: Vec<Vec<u8>>,
    schemes: Vec<SignatureScheme>,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
}

impl Client {
    fn of(host: &str) -> Self {
        let host: &'static str = Box::leak(host.to_owned().into_boxed_str());
        let schemes = vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ];
        Self { host: Some(host), alpn: vec![], schemes, versions: rustls::ALL_VERSIONS }
    }

    /// One that knows only RSA.
    fn old(host: &str) -> Self {
        let schemes = vec![SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
        Self { schemes, ..Self::of(host) }
    }

    fn speaking(self, protocol: &str) -> Self {
        Self { alpn: vec![protocol.into()], ..self }
    }
}

/// Looks and does not judge.
#[derive(Debug)]
struct Looks(Vec<SignatureScheme>);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        but_for_the_extension(rustls::crypto::verify_tls12_signature(message, cert, signed, &algorithms))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        but_for_the_extension(rustls::crypto::verify_tls13_signature(message, cert, signed, &algorithms))
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// The critical extension of an answer is nothing that a visitor's library knows.
fn but_for_the_extension(
    verified: Result<HandshakeSignatureValid, rustls::Error>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verified.or_else(|error| match format!("{error:?}").contains("UnsupportedCriticalExtension") {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(error),
    })
}

fn handshake(stream: TcpStream, client: &Client) -> Result<Tls, String> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(client.versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looks(client.schemes.clone())))
        .with_no_client_auth();
    config.alpn_protocols = client.alpn.clone();
    config.enable_sni = client.host.is_some();
    let host = client.host.unwrap_or("127.0.0.1").to_owned();
    let connection = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        let StreamOwned { conn, sock } = &mut tls;
        conn.complete_io(sock).map_err(|error| error.to_string())?;
    }
    Ok(tls)
}

/// The leaf that was shown.
fn leaf(tls: &Tls) -> Vec<u8> {
    tls.conn.peer_certificates().unwrap()[0].to_vec()
}

fn names_of(der: &[u8]) -> Vec<String> {
    let (_, cert) = X509Certificate::from_der(der).unwrap();
    let san = cert.subject_alternative_name().unwrap().unwrap();
    let text = |name: &GeneralName| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => format!("{other:?}"),
    };
    san.value.general_names.iter().map(text).collect()
}

fn config(mds: Vec<Md>) -> Config {
    Config { mds, ports: PortMap { http: Some(80), https: Some(443) }, ..Config::default() }
}

fn held(names: &[&str]) -> Held {
    let names = names.iter().map(|text| name(text)).collect();
    Held::sample(names, now(), now().plus(Span::days(90)))
}

#[test]
fn the_certificate_is_chosen_by_name_and_swapped_in_the_next_handshake() {
    let server = Server::new(config(vec![md(&[A, "*.w.example.org"]), md(&[B])]));
    let (a, b) = (pair(KeyKind::P256, &[A]), pair(KeyKind::P256, &[B]));
    server.show(A, &[(KeyKind::P256, a.clone())]);
    server.show(B, &[(KeyKind::P256, b.clone())]);
    let shown = |host: &str| leaf(&server.tls(&Client::of(host)).unwrap());
    assert_eq!((shown(A), shown(B)), (a.chain[0].clone(), b.chain[0].clone()));
    assert_eq!(shown("B.Example.ORG"), b.chain[0], "in any case");
    assert_eq!(shown("x.w.example.org"), a.chain[0], "under a wildcard");
    assert_eq!(shown("unknown.example"), a.chain[0], "the first one for everybody else");
    let nobody = Client { host: None, ..Client::of(A) };
    assert_eq!(leaf(&server.tls(&nobody).unwrap()), a.chain[0], "and for who says no name");

    // An open connection goes on, the next handshake has the new one.
    let mut open = server.tls(&Client::of(B)).unwrap();
    let newer = pair(KeyKind::P256, &[B]);
    server.show(B, &[(KeyKind::P256, newer.clone())]);
    assert_eq!(shown(B), newer.chain[0]);
    write!(open, "GET / HTTP/1.1\r\nHost: {B}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");

    // The base server's MD is everybody else's.
    let base = Site { names: vec![B.into()], ..Site::default() };
    server.face(Config { base, ..config(vec![md(&[A]), md(&[B])]) });
    assert_eq!(shown("unknown.example"), newer.chain[0]);
    // An MD that goes takes its certificate along.
    server.face(config(vec![md(&[A])]));
    assert_eq!(shown(B), a.chain[0]);
}

#[test]
fn md_810_001_md_810_006_the_key_is_one_that_the_client_can_verify() {
    let server = Server::new(config(vec![md(&[A])]));
    let ec = (KeyKind::P256, pair(KeyKind::P256, &[A]));
    let rsa = (KeyKind::Rsa(2048), pair(KeyKind::Rsa(2048), &[A]));
    server.show(A, &[rsa.clone(), ec.clone()]);
    let shown = |client: &Client| server.tls(client).map(|tls| leaf(&tls));
    assert_eq!(shown(&Client::of(A)).unwrap(), rsa.1.chain[0], "the first that is written");
    server.show(A, &[ec.clone(), rsa.clone()]);
    assert_eq!(shown(&Client::of(A)).unwrap(), ec.1.chain[0]);
    assert_eq!(shown(&Client::old(A)).unwrap(), rsa.1.chain[0]);
    static OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let old_tls = Client { versions: OLD, ..Client::old(A) };
    assert_eq!(shown(&old_tls).unwrap(), rsa.1.chain[0]);
    server.show(A, &[ec]);
    assert!(shown(&Client::old(A)).is_err(), "nothing that it could verify");
    let third = (KeyKind::P384, pair(KeyKind::P384, &[A]));
    server.show(A, std::slice::from_ref(&third));
    assert_eq!(shown(&Client::of(A)).unwrap(), third.1.chain[0]);
}

#[test]
fn md_702_005_before_there_is_a_certificate() {
    let one = md(&[A, B]);
    let server = Server::new(config(vec![one.clone()]));
    server.board.post(vec![report(&one, None)]);
    let first = server.tls(&Client::of(A)).unwrap();
    assert_eq!(names_of(&leaf(&first)), [A, B], "a certificate of our own with all names");
    let (_, cert) =
        X509Certificate::from_der(first.conn.peer_certificates().unwrap()[0].as_ref()).map(|(_, c)| ((), c)).unwrap();
    let life = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
    assert_eq!(life, 14 * 86_400);
    assert_eq!(leaf(&server.tls(&Client::of(B)).unwrap()), leaf(&first), "made once");
    let answer = server.get(A, "/");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer}");
    assert!(!answer.contains("Strict-Transport-Security"), "{answer}");
    assert!(server.get(A, "/.httpd/certificate-status").starts_with("HTTP/1.1 200"), "its status can be looked at");
    for host in ["192.0.2.7", "other.example"] {
        assert!(server.ask(A, host, "/").starts_with("HTTP/1.1 503"), "{host}");
        assert!(server.get(host, "/").starts_with("HTTP/1.1 503"), "{host}");
    }
    // Other names, another one.
    server.face(config(vec![md(&[A])]));
    assert_eq!(names_of(&leaf(&server.tls(&Client::of(A)).unwrap())), [A]);
    // From the next handshake on the real one, and no 503.
    let real = pair(KeyKind::P256, &[A]);
    server.show(A, &[(KeyKind::P256, real.clone())]);
    server.board.post(vec![report(&md(&[A]), Some(held(&[A])))]);
    assert_eq!(leaf(&server.tls(&Client::of(A)).unwrap()), real.chain[0]);
    assert!(server.get(A, "/").starts_with("HTTP/1.1 404"));
}

#[test]
fn md_502_109_md_502_110_hsts_is_said_over_https_where_it_can_be_kept() {
    let (back, port) = backend(|head| {
        let theirs = if head.contains("/theirs") { "Strict-Transport-Security: max-age=1\r\n" } else { "" };
        format!("HTTP/1.1 200 OK\r\n{theirs}Content-Length: 2\r\n\r\nok")
    });
    let one = Md { require_https: RequireHttps::Permanent, ..md(&[A]) };
    let way = Way { to: Backend::Tcp(format!("127.0.0.1:{port}")), header: ProxyProtocol::Off };
    let base = Site { proxy: Some(way), ..Site::default() };
    let with = |mode| Config { base: base.clone(), ..config(vec![Md { require_https: mode, ..one.clone() }]) };
    let server = Server::new(with(RequireHttps::Permanent));
    server.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    server.board.post(vec![report(&one, Some(held(&[A])))]);
    let hsts = |host: &str, path: &str| {
        let answer = server.get(host, path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let lines = answer.lines().map(str::to_ascii_lowercase);
        lines.filter_map(|line| line.strip_prefix("strict-transport-security: ").map(str::to_owned)).next()
    };
    assert_eq!(hsts(A, "/").as_deref(), Some("max-age=15768000"));
    assert_eq!(hsts(A, "/theirs").as_deref(), Some("max-age=1"), "what the web UI says itself counts");
    assert_eq!(hsts("other.example", "/"), None, "another host");
    assert_eq!(hsts(A, "/.httpd/certificate-status").as_deref(), Some("max-age=15768000"));
    for mode in [RequireHttps::Temporary, RequireHttps::Off] {
        server.face(with(mode));
        assert_eq!(hsts(A, "/"), None, "{mode:?}");
    }
    // Never with a certificate that nobody can accept.
    server.face(with(RequireHttps::Permanent));
    let expired =
        Held { not_before: now().minus(Span::days(90)), not_after: now().minus(Span::hours(1)), ..held(&[A]) };
    server.board.post(vec![report(&one, Some(Held { since: expired.not_before, ..expired }))]);
    assert_eq!(hsts(A, "/"), None, "an expired one");
    assert_eq!(hsts(A, "/theirs"), None, "nor does the web UI say it");
    assert_eq!(hsts("other.example", "/theirs"), None, "nor of a host whose certificate this is not");
    // Nor where the handshake was about another one than the request.
    let two = Md { require_https: RequireHttps::Permanent, ..md(&[B]) };
    server.face(Config { base: base.clone(), ..config(vec![one.clone(), two.clone()]) });
    server.show(B, &[(KeyKind::P256, pair(KeyKind::P256, &[B]))]);
    server.board.post(vec![report(&one, Some(held(&[A]))), report(&two, Some(held(&[B])))]);
    assert_eq!(hsts(A, "/").as_deref(), Some("max-age=15768000"));
    assert_eq!(hsts(B, "/").as_deref(), Some("max-age=15768000"));
    for path in ["/", "/theirs"] {
        let answer = server.ask(B, A, path);
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.to_ascii_lowercase().contains("strict-"), "{answer}");
    }
    drop(back);
}

#[test]
fn md_702_040_md_702_044_a_ca_s_own_handshake_gets_the_answer_and_nothing_else() {
    let server = Server::new(config(vec![md(&[A])]));
    server.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    let key_authorization = "token.thumbprint";
    for (asked, sni) in [(A, A), ("elsewhere.example", "Elsewhere.example"), ("192.0.2.7", "7.2.0.192.in-addr.arpa")] {
        let ca = || server.tls(&Client::of(sni).speaking("acme-tls/1"));
        assert!(ca().is_err(), "{asked}: no answer is pending");
        server.answers.put_for(&name(asked), key_authorization);
        let mut tls = ca().unwrap();
        assert_eq!(tls.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        check_answer(&leaf(&tls), asked, key_authorization);
        assert_eq!(tls.read(&mut [0; 1]).unwrap(), 0, "closed after the handshake");
        let visitor = server.tls(&Client::of(sni)).unwrap();
        assert_ne!(leaf(&visitor), leaf(&tls), "visitors see nothing of it");
        server.answers.withdraw_for(&name(asked));
        assert!(ca().is_err(), "{asked}: withdrawn");
    }
    let silent = Client { host: None, ..Client::of(A).speaking("acme-tls/1") };
    assert!(server.tls(&silent).is_err());
    // A client that speaks something else as well gets what it prefers least, but no error.
    let both = Client { alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()], ..Client::of(A) };
    assert_eq!(server.tls(&both).unwrap().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(server.tls(&Client::of(A).speaking("http/1.0")).is_ok());
    // Under a challenge's certificate nothing is served, whatever else the client speaks.
    server.answers.put_for(&name(A), key_authorization);
    let mixed = Client { alpn: vec![b"http/1.1".to_vec(), b"acme-tls/1".to_vec()], ..Client::of(A) };
    let mut tls = server.tls(&mixed).unwrap();
    assert_eq!(tls.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(tls.read(&mut [0; 1]).unwrap(), 0);
}

/// RFC 8737 §3: one name, and the digest in a critical extension.
fn check_answer(der: &[u8], asked: &str, key_authorization: &str) {
    let (_, cert) = X509Certificate::from_der(der).unwrap();
    let oid = x509_parser::oid_registry::asn1_rs::oid!(1.3.6.1.5.5.7.1.31);
    let extension = cert.extensions().iter().find(|extension| extension.oid == oid).unwrap();
    assert!(extension.critical && matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. }));
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, key_authorization.as_bytes());
    assert_eq!(extension.value, [&[4, 32][..], digest.as_ref()].concat());
    let names = names_of(der);
    let wanted =
        asked.parse::<Ipv4Addr>().map_or(asked.to_owned(), |ip| format!("{:?}", GeneralName::IPAddress(&ip.octets())));
    assert_eq!(names, [wanted]);
}

/// A web UI for one connection after the other: it is given a request's head and says the whole answer.
fn backend(answer: impl Fn(&str) -> String + Send + 'static) -> (JoinHandle<()>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let _ = stream.write_all(answer(&head).as_bytes());
        }
    });
    (thread, port)
}

#[test]
fn the_back_end_learns_who_asked_and_how() {
    let (_back, port) = backend(|head| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()));
    let server = Server::new(config(vec![md(&[A])]));
    server.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    server.board.post(vec![report(&md(&[A]), Some(held(&[A])))]);
    for (header, first) in [
        (ProxyProtocol::Off, "GET / HTTP/1.1\r\n".to_owned()),
        (ProxyProtocol::V1, "PROXY TCP4 127.0.0.1 127.0.0.1 ".to_owned()),
    ] {
        let way = Way { to: Backend::Tcp(format!("127.0.0.1:{port}")), header };
        let site = Site { names: vec![A.into()], tls: true, proxy: Some(way), ..Site::default() };
        server.face(Config { sites: vec![site], ..config(vec![md(&[A])]) });
        let answer = server.get(A, "/");
        let (_, heard) = answer.split_once("\r\n\r\n").unwrap();
        assert!(heard.starts_with(&first), "{heard}");
        for line in ["x-forwarded-proto: https", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: a.example.org"] {
            assert!(heard.to_ascii_lowercase().contains(line), "{line}: {heard}");
        }
    }
}

/// A ClientHello of TLS 1.1 with one suite and no extensions.
const TLS_1_1: &[u8] = &[
    22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 0, 0, 2, 0xc0, 0x13, 1, 0,
];

#[test]
fn tls_that_is_not_a_ca_s_is_passed_through_untouched() {
    // The web UI's own TLS, with its own certificate.
    let ui = Server::new(config(vec![md(&["ui.example"])]));
    let own = pair(KeyKind::P256, &["ui.example"]);
    ui.show("ui.example", &[(KeyKind::P256, own.clone())]);
    let way = Way { to: Backend::Tcp(ui.addr.to_string()), header: ProxyProtocol::Off };
    let base = Site { passthrough: Some(way), ..Site::default() };
    let front = Server::new(Config { base, ..config(vec![md(&[A])]) });
    front.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    let mut tls = front.tls(&Client::of(A)).unwrap();
    assert_eq!(leaf(&tls), own.chain[0], "it is the web UI's handshake");
    write!(tls, "GET / HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    // Only a CA is answered here.
    front.answers.put_for(&name(A), "token.thumbprint");
    let ca = front.tls(&Client::of(A).speaking("acme-tls/1")).unwrap();
    check_answer(&leaf(&ca), A, "token.thumbprint");
    // What we are too new for is the web UI's to judge: it gets the same bytes, and this one says what it thinks of them.
    let mut old = front.tcp();
    old.write_all(TLS_1_1).unwrap();
    let mut alert = vec![];
    let _ = old.read_to_end(&mut alert);
    let mut direct = ui.tcp();
    direct.write_all(TLS_1_1).unwrap();
    let mut same = vec![];
    let _ = direct.read_to_end(&mut same);
    assert!(alert.starts_with(&[21, 3]) && alert == same, "{alert:?}, and without us {same:?}");
    let heard = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let way = Way { to: Backend::Tcp(heard.local_addr().unwrap().to_string()), header: ProxyProtocol::Off };
    front.face(Config { base: Site { passthrough: Some(way), ..Site::default() }, ..config(vec![md(&[A])]) });
    front.tcp().write_all(TLS_1_1).unwrap();
    let mut bytes = vec![];
    heard.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, TLS_1_1);
    // What is no TLS ends here.
    let mut noise = front.tcp();
    noise.write_all(b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n").unwrap();
    assert!(matches!(noise.read(&mut [0; 64]), Ok(0) | Err(_)));
}

#[test]
fn md_502_120_a_malformed_line_over_tls_is_survived() {
    let server = Server::new(config(vec![md(&[A])]));
    server.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    let mut tls = server.tls(&Client::of("foreign.example")).unwrap();
    tls.write_all(b"GET https:// HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(server.get(A, "/").starts_with("HTTP/1.1 404"));
    // Plain text on the port of TLS.
    let mut noise = server.tcp();
    noise.write_all(b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = noise.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    assert!(server.get(A, "/").starts_with("HTTP/1.1 404"));
}

/// A hello that never ends takes no more of our memory than any other.
#[test]
fn a_hello_is_bounded() {
    let through = Site {
        passthrough: Some(Way { to: Backend::Tcp("127.0.0.1:1".into()), header: ProxyProtocol::Off }),
        ..Site::default()
    };
    for base in [Site::default(), through] {
        let server = Server::new(Config { base, ..config(vec![md(&[A])]) });
        let mut stream = server.tcp();
        // Records of a handshake; in the first of them a ClientHello of 65,280 bytes begins.
        for part in 0..4 {
            let mut record = vec![22, 3, 1, 0x3f, 0xff];
            record.extend(if part == 0 { vec![1, 0, 0xff, 0] } else { vec![0; 4] });
            record.extend(vec![0; 0x3fff - 4]);
            // It may be closed by now.
            let _ = stream.write_all(&record);
        }
        let mut answer = Vec::new();
        // Closed, with a word or without, long before the ten seconds of a handshake are over.
        let begin = std::time::Instant::now();
        let heard = stream.read_to_end(&mut answer);
        let late = heard.is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!late && answer.len() < 16, "{answer:?}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

/// RFC 6455 as a web UI's page uses it: a handshake, and frames both ways, also while nobody asks.
#[test]
fn a_websocket_passes_through_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ui = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let head = head_of(&mut stream).to_ascii_lowercase();
        for line in ["upgrade: websocket", "connection: upgrade", "sec-websocket-key: dghlihnhbxbszsbub25jzq=="] {
            assert!(head.contains(line), "{line}: {head}");
        }
        let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        // The first frame comes with the head.
        stream.write_all(&[accept.as_bytes(), &[0x81, 5], b"hello"].concat()).unwrap();
        // Frames of a client are masked; here each with the same four bytes.
        let mut frame = [0; 2 + 4 + 4];
        while stream.read_exact(&mut frame).is_ok() {
            let text: Vec<u8> = frame[6..].iter().zip(&frame[2..6]).map(|(byte, mask)| byte ^ mask).collect();
            stream.write_all(&[&[0x81, 4], &text[..]].concat()).unwrap();
        }
        // The browser has gone: so has the tunnel.
    });
    let way = Way { to: Backend::Tcp(format!("127.0.0.1:{port}")), header: ProxyProtocol::Off };
    let server = Server::new(Config { base: Site { proxy: Some(way), ..Site::default() }, ..config(vec![md(&[A])]) });
    server.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    server.board.post(vec![report(&md(&[A]), Some(held(&[A])))]);
    let mut tls = server.tls(&Client::of(A).speaking("http/1.1")).unwrap();
    let asked = format!(
        "GET /ws HTTP/1.1\r\nHost: {A}\r\nOrigin: https://{A}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tls.write_all(asked.as_bytes()).unwrap();
    let answer = head_of(&mut tls);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    let mut first = [0; 7];
    tls.read_exact(&mut first).unwrap();
    assert_eq!(&first[2..], b"hello");
    // Another certificate in between ends nothing.
    server.show(A, &[(KeyKind::P256, pair(KeyKind::P256, &[A]))]);
    for word in [b"ping", b"pong"] {
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> = word.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        tls.write_all(&[&[0x81, 0x84][..], &mask, &masked].concat()).unwrap();
        let mut frame = [0; 6];
        tls.read_exact(&mut frame).unwrap();
        assert_eq!(&frame, &[&[0x81, 4], &word[..]].concat()[..]);
    }
    drop(tls);
    ui.join().unwrap();
}

fn head_of(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
