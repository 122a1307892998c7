//! Stapling: the responder of each certificate's CA is asked before its last answer ends, in a thread that nobody waits
//! for; the answers stand in the store and go with the handshakes.

use crate::doors::https::Line;
use crate::house::inquiries::route;
use crate::house::keeper::Keeper;
use crate::house::lives::{Staple, served};
use crate::rules::acme::types::{Method, Reply, Request};
use crate::rules::ocsp;
use crate::rules::plan::THROW;
use crate::words::cert::{Backoff, Held, Slot};
use crate::words::config::Md;
use crate::words::fault::Trouble;
use crate::words::message::Topic;
use crate::words::name::Name;
use crate::words::staple::{Response, Stored};
use crate::words::time::{Span, Unix};
use std::sync::Arc;

/// A responder that was asked and has not answered yet.
pub struct Asking {
    slot: Slot,
    sha256: [u8; 32],
    line: Box<dyn Line>,
    /// A moment of the steady clock.
    since: Span,
}

/// Questions under way at the same time, each with a thread. Those that a responder leaves hanging hold up nobody else,
/// but there is an end to them, too.
const ASKINGS: usize = 4;
const LINES: usize = 12;
/// From here on a responder that has not answered is taken for one that hangs.
const SILENCE: Span = Span::secs(5);

