//! Shapes of requests that two servers in a row might frame differently: each is refused, or the back end sees exactly
//! the one request that a strict reader sees. The shapes are those that are published for proxies of all makes.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use edgemd::doors::front::shelf::{Forge, Shelf};
use edgemd::doors::front::{Front, Shared};
use edgemd::doors::keys;
use edgemd::words::answers::Answers;
use edgemd::words::board::Board;
use edgemd::words::cert::KeyKind;
use edgemd::words::config::{Backend, Config, Listen, Md, ProxyProtocol, Site, Way};
use edgemd::words::fault::Place;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::Span;
use harness::cert;
use smol::LocalExecutor;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// What becomes of a shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// An answer of 4xx, the connection ends, and the back end was not asked.
    Refused,
    /// One request with this body, and then the next one is read as a request of its own.
    Passed(&'static str),
}
use Fate::{Passed, Refused};

/// A request that comes behind each shape on the same connection: it must never become a part of it.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

const SHAPES: &[(&str, &str, Fate)] = &[
    ("plain", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", Passed("")),
    ("a length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", Passed("abc")),
    ("a length of nothing", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", Passed("")),
    ("zeros before a length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 003\r\n\r\nabc", Passed("abc")),
    ("chunks", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Passed("abc")),
    (
        "chunks in capitals",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n",
        Passed("a"),
    ),
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        Refused,
    ),
    (
        "TE.CL",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "two lengths that differ",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        Refused,
    ),
    ("two lengths alike", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Refused),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc", Refused),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc", Refused),
    ("a negative length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", Refused),
    ("a length in hexadecimal", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc", Refused),
    ("a length with words", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3 bytes\r\n\r\nabc", Refused),
    ("an empty length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", Refused),
    ("a length beyond numbers", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", Refused),
    ("a space before the colon", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\nabc", Refused),
    (
        "a space before TE's colon",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("a tab before the colon", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Refused),
    ("a folded field", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused),
    ("a field that begins with a space", "GET / HTTP/1.1\r\nHost: h\r\n Content-Length: 3\r\n\r\nabc", Refused),
    (
        "two encodings",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("a list of encodings", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused),
    (
        "chunked is not last",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("identity", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", Refused),
    ("xchunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused),
    ("chunked in quotes", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused),
    (
        "chunked with a vertical tab",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "chunked with a parameter",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("an empty encoding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \r\n\r\n", Refused),
    ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    ("two hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", Refused),
    ("no host", "GET / HTTP/1.1\r\n\r\n", Refused),
    ("a NUL in a field", "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", Refused),
    ("a bare CR in a field", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 9\r\n\r\n", Refused),
    ("a field without a name", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", Refused),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", Refused),
    // Read more kindly than RFC 9112 §7.1 has it, and framed anew for the back end.
    (
        "a chunk size with a sign",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        Passed("abc"),
    ),
    (
        "a chunk size with 0x",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size beyond numbers",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk longer than its size",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk without its end",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
        Refused,
    ),
    ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused),
    ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", Refused),
    ("no version", "GET /\r\nHost: h\r\n\r\n", Refused),
    ("CONNECT", "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
    ("a body for HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", Refused),
    ("a target without a slash", "GET path HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
    ("a user in the target", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
];

#[test]
fn every_shape_is_refused_or_one_request() {
    assert!(SHAPES.len() >= 40, "{} shapes", SHAPES.len());
    let (back, seen) = backend();
    let [http, https] = front(back);
    let client = cert::client(None).unwrap();
    let mut wrong = vec![];
    for (what, shape, fate) in SHAPES {
        let mut codes = vec![];
        for tls in [false, true] {
            seen.lock().unwrap().clear();
            let stream = TcpStream::connect(if tls { https } else { http }).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
            let words = format!("{shape}{NEXT}");
            let answers = match tls {
                true => say_over_tls(cert::open(&client, stream, "h.example").unwrap(), &words),
                false => say(stream, &words),
            };
            let heard: Vec<(String, String)> = seen.lock().unwrap().clone();
            codes.push(codes_of(&answers));
            if !is_good(*fate, &codes_of(&answers), &heard) {
                wrong
                    .push(format!("{what}, TLS {tls}: wanted {fate:?}; answers {codes:?}; the back end saw {heard:?}"));
            }
        }
        if codes[0] != codes[1] {
            wrong.push(format!("{what}: not the same over http and https: {codes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_good(fate: Fate, codes: &[String], heard: &[(String, String)]) -> bool {
    match fate {
        // A body may turn out to be badly framed while it is on its way: the back end has then seen no whole request.
        Refused => codes.len() == 1 && codes[0].starts_with('4') && heard.is_empty(),
        Passed(body) => {
            let paths: Vec<&str> = heard.iter().map(|(path, _)| path.as_str()).collect();
            codes == ["200", "200"] && paths == ["/", "/next"] && heard[0].1 == body && heard[1].1.is_empty()
        }
    }
}

fn codes_of(answers: &str) -> Vec<String> {
    let code = |line: &str| line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).map(str::to_owned);
    answers.lines().filter_map(code).collect()
}

/// Says it all, and hears what comes until the end.
fn say(mut stream: TcpStream, words: &str) -> String {
    stream.write_all(words.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    String::from_utf8_lossy(&answers).into_owned()
}

fn say_over_tls(mut tls: cert::Tls, words: &str) -> String {
    tls.write_all(words.as_bytes()).unwrap();
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    let mut answers = Vec::new();
    let _ = tls.read_to_end(&mut answers);
    String::from_utf8_lossy(&answers).into_owned()
}

type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A strict reader: what it saw as whole requests, with their bodies.
fn backend() -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let into = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let into = into.clone();
            thread::spawn(move || while serve(stream.as_ref().unwrap(), &into).is_some() {});
        }
    });
    (port, seen)
}

fn serve(mut stream: &TcpStream, seen: &Seen) -> Option<()> {
    let head = until(stream, "\r\n\r\n")?;
    let lower = head.to_ascii_lowercase();
    let path = head.split(' ').nth(1)?.to_owned();
    let field =
        |name: &str| lower.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()));
    let mut body = String::new();
    if field("transfer-encoding:").is_some() {
        loop {
            let size = usize::from_str_radix(until(stream, "\r\n")?.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.push_str(std::str::from_utf8(&chunk[..size]).ok()?);
        }
    } else if let Some(length) = field("content-length:") {
        let mut bytes = vec![0; length.parse().ok()?];
        stream.read_exact(&mut bytes).ok()?;
        body = String::from_utf8(bytes).ok()?;
    }
    seen.lock().unwrap().push((path, body));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
}

fn until(mut stream: &TcpStream, end: &str) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    String::from_utf8(text).ok()
}

/// The front before this back end, on a thread of its own, for as long as the test lasts: its http and its https.
fn front(back: u16) -> [SocketAddr; 2] {
    let (say, heard) = mpsc::channel();
    thread::spawn(move || {
        let executor = Rc::new(LocalExecutor::new());
        let shelf = Arc::<Shelf>::default();
        let shared = Shared {
            answers: Arc::<Answers>::default(),
            board: Arc::<Board>::default(),
            clock: edgemd::doors::clock::wall,
            shelf: shelf.clone(),
            forge: Forge { self_signed: keys::self_signed, answer: keys::answer },
        };
        let mut front = Front::new(executor.clone(), shared);
        let listen = |tls| Listen { addr: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 0, tls };
        front.listen(&[listen(false), listen(true)]).unwrap();
        let way = Way { to: Backend::Tcp(format!("127.0.0.1:{back}")), header: ProxyProtocol::Off };
        let base = Site { proxy: Some(way), ..Site::default() };
        // Somebody's certificate for who asks for other hosts.
        let name = Name::parse("md.example", Labels::One).unwrap();
        let md = Md::plain(name.clone(), Place { file: "f".into(), line: 1, column: 1 });
        front.face(&Config { base, mds: vec![md], ..Config::default() });
        let now = edgemd::doors::clock::wall().unwrap();
        let pair = keys::self_signed(std::slice::from_ref(&name), now, now.plus(Span::days(9))).unwrap();
        shelf.put(&name, &[(KeyKind::P256, pair)]).unwrap();
        shelf.open();
        let bound = front.bound();
        say.send([bound[0], bound[1]]).unwrap();
        async_io::block_on(executor.run(std::future::pending::<()>()));
    });
    heard.recv().unwrap()
}
