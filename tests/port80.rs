//! Port 80 through real sockets: raw bytes in, raw bytes out.

mod fake;

use edgemd::doors::front::shelf::{Forge, Shelf};
use edgemd::doors::front::{Front, Limits, Shared};
use edgemd::doors::keys;
use edgemd::words::answers::Answers;
use edgemd::words::board::{Board, Report};
use edgemd::words::cert::Held;
use edgemd::words::config::{Backend, Config, Listen, Md, PortMap, ProxyProtocol, RequireHttps, Site, Way};
use edgemd::words::fault::Place;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use fake::report::report;
use smol::LocalExecutor;
use smol::channel::Sender;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const ANSWER: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

/// One MD, `r.example.org`, and what stands behind it.
fn config(backend: Option<Backend>) -> Config {
    let name = Name::parse("r.example.org", Labels::Two).unwrap();
    let md = Md::plain(name, Place { file: "edgemd.conf".into(), line: 1, column: 1 });
    Config {
        mds: vec![md],
        sites: Vec::new(),
        base: Site { proxy: backend.map(|to| Way { to, header: ProxyProtocol::Off }), ..Site::default() },
        ports: PortMap { http: Some(80), https: None },
        ..Config::default()
    }
}

fn listen(addr: impl Into<IpAddr>, port: u16) -> Listen {
    Listen { addr: Some(addr.into()), port, tls: false }
}

type Order = Box<dyn FnOnce(&mut Front) + Send>;

/// Port 80 on a thread of its own; ends with the test.
struct Server {
    addr: SocketAddr,
    answers: Arc<Answers>,
    board: Arc<Board>,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(backend: Option<Backend>) -> Self {
        Self::with(backend, Limits::default(), listen(Ipv4Addr::LOCALHOST, 0))
    }

    fn with(backend: Option<Backend>, limits: Limits, listen: Listen) -> Self {
        let answers = Arc::new(Answers::default());
        answers.put(TOKEN, ANSWER);
        let (orders, taken) = smol::channel::unbounded::<Order>();
        let board = Arc::new(Board::default());
        let forge = Forge { self_signed: keys::self_signed, answer: keys::answer };
        let shelf = Arc::new(Shelf::default());
        let shared = Shared { answers: answers.clone(), board: board.clone(), clock: || None, shelf, forge };
        let thread = std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let mut port80 = Front::with_limits(executor.clone(), shared, limits);
            let work = async {
                while let Ok(order) = taken.recv().await {
                    order(&mut port80);
                }
            };
            async_io::block_on(executor.run(work));
        });
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut server = Self { addr: any, answers, board, orders: Some(orders), thread: Some(thread) };
        server.do_it(move |port80| {
            port80.face(&config(backend));
            port80.listen(&[listen]).unwrap();
        });
        server.addr = server.do_it(|port80| *port80.bound().first().unwrap());
        server
    }

    /// Runs on the server's thread.
    fn do_it<T: Send + 'static>(&self, order: impl FnOnce(&mut Front) -> T + Send + 'static) -> T {
        let (say, heard) = mpsc::channel();
        let order = Box::new(move |port80: &mut Front| say.send(order(port80)).unwrap());
        assert!(self.orders.as_ref().unwrap().try_send(order).is_ok());
        heard.recv().unwrap()
    }

    fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// Sends these bytes and hears all that comes until the connection ends.
    fn raw(&self, text: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        to_the_end(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: r.example.org\r\nConnection: close\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn to_the_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// One answer with a Content-Length from a connection that stays open: its head and body.
fn one(stream: &mut impl Read) -> (String, String) {
    let head = head(stream);
    let length = field(&head, "content-length").unwrap_or_else(|| panic!("{head}")).parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the end after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.trim().to_owned())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}"))
}

/// A web server that treats each connection as `serve` says.
struct Back {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Back {
    fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (connections.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let (stream, serve) = (stream.unwrap(), serve.clone());
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { addr, connections }
    }

    /// Reads a head and then writes this, once per connection.
    fn saying(text: &'static str) -> Self {
        Self::new(move |mut stream| {
            head(&mut stream);
            stream.write_all(text.as_bytes()).unwrap();
        })
    }

