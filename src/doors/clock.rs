//! The clock, and the nap that is also the mailbox.

use crate::rules::control::{Accounts, Say};
use crate::words::config::Config;
use crate::words::name::Name;
use crate::words::time::{Span, Unix};
use core::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What wakes the keeper.
#[derive(Debug)]
pub enum Knock {
    /// Nobody: the nap is over.
    Nobody,
    /// A line to a CA has something to be heard.
    Answer,
    Reload(Box<Config>),
    Stop,
    /// Renew these MDs (all if none is named) and say how each ended.
    Renew {
        names: Vec<Name>,
        push: Push,
        ended: Ended,
    },
    /// Revoke what is held for this MD, for one of the reasons of RFC 5280 §5.3.1.
    Revoke {
        name: String,
        reason: Option<u8>,
        ended: Ended,
    },
    /// Show our accounts, give one another key, or end one.
    Accounts {
        what: Accounts,
        ended: Ended,
    },
    /// Say which records are to be published for dns-persist-01.
    Dns {
        name: Option<Name>,
        ended: Ended,
    },
    /// The clock was set, or is known to be right.
    ClockSet,
    /// A link to the Internet is there.
    LinkUp,
    /// List what is kept for nobody; remove it if `yes`.
    Prune {
        yes: bool,
        ended: Ended,
    },
}

/// How hard a renewal is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    /// What is due.
    Due,
    /// What is due, now: the wait that we gave ourselves is over.
    Now,
    /// Due or not.
    Force,
}

/// Where it is said how that ended which somebody asked for.
pub type Ended = smol::channel::Sender<Say>;

pub trait Clock {
    /// The wall clock, or `None` while it has none worth reading.
    fn now(&self) -> Option<Unix>;
    /// A moment on a scale that no clock setting moves, for rests and time limits.
    fn steady(&self) -> Span;
    /// Sleeps until the span is over or somebody knocks.
    fn nap(&mut self, span: Span) -> Knock;
}

/// The machine's own clock, and the mailbox of the thread that naps by it.
pub struct SystemClock {
    mailbox: Receiver<Knock>,
    pulse: Arc<Pulse>,
    doubt: Cell<Option<Doubt>>,
}

/// Whether what a clock of this age shows may be anything, as long as that may be.
type Doubt = fn(Span) -> bool;

/// The signs of life of whoever has the clock: between any two things that it does it asks for the time.
pub struct Pulse {
    start: Instant,
    /// The second, on the steady scale, until which nobody needs to wonder.
    heard: AtomicU32,
}

/// The longest nap: the wall clock may have jumped meanwhile, and no deadline becomes one long sleep.
const LONGEST: Span = Span::hours(1);

impl SystemClock {
    pub fn new(mailbox: Receiver<Knock>) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the door to it")]
        let start = Instant::now();
        Self { mailbox, pulse: Arc::new(Pulse { start, heard: AtomicU32::new(0) }), doubt: Cell::new(None) }
    }

    /// The clock of a machine that may have booted just now: it counts for nothing until it is set from elsewhere, somebody
    /// says so or asks for something, or some minutes are over; many a machine never says it.
    pub fn doubted(self) -> Self {
        self.doubt.set(Some(|age| started().plus(age) < DOUBT && !is_synchronised()));
        self
    }

    fn is_doubtful(&self) -> bool {
        let doubt = self.doubt.get().filter(|doubt| doubt(self.pulse.steady()));
        self.doubt.set(doubt);
        doubt.is_some()
    }

    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

impl Pulse {
    /// How long nothing was heard; a nap counts from its end.
    pub fn silence(&self) -> Span {
        let heard = Span::secs(self.heard.load(Ordering::Relaxed).into());
        self.steady().minus(heard)
    }

