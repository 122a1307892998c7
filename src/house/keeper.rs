//! The keeper: the loop that looks at every want, takes the step that the rules name, writes down how it went, and naps.
//! It blocks wherever it likes; it has a thread of its own.

use crate::doors::clock::{Clock, Knock};
use crate::doors::dice::Dice;
use crate::doors::disk::Disk;
use crate::doors::dns::Dns;
use crate::doors::front::shelf::Shelf;
use crate::doors::https::{Line, Wire};
use crate::doors::look::Look;
use crate::doors::script::Script;
use crate::house::errand::Errand;
use crate::house::jobs::{self, Jobs};
use crate::house::lives::Lives;
use crate::house::staple::Asking;
use crate::house::store::{Loaded, Store};
use crate::rules::crowd::{LONGEST, Start};
use crate::rules::plan::THROW;
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::cert::{Outcome, Slot, Step};
use crate::words::config::{Config, Md};
use crate::words::fault::Trouble;
use crate::words::message::Topic;
use crate::words::name::Name;
use crate::words::sorted::{Map, Set};
use crate::words::time::{Span, Unix};
use std::sync::Arc;

/// The outside, one trait for each thing.
pub struct Doors<'a> {
    pub clock: &'a mut dyn Clock,
    pub wire: &'a mut dyn Wire,
    pub disk: &'a mut dyn Disk,
    pub script: &'a mut dyn Script,
    pub look: &'a mut dyn Look,
    pub dice: &'a mut dyn Dice,
    pub dns: &'a mut dyn Dns,
}

pub struct Keeper<'a> {
    pub(super) doors: Doors<'a>,
    pub(super) store: Store,
    pub(super) config: Config,
    pub(super) lives: Lives,
    pub(super) answers: Arc<Answers>,
    pub(super) errands: Vec<Errand>,
    /// Lines of errands that were dropped, with a call that has not come to its end.
    pub(super) hung_up: Vec<Box<dyn Line>>,
    pub(super) askings: Vec<Asking>,
    /// The MDs whose responder could not be asked yet.
    pub(super) unasked: Set<Name>,
    board: Arc<Board>,
    pub(super) shelf: Arc<Shelf>,
    /// What TLS shows of each MD, by its SHA-256.
    pub(super) shelved: Map<Name, Vec<[u8; 32]>>,
    pub(super) jobs: Jobs,
    /// Who waits for the CAs to revoke something.
    pub(super) revocations: Jobs,
    /// Whether this is one pass: what is only in memory when it ends is lost.
    pub(super) passes: bool,
    /// Nothing is begun by itself before this moment of the steady clock.
    quiet_until: Span,
    /// Nobody is told of anything before this one.
    pub(super) tells_from: Span,
    /// What was thrown for the start, while that waits for a clock.
    thrown: Option<Span>,
    /// The next look, by the wall clock and by the steady one.
    pub(super) look_at: Option<Unix>,
    pub(super) look_by: Span,
    /// Whether the clock was believed when all was last posted.
    had_clock: Option<bool>,
    /// The time by both clocks, when it was last looked at.
    clocks: Option<(Unix, Span)>,
    /// The MDs of which there is news.
    stale: Set<Name>,
    /// What is due, while there is no room for it.
    pub(super) waiting: Vec<Slot>,
    /// What a CA is to be asked about.
    pub(super) curious: Set<Slot>,
}

/// However long nothing is due, the wall clock is read anew after this; while it can't be believed, sooner.
const LONGEST_NAP: Span = Span::hours(1);
const CLOCKLESS_NAP: Span = Span::mins(1);

/// How long a disk that did not take something is left alone.
const UNSAVED_NAP: Span = Span::mins(10);