impl Keeper<'_> {
    /// Learns what there is to ask about the certificates of these MDs, and what the store knows already.
    pub(super) fn know_responders(&mut self, names: &[Name]) {
        let now = self.now();
        for md in self.stapling(names) {
            for slot in served(&md) {
                let Some(held) = self.lives.active(&slot, now).cloned() else { continue };
                if self.lives.staple_of(&slot, &held.sha256).is_none() {
                    let staple = self.learn(&slot, &held);
                    self.lives.keep_staple(&slot, staple);
                }
            }
        }
    }

    /// Asks whoever is to be asked about the certificates of these MDs. Returns when there is somebody again.
    pub(super) fn ask_responders(&mut self, names: &[Name]) -> Option<Unix> {
        let now = self.now()?;
        let mut next: Option<Unix> = None;
        for md in self.stapling(names) {
            for slot in served(&md) {
                let staple = self.lives.staple(&slot);
                let Some(mut due) = staple.and_then(|staple| staple.due(md.stapling.window, now)) else { continue };
                if self.askings.iter().any(|asking| asking.slot == slot) {
                    continue;
                }
                if due <= now {
                    if self.has_room_to_ask() {
                        self.ask(&md, &slot);
                        continue;
                    }
                    self.unasked.insert(md.name.clone());
                    due = now.plus(SILENCE);
                }
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }

    /// Hears who has answered.
    pub(super) fn hear_responders(&mut self) {
        let mut index = 0;
        while let Some(asking) = self.askings.get_mut(index) {
            match asking.line.heard() {
                None => index += 1,
                Some(came) => {
                    let asking = self.askings.remove(index);
                    self.answered(&asking, came);
                    self.look_again_at(&asking.slot.md);
                    if let Some(md) = self.unasked.pop_first() {
                        self.look_again_at(&md);
                    }
                }
            }
        }
    }

    /// Gives the responses for what stands on the shelf to it. Returns when one of them ends.
    pub(super) fn staple_shelved(&mut self, md: &Name, slots: &[Slot], now: Option<Unix>) -> Option<Unix> {
        let mut next: Option<Unix> = None;
        let mut responses = vec![];
        for slot in slots {
            let Some(held) = self.lives.active(slot, now) else { continue };
            let response = self.lives.staple_of(slot, &held.sha256).and_then(|staple| staple.response.as_ref());
            // Without a clock nothing is judged; clients do that anyway.
            let response = response.filter(|response| now.is_none_or(|now| now < response.verdict.until));
            next = response.map(|response| response.verdict.until).into_iter().chain(next).min();
            responses.push(response.map(|response| response.der.as_slice()));
        }
        self.shelf.staple(md, &responses);
        next
    }

    /// Whether a certificate that is nothing without a response (RFC 7633) waits for its first one: until its responder
    /// has been asked once.
    pub(super) fn awaits_responses(&self, md: &Md, slots: &[Slot], now: Option<Unix>) -> bool {
        let awaits =
            |slot: &Slot| {
                let held = self.lives.active(slot, now).filter(|held| held.must_staple)?;
                Some(self.lives.staple_of(slot, &held.sha256).is_none_or(|staple| {
                    staple.query.is_some() && staple.response.is_none() && staple.tried.failures == 0
                }))
            };
        md.stapling.on && now.is_some() && slots.iter().any(|slot| awaits(slot) == Some(true))
    }

    /// Removes the responses that the operator does not want kept for so long; they are used for as long as we run.
    pub(super) fn sweep_responses(&mut self, now: Unix) {
        for slot in self.store.staples() {
            let Some(keep) = self.lives.md(&slot.md).map(|md| md.stapling.keep) else { continue };
            let stored = self.store.staple(self.doors.disk, &slot);
            if stored.is_some_and(|stored| now.since(stored.since) <= keep) {
                continue;
            }
            if let Err(trouble) = self.store.remove_staple(self.doors.disk, &slot) {
                log::warn!("{slot}: an old OCSP response stays in the store: {trouble}");
            }
        }
    }

    fn stapling(&self, names: &[Name]) -> Vec<Arc<Md>> {
        names.iter().filter_map(|name| self.lives.md(name)).filter(|md| md.stapling.on).cloned().collect()
    }

    fn learn(&mut self, slot: &Slot, held: &Held) -> Staple {
        let query = self.pair(slot, held).map_err(|trouble| trouble.to_string());
        let query = query.and_then(|(_, bundle)| ocsp::query(&bundle.chain)).unwrap_or_else(|why| {
            log::warn!("{slot}: nothing can be stapled: {why}");
            None
        });
        if query.is_none() {
            log::debug!("{slot}: the certificate {} names no OCSP responder", held.serial_hex());
        }
        let stored = self.store.staple(self.doors.disk, slot).filter(|stored| stored.sha256 == held.sha256);
        let known = query.as_ref().zip(stored);
        let response = known.and_then(|(query, stored)| ocsp::read(query, &stored.der, None).ok());
        let throw = self.doors.dice.below(THROW);
        Staple { sha256: held.sha256, query, response, asked: None, throw, tried: Backoff::default() }
    }

    fn has_room_to_ask(&self) -> bool {
        let steady = self.doors.clock.steady();
        let busy = self.askings.iter().filter(|asking| steady < asking.since.plus(SILENCE)).count();
        busy < ASKINGS && self.askings.len() < LINES
    }

    fn ask(&mut self, md: &Md, slot: &Slot) {
        let Some(staple) = self.lives.staple(slot) else { return };
        let Some(query) = &staple.query else { return };
        let request = Request {
            method: Method::Ocsp,
            url: query.url.clone(),
            accept: Some("application/ocsp-response"),
            body: query.request.clone(),
        };
        let sha256 = staple.sha256;
        match self.doors.wire.dial(&route(md)) {
            Ok(mut line) => {
                line.ask(request);
                self.askings.push(Asking { slot: slot.clone(), sha256, line, since: self.doors.clock.steady() });
            }
            Err(trouble) => self.not_stapled(slot, trouble, None),
        }
    }

    fn answered(&mut self, asking: &Asking, came: Result<Reply, Trouble>) {
        let (slot, now) = (&asking.slot, self.now());
        // It may have been replaced meanwhile.
        let staple = self.lives.staple_of(slot, &asking.sha256);
        let Some(query) = staple.and_then(|staple| staple.query.as_ref()) else { return };
        let bad = |why: String| Trouble::new("asking its OCSP responder", why);
        match came {
            Ok(reply) if reply.status == 200 => match ocsp::read(query, &reply.body, now) {
                Ok(response) => self.stapled(slot, response, asking.sha256),
                Err(why) => self.not_stapled(slot, bad(format!("the answer can't be used: {why}")), reply.retry_after),
            },
            Ok(reply) => {
                self.not_stapled(slot, bad(format!("it answered with status {}", reply.status)), reply.retry_after);
            }
            Err(trouble) => self.not_stapled(slot, bad(trouble.to_string()), None),
        }
    }

    fn stapled(&mut self, slot: &Slot, response: Response, sha256: [u8; 32]) {
        let now = self.now();
        let (verdict, throw) = (response.verdict, self.doors.dice.below(THROW));
        let stored = Stored { sha256, since: now.unwrap_or_default(), der: response.der.clone() };
        if !self.lives.stapled(slot, response, now, throw) {
            return;
        }
        let word = if verdict.revoked { "revoked" } else { "good" };
        log::info!("{slot}: OCSP response until {}: {word}", verdict.until);
        // What ends soon is not worth the flash.
        if verdict.until.since(verdict.from) >= LASTING
            && let Err(trouble) = self.store.put_staple(self.doors.disk, slot, &stored)
        {
            log::warn!("{slot}: the OCSP response is not stored: {trouble}; it is used all the same");
        }
        self.spread(slot, Topic::OcspRenewed);
    }

    fn not_stapled(&mut self, slot: &Slot, why: Trouble, wait: Option<Span>) {
        let Some(now) = self.now() else { return };
        let line = format!("{slot}: {why}");
        let throw = self.doors.dice.below(THROW);
        let Some(next) = self.lives.not_stapled(slot, why, wait, now, throw) else { return };
        log::warn!("{line}; next try {next}");
        self.spread(slot, Topic::OcspErrored);
    }

    fn spread(&mut self, slot: &Slot, topic: Topic) {
        if let Some(md) = self.lives.md(&slot.md).cloned() {
            // That it could not be said is in the log.
            let _ = self.say(&md, topic);
        }
    }
}

const LASTING: Span = Span::hours(1);
