//! Strangers in numbers: ten thousand connections that say nothing, half of it, a byte now and then, too much or something
//! else, on both listeners; from one address, then from as many as they are; and as many at the control socket, by those
//! who may go there. Meanwhile a CA gets its answers, and afterwards nothing is left.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::cert;
use harness::device::Device;
use harness::{SOON, until};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HTTP: &str = "http.example.org";
const TLS: &str = "tls.example.org";
/// MaxConnections.
const SEATS: usize = 256;
/// What a connection may cost, in KiB: a whole head or a whole ClientHello, and what it is kept in.
const EACH: u64 = 40;
/// Those who are heard at the control socket at a time.
const CONTROL_SEATS: usize = 32;

#[test]
fn ten_thousand_strangers() {
    let count = descriptors(10_000);
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    device.set("MaxConnections", SEATS.to_string());
    let hole = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let ui = hole.local_addr().expect("it is bound").port();
    thread::spawn(move || hole.incoming().flatten().collect::<Vec<TcpStream>>());
    device.start_with(&format!(
        "<MDomainSet {HTTP}>\nMDCAChallenges http-01\n</MDomainSet>\n\
         <MDomainSet {TLS}>\nMDCAChallenges tls-alpn-01\n</MDomainSet>\n\
         <VirtualHost *:{0}>\nServerName {TLS}\nProxyPass / http://127.0.0.1:{ui}/\n</VirtualHost>\n",
        ca.tls.number(),
    ));
    device.complete(HTTP);
    device.complete(TLS);
    let place = place(&ca, &device);
    // Whatever a first request needs is there.
    place.ask().expect("answers");
    let (rss, open) = (place.rss(), place.descriptors());
    let one = |_: usize| Ipv4Addr::new(127, 0, 0, 2);
    let many = |number: usize| {
        let [.., a, b] = number.to_be_bytes();
        Ipv4Addr::new(127, 1, a, b)
    };
    let one = ("one address", 2000, Home::Net(&one));
    let many = ("as many addresses", 1000, Home::Net(&many));
    let mut before = 0;
    for (what, pace, home) in [one, many, many] {
        let siege = place.siege((count, pace), home, || {
            for name in [HTTP, TLS] {
                until("a renewal under siege", SOON, || {
                    let said = device.run(&["renew", "--force", name]);
                    println!("{}", said.out.trim_end());
                    (said.code == Some(0)).then_some(())
                });
            }
        });
        println!(
            "{count} connections from {what}, {} opened in all: a question waits {:?} at most (sent away {} times; the \
             machine itself takes {:?}), {} descriptors, RSS {rss} KiB before and {} at most",
            siege.opened, siege.slowest, siege.again, siege.lag, siege.descriptors, siege.rss
        );
        siege.is_answered_in_time();
        assert!(siege.descriptors <= open + SEATS + 16, "{open} before, {} then", siege.descriptors);
        assert!(siege.rss <= rss + EACH * SEATS as u64, "{rss} KiB before, {} then", siege.rss);
        until("all that was opened is closed", SOON, || (place.descriptors() <= open).then_some(()));
        let after = place.rss();
        println!("RSS {after} KiB when they have gone");
        // What the allocator has kept of the first is what the second one takes.
        assert!(what == one.0 || before == 0 || after <= before + 1024, "{before} KiB, and then {after}");
        before = if what == many.0 { after } else { 0 };
    }
}

/// Those who come with a request that goes to the back end, and then keep it waiting.
#[test]
fn slow_guests_of_the_back_end() {
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    device.set("MaxConnections", SEATS.to_string());
    let ui = slow_site();
    device.start_with(&format!(
        "<MDomainSet {HTTP}>\nMDCAChallenges http-01\n</MDomainSet>\n\
         <MDomainSet {TLS}>\nMDCAChallenges tls-alpn-01\n</MDomainSet>\n\
         <VirtualHost *:{0} *:{1}>\nServerName {TLS}\nProxyPass / http://127.0.0.1:{ui}/\n</VirtualHost>\n",
        ca.tls.number(),
        ca.http.number(),
    ));
    device.complete(HTTP);
    device.complete(TLS);
    let place = place(&ca, &device);
    place.ask().expect("answers");
    // As many from each as it may have.
    let home = |number: usize| Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number / 64).expect("a few"));
    let (rss, open) = (place.rss(), place.descriptors());
    let siege = place.siege((320, 2000), Home::Back(&home), || {
        for name in [HTTP, TLS] {
            until("a renewal under siege", SOON, || {
                (device.run(&["renew", "--force", name]).code == Some(0)).then_some(())
            });
        }
    });
    println!(
        "320 slow guests, {} opened in all: a question waits {:?} at most (sent away {} times; the machine itself {:?}), {} \
         descriptors, RSS {rss} KiB before and {} at most",
        siege.opened, siege.slowest, siege.again, siege.lag, siege.descriptors, siege.rss
    );
    siege.is_answered_in_time();
    assert!(siege.descriptors > open + SEATS + 16, "they had no connections to the back end: {}", siege.descriptors);
}

