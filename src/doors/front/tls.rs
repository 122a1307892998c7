//! TLS on a connection that has come in: whose handshake it is, and what follows.

use super::backend::{self, Unreachable};
use super::conn::{Desk, Sides, report, serve};
use super::seats::Seat;
use super::shelf::Chooser;
use crate::streams::duplex::{Duplex, within};
use crate::streams::inlet::Inlet;
use crate::streams::proxy;
use crate::streams::tls::{ACME, provider};
use crate::words::config::Way;
use crate::words::name::Name;
use crate::words::time::Span;
use async_io::{Async, Timer};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use futures_rustls::TlsAcceptor;
use futures_rustls::server::TlsStream;
use rustls::ServerConfig;
use rustls::server::{Acceptor, ServerSessionMemoryCache};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

/// What every handshake is answered with.
pub fn config(chooser: Chooser) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
    // Of both versions there are suites, which is all that it could refuse.
    #[expect(clippy::unwrap_used, reason = "see above")]
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(chooser));
    // Whoever names a CA's protocol beside others is shown the answer to a challenge, and nothing follows (RFC 8737 §4).
    config.alpn_protocols = vec![ACME.to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    // A browser opens several connections to a web UI, and a handshake is the dearest thing that a slow device does.
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = 1;
    Arc::new(config)
}

const SESSIONS: usize = 64;

/// The longest that a handshake may take.
const HANDSHAKE: Span = Span::secs(10);

/// The most that a client may say until the handshake is through; they say 2 KiB.
const HELLO_MAX: usize = 16 * 1024;

/// How often a shelf that is still being filled is looked at.
const LOOK: Span = Span::millis(20);

/// Greets, and serves what follows.
pub async fn receive(desk: &Desk, stream: Async<TcpStream>, sides: Sides<'_>, seat: &Seat) {
    // Boxed: a connection that is kept does not carry the room of its handshake.
    if let Some((mut stream, shown)) = Box::pin(greet(desk, stream, sides, seat)).await {
        let sides = Sides { shown: shown.as_ref(), ..sides };
        serve(desk, &mut *stream, sides, seat, Inlet::default()).await;
    }
}

/// `None` where the greeting was all.
async fn greet(desk: &Desk, mut stream: Async<TcpStream>, sides: Sides<'_>, seat: &Seat) -> Option<Greeted> {
    // Right after a start: nobody shall see a fallback in the place of what the store is about to give.
    let filled = async {
        while !desk.shelf.is_open() {
            Timer::after(LOOK.duration()).await;
        }
    };
    within(HANDSHAKE, filled).await;
    let facade = desk.facade.borrow().clone();
    let mut seen = vec![];
    if facade.passes_through() {
        let hello = within(HANDSHAKE, hello(&mut stream, &mut seen)).await??;
        let way = facade.passthrough(hello.host.as_deref(), sides.local).filter(|_| !hello.of_a_ca);
        if let Some(way) = way {
            seat.works();
            splice(desk, &mut stream, sides, &seen, way, seat).await;
            return None;
        }
    }
    let accepting = TlsAcceptor::from(desk.tls.clone()).accept(Replay { seen, at: 0, left: HELLO_MAX, stream });
    let mut stream = within(HANDSHAKE, accepting).await?.ok()?;
    stream.get_mut().0.left = usize::MAX;
    if stream.get_ref().1.alpn_protocol() == Some(ACME) {
        // A CA has seen what it wanted to see.
        stream.end();
        return None;
    }
    let shown = desk.shelf.shown(stream.get_ref().1.server_name());
    Some((Box::new(stream), shown))
}

/// The MD whose certificate was shown goes with it; nobody's is a fallback.
type Greeted = (Box<TlsStream<Replay>>, Option<Name>);

/// The type of the record that a hello is in.
const HANDSHAKE_RECORD: u8 = 22;

/// What a client says first.
struct Hello {
    host: Option<String>,
    /// A CA's own handshake (RFC 8737).
    of_a_ca: bool,
}

/// Reads so far that the client's first message is whole; `None` where it is no TLS or breaks off. One of a version that
/// we don't speak says nothing to us.
async fn hello(stream: &mut Async<TcpStream>, seen: &mut Vec<u8>) -> Option<Hello> {
    let mut acceptor = Acceptor::default();
    loop {
        let mut piece = [0; 2048];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        let mut fresh = piece.get(..count)?;
        seen.extend_from_slice(fresh);
        if seen.len() > HELLO_MAX {
            return None;
        }
        let refused = || (seen.first() == Some(&HANDSHAKE_RECORD)).then_some(Hello { host: None, of_a_ca: false });
        while !fresh.is_empty() {
            if acceptor.read_tls(&mut fresh).is_err() {
                return refused();
            }
            let Ok(accepted) = acceptor.accept() else { return refused() };
            if let Some(accepted) = accepted {
                let hello = accepted.client_hello();
                let of_a_ca = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME));
                return Some(Hello { host: hello.server_name().map(str::to_ascii_lowercase), of_a_ca });
            }
        }
    }
}

/// Everything goes to a web UI that has TLS itself, from the first byte on.
async fn splice(desk: &Desk, stream: &mut Async<TcpStream>, sides: Sides<'_>, seen: &[u8], way: &Way, seat: &Seat) {
    match within(desk.limits.back, backend::connect(&desk.names, way, sides)).await {
        Some(Ok(mut back)) => proxy::splice(stream, seen, &mut *back, &|waits| seat.turns(waits)).await,
        Some(Err(Unreachable(why))) => report(desk, &way.to, &why),
        None => report(desk, &way.to, "it took too long"),
    }
}

/// A stream of which something was read already, and is read once more; and of which not everything is taken.
pub struct Replay {
    seen: Vec<u8>,
    at: usize,
    left: usize,
    stream: Async<TcpStream>,
}

impl AsyncRead for Replay {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let left = self.seen.get(self.at..).unwrap_or_default();
        if left.is_empty() {
            self.seen = Vec::new();
            let Some(space) = bytes.get_mut(..bytes.len().min(self.left)).filter(|space| !space.is_empty()) else {
                return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
            };
            let count = core::task::ready!(Pin::new(&mut self.stream).poll_read(cx, space))?;
            self.left -= count;
            return Poll::Ready(Ok(count));
        }
        let count = left.len().min(bytes.len());
        for (to, from) in bytes.iter_mut().zip(left) {
            *to = *from;
        }
        self.at += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl Duplex for TlsStream<Replay> {
    fn end(&mut self) {
        self.get_mut().1.send_close_notify();
        // What the socket does not take at once, a client that has stopped reading will not miss.
        let _ = Pin::new(&mut *self).poll_flush(&mut Context::from_waker(Waker::noop()));
        self.get_mut().0.stream.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be hundreds of them, on a device with little.
    #[test]
    fn a_connection_that_waits_is_small() {
        fn of<'a, F: Future>(_: fn(&'a Desk, Async<TcpStream>, Sides<'a>, &'a Seat) -> F) -> usize {
            size_of::<F>()
        }
        assert!(of(receive) <= 1536, "{}", of(receive));
    }
}
