//! Hooks: an operator's program, run without a shell and within its time.

use crate::words::fault::Trouble;
use crate::words::time::Span;

/// One call of a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The program and all of its arguments.
    pub argv: Vec<String>,
    /// Added to the daemon's own environment; never a secret.
    pub env: Vec<(&'static str, String)>,
    pub limit: Span,
}

pub trait Script {
    /// Returns when the program has answered 0; anything else is trouble.
    fn run(&mut self, event: &Event) -> Result<(), Trouble>;
}
