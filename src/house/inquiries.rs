//! What CAs are asked about certificates that are held: when they want them renewed (RFC 9773). One line asks about all that
//! a CA is to be asked about, and the line of an order that has just ended does for that, too.

use crate::doors::https::Route;
use crate::doors::keys::AccountKey;
use crate::house::errand::{Errand, Task};
use crate::house::keeper::Keeper;
use crate::rules::acme::advice::{self, Hint};
use crate::rules::acme::inquiry::Inquiry;
use crate::words::cert::{Slot, Step};
use crate::words::config::Md;
use crate::words::fault::Trouble;

/// A certificate's place, and its SHA-256: what comes back later is not taken for an answer about another one.
pub type Subject = (Slot, [u8; 32]);

pub(super) fn route(md: &Md) -> Route {
    Route { roots: md.roots.clone(), proxy: md.proxy.clone(), proxy_roots: md.proxy_roots.clone() }
}

impl Keeper<'_> {
    /// Begins to ask about what is to be asked. A CA with which somebody is at work is asked when that is over.
    pub(super) fn inquire(&mut self) {
        let (mut later, now) = (vec![], self.now());
        self.curious.retain(|slot| self.lives.step(slot, now) == Step::Ask);
        while let Some(first) = self.curious.first().cloned() {
            let Some((ca, route)) = self.giver(&first) else {
                self.curious.remove(&first);
                continue;
            };
            let subjects = self.subjects(&ca, &route);
            let at_work = self.errands.iter().any(|errand| errand.ca == ca);
            if at_work || self.is_full() {
                later.extend(subjects.into_iter().map(|(slot, _)| slot));
            } else if let Err(trouble) = self.send_inquiry(&ca, &route, &subjects) {
                let why = trouble.to_string();
                let hints = vec![Hint::Passing { why, retry_after: None }; subjects.len()];
                self.advised(&ca, &subjects, &hints, None);
            }
        }
        self.curious.extend(later);
    }

    fn send_inquiry(&mut self, ca: &str, route: &Route, subjects: &[Subject]) -> Result<(), Trouble> {
        let line = self.doors.wire.dial(route)?;
        // These questions are not signed; whoever has no account there asks all the same.
        let key = self.lives.account(ca).map_or_else(AccountKey::generate, |account| Ok(account.key.clone()))?;
        let flow = Box::new(self.inquiry(ca, subjects));
        let (key, task) = (AccountKey::from_pkcs8(&key)?, Task::Ask(subjects.to_vec()));
        self.errands.push(Errand::new(task, (ca.into(), ca.into()), key, flow, line, (self.answers.clone(), None)));
        Ok(())
    }

    /// The order has ended well, and its line is still there: the CA is asked about the new certificate, and about others.
    pub(super) fn inquire_on(&mut self, mut errand: Errand, slot: &Slot, base: Option<String>) {
        let Some((ca, route)) = self.giver(slot).filter(|(ca, _)| *ca == errand.ca) else { return };
        if self.lives.want(slot).is_some_and(|want| want.ari) {
            self.curious.insert(slot.clone());
        }
        let subjects = self.subjects(&ca, &route);
        if base.is_none() {
            let hints = vec![Hint::Absent; subjects.len()];
            return self.advised(&ca, &subjects, &hints, None);
        }
        self.lives.answers_at(&ca, base);
        if !subjects.is_empty() {
            errand.turn_to(Task::Ask(subjects.clone()), Box::new(self.inquiry(&ca, &subjects)));
            self.errands.push(errand);
        }
    }

    fn inquiry(&self, ca: &str, subjects: &[Subject]) -> Inquiry {
        let held = subjects.iter().filter_map(|(slot, _)| self.lives.newest(slot));
        let ids = held.map(|held| advice::cert_id(held).unwrap_or_default());
        Inquiry::new(ca.into(), self.lives.base(ca), ids.collect())
    }

    /// Those that this CA is to be asked about by this way, no longer among the curious.
    fn subjects(&mut self, ca: &str, route: &Route) -> Vec<Subject> {
        let mut subjects = vec![];
        for slot in std::mem::take(&mut self.curious) {
            match self.giver(&slot).zip(self.lives.newest(&slot)) {
                Some(((giver, way), held)) if giver == ca && way == *route => {
                    if advice::cert_id(held).is_some() {
                        subjects.push((slot, held.sha256));
                    }
                }
                _ => _ = self.curious.insert(slot),
            }
        }
        subjects
    }

    /// The CA that gave what is held, and the way to it.
    fn giver(&self, slot: &Slot) -> Option<(String, Route)> {
        Some((self.lives.newest(slot)?.ca.clone(), route(self.lives.md(&slot.md)?)))
    }

    /// The errand that asks about it just now.
    pub(super) fn inquiry_about(&self, slot: &Slot) -> Option<&Errand> {
        self.errands.iter().find(|errand| match &errand.task {
            Task::Ask(subjects) => subjects.iter().any(|(subject, _)| subject == slot),
            _ => false,
        })
    }

    /// The CA has answered, or can't be asked: what follows is remembered for as long as the device is up.
    pub(super) fn advised(&mut self, ca: &str, subjects: &[Subject], hints: &[Hint], base: Option<String>) {
        let now = self.now();
        self.lives.answers_at(ca, base);
        for ((slot, sha256), hint) in subjects.iter().zip(hints) {
            self.look_again_at(&slot.md);
            let held = self.lives.newest(slot).filter(|held| held.sha256 == *sha256);
            let (Some(held), Some(now)) = (held, now) else { continue };
            let before = self.lives.tried(slot).and_then(|tried| tried.advice.as_ref());
            let advice = advice::learn(held, before, hint, now, self.doors.dice.below(u32::MAX));
            if let Some(line) = advice::news(before, &advice, hint) {
                log::info!("{slot}: {line}");
            }
            self.lives.keep_advice(slot, advice);
        }
        let rows = subjects.iter().filter_map(|(slot, _)| Some((slot, self.lives.tried(slot)?)));
        if self.store.put_state(self.doors.disk, &rows.collect::<Vec<_>>()).is_err() {
            subjects.iter().for_each(|(slot, _)| self.save_tried(slot));
        }
    }
}
