//! The keeper: the loop that looks at every want, takes the step that the rules name, writes down how it went, and naps.
//! It blocks wherever it likes; it has a thread of its own.

use crate::doors::clock::{Clock, Ended, Knock, Push};
use crate::doors::dice::Dice;
use crate::doors::disk::Disk;
use crate::doors::https::Wire;
use crate::doors::script::Script;
use crate::house::errand::{Came, Errand};
use crate::house::jobs::Jobs;
use crate::house::lives::Lives;
use crate::house::store::{Loaded, Store};
use crate::rules::plan::THROW;
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::cert::{Outcome, Slot, Step};
use crate::words::config::Config;
use crate::words::fault::Failure;
use crate::words::name::Name;
use crate::words::time::{Span, Unix};
use std::sync::Arc;

/// The outside, one trait for each thing.
pub struct Doors<'a> {
    pub clock: &'a mut dyn Clock,
    pub wire: &'a mut dyn Wire,
    pub disk: &'a mut dyn Disk,
    pub script: &'a mut dyn Script,
    pub dice: &'a mut dyn Dice,
}

pub struct Keeper<'a> {
    pub(super) doors: Doors<'a>,
    pub(super) store: Store,
    pub(super) config: Config,
    pub(super) lives: Lives,
    pub(super) answers: Arc<Answers>,
    pub(super) errands: Vec<Errand>,
    board: Arc<Board>,
    jobs: Jobs,
    /// Nothing is begun by itself before this moment of the steady clock.
    quiet_until: Span,
    /// The next look, by the wall clock and by the steady one.
    look_at: Option<Unix>,
    look_by: Span,
    /// Whether the clock was believed when all was last posted.
    had_clock: Option<bool>,
}

/// Orders under way at the same time: each holds a TLS connection, and the device has little memory.
const ERRANDS: usize = 4;

/// However long nothing is due, the wall clock is read anew after this; while it can't be believed, sooner.
const LONGEST_NAP: Span = Span::hours(1);
const CLOCKLESS_NAP: Span = Span::mins(1);
/// How soon the disk is tried again while it has not taken everything: a pair that is only in memory is lost with the power.
const UNSAVED_NAP: Span = Span::mins(10);

impl<'a> Keeper<'a> {
    pub fn new(
        doors: Doors<'a>,
        store: Store,
        loaded: Loaded,
        config: Config,
        shared: (Arc<Answers>, Arc<Board>),
    ) -> Self {
        let (answers, board) = shared;
        let lives = Lives::new(loaded, &config);
        let mut keeper = Self {
            doors,
            store,
            config,
            lives,
            answers,
            errands: vec![],
            board,
            jobs: Jobs::default(),
            quiet_until: Span::ZERO,
            look_at: None,
            look_by: Span::ZERO,
            had_clock: None,
        };
        keeper.quiet_until = keeper.doors.clock.steady().plus(keeper.initial_delay());
        keeper.owe_missing_exports();
        keeper.post();
        keeper
    }

    /// Works until somebody says stop.
    pub fn run(&mut self) {
        loop {
            let nap = self.work();
            match self.doors.clock.nap(nap) {
                Knock::Nobody => {}
                Knock::Stop => return,
                Knock::Reload(config) => self.reload(*config),
                Knock::Renew { names, push, ended } => self.push(&names, push, ended),
            }
        }
    }

    /// One round: begin what is due, give each errand that does not rest its turn. Returns how long nothing will happen.
    fn work(&mut self) -> Span {
        let steady = self.doors.clock.steady();
        let now = self.now();
        if steady >= self.look_by || now.zip(self.look_at).is_some_and(|(now, at)| now >= at) {
            self.look(now);
        }
        self.turns();
        let steady = self.doors.clock.steady();
        let rests = self.errands.iter().map(|errand| errand.rests_until).min();
        let until_rest = rests.map_or(LONGEST_NAP, |rest| rest.minus(steady));
        let until_look = match (self.now(), self.look_at) {
            (Some(now), Some(at)) => at.since(now),
            _ => CLOCKLESS_NAP,
        };
        until_rest.min(until_look).min(self.look_by.minus(steady)).min(LONGEST_NAP)
    }

    pub(super) fn now(&self) -> Option<Unix> {
        self.lives.believe(self.doors.clock.now())
    }

    /// The next round begins with a look.
    pub(super) fn look_again(&mut self) {
        self.look_by = Span::ZERO;
    }

    /// Asks the rules about every want, and begins what they say.
    fn look(&mut self, now: Option<Unix>) {
        let steady = self.doors.clock.steady();
        self.save_again();
        let nap = match now {
            None => CLOCKLESS_NAP,
            Some(_) if self.lives.unsaved().is_empty() => self.config.check_interval,
            Some(_) => self.config.check_interval.min(UNSAVED_NAP),
        };
        self.look_by = steady.plus(nap);
        self.look_at = None;
        let mut tells = vec![];
        let mut next: Option<Unix> = None;
        for slot in self.lives.wanted() {
            let quiet = steady < self.quiet_until && !self.jobs.wait_for(&slot);
            match self.lives.step(&slot, now) {
                _ if self.busy(&slot) => {}
                Step::Order { .. } | Step::Tell if quiet => self.look_by = self.look_by.min(self.quiet_until),
                Step::Order { why } => self.begin(&slot, why),
                Step::Tell => tells.push(slot),
                Step::Wait { until } => next = Some(next.map_or(until, |next| next.min(until))),
                Step::NoClock => {}
            }
        }
        self.look_at = next;
        self.tell(tells, now);
        self.close_jobs(now);
        self.post();
    }