    fn backend(&self) -> Option<Backend> {
        Some(Backend::Tcp(self.addr.to_string()))
    }
}

/// Answers each request with its head and its body, which it reads by Content-Length or chunked.
fn echo(mut stream: impl Read + Write) {
    loop {
        let mut first = [0];
        if !matches!(stream.read(&mut first), Ok(1)) {
            return;
        }
        let head = format!("{}{}", char::from(first[0]), head(&mut stream));
        let mut body = Vec::new();
        if let Some(length) = field(&head, "content-length") {
            body.resize(length.parse().unwrap(), 0);
            stream.read_exact(&mut body).unwrap();
        } else if field(&head, "transfer-encoding").is_some() {
            body = chunked(&mut stream);
        }
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len() + body.len());
        stream.write_all(text.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
}

/// A chunked body, its frame taken off.
fn chunked(stream: &mut impl Read) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(line(stream).trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..]).unwrap();
        assert_eq!(line(stream), "\r\n");
        if length == 0 {
            return body;
        }
    }
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the end within a line");
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

// The table of `Proving names`.

#[test]
fn md_502_100_a_pending_token_is_answered_and_nothing_else() {
    let server = Server::new(None);
    let path = format!("/.well-known/acme-challenge/{TOKEN}");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        ANSWER.len()
    );
    assert_eq!(server.get(&path), format!("{head}{ANSWER}"));
    let text = format!("HEAD {path} HTTP/1.1\r\nHost: whoever\r\nConnection: close\r\n\r\n");
    assert_eq!(server.raw(&text), head);
    assert!(server.raw(&format!("GET {path} HTTP/1.0\r\n\r\n")).ends_with(ANSWER));
    for missing in
        ["/.well-known/acme-challenge", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/123", "/"]
    {
        assert_eq!(status(&server.get(missing)), "404", "{missing}");
    }
    server.answers.withdraw(TOKEN);
    assert_eq!(status(&server.get(&path)), "404", "withdrawn");
}

#[test]
fn a_wrong_token_is_404_and_the_back_end_is_not_asked() {
    let back = Back::saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback");
    let server = Server::new(back.backend());
    let wrong = "/.well-known/acme-challenge/wrong";
    assert_eq!(status(&server.get(wrong)), "404");
    assert_eq!(back.connections.load(Ordering::SeqCst), 0);
    let other = server.raw(&format!("GET {wrong} HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n"));
    assert!(other.ends_with("\r\n\r\nback"), "{other}");
}

#[test]
fn other_methods_on_a_pending_token_are_405() {
    let server = Server::new(None);
    for method in ["POST", "PUT", "DELETE", "PROPFIND"] {
        let text = format!(
            "{method} /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\nHost: r.example.org\r\nContent-Length: 3\r\n\r\nabc"
        );
        let answer = server.raw(&text);
        assert_eq!(status(&answer), "405", "{answer}");
        assert_eq!(field(&answer, "allow").as_deref(), Some("GET, HEAD"));
        assert_eq!(field(&answer, "connection").as_deref(), Some("close"), "the body was not read");
    }
}

#[test]
fn kept_alive_and_pipelined() {
    let server = Server::new(None);
    let mut stream = server.connect();
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: r.example.org\r\n\r\n");
    let path = format!("/.well-known/acme-challenge/{TOKEN}");
    for _ in 0..3 {
        stream.write_all(ask(&path).as_bytes()).unwrap();
        assert_eq!(one(&mut stream).1, ANSWER);
        stream.write_all(ask("/nothing").as_bytes()).unwrap();
        assert_eq!(status(&one(&mut stream).0), "404");
    }
    let many = ask(&path).repeat(50);
    stream.write_all(many.as_bytes()).unwrap();
    for _ in 0..50 {
        assert_eq!(one(&mut stream).1, ANSWER);
    }
    // A byte at a time.
    for byte in ask(&path).as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(one(&mut stream).1, ANSWER);
}