/// What is large is larger than what the kernel keeps of it, and whoever wants another protocol gets one.
fn slow_site() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    let serve = |mut stream: TcpStream| {
        let mut head = [0; 5];
        let said: &[u8] = match stream.read_exact(&mut head).map(|()| &head) {
            Ok(b"GET /") => b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
            Ok(b"HEAD ") => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            _ => b"",
        };
        let mut alive = stream.write_all(said).is_ok();
        while alive && head == *b"GET /" {
            alive = stream.write_all(&[0; 10_000]).is_ok();
        }
        let _ = io::copy(&mut stream, &mut io::sink());
    };
    let serve = move || {
        for stream in socket.incoming().flatten() {
            let small = thread::Builder::new().stack_size(64 * 1024);
            small.spawn(move || serve(stream)).expect("a thread");
        }
    };
    thread::spawn(serve);
    port
}

#[test]
fn ten_thousand_at_the_control_socket() {
    let count = descriptors(10_000);
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    device.start_with(&format!(
        "<VirtualHost *:{}>\nServerName {TLS}\n</VirtualHost>\nMDomain {TLS}\nMDomain {HTTP}",
        ca.tls.number()
    ));
    device.complete(HTTP);
    device.complete(TLS);
    let place = place(&ca, &device);
    place.ask().expect("answers");
    assert_eq!(device.run(&["status"]).code, Some(0));
    let (rss, open) = (place.rss(), place.descriptors());
    let (mut status, mut renewal) = (Duration::ZERO, Duration::ZERO);
    let siege = place.siege((count, 2000), Home::Control, || {
        for _ in 0..3 {
            let begin = Instant::now();
            assert_eq!(device.run(&["status"]).code, Some(0));
            status = status.max(begin.elapsed());
        }
        let begin = Instant::now();
        assert_eq!(device.run(&["renew", "--force", HTTP]).code, Some(0));
        renewal = begin.elapsed();
    });
    println!(
        "{count} at the control socket, {} tries in all: a question on port 80 and 443 waits {:?} at most (the machine itself \
         {:?}), the operator's status {status:?}, a renewal {renewal:?}, {} descriptors, RSS {rss} KiB before and {} at most",
        siege.opened, siege.slowest, siege.lag, siege.descriptors, siege.rss
    );
    siege.is_answered_in_time();
    assert!(siege.descriptors <= open + CONTROL_SEATS + 16, "{open} before, {} then", siege.descriptors);
    assert!(siege.rss <= rss + EACH * CONTROL_SEATS as u64 + 1024, "{rss} KiB before, {} then", siege.rss);
    until("all that was opened is closed", SOON, || (place.descriptors() <= open).then_some(()));
    assert_eq!((device.run(&["status"]).code, ca.issued()), (Some(0), 3));
}

fn place(ca: &Ca, device: &Device) -> Place {
    let control = device.folder.join("control.sock");
    Place { http: here(ca.http.number()), tls: here(ca.tls.number()), pid: device.pid(), control, idle: idle() }
}

/// A server that answers at once: what it takes to be answered by this one the machine takes.
fn idle() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let _ = stream.read(&mut [0; 64]).and_then(|_| stream.write_all(b"here"));
        }
    });
    address
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// As many connections as this process may have, up to this number.
fn descriptors(wanted: usize) -> usize {
    const OTHERS: u64 = 500;
    let limit = getrlimit(Resource::Nofile);
    let wish = wanted as u64 + OTHERS;
    let most = limit.maximum.map_or(wish, |most| most.min(wish)).max(limit.current.unwrap_or(wish));
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit }).expect("a limit below the hard one");
    wanted.min(usize::try_from(most - OTHERS).expect("a small number"))
}

