//! The two ends of an errand: what is made before an order begins, and the one commit point after it.

use crate::doors::keys;
use crate::house::errand::{Errand, Order, Task};
use crate::house::hooks;
use crate::house::inquiries::route;
use crate::house::keeper::Keeper;
use crate::rules::acme::advice;
use crate::rules::acme::flow::{Brief, Flow, Granted};
use crate::rules::{challenge, x509};
use crate::words::board::Entry;
use crate::words::cert::{Bundle, Held, Outcome, Slot, Step, Want, Why};
use crate::words::config::{Chain, Challenge, Md};
use crate::words::fault::{Failure, Refusal, Trouble};
use crate::words::message::Topic;
use crate::words::secret::Secret;
use crate::words::time::Unix;

/// So often the key that is to be used again is looked for, in about an hour and a half; its disk may get well.
const READINGS: u32 = 10;

impl Keeper<'_> {
    /// Begins these orders, as many as may be begun now. What has failed before comes last: it must not use up what the CA
    /// grants us.
    pub(super) fn order(&mut self, slots: Vec<Slot>, now: Option<Unix>) {
        for again in [false, true] {
            let failed = |slot: &&Slot| self.lives.tried(slot).is_some_and(|tried| tried.order.failures > 0);
            for slot in slots.iter().filter(|slot| failed(slot) == again).cloned().collect::<Vec<_>>() {
                match self.lives.step(&slot, now) {
                    _ if self.busy(&slot) => {}
                    Step::Order { .. } if self.is_full() => self.waiting.push(slot),
                    Step::Order { why } => self.begin(&slot, why),
                    Step::Wait { until } => {
                        self.look_at = Some(self.look_at.map_or(until, |at| at.min(until)));
                        self.lives.touch(&slot.md);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Makes a new key and its request, and sets an errand going; unless there is no room yet.
    pub(super) fn begin(&mut self, slot: &Slot, why: Why) {
        let Some(md) = self.lives.md(&slot.md).cloned() else { return };
        let Some(ca) = self.lives.ca(slot).map(String::from) else { return };
        if !self.has_room_for(&ca, &md) {
            return self.waiting.push(slot.clone());
        }
        let Some(want) = self.lives.want(slot).cloned() else { return };
        let challenges = match self.challenges(slot, &md) {
            Ok(challenges) => challenges,
            Err(refusal) => return self.failed(slot, Outcome::OrderFailed(refusal.into())),
        };
        if let Err(trouble) = self.will_keep(slot) {
            return self.failed(slot, Outcome::OrderFailed(trouble.into()));
        }
        if let Err(trouble) = self.say(&md, Topic::Renewing) {
            return self.veto(&md, &trouble);
        }
        log::info!("{}: ordering a certificate ({}) from {ca}: {why}", slot.md, want.kind);
        // A CA with roots of its own, or in the clear on this very device, is a private one; its operator knows what it takes.
        if let (Some(now), None, true) = (self.now(), &md.roots, ca.starts_with("https:")) {
            self.lives.ordered(&ca, now);
        }
        match self.set_out(&md, want, ca, why, challenges) {
            Ok(errand) => {
                self.errands.push(errand);
                self.lives.touch(&slot.md);
            }
            Err(trouble) => self.failed(slot, Outcome::OrderFailed(trouble.into())),
        }
    }

    /// A daemon serves from memory what a full disk does not take. One pass after the other would order without end, until
    /// the CA refuses.
    fn will_keep(&mut self, slot: &Slot) -> Result<(), Trouble> {
        const LENGTH: usize = 8192;
        if !self.passes {
            return Ok(());
        }
        let bytes: Vec<u8> = (0..LENGTH / 4).flat_map(|_| self.doors.dice.below(u32::MAX).to_ne_bytes()).collect();
        self.store.has_room(self.doors.disk, slot, &bytes)
    }

    fn set_out(
        &mut self,
        md: &Md,
        want: Want,
        ca: String,
        why: Why,
        challenges: Vec<Challenge>,
    ) -> Result<Errand, Trouble> {
        let key = self.key_for(&want, md)?;
        let csr = keys::request(&key, want.kind, &want.names, want.must_staple)?;
        let (facts, account_key, place) = self.introduce(&ca, md)?;
        let line = self.doors.wire.dial(&route(md))?;
        let flow = Flow::new(Brief {
            names: want.names.clone(),
            csr,
            chain: md.chain.clone(),
            challenges,
            profile: md.profile.clone(),
            profile_mandatory: md.profile_mandatory,
            replaces: self.replaced(&want, &ca),
            ..facts
        });
        let task = Task::Order(Order { slot: want.slot(), why, want, key });
        let served = (self.answers.clone(), md.webroot.clone());
        let errand = Errand::new(task, (ca, place), account_key, Box::new(flow), line, served);
        Ok(errand.with_dns(hooks::dns_command(md), md.dns_forgets, md.dns_wait))
    }

    /// The id of the certificate that the new one replaces, where this CA gave it and it shares a name (RFC 9773 §5).
    fn replaced(&self, want: &Want, ca: &str) -> Option<String> {
        let held = self.lives.newest(&want.slot()).filter(|held| want.ari && held.ca == ca)?;
        let shares = want.names.iter().any(|name| held.names.contains(name));
        advice::cert_id(held).filter(|_| shares)
    }

    /// A fresh key, or with MDReuseKey that of what is held, if it is of this kind. Making one of RSA keeps the house busy
    /// for seconds, on a slow device for minutes; nothing but the keeper waits for it.
    fn key_for(&self, want: &Want, md: &Md) -> Result<Secret, Trouble> {
        let (slot, tried) = (want.slot(), self.lives.tried(&want.slot()));
        let revoked = tried.and_then(|tried| tried.revoked);
        let wished = |held: &&Held| md.reuse_key && held.kind == want.kind && revoked != Some(held.sha256);
        if let Some(held) = self.lives.newest(&slot).filter(wished) {
            match self.pair(&slot, held) {
                Ok((_, bundle)) => return Ok(bundle.key),
                Err(trouble) if tried.is_none_or(|tried| tried.order.failures < READINGS) => return Err(trouble),
                Err(trouble) => log::warn!("{}: a fresh key, MDReuseKey or not: {trouble}", md.name),
            }
        }
        keys::generate(want.kind)
    }

    /// What can be answered here. A type whose answer the CA has rejected comes last.
    fn challenges(&self, slot: &Slot, md: &Md) -> Result<Vec<Challenge>, Refusal> {
        let mut challenges = challenge::possible(md, &self.config)?;
        let last = self.lives.tried(slot).and_then(|tried| tried.order.last.as_ref());
        if let Some(Failure::Refusal(Refusal { rejected: Some(rejected), .. })) = last {
            challenges.sort_by_key(|challenge| challenge == rejected);
        }
        Ok(challenges)
    }

    /// The CA has given a chain: it is proven, then committed in one record. From then on it is ours. Whether it is.
    pub(super) fn arrive(&mut self, order: Order, ca: &str, granted: Granted) -> bool {
        let proven = self.prove(&order, ca, &granted.chain);
        let is_good = proven.is_ok();
        match proven {
            Ok(held) => {
                if let Some(why) = granted.spurned {
                    log::warn!("{}: the order went out without a profile: {why}", order.slot.md);
                }
                let held = Held { profile: granted.profile, ..held };
                self.commit(&order.slot, held, Bundle { key: order.key, chain: granted.chain });
            }
            Err(failure) => self.failed(&order.slot, Outcome::OrderFailed(failure)),
        }
        is_good
    }

    fn prove(&self, order: &Order, ca: &str, chain: &[Vec<u8>]) -> Result<Held, Failure> {
        let want = &order.want;
        let public = keys::public_key(&order.key, want.kind)?;
        let now = self.now();
        let held = x509::accept(chain, &public, &want.names, want.kind, ca, now)?;
        if held.must_staple != want.must_staple {
            let (wish, came) = if want.must_staple { ("on", "without") } else { ("off", "with") };
            log::warn!(
                "{}: MDMustStaple is {wish}, and the CA gave a certificate {came} it; it is used all the same",
                want.md
            );
        }
        let wish = self.lives.md(&want.md).and_then(|md| md.chain.as_ref());
        if let Some(Chain::Under(name)) = wish.filter(|wish| !x509::pleases(chain, wish)) {
            log::warn!("{}: MDPreferredChain: the CA has no chain under \"{name}\"; its own is used", want.md);
        }
        Ok(Held { staple_asked: want.must_staple, ..held })
    }

    fn commit(&mut self, slot: &Slot, held: Held, bundle: Bundle) {
        let saved = self.store.put_cert(self.doors.disk, slot, &held, &bundle);
        let line = format!("certificate until {}, serial {}", held.not_after, held.serial_hex());
        let unsaved = match saved {
            Ok(()) => None,
            Err(trouble) => {
                log::error!(
                    "{}: the new pair is not stored: {trouble}; it is used from memory and stored later",
                    slot.md
                );
                self.save_later();
                Some((bundle, trouble))
            }
        };
        if let Some(when) = self.doors.clock.now() {
            self.lives.note(&slot.md, Entry { when, what: "renewed", detail: line.clone() });
        }
        self.lives.arrived(slot, held, unsaved);
        // Now: another order's commands may take a minute.
        self.shelve(core::slice::from_ref(&slot.md));
        self.succeeded(slot, &Outcome::Ordered);
        log::info!("{}: {line}{}", slot.md, self.lives.outlook(slot, self.now()));
    }

    /// Tries again what the disk did not take; whether all is there now.
    pub(super) fn save_again(&mut self) -> bool {
        for place in self.lives.unsaved_accounts() {
            let Some(account) = self.lives.account(&place) else { continue };
            let saved = self.store.put_account(self.doors.disk, account);
            if saved.is_ok() {
                log::info!("the account at {} is stored now", account.ca);
            }
            self.lives.saved_account(&place, saved);
        }
        for slot in self.lives.unsaved() {
            let Some(life) = self.lives.life(&slot) else { continue };
            if let (Some((bundle, _)), Some(held)) = (life.unsaved.take(), life.newest().cloned()) {
                let saved = self.store.put_cert(self.doors.disk, &slot, &held, &bundle);
                if saved.is_ok() {
                    log::info!("{}: the pair is stored now", slot.md);
                }
                let Some(life) = self.lives.life(&slot) else { continue };
                life.unsaved = saved.err().map(|trouble| (bundle, trouble));
            }
            self.save_tried(&slot);
        }
        let is_clear = self.clear_again();
        is_clear && self.lives.unsaved_accounts().is_empty() && self.lives.unsaved().is_empty()
    }
}