    pub(super) fn busy(&self, slot: &Slot) -> bool {
        self.errands.iter().any(|errand| errand.slot == *slot)
    }

    /// Whether one more order can be begun now: there is room, and nobody else is about to make the CA's account.
    pub(super) fn has_room_for(&self, ca: &str) -> bool {
        let making = self.lives.account(ca).is_none_or(|account| account.url.is_none());
        self.errands.len() < ERRANDS && !(making && self.errands.iter().any(|errand| errand.want.ca == ca))
    }

    /// Gives each errand that does not rest one turn.
    fn turns(&mut self) {
        let mut index = 0;
        while let Some(errand) = self.errands.get_mut(index) {
            let steady = self.doors.clock.steady();
            if errand.rests_until > steady {
                index += 1;
                continue;
            }
            match errand.turn(steady) {
                Came::Nothing => index += 1,
                Came::Account(url) => {
                    let ca = errand.want.ca.clone();
                    self.keep_account(&ca, url);
                    index += 1;
                }
                Came::Chain(chain) => {
                    let errand = self.errands.remove(index);
                    self.arrive(errand, chain);
                }
                Came::Nowhere(failure) => {
                    let errand = self.errands.remove(index);
                    self.fail(&errand, failure);
                }
            }
        }
    }

    /// An errand came back with nothing.
    pub(super) fn fail(&mut self, errand: &Errand, failure: Failure) {
        self.failed(&errand.slot, Outcome::OrderFailed(failure));
    }

    /// Settles a failure, says it, and ends what was waiting for the step.
    pub(super) fn failed(&mut self, slot: &Slot, outcome: Outcome) {
        let now = self.now();
        let line = self.lives.failed(slot, &outcome, now, self.doors.dice.below(THROW));
        log::warn!("{line}");
        self.save_tried(slot);
        self.jobs.fail(slot, &line);
        self.look_again();
    }

    pub(super) fn succeeded(&mut self, slot: &Slot, outcome: &Outcome) {
        let now = self.now();
        self.lives.succeeded(slot, outcome, now);
        self.save_tried(slot);
        self.look_again();
    }

    pub(super) fn save_tried(&mut self, slot: &Slot) {
        let Some(tried) = self.lives.tried(slot) else { return };
        let saved = self.store.put_tried(self.doors.disk, slot, tried);
        self.lives.saved_tried(slot, saved);
    }

    /// A changed configuration: orders for wants that are no more are dropped, everything else goes on.
    fn reload(&mut self, config: Config) {
        self.lives.rewant(&config);
        self.config = config;
        let lives = &self.lives;
        self.errands.retain(|errand| lives.want(&errand.slot).is_some_and(|want| *want == errand.want));
        self.owe_missing_exports();
        self.look_again();
        self.had_clock = None;
        self.post();
    }

    /// Somebody asked for a renewal and waits for its end.
    fn push(&mut self, names: &[Name], push: Push, ended: Ended) {
        let slots: Vec<Slot> =
            self.lives.wanted().into_iter().filter(|slot| names.is_empty() || names.contains(&slot.md)).collect();
        for slot in slots.iter().filter(|slot| !self.errands.iter().any(|errand| errand.slot == **slot)) {
            self.lives.push(slot, push);
        }
        self.jobs.add(slots, ended);
        self.look_again();
    }

    /// Ends the jobs whose wants have nothing left to do.
    fn close_jobs(&mut self, now: Option<Unix>) {
        for slot in self.jobs.open() {
            let idle = match self.lives.step(&slot, now) {
                _ if self.busy(&slot) => false,
                Step::Order { .. } | Step::Tell => false,
                Step::Wait { .. } | Step::NoClock => true,
            };
            if idle {
                let (line, well) = self.lives.summary(&slot, now);
                self.jobs.end(&slot, &line, well);
            }
        }
    }

    /// The random moment before a first issuance, unless the operator said how long to wait.
    fn initial_delay(&mut self) -> Span {
        match self.config.initial_delay {
            Some(delay) => delay,
            None if self.lives.holds_nothing() => Span::millis(u64::from(self.doors.dice.below(30_000))),
            None => Span::ZERO,
        }
    }

    /// Puts on the board what is new; everything when it begins, after a reload, and when the clock comes or goes.
    fn post(&mut self) {
        let now = self.now();
        let busy = |slot: &Slot| self.errands.iter().any(|errand| errand.slot == *slot);
        let news = self.lives.news(now, busy);
        if self.had_clock != Some(now.is_some()) {
            self.had_clock = Some(now.is_some());
            return self.board.post(self.lives.reports(now, busy));
        }
        for report in news {
            self.board.repost(report);
        }
    }
}