#[test]
fn bad_heads() {
    let server = Server::new(None);
    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (text, code) in [
        (long.as_str(), "431"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET https:// HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1}\u{0}\u{1}", "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    ] {
        let answer = server.raw(text);
        assert_eq!(status(&answer), code, "{text:?}: {answer}");
        assert_eq!(field(&answer, "connection").as_deref(), Some("close"));
    }
    assert_eq!(status(&server.get("/")), "404", "it still serves");
}

#[test]
fn a_slow_head_is_408_and_a_silent_connection_is_closed() {
    let limits = Limits { idle: Span::millis(300), head: Span::millis(200), ..Limits::default() };
    let server = Server::with(None, limits, listen(Ipv4Addr::LOCALHOST, 0));
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    assert_eq!(status(&to_the_end(&mut stream)), "408");

    let begun = Instant::now();
    assert_eq!(to_the_end(&mut server.connect()), "");
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(status(&one(&mut stream).0), "404");
    assert_eq!(to_the_end(&mut stream), "", "idle after an answer");
}

// Listening.

#[test]
fn ipv6_stands_beside_ipv4() {
    let server = Server::with(None, Limits::default(), Listen { addr: None, port: 0, tls: false });
    let bound = server.do_it(|port80| port80.bound());
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        assert_eq!(bound.len(), 1, "no IPv6 here: {bound:?}");
        return;
    }
    assert_eq!(bound.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    for addr in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let mut stream = connect((addr, bound[0].port()).into());
        write!(stream, "GET /.well-known/acme-challenge/{TOKEN} HTTP/1.0\r\n\r\n").unwrap();
        assert!(to_the_end(&mut stream).ends_with(ANSWER), "{addr}");
    }
}

#[test]
fn a_taken_port_is_named_with_who_has_it_and_nothing_changes() {
    let server = Server::new(None);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let why = server.do_it(move |port80| {
        let wanted = [listen(Ipv4Addr::LOCALHOST, 0), listen(Ipv4Addr::LOCALHOST, port)];
        port80.listen(&wanted).unwrap_err().to_string()
    });
    let start = format!("listening on 127.0.0.1:{port}: the port is taken by ");
    assert!(why.starts_with(&start) && why.ends_with(&format!("(pid {})", std::process::id())), "{why}");
    assert_eq!(server.do_it(|port80| port80.bound()), [server.addr]);
    assert_eq!(status(&server.get("/")), "404");
}

#[test]
fn a_listener_that_stays_is_not_closed_and_connections_live_on() {
    let server = Server::new(None);
    let mut kept = server.connect();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(status(&one(&mut kept).0), "404");
    let bound = server.do_it(|port80| {
        port80.listen(&[listen(Ipv4Addr::LOCALHOST, 0), listen(Ipv4Addr::new(127, 0, 0, 2), 0)]).unwrap();
        port80.bound()
    });
    assert_eq!(bound.len(), 2);
    assert_eq!(bound[0], server.addr);
    // Its port in another way: the old one goes first.
    let port = server.addr.port();
    let bound = server.do_it(move |port80| {
        port80.listen(&[Listen { addr: None, port, tls: false }]).unwrap();
        port80.bound()
    });
    assert!(bound.iter().all(|addr| addr.port() == port && addr.ip().is_unspecified()), "{bound:?}");
    assert_eq!(status(&server.get("/")), "404");
    // And nothing at all; the old connection is still served.
    server.do_it(|port80| port80.listen(&[]).unwrap());
    assert!(TcpStream::connect(server.addr).is_err());
    kept.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(status(&one(&mut kept).0), "404");
}

#[test]
fn a_thousand_connections() {
    let limits = Limits { connections: 1000, per_host: 1000, ..Limits::default() };
    let server = Server::with(None, limits, listen(Ipv4Addr::LOCALHOST, 0));
    let path = format!("/.well-known/acme-challenge/{TOKEN}");
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    for stream in &mut streams {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: r.example.org\r\nConnection: close\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        assert!(to_the_end(stream).ends_with(ANSWER));
    }
}

