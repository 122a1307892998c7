//! What the service manager is told while the house stands: the status whenever it changes, and that the keeper lives.

use crate::doors::clock::Pulse;
use crate::doors::supervisor::Supervisor;
use crate::rules::status;
use crate::words::board::Board;
use crate::words::time::Span;
use smol::{LocalExecutor, Timer};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The keeper's thread, seen from the main one.
pub struct Keeping {
    pub thread: JoinHandle<()>,
    pub pulse: Arc<Pulse>,
}

/// The longest that the keeper does one thing, a hook aside: a call to a CA ends after two minutes, but an RSA key of 4096
/// bits takes a router's processor several, and a restart in their midst would only begin again.
const LONGEST_DEED: Span = Span::mins(15);

/// All is ready; from here on whoever started us, if anybody listens, hears how it goes.
pub fn begin(executor: &LocalExecutor<'static>, supervisor: &Rc<Supervisor>, board: Arc<Board>, keeping: Keeping) {
    supervisor.ready();
    if supervisor.is_there() {
        executor.spawn(tell(supervisor.clone(), board, keeping)).detach();
    }
}

async fn tell(supervisor: Rc<Supervisor>, board: Arc<Board>, keeping: Keeping) {
    let every = supervisor.wants_a_sign_every();
    let mut said = String::new();
    let mut stuck = false;
    loop {
        let status = board.read(status::line);
        if status != said {
            supervisor.status(&status);
            said = status;
        }
        if every.is_some() {
            let was_stuck = core::mem::replace(&mut stuck, is_stuck(&board, &keeping));
            if !stuck {
                supervisor.alive();
            } else if !was_stuck {
                let silence = keeping.pulse.silence();
                log::error!("the keeper has not moved for {silence}; the service manager is to begin anew");
            }
        }
        let tick = async {
            match every {
                Some(every) => drop(Timer::after(every.duration()).await),
                None => core::future::pending().await,
            }
        };
        smol::future::or(tick, core::future::poll_fn(|cx| board.poll_news(cx))).await;
    }
}

/// Whether it is gone, or awake and at the same thing for longer than anything can take. One that naps is well: its nap
/// has an end, and it is counted from there.
fn is_stuck(board: &Board, keeping: &Keeping) -> bool {
    let hook = board.read(|reports| reports.iter().map(|report| report.md.hook_limit).max());
    keeping.thread.is_finished() || keeping.pulse.silence() > LONGEST_DEED.plus(hook.unwrap_or(Span::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::clock::SystemClock;
    use std::sync::mpsc::channel;

    #[test]
    fn a_keeper_that_is_gone_is_not_vouched_for() {
        let (sender, mailbox) = channel();
        let clock = SystemClock::new(mailbox);
        let pulse = clock.pulse();
        let (end, ended) = channel::<()>();
        let thread = std::thread::spawn(move || drop((ended.recv(), clock)));
        let keeping = Keeping { thread, pulse };
        assert!(!is_stuck(&Board::default(), &keeping));
        drop((end, sender));
        while !keeping.thread.is_finished() {
            std::thread::yield_now();
        }
        assert!(is_stuck(&Board::default(), &keeping));
    }
}
