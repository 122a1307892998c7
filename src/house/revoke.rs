//! Revoking what is held (RFC 8555 §7.6): somebody asks for it, the CA is told, and from then on it is due.

use crate::doors::clock::Ended;
use crate::doors::keys::AccountKey;
use crate::house::errand::{Errand, Revocation, Task};
use crate::house::inquiries::route;
use crate::house::jobs;
use crate::house::keeper::Keeper;
use crate::house::prune::ONLY_READ;
use crate::rules::acme::visit::{Purpose, Visit};
use crate::words::board::Entry;
use crate::words::cert::{Account, Held, Slot};
use crate::words::fault::{Failure, Trouble};
use crate::words::name::{Labels, Name};

impl Keeper<'_> {
    /// Sets an errand going for each certificate in use of this MD, configured or not.
    pub(super) fn revoke(&mut self, name: &str, reason: Option<u8>, ended: &Ended) {
        let slots: Vec<Slot> = match Name::parse(name, Labels::One) {
            Ok(md) => self.lives.held_by(&md),
            Err(_) => vec![],
        };
        let (mut under_way, mut refused) = (vec![], vec![]);
        if self.config.only_reads() {
            refused.push(ONLY_READ.into());
        } else if slots.is_empty() {
            refused.push(format!("no certificate is held for an MD \"{name}\""));
        } else {
            for slot in slots {
                match self.set_out_to_revoke(&slot, reason) {
                    Ok(()) => under_way.push(slot),
                    Err(trouble) => refused.push(format!("{slot}: not revoked: {trouble}")),
                }
            }
        }
        self.revocations.add(under_way, refused, ended.clone());
    }

    fn set_out_to_revoke(&mut self, slot: &Slot, reason: Option<u8>) -> Result<(), Trouble> {
        let held = self.lives.active(slot, self.now()).or_else(|| self.lives.newest(slot)).cloned();
        let no = |why: &str| Trouble::new("asking for it", why);
        let held = held.ok_or_else(|| no("nothing is held"))?;
        if slot.is_own() || held.ca.is_empty() {
            return Err(no("it is not known which CA gave it; revoke it where it was got"));
        }
        let (_, bundle) = self.pair(slot, &held)?;
        let md = self.lives.md(&slot.md).cloned();
        let place = md.as_ref().map_or_else(|| held.ca.clone(), |md| md.account_at(&held.ca));
        let account = self.lives.account(&place).cloned();
        if account.as_ref().is_some_and(|account| account.next.is_some()) {
            return Err(no(jobs::HALF_ROLLED));
        }
        let route = md.map(|md| route(&md)).unwrap_or_default();
        let line = self.doors.wire.dial(&route)?;
        let key = AccountKey::from_pkcs8(account.as_ref().map_or(&bundle.key, |account| &account.key))?;
        let cert = bundle.chain.first().cloned().unwrap_or_default();
        let purpose = Purpose::Revoke { cert, reason, by_its_key: account.is_none() };
        let visit = Visit::new(held.ca.clone(), account.and_then(|account: Account| account.url), purpose);
        let (ca, sha256) = (held.ca.clone(), held.sha256);
        let task = Task::Revoke(Revocation { slot: slot.clone(), sha256, key: bundle.key });
        let errand = Errand::new(task, (ca, place), key, Box::new(visit), line, (self.answers.clone(), None));
        self.errands.push(errand);
        Ok(())
    }

    /// It is revoked, or it can't be.
    pub(super) fn revoked(&mut self, revocation: &Revocation, failure: Option<Failure>) {
        let slot = &revocation.slot;
        let (line, well) = match failure {
            Some(failure) => (format!("{slot}: not revoked: {failure}"), false),
            None => {
                let serial = self.lives.revoked(slot, &revocation.sha256).map(Held::serial_hex).unwrap_or_default();
                self.save_tried(slot);
                let driven = self.lives.want(slot).is_some_and(|want| want.driven);
                let then = if driven { "another one is ordered" } else { "it is not renewed by itself" };
                (format!("{slot}: the certificate {serial} is revoked; {then}"), true)
            }
        };
        log::info!("{line}");
        if let (true, Some(when)) = (well, self.doors.clock.now()) {
            self.lives.note(&slot.md, Entry { when, what: "revoked", detail: line.clone() });
        }
        self.revocations.end(slot, &line, well);
        self.look_again();
    }
}