/// A web UI that answers `/slow` when it is told to, and everything else at once.
fn slow() -> (Back, mpsc::Sender<()>) {
    let (go, going) = mpsc::channel();
    let going = std::sync::Mutex::new(going);
    let back = Back::new(move |mut stream| {
        if head(&mut stream).contains("/slow") {
            going.lock().unwrap().recv().unwrap();
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    });
    (back, go)
}

const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n";

/// Until the back end has it.
fn asked(back: &Back, count: usize) {
    while back.connections.load(Ordering::SeqCst) < count {
        std::thread::yield_now();
    }
}

#[test]
fn the_newest_connection_waits_for_a_seat() {
    let (back, go) = slow();
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = Server::with(back.backend(), limits, listen(Ipv4Addr::LOCALHOST, 0));
    let mut seated: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for (count, stream) in seated.iter_mut().enumerate() {
        stream.write_all(SLOW).unwrap();
        asked(&back, count + 1);
    }
    let mut waiting = server.connect();
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(waiting.read(&mut [0]).is_err(), "both seats are taken by those whom we serve");
    // Challenges need no seat, and their words may come later than they do.
    let path = format!("/.well-known/acme-challenge/{TOKEN}");
    let mut late = server.connect();
    assert!(server.get(&path).ends_with(ANSWER));
    write!(late, "GET {path} HTTP/1.1\r\nHost: r.example.org\r\nConnection: close\r\n\r\n").unwrap();
    assert!(to_the_end(&mut late).ends_with(ANSWER));
    go.send(()).unwrap();
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(status(&one(&mut waiting).0), "200");
    go.send(()).unwrap();
    let answered = seated.iter_mut().map(|stream| stream.read(&mut [0]).unwrap());
    assert_eq!(answered.sum::<usize>(), 2, "nobody whom we serve is sent away");
}

/// A reload changes how many there are: nobody is sent away for that, and the last seat is there for whichever listener
/// needs it.
#[test]
fn the_number_of_seats_changes_under_those_who_sit() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = Server::with(None, limits, listen(Ipv4Addr::LOCALHOST, 0));
    let other = server.do_it(|port80| {
        port80.listen(&[listen(Ipv4Addr::LOCALHOST, 0), listen(Ipv4Addr::new(127, 0, 0, 2), 0)]).unwrap();
        port80.bound()[1]
    });
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(status(&one(stream).0), "404");
    };
    let mut seated: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    seated.iter_mut().for_each(ask);
    server.do_it(|port80| port80.seats(1, 9));
    seated.iter_mut().for_each(ask);
    // One that asks for something takes the seat of those who ask for nothing.
    let mut newest = connect(other);
    ask(&mut newest);
    for stream in &mut seated {
        assert_eq!(to_the_end(stream), "");
    }
    server.do_it(|port80| port80.seats(2, 9));
    let mut second = server.connect();
    [&mut newest, &mut second].into_iter().for_each(ask);
}

/// Who sits and says nothing makes room for who comes; and one host cannot have all seats, whatever it does there.
#[test]
fn the_silent_make_room_and_a_host_has_its_share() {
    let (back, go) = slow();
    let limits = Limits { connections: 8, per_host: 3, ..Limits::default() };
    let server = Server::with(back.backend(), limits, listen(Ipv4Addr::LOCALHOST, 0));
    let mut silent: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    assert_eq!(to_the_end(&mut silent[0]), "", "the first of four");
    let mut busy: Vec<TcpStream> = silent.drain(1..).collect();
    for (count, stream) in busy.iter_mut().enumerate() {
        stream.write_all(SLOW).unwrap();
        asked(&back, count + 1);
    }
    assert_eq!(server.connect().read(&mut [0]).unwrap_or_default(), 0, "refused");
    comes(&server, 9);
    (0..3).for_each(|_| go.send(()).unwrap());
    for stream in &mut busy {
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    }
}

/// One from another host, who is served.
fn comes(server: &Server, host: u8) -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    rustix::net::connect(&socket, &server.addr).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(status(&one(&mut stream).0), "200");
    stream
}