    /// Here I am, and may be silent for so long.
    fn beat(&self, nap: Span) {
        let until = self.steady().plus(nap).as_secs();
        self.heard.store(u32::try_from(until).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn steady(&self) -> Span {
        Span::millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// When nobody doubts the clock any more.
const DOUBT: Span = Span::mins(5);

/// How long the machine had been up when this process began: `starttime` of proc(5), in hundredths of a second; `/proc/uptime`
/// is hidden from a service with `ProcSubset=pid`, and what `rustix` has for it is wrong on MIPS with musl. Where nothing
/// says it, nothing is known of the time before.
fn started() -> Span {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program before it may have anything in it.
    let ticks = text.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(19));
    ticks.and_then(|ticks| ticks.parse().ok()).map_or(Span::ZERO, |ticks: u64| Span::millis(ticks.saturating_mul(10)))
}

/// Whether systemd-timesyncd has had the time from elsewhere. The kernel's own flag, adjtimex(2), is not to be had without
/// unsafe code on machines of 32 bits.
fn is_synchronised() -> bool {
    Path::new("/run/systemd/timesync/synchronized").exists()
}

/// The wall clock as the machine has it; `None` before 1970.
pub fn wall() -> Option<Unix> {
    #[allow(clippy::disallowed_methods, reason = "this is the door to it")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(Unix::from_millis)
}

impl Clock for SystemClock {
    fn now(&self) -> Option<Unix> {
        self.pulse.beat(Span::ZERO);
        wall().filter(|_| !self.is_doubtful())
    }

    fn steady(&self) -> Span {
        self.pulse.beat(Span::ZERO);
        self.pulse.steady()
    }

    fn nap(&mut self, span: Span) -> Knock {
        let span = span.min(LONGEST);
        self.pulse.beat(span);
        let knock = self.mailbox.recv_timeout(span.duration());
        self.pulse.beat(Span::ZERO);
        match knock {
            Ok(knock) => {
                if matches!(knock, Knock::ClockSet | Knock::Renew { .. }) {
                    self.doubt.set(None);
                }
                knock
            }
            Err(RecvTimeoutError::Timeout) => Knock::Nobody,
            // Nobody is left who could ever knock: the program is ending.
            Err(RecvTimeoutError::Disconnected) => Knock::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_nap_ends_by_time_by_a_knock_or_with_the_last_sender() {
        let (sender, mailbox) = channel();
        let mut clock = SystemClock::new(mailbox);
        assert!(matches!(clock.nap(Span::millis(1)), Knock::Nobody));
        assert!(clock.steady() >= Span::millis(1));
        sender.send(Knock::Stop).unwrap();
        sender.send(Knock::Renew { names: vec![], push: Push::Force, ended: smol::channel::bounded(1).0 }).unwrap();
        assert!(matches!(clock.nap(Span::days(400)), Knock::Stop));
        assert!(matches!(clock.nap(Span::ZERO), Knock::Renew { push: Push::Force, .. }));
        drop(sender);
        assert!(matches!(clock.nap(Span::days(400)), Knock::Stop), "and not after an hour");
    }

    /// With seconds for a scale; half of one is lost in the reading.
    #[test]
    fn a_nap_is_no_silence() {
        let (_sender, mailbox) = channel();
        let mut clock = SystemClock::new(mailbox);
        let pulse = clock.pulse();
        pulse.beat(Span::secs(100));
        assert_eq!(pulse.silence(), Span::ZERO, "it naps");
        pulse.heard.store(0, Ordering::Relaxed);
        let pulse = Pulse { start: pulse.start - Span::secs(50).duration(), heard: AtomicU32::new(20) };
        assert!(pulse.silence() >= Span::secs(30), "{:?}", pulse.silence());
        clock.pulse = Arc::new(pulse);
        clock.now();
        assert!(clock.pulse.silence() < Span::secs(1));
        clock.nap(Span::millis(1));
        assert!(clock.pulse.silence() < Span::secs(1), "{:?}", clock.pulse.silence());
    }

    #[test]
    fn a_doubted_clock_shows_nothing_until_somebody_knows_better() {
        let (sender, mailbox) = channel();
        let mut clock = SystemClock::new(mailbox);
        clock.doubt.set(Some(|_| true));
        assert_eq!((clock.now(), clock.now()), (None, None));
        sender.send(Knock::LinkUp).unwrap();
        assert!(matches!(clock.nap(Span::ZERO), Knock::LinkUp));
        assert_eq!(clock.now(), None);
        sender.send(Knock::ClockSet).unwrap();
        assert!(matches!(clock.nap(Span::ZERO), Knock::ClockSet));
        assert!(clock.now().is_some());
        clock.doubt.set(Some(|_| false));
        assert!(clock.now().is_some());
        assert!(clock.doubt.get().is_none(), "once known to be right it is not doubted again");
    }

    #[test]
    fn the_wall_clock_is_read_anew() {
        let clock = SystemClock::new(channel().1);
        assert!(clock.now() > Some(Unix::from_secs(1_700_000_000)));
    }
}
