//! Who waits for what: the rules about each want, beside what its CA asked of us and what we ask of ourselves.

use super::{Life, Lives};
use crate::rules::crowd::{self, Start};
use crate::rules::plan;
use crate::words::cert::{Held, NEVER, Slot, Step, Tried, Want};
use crate::words::time::Unix;

impl Lives {
    /// What the rules say about a want.
    pub fn step(&self, slot: &Slot, now: Option<Unix>) -> Step {
        self.step_under(slot, now, true)
    }

    /// Whether nothing but the number of our own orders keeps its order from beginning.
    pub fn is_paced(&self, slot: &Slot, now: Option<Unix>) -> bool {
        let waits = matches!(self.step(slot, now), Step::Wait { .. });
        waits && matches!(self.step_under(slot, now, false), Step::Order { .. })
    }

    /// Whose wait it is that ends at this moment, if it belongs to a CA and not to a want.
    pub(super) fn waits_for(&self, ca: &str, until: Unix, now: Option<Unix>) -> &'static str {
        if self.imposed.get(ca) == Some(&until) {
            ", as the CA asked"
        } else if self.free_at(ca, now) == Some(until) {
            ", after others at this CA"
        } else {
            ""
        }
    }

    /// When the next order at this CA may begin, as far as that is for us to say.
    fn free_at(&self, ca: &str, now: Option<Unix>) -> Option<Unix> {
        Some(self.orders.get(ca)?.free_at(now?))
    }

    fn step_under(&self, slot: &Slot, now: Option<Unix>, paced: bool) -> Step {
        let Some(Life { want: Some(want), held, tried, .. }) = self.certs.get(slot) else {
            return Step::Wait { until: NEVER };
        };
        plan::decide(want, held, tried, self.until(want, held, tried, now, paced), now)
    }

    /// When more is done about it by itself than asking, if that will ever be.
    pub(super) fn acts_at(&self, slot: &Slot, now: Unix) -> Option<Unix> {
        let Life { want: Some(want), held, tried, .. } = self.certs.get(slot)? else { return None };
        let until = self.until(want, held, tried, Some(now), true);
        Some(plan::acts_at(want, held, tried, until, now)).filter(|at| *at != NEVER)
    }

    /// The end of the longest wait, the CA's or our own.
    fn until(&self, want: &Want, held: &[Held], tried: &Tried, now: Option<Unix>, paced: bool) -> Option<Unix> {
        let ca = plan::ca(want, tried);
        let own = self.free_at(ca, now.filter(|_| paced));
        crowd::wait(want, held, tried, self.imposed.get(ca).copied().max(own), self.start, now)
    }

    /// Work can begin: there is a clock.
    pub fn started(&mut self, start: Start) {
        self.start = Some(start);
    }

    /// An order at this CA begins.
    pub fn ordered(&mut self, ca: &str, now: Unix) {
        self.orders.or_default(ca.into()).began(now);
    }

    /// The waits of all are summed up anew only where one has come or gone.
    pub(super) fn remember(&mut self, slot: &Slot, next: Tried) {
        let Some(life) = self.certs.get_mut(slot) else { return };
        let waits = !next.imposed.is_empty() || !life.tried.imposed.is_empty();
        life.tried = next;
        if waits {
            self.sum_up_waits();
        }
    }

    pub(super) fn sum_up_waits(&mut self) {
        self.imposed.clear();
        for imposed in self.certs.values().flat_map(|life| &life.tried.imposed) {
            let longest = self.imposed.or_default(imposed.ca.clone());
            *longest = imposed.until.max(*longest);
        }
    }
}