/// In the middle of an exchange, too: with a body that does not come, a response that is not read, a tunnel in which
/// nothing moves.
#[test]
fn who_keeps_an_exchange_waiting_makes_room() {
    let (say, heard) = mpsc::channel();
    let say = std::sync::Mutex::new(say);
    let back = Back::new(move |mut stream| {
        let asked = head(&mut stream);
        if asked.starts_with("POST") {
            let mut piece = [0; 4];
            while stream.read_exact(&mut piece).is_ok() {
                say.lock().unwrap().send(piece).unwrap();
            }
        } else if asked.contains("/large") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            while stream.write_all(&[0; 50_000]).is_ok() {}
            say.lock().unwrap().send(*b"full").unwrap();
            loop {
                std::thread::park();
            }
        } else if asked.contains("/ws") {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").unwrap();
            loop {
                std::thread::park();
            }
        } else {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let limits = Limits { connections: 3, per_host: 3, ..Limits::default() };
    let server = Server::with(back.backend(), limits, listen(Ipv4Addr::LOCALHOST, 0));
    let opens = |text: &str| {
        let mut stream = server.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let ends = |mut stream: TcpStream| {
        let end = std::io::copy(&mut stream, &mut std::io::sink()).map_err(|why| why.kind());
        assert_ne!(end, Err(std::io::ErrorKind::WouldBlock), "it sits there still");
    };
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
    let slow = opens(post);
    let large = opens("GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut tunnel = opens("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(status(&head(&mut tunnel)), "101");
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(*b"full"));
    // The other side of a tunnel may have ended.
    tunnel.shutdown(Shutdown::Write).unwrap();
    let _came = [9, 10, 11].map(|host| comes(&server, host));
    [slow, large, tunnel].into_iter().for_each(ends);
    // Each piece of a body begins the wait anew.
    let (mut first, second) = (opens(post), opens(post));
    for mut stream in [&first, &second, &first] {
        stream.write_all(b"abcd").unwrap();
        assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(*b"abcd"));
    }
    comes(&server, 12);
    ends(second);
    first.write_all(b"efgh").unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(*b"efgh"));
}

// The back end.

#[test]
fn a_request_goes_to_the_back_end_and_each_is_judged_anew() {
    let back = Back::new(echo);
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    let head = "Host: r.example.org:8080\r\nX-A: 1\r\nConnection: keep-alive, x-b\r\nX-B: 2\r\n";
    write!(stream, "GET /p?q HTTP/1.1\r\n{head}\r\n").unwrap();
    let (_, body) = one(&mut stream);
    let sent: Vec<&str> = body.lines().collect();
    assert_eq!(sent[0], "GET /p?q HTTP/1.1");
    for (name, value) in [
        ("host", Some("r.example.org:8080")),
        ("x-a", Some("1")),
        ("x-b", None),
        ("connection", None),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-host", Some("r.example.org:8080")),
        ("x-forwarded-proto", Some("http")),
    ] {
        assert_eq!(field(&body, name).as_deref(), value, "{name}");
    }
    // The same connection: ours, theirs with a body, ours.
    for _ in 0..2 {
        write!(stream, "GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\n{head}\r\n").unwrap();
        assert_eq!(one(&mut stream).1, ANSWER);
        write!(stream, "POST /x HTTP/1.1\r\n{head}Content-Length: 4\r\n\r\nbody").unwrap();
        assert!(one(&mut stream).1.ends_with("\r\n\r\nbody"));
    }
    assert_eq!(back.connections.load(Ordering::SeqCst), 1, "kept alive on this side too");
    // What is served is exchanged under it.
    server.do_it(|port80| port80.face(&config(None)));
    write!(stream, "GET /p HTTP/1.1\r\n{head}\r\n").unwrap();
    assert_eq!(status(&one(&mut stream).0), "404");
}

/// A report with a certificate for this MD.
fn held_by(md: &Md) -> Report {
    let from = Unix::from_secs(1_800_000_000);
    report(md, Some(Held::sample(md.names.clone(), from, from.plus(Span::days(90)))))
}

#[test]
fn md_502_109_from_http_to_https() {
    let back = Back::new(echo);
    let server = Server::new(back.backend());
    let face = |mode: RequireHttps| {
        let mut config = config(back.backend());
        config.mds[0].require_https = mode;
        server.board.post(vec![held_by(&config.mds[0])]);
        server.do_it(move |port80| port80.face(&config));
    };
    let moved = |text: &str| {
        let answer = server.raw(text);
        assert!(!answer.to_ascii_lowercase().contains("strict-transport-security"), "never over http: {answer}");
        (status(&answer).to_owned(), field(&answer, "location"))
    };
    let ask = |method: &str, host: &str| {
        format!("{method} /a?b HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let there = Some("https://r.example.org/a?b".to_owned());
    assert_eq!(moved(&ask("GET", "r.example.org")), ("200".into(), None), "off");
    for (mode, reads, writes) in [(RequireHttps::Temporary, "302", "307"), (RequireHttps::Permanent, "301", "308")] {
        face(mode);
        assert_eq!(moved(&ask("GET", "r.example.org:8080")), (reads.into(), there.clone()));
        assert_eq!(moved(&ask("HEAD", "R.example.org")), (reads.into(), there.clone()));
        assert_eq!(moved(&ask("POST", "r.example.org")), (writes.into(), there.clone()));
        assert_eq!(moved(&ask("GET", "other.example")), ("200".into(), None), "other hosts never");
        assert!(server.get(&format!("/.well-known/acme-challenge/{TOKEN}")).ends_with(ANSWER));
        assert_eq!(status(&server.get("/.well-known/other")), "200", "it is the back end's");
        // A body that nobody reads is no second request, and the answer to HEAD is a head.
        let smuggled =
            "POST / HTTP/1.1\r\nHost: r.example.org\r\nContent-Length: 23\r\n\r\nGET /x HTTP/1.1\r\nHost:\r\n";
        assert_eq!(server.raw(smuggled).matches("HTTP/1.1 ").count(), 1);
        assert!(server.raw(&ask("HEAD", "r.example.org")).ends_with("\r\n\r\n"));
    }
    // The same connection goes on.
    let mut stream = server.connect();
    for _ in 0..2 {
        write!(stream, "GET /a?b HTTP/1.1\r\nHost: r.example.org\r\n\r\n").unwrap();
        assert_eq!(field(&one(&mut stream).0, "location"), there);
    }
    server.board.post(Vec::new());
    assert_eq!(
        moved(&ask("GET", "r.example.org")),
        ("200".into(), None),
        "without a certificate nothing is redirected"
    );
}

#[test]
fn md_920_001_002_003_the_certificate_status() {
    let server = Server::new(None);
    let page = "/.httpd/certificate-status";
    assert_eq!(status(&server.get(page)), "404", "nothing is known yet");
    let mut config = config(None);
    let mut said = held_by(&config.mds[0]);
    server.board.post(vec![said.clone()]);
    let answer = server.get(page);
    assert_eq!((status(&answer), field(&answer, "content-type").as_deref()), ("200", Some("application/json")));
    let json = |answer: &str| -> serde_json::Value {
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|why| panic!("{why}: {answer}"))
    };
    let valid = serde_json::json!({
        "from": "Fri, 15 Jan 2027 08:00:00 GMT",
        "until": "Thu, 15 Apr 2027 08:00:00 GMT",
    });
    let one = serde_json::json!({ "valid": valid, "serial": "0ABC", "sha256-fingerprint": "cd".repeat(32) });
    assert_eq!(json(&answer), serde_json::json!({ "valid": valid, "secp256r1": one }));
    // Before there is one: something is going on, and why it goes wrong is nobody's business.
    said.account = Some("https://ca.example/account/1".into());
    said.certs[0].held = None;
    said.certs[0].order.failures = 3;
    server.board.post(vec![said]);
    assert_eq!(json(&server.get(page)), serde_json::json!({ "renewal": {} }));
    config.certificate_status = false;
    server.do_it(move |port80| port80.face(&config));
    assert_eq!(status(&server.get(page)), "404", "switched off");
}

#[test]
fn bodies_of_every_frame() {
    let back = Back::new(echo);
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nchun\r\n3;x=y\r\nked\r\n0\r\nT: 1\r\n\r\n",
        )
        .unwrap();
    let (_, body) = one(&mut stream);
    assert!(body.ends_with("\r\n\r\nchunked"), "{body}");
    for method in ["POST", "PUT", "GET", "DELETE", "PROPFIND"] {
        write!(stream, "{method} /n HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let (_, body) = one(&mut stream);
        assert!(body.starts_with(method) && body.ends_with("\r\n\r\n"), "{body}");
        write!(stream, "{method} /l HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        let (_, body) = one(&mut stream);
        assert!(body.starts_with(method) && body.ends_with("\r\n\r\nabc"), "{body}");
    }
    assert_eq!(back.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_badly_framed_body_is_400() {
    let back = Back::new(|mut stream| {
        head(&mut stream);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let server = Server::new(back.backend());
    let post = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["x\r\n", "-1\r\nx", "3\r\nabcd\r\n0\r\n\r\n", "ffffffffffffffffffff\r\n"] {
        let answer = server.raw(&format!("{post}{body}"));
        assert_eq!(status(&answer), "400", "{body:?}: {answer}");
    }
    // A request that ends early.
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(status(&to_the_end(&mut stream)), "400");
}

#[test]
fn responses_of_every_frame() {
    for (said, wire) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "chunked hello"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "chunked hello",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nhello", "chunked hello"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nhello", "chunked hello"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "none"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "none"),
    ] {
        let back = Back::saying(said);
        let server = Server::new(back.backend());
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let head = head(&mut stream);
        let came = match field(&head, "content-length") {
            _ if wire == "none" => "none".to_owned(),
            Some(length) => {
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body).unwrap();
                String::from_utf8(body).unwrap()
            }
            None => {
                assert_eq!(field(&head, "transfer-encoding").as_deref(), Some("chunked"), "{head}");
                format!("chunked {}", String::from_utf8(chunked(&mut stream)).unwrap())
            }
        };
        assert_eq!(came, wire, "{said:?}");
        assert_eq!(head.matches("set-cookie").count(), said.matches("Set-Cookie").count());
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        // The connection carries another request.
        stream.write_all(b"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: r.example.org\r\n\r\n").unwrap();
        assert_eq!(status(&one(&mut stream).0), "404", "{said:?}");

        // HEAD has a head only, HTTP/1.0 a body that ends with the connection.
        let text = server.raw("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert!(text.ends_with("\r\n\r\n"), "{said:?}: {text}");
        let text = server.raw("GET / HTTP/1.0\r\n\r\n");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, if wire.ends_with("hello") { "hello" } else { "" }, "{said:?}");
        assert_eq!(field(head, "transfer-encoding"), None, "{head}");
    }
}

#[test]
fn megabytes_stream_both_ways_at_the_same_time() {
    const SIZE: usize = 8 << 20;
    // Answers while it hears: what comes in goes out.
    let back = Back::new(|mut stream| {
        let asked = head(&mut stream);
        let mut left: usize = field(&asked, "content-length").unwrap().parse().unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut piece = vec![0; 50_000];
        while left > 0 {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0);
            stream.write_all(&piece[..count]).unwrap();
            left -= count;
        }
    });
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    let mut sending = stream.try_clone().unwrap();
    let sent: Vec<u8> = (0..SIZE).map(|n| n.to_le_bytes()[n % 3]).collect();
    let copy = sent.clone();
    let sender = std::thread::spawn(move || {
        write!(sending, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
        sending.write_all(&copy).unwrap();
    });
    head(&mut stream);
    assert!(chunked(&mut stream) == sent, "what came back is not what was sent");
    sender.join().unwrap();
}

#[test]
fn expect_100_continue() {
    let back = Back::new(echo);
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").unwrap();
    assert_eq!(head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    let (_, body) = one(&mut stream);
    assert!(body.ends_with("\r\n\r\nbody"), "{body}");
    assert_eq!(field(&body, "expect"), None);
    // HTTP/1.0 knows nothing of it (RFC 9110 §10.1.1).
    let mut old = server.connect();
    old.write_all(b"POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody").unwrap();
    assert_eq!(status(&to_the_end(&mut old)), "200");
}

#[test]
fn an_early_refusal_reaches_the_client() {
    let back = Back::saying("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n");
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc").unwrap();
    let answer = to_the_end(&mut stream);
    assert_eq!(status(&answer), "413");
    assert_eq!(field(&answer, "connection").as_deref(), Some("close"));
    assert!(answer.ends_with("no\n"));
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let back = Back::new(|mut stream| {
        let asked = head(&mut stream);
        assert_eq!(field(&asked, "upgrade").as_deref(), Some("websocket"));
        assert_eq!(field(&asked, "connection").as_deref(), Some("upgrade"));
        let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
        stream.write_all(accept.as_bytes()).unwrap();
        let mut bytes = [0; 4];
        while let Ok(()) = stream.read_exact(&mut bytes) {
            bytes.reverse();
            stream.write_all(&bytes).unwrap();
        }
        stream.write_all(b"bye").unwrap();
    });
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    // The first words come with the head.
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nabcd").unwrap();
    let answer = head(&mut stream);
    assert_eq!(status(&answer), "101");
    assert_eq!(field(&answer, "upgrade").as_deref(), Some("websocket"));
    let mut bytes = [0; 9];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hellodcba");
    stream.write_all(b"1234").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(to_the_end(&mut stream), "4321bye");
}

#[test]
fn a_unix_socket_as_back_end() {
    let dir = std::env::temp_dir().join(format!("edgemd-port80-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path: PathBuf = dir.join("ui.sock");
    let socket = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || echo(socket.accept().unwrap().0));
    let server = Server::new(Some(Backend::Unix(path)));
    assert!(server.get("/unix").contains("GET /unix HTTP/1.1"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_back_end_by_name() {
    let back = Back::new(echo);
    let server = Server::new(Some(Backend::Tcp(format!("localhost:{}", back.addr.port()))));
    assert!(server.get("/name").contains("GET /name HTTP/1.1"));
    let nowhere = Server::new(Some(Backend::Tcp("no-such-host.invalid:80".into())));
    assert_eq!(status(&nowhere.get("/")), "502");
    assert_eq!(status(&nowhere.get("/")), "502");
}

#[test]
fn back_ends_that_fail() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let server = Server::new(Some(Backend::Tcp(gone.to_string())));
    let answer = server.get("/");
    assert_eq!(status(&answer), "502");
    assert!(answer.ends_with("the web server behind this address does not answer"), "{answer}");
    for said in [
        "",
        "HTTP/1.1 200",
        "220 smtp ready\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 099 What\r\n\r\n",
    ] {
        let back = Back::saying(said);
        let server = Server::new(back.backend());
        assert_eq!(status(&server.get("/")), "502", "{said:?}");
        let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        assert_eq!(status(&server.raw(post)), "502", "{said:?}");
    }
    // Lines without end, and a line without one.
    for piece in [&b"X: y\r\n"[..], b"yyyyyyyyyyyyyyyy"] {
        let endless = Back::new(move |mut stream| {
            head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").unwrap();
            while stream.write_all(piece).is_ok() {}
        });
        assert_eq!(status(&Server::new(endless.backend()).get("/")), "502");
    }
}

#[test]
fn a_response_that_breaks_off_is_not_passed_off_as_whole() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let back = Back::saying(said);
        let answer = Server::new(back.backend()).get("/");
        assert!(answer.contains("hello") && !answer.ends_with("0\r\n\r\n"), "{answer:?}");
    }
}

#[test]
fn a_silent_back_end_is_504() {
    let limits = Limits { back: Span::millis(200), ..Limits::default() };
    let back = Back::new(|mut stream| _ = stream.read_to_end(&mut Vec::new()));
    let server = Server::with(back.backend(), limits, listen(Ipv4Addr::LOCALHOST, 0));
    assert_eq!(status(&server.get("/")), "504");
}

#[test]
fn a_back_end_that_closes_its_idle_connection_is_asked_again() {
    // Promises to stay and goes after each answer.
    let back = Back::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let server = Server::new(back.backend());
    let mut stream = server.connect();
    for turn in 1..=20 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let (head, body) = one(&mut stream);
        assert_eq!((status(&head), body.as_str()), ("200", "ok"), "turn {turn}");
    }
    assert_eq!(back.connections.load(Ordering::SeqCst), 20);
}
