//! The plain listeners: challenges are answered, what is not ours goes to the back end.

use crate::rules::http1::Facade;
use crate::words::answers::Answers;
use crate::words::config::Listen;
use crate::words::fault::Trouble;
use smol::LocalExecutor;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

pub struct Port80 {}

impl Port80 {
    /// Listens nowhere yet, and answers challenges only.
    pub fn new(executor: Rc<LocalExecutor<'static>>, answers: Arc<Answers>) -> Self {
        let _ = (executor, answers);
        Self {}
    }

    /// Listens on the plain ones of these and on no others; listeners that stay are not closed. On trouble everything
    /// stays as it was.
    pub fn listen(&mut self, wanted: &[Listen]) -> Result<(), Trouble> {
        let _ = wanted;
        Ok(())
    }

    /// What is served from the next request on.
    pub fn face(&self, facade: Facade) {
        let _ = facade;
    }

    /// Where it listens now.
    pub fn bound(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
}