/// Where the strangers come from.
#[derive(Clone, Copy)]
enum Home<'a> {
    /// From the Internet: where the one of this number lives.
    Net(&'a (dyn Fn(usize) -> Ipv4Addr + Sync)),
    /// The same, of those who want something from the back end.
    Back(&'a (dyn Fn(usize) -> Ipv4Addr + Sync)),
    /// From this machine, where they may ask the daemon.
    Control,
}

struct Place {
    http: SocketAddr,
    tls: SocketAddr,
    pid: u32,
    control: PathBuf,
    idle: SocketAddr,
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Siege {
    opened: usize,
    /// How often the one with the question was sent away.
    again: u32,
    slowest: Duration,
    /// What a server with nothing to do takes meanwhile.
    lag: Duration,
    descriptors: usize,
    rss: u64,
}

impl Siege {
    /// Within a second, on a machine that has the time; a question is four rounds and a handshake.
    #[track_caller]
    fn is_answered_in_time(&self) {
        let limit = Duration::from_secs(1) + 4 * self.lag;
        assert!(self.slowest < limit, "{:?}, while the machine itself takes {:?}", self.slowest, self.lag);
    }
}

impl Place {
    /// How long this machine takes for an answer that costs nothing.
    fn lag(&self) -> Duration {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(self.idle).expect("it listens");
        stream.write_all(b"?").expect("a connection");
        stream.read_exact(&mut [0; 4]).expect("an answer");
        begin.elapsed()
    }

    /// One who comes with a question, as a CA does, on both listeners.
    fn ask(&self) -> io::Result<()> {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(SOON))?;
        let path = "/.well-known/acme-challenge/nobodys";
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HTTP}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)?;
        let status = cert::get(self.tls, TLS, "/.httpd/certificate-status", None)?;
        let both = answer.starts_with("HTTP/1.1 404") && status.starts_with("HTTP/1.1 200");
        if both { Ok(()) } else { Err(io::Error::other(answer + &status)) }
    }

    fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        line.trim().trim_end_matches(" kB").parse().expect("KiB")
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("it lives").count()
    }

    /// What is seen while so many sit before the door, and this is done.
    fn siege(&self, (count, pace): (usize, usize), home: Home<'_>, meanwhile: impl FnOnce()) -> Siege {
        let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let crowd = scope.spawn(|| self.crowd((count, pace), home, (&opened, &over)));
            let watch = scope.spawn(|| {
                let (mut slowest, mut lag, mut descriptors, mut rss, mut again) =
                    (Duration::ZERO, Duration::ZERO, 0, 0, 0);
                while !over.load(Ordering::SeqCst) {
                    let begin = Instant::now();
                    // In a full house a slow one may be taken for one of the crowd, and comes again.
                    while self.ask().is_err() {
                        again += 1;
                    }
                    slowest = slowest.max(begin.elapsed());
                    lag = lag.max(self.lag());
                    descriptors = descriptors.max(self.descriptors());
                    rss = rss.max(self.rss());
                    thread::sleep(Duration::from_millis(20));
                }
                (slowest, lag, descriptors, rss, again)
            });
            // Whatever happens here, they end.
            let ended = Ended(&over);
            let arrived = || (opened.load(Ordering::SeqCst) >= count || watch.is_finished()).then_some(());
            until("the crowd has come", 4 * SOON, arrived);
            meanwhile();
            drop(ended);
            let (slowest, lag, descriptors, rss, again) = watch.join().expect("each was answered");
            crowd.join().expect("a crowd");
            Siege { opened: opened.load(Ordering::SeqCst), again, slowest, lag, descriptors, rss }
        })
    }

    /// Comes, and who was sent away comes back; at most so many a second.
    fn crowd(&self, (count, pace): (usize, usize), home: Home<'_>, (opened, over): (&AtomicUsize, &AtomicBool)) {
        const AGAIN: usize = 500;
        let begin = Instant::now();
        let mut strangers: Vec<Option<Stranger>> = (0..count).map(|_| None).collect();
        while !over.load(Ordering::SeqCst) {
            for (number, stranger) in strangers.iter_mut().enumerate() {
                let millis = begin.elapsed().as_millis() as usize;
                let may = (millis * pace / 1000).min(count + millis * AGAIN / 1000);
                match stranger.as_mut().map(Stranger::dawdle) {
                    Some(true) => {}
                    Some(false) => *stranger = None,
                    None if opened.load(Ordering::SeqCst) >= may => thread::sleep(Duration::from_millis(1)),
                    None => {
                        *stranger = match home {
                            Home::Net(home) => self.stranger(number, home(number)).ok(),
                            Home::Back(home) => self.guest(number, home(number)).ok(),
                            Home::Control => self.asker(number).ok(),
                        };
                        opened.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
            if matches!(home, Home::Back(_)) {
                // Theirs is a slow body, no fast one in small pieces.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Of eight kinds.
    fn asker(&self, number: usize) -> io::Result<Stranger> {
        let (words, slow): (Vec<u8>, bool) = match number % 8 {
            0 => (vec![], false),
            1 => (b"stat".into(), false),
            2 => (b"status".into(), true),
            3 => (vec![b'x'; 100_000], false),
            4 => ((0..=255).cycle().take(900).filter(|byte| *byte != b'\n').collect(), false),
            5 => (b"status\nstatus\nstatus\n".into(), false),
            6 => (b"GET /md-status HTTP/1.1\r\nHost: x\r\n".into(), true),
            _ => (b"renew nobody.example\n".into(), false),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.control)?)?;
        Ok(Stranger { stream: Box::new(UnixStream::from(socket)), words, slow })
    }

    /// Of twelve kinds.
    fn stranger(&self, number: usize, home: Ipv4Addr) -> io::Result<Stranger> {
        let hello = |body: usize| {
            // A record of a handshake, and in it a ClientHello that is said to be longer.
            let mut record = vec![22, 3, 1];
            record.extend(u16::try_from(body + 4).expect("a short one").to_be_bytes());
            record.extend([1, 0, 0xff, 0]);
            record.extend(vec![3; body]);
            record
        };
        let head = b"GET / HTTP/1.1\r\nHost: http.example.org\r\nX: ".to_vec();
        let lines = b"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: http.example.org\r\n\r\n";
        let (to, words, slow) = match number % 12 {
            0 => (self.http, vec![], false),
            1 => (self.http, head, false),
            2 => (self.http, head, true),
            3 => (self.http, [head, vec![b'x'; 8000]].concat(), false),
            4 => (self.tls, vec![], false),
            5 => (self.tls, hello(300), true),
            6 => (self.tls, hello(16_000), false),
            // A hundred requests at once, whose answers are read by and by.
            7 => (self.http, lines.repeat(100), true),
            // What is no TLS: HTTP, an SSLv2 hello, a record that is too long, records with nothing in them.
            8 => (self.tls, lines.to_vec(), false),
            9 => (self.tls, [&[0x80, 0x2e, 1, 0, 2, 0, 21, 0, 0, 0, 16][..], &[7; 37]].concat(), false),
            10 => (self.tls, [&[22, 3, 1, 0xff, 0xff][..], &[1; 20_000]].concat(), false),
            _ => (self.tls, [22, 3, 1, 0, 0].repeat(2000), true),
        };
        stranger(to, home, words, slow)
    }

    /// Of three kinds: a body that does not come, or slowly; a tunnel in which nothing moves; and, so that the kernel has
    /// room for what they don't read, few with a large response.
    fn guest(&self, number: usize, home: Ipv4Addr) -> io::Result<Stranger> {
        let (line, fields, slow) = match number % 32 {
            0 => ("GET /", "", false),
            1..16 => ("HEAD /", "Connection: upgrade\r\nUpgrade: x\r\n", false),
            kind => ("POST /", "Content-Length: 100000000\r\n", kind < 24),
        };
        let head = format!("{line} HTTP/1.1\r\nHost: {TLS}\r\n{fields}\r\n");
        stranger(self.http, home, head.into_bytes(), slow)
    }
}

fn stranger(to: SocketAddr, home: Ipv4Addr, words: Vec<u8>, slow: bool) -> io::Result<Stranger> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((home, 0)))?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {
            Ok(Stranger { stream: Box::new(TcpStream::from(socket)), words, slow })
        }
        Err(why) => Err(why.into()),
    }
}

trait Both: Read + Write {}

impl<T: Read + Write> Both for T {}

struct Stranger {
    stream: Box<dyn Both>,
    /// Still to be said.
    words: Vec<u8>,
    /// And after them a byte at each turn.
    slow: bool,
}

impl Stranger {
    /// Whether it is still there.
    fn dawdle(&mut self) -> bool {
        let waits = |why: io::Error| [io::ErrorKind::WouldBlock, io::ErrorKind::NotConnected].contains(&why.kind());
        if !self.words.is_empty() {
            match self.stream.write(&self.words) {
                Ok(count) => drop(self.words.drain(..count)),
                Err(why) => return waits(why),
            }
        } else if self.slow && self.stream.write(b"y").is_err_and(|why| !waits(why)) {
            return false;
        }
        match self.stream.read(&mut [0; 64]) {
            Ok(count) => count > 0,
            Err(why) => waits(why),
        }
    }
}
