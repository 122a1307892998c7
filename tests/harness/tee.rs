//! What stands between a client and a server and counts: a plain tee, and an HTTP proxy.

use super::child::Port;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Listens on loopback and passes every connection on; ends with its owner, or on [`Tee::close`].
pub struct Tee {
    // Kept while nobody listens there, for the way back.
    port: Arc<Port>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Way {
    /// To this one server.
    Straight(SocketAddr),
    /// To whatever the client's CONNECT names.
    Connect,
}

impl Tee {
    pub fn to(server: SocketAddr) -> Self {
        Self::start(Port::reserve().into(), Way::Straight(server))
    }

    /// An HTTP proxy for https (RFC 9110 §9.3.6).
    pub fn proxy() -> Self {
        Self::start(Port::reserve().into(), Way::Connect)
    }

    /// Comes back after [`Tee::close`], on the same port.
    pub fn reopen(&mut self, server: SocketAddr) {
        let count = Arc::clone(&self.count);
        let port = Arc::clone(&self.port);
        *self = Self::start(port, Way::Straight(server));
        self.count.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn start(port: Arc<Port>, way: Way) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).expect("a reserved port");
        let count = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || pass(client, way));
            }
        });
        Self { port, count, stop, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many connections there have been.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// From now on connections are refused.
    pub fn close(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
            let _ = thread.join();
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.close();
    }
}

fn pass(client: TcpStream, way: Way) -> Option<()> {
    let server = match way {
        Way::Straight(address) => TcpStream::connect(address).ok()?,
        Way::Connect => {
            let server = TcpStream::connect(target(&client)?).ok()?;
            (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
            server
        }
    };
    // As fast as without us: each write goes out at once.
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (from, to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let up = thread::spawn(move || pump(from, to));
    pump(server, client);
    up.join().ok()
}

/// Reads the head of a CONNECT; nothing follows it before our answer.
fn target(client: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(client).lines();
    let first = lines.next()?.ok()?;
    lines.map_while(Result::ok).find(String::is_empty)?;
    let mut words = first.split(' ');
    (words.next() == Some("CONNECT")).then(|| words.next().map(str::to_owned))?
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