impl<'a> Keeper<'a> {
    pub fn new(
        doors: Doors<'a>,
        store: Store,
        loaded: Loaded,
        config: Config,
        shared: (Arc<Answers>, Arc<Board>, Arc<Shelf>),
    ) -> Self {
        let (answers, board, shelf) = shared;
        let lives = Lives::new(loaded, &config);
        let mut keeper = Self {
            doors,
            store,
            config,
            lives,
            answers,
            errands: vec![],
            hung_up: vec![],
            askings: vec![],
            unasked: Set::new(),
            board,
            shelf,
            shelved: Map::new(),
            jobs: Jobs::default(),
            revocations: Jobs::default(),
            passes: false,
            quiet_until: Span::ZERO,
            tells_from: Span::ZERO,
            thrown: None,
            look_at: None,
            look_by: Span::ZERO,
            had_clock: None,
            clocks: None,
            stale: Set::new(),
            waiting: vec![],
            curious: Set::new(),
        };
        keeper.lie_low();
        keeper.inherit();
        keeper.look_at_own();
        keeper.sweep_webroots();
        keeper.look_at_exports();
        keeper.know_responders(&keeper.lives.names());
        keeper.post();
        keeper.shelve(&keeper.lives.names());
        keeper.shelf.open();
        keeper
    }

    /// Whether it is there for one pass only; without this word it is not.
    pub fn passing(self, passes: bool) -> Self {
        Self { passes, ..self }
    }

    /// Works until somebody says stop.
    pub fn run(&mut self) {
        loop {
            let nap = self.work();
            match self.doors.clock.nap(nap) {
                Knock::Nobody | Knock::Answer => {}
                Knock::Stop => break,
                Knock::Reload(config) => self.reload(*config),
                Knock::Renew { names, push, ended } => self.push(&names, push, ended),
                Knock::Dns { name, ended } => self.show_records(name, ended),
                Knock::ClockSet => self.look_again(),
                Knock::LinkUp => self.link_up(),
                Knock::Accounts { what, ended } => self.show_accounts(&what, ended),
                Knock::Revoke { name, reason, ended } => self.revoke(&name, reason, &ended),
                Knock::Prune { yes, ended } => {
                    let (lines, well) = self.prune(yes);
                    jobs::end(&ended, lines, u8::from(!well));
                }
            }
        }
        for errand in std::mem::take(&mut self.errands) {
            errand.hang_up(&mut self.doors);
        }
    }

    /// One round: begin what is due, give each errand that does not rest its turn. Returns how long nothing will happen.
    fn work(&mut self) -> Span {
        let steady = self.doors.clock.steady();
        let now = self.now();
        self.notice_jump(now, steady);
        if steady >= self.look_by || now.zip(self.look_at).is_some_and(|(now, at)| now >= at) {
            self.look(now);
        } else if !self.stale.is_empty() {
            self.glance(now);
        }
        self.turns();
        self.hear_responders();
        let steady = self.doors.clock.steady();
        let next_turn = self.errands.iter().map(Errand::wakes_at).min();
        let until_turn = next_turn.map_or(LONGEST_NAP, |at| at.minus(steady));
        let until_look = match (self.now(), self.look_at) {
            (Some(now), Some(at)) => at.since(now),
            (Some(_), None) => LONGEST_NAP,
            (None, _) => CLOCKLESS_NAP,
        };
        let until_glance = if self.stale.is_empty() { LONGEST_NAP } else { Span::ZERO };
        until_turn.min(until_look).min(until_glance).min(self.look_by.minus(steady)).min(LONGEST_NAP)
    }

    /// Whoever has set the clock may not have said so: everything is seen anew then.
    fn notice_jump(&mut self, now: Option<Unix>, steady: Span) {
        let before = std::mem::replace(&mut self.clocks, now.map(|now| (now, steady)));
        let (Some((then, at)), Some(now)) = (before, now) else { return };
        let due = then.plus(steady.minus(at));
        if due.since(now).max(now.since(due)) > Span::mins(1) {
            log::info!("the clock was set: it would be {due}, and is {now}");
            self.look_again();
            self.post_all();
        }
    }

