//! The errands under way: who may set out, whose turn it is, and what came of it.

use crate::house::errand::{Came, Errand, Task};
use crate::house::keeper::Keeper;
use crate::rules::acme::turns::Proof;
use crate::words::cert::{Account, Outcome};
use crate::words::config::{Challenge, Md};

/// Orders under way at the same time: each holds a thread and a TLS connection, and the device has little memory. Those
/// that a hanging CA holds up don't count, so that they hold up nobody else; but there is an end to them, too.
const ERRANDS: usize = 4;
const LINES: usize = 16;

impl Keeper<'_> {
    /// Whether an order for this MD can be begun now: there is room, the CA does not hang, nobody is about to end the
    /// account there, and nobody else is at work with it if the order is to make or change it.
    pub(super) fn has_room_for(&self, ca: &str, md: &Md) -> bool {
        if self.is_full() {
            return false;
        }
        let place = md.account_at(ca);
        let as_it_is = |account: &Account| {
            account.url.is_some() && account.next.is_none() && account.contacts == self.contacts(&place, md)
        };
        let changes = !self.lives.account(&place).is_some_and(as_it_is);
        let mut there = self.errands.iter().filter(|errand| errand.ca == ca);
        !there.any(|errand| changes || errand.hangs || !matches!(errand.task, Task::Order(_) | Task::Ask(_)))
    }

    /// Whether there is no room for anybody.
    pub(super) fn is_full(&self) -> bool {
        let busy = self.errands.iter().filter(|errand| !errand.hangs && !errand.is_idle()).count();
        busy >= ERRANDS || self.errands.len() + self.hung_up.len() >= LINES
    }

    /// Gives each errand that nothing keeps from it one turn.
    pub(super) fn turns(&mut self) {
        let lines = self.hung_up.len();
        self.hung_up.retain_mut(|line| line.heard().is_none());
        if self.hung_up.len() < lines && !self.waiting.is_empty() {
            self.look_again();
        }
        let mut index = 0;
        while let Some(errand) = self.errands.get_mut(index) {
            let came = errand.turn(self.doors.clock.steady(), &mut self.doors);
            match came {
                Came::Nothing => index += 1,
                Came::Served(proof) => {
                    self.tell_of_answer(index, &proof);
                    index += 1;
                }
                Came::Silence => {
                    // Its place is free for others.
                    self.look_again();
                    index += 1;
                }
                Came::Account(url, contacts) => {
                    self.keep_account(index, url, contacts);
                    index += 1;
                }
                Came::OldKey => {
                    self.replace_key(index);
                    index += 1;
                }
                Came::Granted(_) | Came::Advised(..) | Came::Known(_) | Came::Finished | Came::Nowhere(_) => {
                    let errand = self.errands.remove(index);
                    self.over(errand, came);
                }
            }
        }
    }

    /// An answer is in place; whoever is told of it may object.
    fn tell_of_answer(&mut self, index: usize, proof: &Proof) {
        if let (Challenge::DnsPersist01, Some(txt), Some(errand)) =
            (proof.challenge, &proof.txt, self.errands.get(index))
        {
            self.lives.learn(&errand.ca, txt.value.split(';').next());
        }
        let order = self.errands.get(index).and_then(Errand::order);
        let Some(md) = order.and_then(|order| self.lives.md(&order.slot.md)).cloned() else { return };
        if let (Err(trouble), Some(errand)) = (self.say_setup(&md, proof), self.errands.get_mut(index)) {
            errand.refuse(trouble);
        }
    }

    /// An errand has come to its end.
    fn over(&mut self, mut errand: Errand, came: Came) {
        match (std::mem::replace(&mut errand.task, Task::Ask(vec![])), came) {
            (Task::Order(order), Came::Granted(granted)) => {
                let (slot, base) = (order.slot.clone(), granted.renewal_info.clone());
                if self.arrive(order, &errand.ca, granted) {
                    self.inquire_on(errand, &slot, base);
                }
            }
            (Task::Ask(subjects), Came::Advised(hints, base)) => self.advised(&errand.ca, &subjects, &hints, base),
            (Task::Order(order), Came::Nowhere(failure)) => self.failed(&order.slot, Outcome::OrderFailed(failure)),
            (Task::Learn { name, ended }, Came::Known(issuers)) => self.learnt(&errand.ca, Ok(issuers), name, ended),
            (Task::Learn { name, ended }, Came::Nowhere(no)) => self.learnt(&errand.ca, Err(no), name, ended),
            (Task::Order(_) | Task::Ask(_) | Task::Learn { .. }, _) => {}
            (task, came) => {
                let failure = if let Came::Nowhere(failure) = came { Some(failure) } else { None };
                match task {
                    Task::Leave { ended } => self.left(&errand.place, &ended, failure),
                    Task::Roll { ended } => self.rolled(&errand.place, &ended, failure),
                    Task::Revoke(revocation) => self.revoked(&revocation, failure),
                    Task::Order(_) | Task::Ask(_) | Task::Learn { .. } => {}
                }
            }
        }
    }

    /// Drops the orders for wants that are no more.
    pub(super) fn drop_stale(&mut self) {
        for errand in std::mem::take(&mut self.errands) {
            if errand.order().is_none_or(|order| self.lives.want(&order.slot) == Some(&order.want)) {
                self.errands.push(errand);
            } else {
                self.hung_up.extend(errand.hang_up(&mut self.doors));
            }
        }
    }
}
