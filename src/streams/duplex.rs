//! A stream both ways, whatever is below it, and the few things that all who serve one need: a limit in time, two
//! hands on one stream, a decent end.

use crate::words::time::Span;
use async_io::{Async, Timer};
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use rustix::net::SendFlags;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

/// Used through `dyn`: one copy of the code for all kinds.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {
    /// Says that nothing more will be written.
    fn end(&mut self);

    /// Takes as many as it can of the last bytes before the end, and may send them together with it.
    fn last(&mut self, bytes: &[u8]) -> usize {
        let _ = bytes;
        0
    }
}

impl Duplex for Async<TcpStream> {
    fn end(&mut self) {
        // An error means that the other side has left already.
        let _ = self.get_ref().shutdown(Shutdown::Write);
    }

    fn last(&mut self, bytes: &[u8]) -> usize {
        last_of(self.get_ref(), bytes)
    }
}

/// The kernel keeps them until the end of the stream follows: one segment less for each small answer.
pub fn last_of(stream: &TcpStream, bytes: &[u8]) -> usize {
    rustix::net::send(stream, bytes, SendFlags::MORE | SendFlags::NOSIGNAL).unwrap_or(0)
}

impl Duplex for Async<UnixStream> {
    fn end(&mut self) {
        let _ = self.get_ref().shutdown(Shutdown::Write);
    }
}

/// What comes of `work` within the limit. No `async fn`: that would carry the work once more.
pub fn within<T>(limit: Span, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    let late = async move {
        Timer::after(limit.duration()).await;
        None
    };
    smol::future::or(async { Some(work.await) }, late)
}

/// Ends a connection on which the other side may still be sending. Closed at once, the kernel would answer its bytes
/// with a reset, which may overtake our last words.
pub async fn part(stream: &mut dyn Duplex) {
    const PATIENCE: Span = Span::secs(2);
    const MOST: usize = 256 * 1024;
    stream.end();
    let rest = async {
        let mut bin = [0; 512];
        let mut seen = 0;
        while seen < MOST {
            match stream.read(&mut bin).await {
                Ok(0) | Err(_) => break,
                Ok(more) => seen += more,
            }
        }
    };
    within(PATIENCE, rest).await;
}

/// One stream for two hands, of which one reads and one writes, in turns within one task. Every byte counts as progress.
pub struct Shared<'a> {
    stream: RefCell<&'a mut dyn Duplex>,
    progress: &'a Cell<u32>,
    /// The hands that wait for the other side.
    waiting: Cell<u8>,
    /// Hears with each move whether one does.
    tell: &'a dyn Fn(bool),
    written: Cell<u8>,
}

const READS: u8 = 1;
const WRITES: u8 = 2;
const ALWAYS: u8 = 4;

impl<'a> Shared<'a> {
    pub fn new(stream: &'a mut dyn Duplex, progress: &'a Cell<u32>, tell: &'a dyn Fn(bool)) -> Self {
        Self { stream: RefCell::new(stream), progress, waiting: Cell::new(0), tell, written: Cell::new(0) }
    }

    /// From here on each side may be silent for as long as it likes, and it is the other one that we wait for.
    pub fn always_waits(&self) {
        self.waiting.set(self.waiting.get() | ALWAYS);
        (self.tell)(true);
    }

    pub fn end(&self) {
        self.stream.borrow_mut().end();
    }

    /// All of them, or an error. Where both sides are fast nobody is ever waited for: now and then others have their turn.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        let flush = |cx: &mut Context<'_>| Pin::new(&mut **self.stream.borrow_mut()).poll_flush(cx);
        poll_fn(|cx| self.noted(flush(cx).map_ok(|()| 0), WRITES)).await?;
        self.written.set(self.written.get().wrapping_add(1));
        if self.written.get().is_multiple_of(8) {
            smol::future::yield_now().await;
        }
        Ok(())
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut **self.stream.borrow_mut()).poll_read(cx, bytes);
        self.noted(poll, READS)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.noted(Pin::new(&mut **self.stream.borrow_mut()).poll_write(cx, bytes), WRITES) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            poll => poll,
        }
    }

    fn noted(&self, poll: Poll<io::Result<usize>>, hand: u8) -> Poll<io::Result<usize>> {
        if matches!(poll, Poll::Ready(Ok(_))) {
            self.progress.set(self.progress.get().wrapping_add(1));
        }
        let before = self.waiting.get();
        let now = if poll.is_pending() { before | hand } else { before & !hand };
        self.waiting.set(now);
        if poll.is_ready() || now != before {
            (self.tell)(now != 0);
        }
        poll
    }
}

/// Ends when nothing has moved for about this long.
pub async fn standstill(progress: &Cell<u32>, patience: Span) {
    const LOOKS: u8 = 4;
    let look = Span::millis(patience.as_millis() / u64::from(LOOKS));
    let (mut last, mut still) = (progress.get(), 0);
    while still < LOOKS {
        Timer::after(look.duration()).await;
        let now = progress.get();
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
}
