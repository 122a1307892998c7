//! Shelving: what is held and active stands on the shelf, where the next handshake finds it.

use crate::house::keeper::Keeper;
use crate::house::lives::served;
use crate::words::cert::{Bundle, Held, KeyKind, Slot};
use crate::words::config::Md;
use crate::words::fault::Trouble;
use crate::words::name::Name;
use crate::words::time::Unix;
use std::sync::Arc;

impl Keeper<'_> {
    /// Puts there what is new of these MDs; costs a comparison for each certificate where nothing is. Returns when there will be
    /// something new by itself.
    pub(super) fn shelve(&mut self, names: &[Name]) -> Option<Unix> {
        if !self.config.listen.iter().any(|listen| listen.tls) {
            return None;
        }
        let now = self.now();
        let mds: Vec<Arc<Md>> = names.iter().filter_map(|name| self.lives.md(name).cloned()).collect();
        let mut next: Option<Unix> = None;
        for md in mds {
            let slots: Vec<Slot> = served(&md).collect();
            next = slots.iter().filter_map(|slot| self.lives.activates_at(slot, now)).chain(next).min();
            let shown: Vec<[u8; 32]> =
                slots.iter().filter_map(|slot| Some(self.lives.active(slot, now)?.sha256)).collect();
            if shown.is_empty() {
                continue;
            }
            if self.shelved.get(&md.name) != Some(&shown) {
                if self.shelved.contains_key(&md.name) && self.awaits_responses(&md, &slots, now) {
                    // Browsers would refuse it; what is shown until then is as good as it was.
                    continue;
                }
                let pair = |slot: &Slot| Some(self.pair(slot, self.lives.active(slot, now)?));
                let pairs: Result<Vec<_>, Trouble> = slots.iter().filter_map(pair).collect();
                match pairs.and_then(|pairs| self.shelf.put(&md.name, &pairs)) {
                    Ok(()) => _ = self.shelved.insert(md.name.clone(), shown),
                    Err(trouble) => log::error!("{}: {trouble}; TLS goes on with what it had", md.name),
                }
            }
            next = [next, self.staple_shelved(&md.name, &slots, now)].into_iter().flatten().min();
        }
        next
    }

    /// What is held there, with its kind.
    pub(super) fn pair(&self, slot: &Slot, held: &Held) -> Result<(KeyKind, Bundle), Trouble> {
        let bundle = match self.lives.unsaved_bundle(slot, &held.sha256) {
            Some(bundle) => Some(bundle.clone()),
            None => self.store.read_bundle(self.doors.disk, slot, &held.sha256)?,
        };
        let missing = || Trouble::new("reading the pair", "its record is no longer in the store");
        Ok((held.kind, bundle.ok_or_else(missing)?))
    }
}
