//! The control socket: a Unix socket of mode 0660 where one line is asked and one answer is given.

use crate::rules::control::{Request, Say};
use crate::words::fault::Trouble;
use smol::LocalExecutor;
use smol::channel::Receiver;
use std::path::Path;
use std::rc::Rc;

/// Answers a request, a part at a time; closing the channel without an [`Say::End`] is code 1.
pub type Answer = Rc<dyn Fn(Request) -> Receiver<Say>>;

/// The socket; dropping it ends it and removes its file.
pub struct Control {}

impl Control {
    /// Takes the place of a dead daemon's socket, never of a live one's.
    pub fn bind(executor: &Rc<LocalExecutor<'static>>, path: &Path, answer: Answer) -> Result<Self, Trouble> {
        let _ = (executor, answer);
        Err(Trouble::new(format!("opening the control socket {}", path.display()), "not built yet"))
    }
}

/// Whether a daemon listens there.
pub fn is_there(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// Asks the daemon and hears each line of its answer as it comes; the result is the exit code. Blocking.
pub fn ask(path: &Path, request: &Request, hear: &mut dyn FnMut(&str)) -> Result<u8, Trouble> {
    let _ = (request, hear);
    Err(Trouble::new("asking the daemon", format!("no daemon at {}", path.display())))
}
