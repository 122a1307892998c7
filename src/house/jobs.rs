//! Jobs: renewals that somebody asked for and waits for, each told of every end and of the last one.

use crate::doors::clock::{Ended, Push};
use crate::house::keeper::Keeper;
use crate::rules::control::Say;
use crate::words::cert::{Slot, Step};
use crate::words::name::Name;
use crate::words::sorted::Set;
use crate::words::time::Unix;

/// Why an account is left alone for now.
pub const HALF_ROLLED: &str = "a change of the account's key was broken off, and it is not known which one the CA has; `edgemd account roll` ends it";

#[derive(Default)]
pub struct Jobs(Vec<Job>);

struct Job {
    left: Set<Slot>,
    failed: bool,
    ended: Ended,
}

impl Jobs {
    /// `refused`: what can't be done of what was asked, a line each.
    pub fn add(&mut self, slots: Vec<Slot>, refused: Vec<String>, ended: Ended) {
        let failed = !refused.is_empty();
        for line in refused {
            let _ = ended.try_send(Say::Line(line));
        }
        self.0.push(Job { left: slots.into_iter().collect(), failed, ended });
        self.sweep();
    }

    /// Everything that some job still waits for.
    pub fn open(&self) -> Set<Slot> {
        self.0.iter().flat_map(|job| job.left.iter().cloned()).collect()
    }

    pub fn wait_for(&self, slot: &Slot) -> bool {
        self.0.iter().any(|job| job.left.contains(slot))
    }

    /// This want has nothing left to do; `line` says how it stands.
    pub fn end(&mut self, slot: &Slot, line: &str, well: bool) {
        for job in self.0.iter_mut().filter(|job| job.left.contains(slot)) {
            job.left.remove(slot);
            job.failed |= !well;
            // Whoever asked may have gone away; the work was done all the same.
            let _ = job.ended.try_send(Say::Line(line.into()));
        }
        self.sweep();
    }

    fn sweep(&mut self) {
        self.0.retain(|job| {
            if job.left.is_empty() {
                let _ = job.ended.try_send(Say::End(u8::from(job.failed)));
            }
            !job.left.is_empty()
        });
    }
}

impl Keeper<'_> {
    /// Somebody asked for a renewal and waits for its end.
    pub(super) fn push(&mut self, names: &[Name], push: Push, ended: Ended) {
        let now = self.now();
        let wanted = self.lives.wanted();
        let unknown = names.iter().filter(|name| !wanted.iter().any(|slot| slot.md == **name));
        let mut refused: Vec<String> = unknown.map(|name| format!("there is no MD \"{name}\"")).collect();
        let mut slots = vec![];
        for slot in wanted.into_iter().filter(|slot| names.is_empty() || names.contains(&slot.md)) {
            let driven = self.lives.want(&slot).is_some_and(|want| want.driven);
            if driven || self.lives.step(&slot, now) == Step::Tell {
                slots.push(slot);
            } else if !names.is_empty() {
                refused.push(self.lives.summary(&slot, now).0);
            }
        }
        for slot in &slots {
            if !self.busy(slot) {
                self.lives.push(slot, push);
            }
        }
        self.jobs.add(slots, refused, ended);
        self.look_again();
    }

    /// Ends the jobs whose wants have nothing left to do.
    pub(super) fn close_jobs(&mut self, slots: &[Slot], now: Option<Unix>) {
        for slot in slots.iter().filter(|slot| self.jobs.wait_for(slot)).cloned().collect::<Vec<_>>() {
            let idle = match self.lives.step(&slot, now) {
                _ if self.busy(&slot) => false,
                Step::Order { .. } | Step::Tell | Step::Ask => false,
                Step::Wait { .. } if self.lives.is_paced(&slot, now) => false,
                // It will be looked for again in a moment.
                Step::Wait { .. } => self.lives.tried(&slot).is_none_or(|tried| tried.looks == 0),
                Step::NoClock => true,
            };
            if idle {
                let (line, well) = self.lives.summary(&slot, now);
                self.jobs.end(&slot, &line, well);
            }
        }
    }
}

/// The whole answer at once. The channel is unbounded, and whoever asked may have gone away.
pub fn end(ended: &Ended, lines: Vec<String>, code: u8) {
    for line in lines {
        let _ = ended.try_send(Say::Line(line));
    }
    let _ = ended.try_send(Say::End(code));
}