    pub(super) fn now(&self) -> Option<Unix> {
        self.lives.believe(self.doors.clock.now())
    }

    /// The next round begins with a look at everything.
    pub(super) fn look_again(&mut self) {
        self.look_by = Span::ZERO;
    }

    /// The next round begins with a look at this MD, and at what waits for room.
    pub(super) fn look_again_at(&mut self, md: &Name) {
        self.stale.insert(md.clone());
    }

    /// Asks the rules about every want, and begins what they say.
    fn look(&mut self, now: Option<Unix>) {
        if self.config.only_reads() {
            self.reread();
        }
        self.look_at_own();
        let steady = self.doors.clock.steady();
        let nap = if now.is_some() { self.config.check_interval } else { CLOCKLESS_NAP };
        let saved = self.save_again();
        if let Some(now) = now {
            self.sweep_responses(now);
        }
        self.look_by = steady.plus(if saved { nap } else { nap.min(UNSAVED_NAP) });
        self.look_at = None;
        if let (Some(at), Some(thrown)) = (now, self.thrown.take_if(|_| now.is_some())) {
            self.lives.started(Start { at, thrown });
        }
        self.stale.clear();
        self.waiting.clear();
        self.unasked.clear();
        self.curious.clear();
        self.consider(&self.lives.names(), now);
    }

    /// The same for the few of which there is news; so a thousand MDs cost no more each than ten.
    fn glance(&mut self, now: Option<Unix>) {
        let names: Vec<Name> = std::mem::take(&mut self.stale).into_iter().collect();
        self.consider(&names, now);
        let waiting = std::mem::take(&mut self.waiting);
        self.order(waiting, now);
        self.post();
    }

    /// Takes the steps of these MDs that can be taken now, and notes when there will be others.
    fn consider(&mut self, names: &[Name], now: Option<Unix>) {
        self.know_responders(names);
        // First of all: what was committed is in the next handshake, however long keys and commands take.
        self.look_at = [self.look_at, self.shelve(names)].into_iter().flatten().min();
        let steady = self.doors.clock.steady();
        let slots = self.lives.slots_of(names);
        let (mut orders, mut tells, mut next) = (vec![], vec![], self.look_at);
        for slot in &slots {
            let quiet = steady < self.quiet_until && !self.jobs.wait_for(slot);
            match self.lives.step(slot, now) {
                _ if self.busy(slot) => {}
                Step::Order { .. } | Step::Tell | Step::Ask if quiet => {
                    self.look_by = self.look_by.min(self.quiet_until)
                }
                Step::Order { .. } => orders.push(slot.clone()),
                Step::Tell => {
                    tells.push(slot.clone());
                    // It may wait for the one that comes after it.
                    next = [next, self.lives.activates_at(slot, now)].into_iter().flatten().min();
                }
                Step::Ask if self.inquiry_about(slot).is_some() => {}
                Step::Ask => _ = self.curious.insert(slot.clone()),
                Step::Wait { until } => next = Some(next.map_or(until, |next| next.min(until))),
                Step::NoClock => {}
            }
        }
        self.look_at = next;
        self.order(orders, now);
        self.tell(tells, now);
        self.inquire();
        match self.now() {
            Some(now) if steady >= self.quiet_until => {
                let warning = self.warn(names, now);
                self.look_at = [self.look_at, warning].into_iter().flatten().min();
            }
            Some(_) => self.look_by = self.look_by.min(self.quiet_until),
            None => {}
        }
        if steady >= self.quiet_until {
            self.look_at = [self.look_at, self.ask_responders(names)].into_iter().flatten().min();
        }
        self.close_jobs(&slots, now);
        self.lives.touch_idle(names);
        self.post();
    }

    pub(super) fn busy(&self, slot: &Slot) -> bool {
        self.errands.iter().filter_map(Errand::order).any(|order| order.slot == *slot)
    }

