//! Shelving: what is held and active stands on the shelf, where the next handshake finds it.

use crate::house::keeper::Keeper;
use crate::words::cert::{Bundle, KeyKind, Slot};
use crate::words::config::Md;
use crate::words::fault::Trouble;
use std::sync::Arc;

impl Keeper<'_> {
    /// Puts there what is new; costs a comparison for each certificate where nothing is.
    pub(super) fn shelve(&mut self) {
        if !self.config.listen.iter().any(|listen| listen.tls) {
            return;
        }
        let lives = &self.lives;
        self.shelved.retain(|name, _| lives.md(name).is_some());
        let mds: Vec<Arc<Md>> = self.lives.mds().cloned().collect();
        for md in mds {
            let slots = || md.keys.iter().map(|kind| (*kind, Slot { md: md.name.clone(), family: kind.family() }));
            let active: Vec<[u8; 32]> = slots().filter_map(|(_, slot)| Some(self.lives.held(&slot)?.sha256)).collect();
            if active.is_empty() || self.shelved.get(&md.name) == Some(&active) {
                continue;
            }
            let pairs: Result<Vec<(KeyKind, Bundle)>, Trouble> =
                slots().filter_map(|(kind, slot)| self.pair(kind, &slot)).collect();
            match pairs.and_then(|pairs| self.shelf.put(&md.name, &pairs)) {
                Ok(()) => _ = self.shelved.insert(md.name.clone(), active),
                Err(trouble) => log::error!("{}: {trouble}; TLS goes on with what it had", md.name),
            }
        }
    }

    fn pair(&self, kind: KeyKind, slot: &Slot) -> Option<Result<(KeyKind, Bundle), Trouble>> {
        let held = self.lives.held(slot)?;
        // The kind is that of what is held: a size that was changed is for the next key.
        let kind = if held.kind.family() == kind.family() { held.kind } else { kind };
        let bundle = match self.lives.unsaved_bundle(slot) {
            Some(bundle) => Ok(Some(bundle.clone())),
            None => self.store.read_bundle(self.doors.disk, slot, &held.sha256),
        };
        let missing = || Trouble::new("serving a certificate", "the record is no longer in the store");
        Some(bundle.and_then(|bundle| Ok((kind, bundle.ok_or_else(missing)?))))
    }
}
