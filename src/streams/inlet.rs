//! The bytes that have come in and are not used yet: a fixed buffer that exists only while there are any, so that a
//! silent connection costs no more than its task.

use crate::rules::http1::HEAD_MAX;
use crate::streams::duplex::{Duplex, Shared};
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io::{self, Read};

/// As much as a head may be long.
#[derive(Default)]
pub struct Inlet(Option<Box<heapless::Vec<u8, HEAD_MAX>>>);

/// How much is read at a time.
const PIECE: usize = 2048;

impl Inlet {
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |held| held.as_slice())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Drops so many from the front.
    pub fn used(&mut self, count: usize) {
        let Some(held) = &mut self.0 else { return };
        if count >= held.len() {
            self.0 = None;
        } else {
            held.drain(..count);
        }
    }

    /// Waits for more; `false` at the end of the stream. A full inlet is an error: the reader should have used some.
    pub async fn more(&mut self, stream: &mut dyn Duplex) -> io::Result<bool> {
        poll_fn(|cx| self.poll_more(cx, &mut |cx, piece| Pin::new(&mut *stream).poll_read(cx, piece))).await
    }

    /// What a socket that does not block has for us at this moment.
    pub fn more_now(&mut self, stream: &mut dyn Read) {
        let mut none = Context::from_waker(Waker::noop());
        let _ = self.poll_more(&mut none, &mut |_, piece| Poll::Ready(stream.read(piece)));
    }

    /// The same from one hand of a shared stream.
    pub async fn more_of(&mut self, stream: &Shared<'_>) -> io::Result<bool> {
        poll_fn(|cx| self.poll_more(cx, &mut |cx, piece| stream.poll_read(cx, piece))).await
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, read: Hand<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE];
        let room = HEAD_MAX.saturating_sub(self.bytes().len()).min(PIECE);
        let Some(space) = piece.get_mut(..room).filter(|space| !space.is_empty()) else {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        };
        let count = core::task::ready!(read(cx, space))?;
        if count > 0 {
            let held = self.0.get_or_insert_default();
            held.extend_from_slice(space.get(..count).unwrap_or_default()).map_err(|_| io::ErrorKind::StorageFull)?;
        }
        Poll::Ready(Ok(count > 0))
    }
}

type Hand<'a> = &'a mut dyn FnMut(&mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>>;
