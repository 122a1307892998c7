//! The clock, and the nap that is also the mailbox.

use crate::rules::control::Say;
use crate::words::config::Config;
use crate::words::name::Name;
use crate::words::time::{Span, Unix};

/// What wakes the keeper.
#[derive(Debug)]
pub enum Knock {
    /// Nobody: the nap is over.
    Nobody,
    Reload(Box<Config>),
    Stop,
    /// Renew these MDs (all if none is named) and say how it ended, one line a time, down `ended`.
    Renew {
        names: Vec<Name>,
        force: bool,
        ended: smol::channel::Sender<String>,
    },
}

pub trait Clock {
    /// The wall clock, or `None` while it has none worth reading.
    fn now(&self) -> Option<Unix>;
    /// A moment on a scale that no clock setting moves, for rests and time limits.
    fn steady(&self) -> Span;
    /// Sleeps until the span is over or somebody knocks.
    fn nap(&mut self, span: Span) -> Knock;
}