    /// Settles a failure, says it, and ends what was waiting for the step.
    pub(super) fn failed(&mut self, slot: &Slot, outcome: Outcome) {
        let now = self.now();
        let line = self.lives.failed(slot, &outcome, now, self.doors.dice.below(THROW));
        log::warn!("{line}");
        self.save_tried(slot);
        self.jobs.end(slot, &line, false);
        if let (Outcome::OrderFailed(_), Some(md)) = (&outcome, self.lives.md(&slot.md).cloned()) {
            // That it could not be said is in the log.
            let _ = self.say(&md, Topic::Errored);
        }
        self.look_again_at(&slot.md);
    }

    /// The operator's command does not want an order for this MD to begin: no kind of it is tried for an hour.
    pub(super) fn veto(&mut self, md: &Md, why: &Trouble) {
        let now = self.now();
        for slot in md.keys.iter().map(|kind| Slot { md: md.name.clone(), family: kind.family() }) {
            if !self.busy(&slot) && matches!(self.lives.step(&slot, now), Step::Order { .. }) {
                self.failed(&slot, Outcome::Vetoed(why.clone()));
            }
        }
    }

    pub(super) fn succeeded(&mut self, slot: &Slot, outcome: &Outcome) {
        let now = self.now();
        self.lives.succeeded(slot, outcome, now);
        self.save_tried(slot);
        self.look_again_at(&slot.md);
    }

    pub(super) fn save_tried(&mut self, slot: &Slot) {
        let Some(tried) = self.lives.tried(slot) else { return };
        let saved = self.store.put_tried(self.doors.disk, slot, tried);
        let why = saved.as_ref().err().map(ToString::to_string);
        if why.is_some() {
            self.save_later();
        }
        if let (true, Some(why)) = (self.lives.saved_tried(slot, saved), why) {
            log::error!("{}: what was tried is not stored: {why}; it is kept in memory and stored later", slot.md);
        }
    }

    /// The disk did not take something: it is looked at again before long.
    pub(super) fn save_later(&mut self) {
        self.look_by = self.look_by.min(self.doors.clock.steady().plus(UNSAVED_NAP));
    }

    /// What waits for the net waits no longer.
    fn link_up(&mut self) {
        let now = self.now();
        self.lives.link_up(now);
        self.look_again();
    }

    /// Waits as long as the operator says, else as the dice say: many devices start together, and many get the time
    /// together.
    fn lie_low(&mut self) {
        match self.config.initial_delay {
            Some(delay) => self.quiet_until = self.doors.clock.steady().plus(delay),
            None => {
                let longest = u32::try_from(LONGEST.as_millis()).unwrap_or(0);
                self.thrown = Some(Span::millis(u64::from(self.doors.dice.below(longest))));
            }
        }
    }

    /// Puts on the board what is new; everything when it begins, and when the clock comes or goes.
    fn post(&mut self) {
        let now = self.now();
        let had_clock = self.had_clock.replace(now.is_some());
        match (had_clock, now) {
            (None | Some(true), None) => {
                let shown = self
                    .doors
                    .clock
                    .now()
                    .map_or("before 1970, or after a boot and kept by nobody".into(), Unix::rfc3339);
                log::warn!(
                    "the clock can't be believed ({shown}): what is held is served, and work waits for the time"
                );
            }
            (Some(false), Some(now)) => log::info!("the clock is believed now: {now}"),
            _ => {}
        }
        if had_clock != Some(now.is_some()) {
            return self.post_all();
        }
        let errands = &self.errands;
        let busy = |slot: &Slot| errands.iter().filter_map(Errand::order).any(|order| order.slot == *slot);
        for report in self.lives.news(now, busy) {
            self.board.repost(report);
        }
    }

    pub(super) fn post_all(&self) {
        self.board.post(self.lives.reports(self.now(), |slot| self.busy(slot)));
    }
}
