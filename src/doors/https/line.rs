//! A line's thread: it makes one errand's calls and rings when an answer is there, so that a CA that hangs holds up this
//! errand and nobody else.

use super::{Bell, Client, Line};
use crate::rules::acme::types::{Reply, Request};
use crate::words::fault::Trouble;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::Builder;

type Answer = Result<Reply, Trouble>;

/// Dropping it ends the thread: at once between two calls, else when the call has come to its end, which nobody waits for.
pub struct ThreadLine {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
}

/// Rust's two megabytes are much for a device that must not promise more memory than it has. The calls of an order,
/// handshake included, use 52 KB of it on x86-64, and 144 KB in a debug build.
pub(super) const STACK: usize = 256 << 10;

impl ThreadLine {
    pub fn start(client: Client, bell: Bell) -> Result<Self, Trouble> {
        let (requests, asked) = channel::<Request>();
        let (say, answers) = channel();
        let calls = move || {
            for request in asked {
                if say.send(client.call(&request)).is_err() {
                    return;
                }
                bell();
            }
        };
        let thread = Builder::new().name("line".into()).stack_size(STACK).spawn(calls);
        thread.map_err(|error| Trouble::new("starting a thread for the calls to the CA", error))?;
        Ok(Self { requests, answers })
    }
}

impl Line for ThreadLine {
    fn ask(&mut self, request: Request) {
        // A thread that is gone shows in what is heard of it.
        let _ = self.requests.send(request);
    }

    fn heard(&mut self) -> Option<Answer> {
        match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Trouble::new("calling the CA", "the thread for it has ended"))),
        }
    }
}
