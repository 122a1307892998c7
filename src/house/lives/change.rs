//! What becomes of lives when the configuration changes, or when somebody tidies up.

use super::{Life, Lives};
use crate::rules::kin::{self, Kin};
use crate::rules::record;
use crate::words::cert::{Bundle, KeyKind, Slot, Want};
use crate::words::config::Config;
use crate::words::fault::Trouble;
use crate::words::name::Name;
use crate::words::sorted::Map;
use std::sync::Arc;

impl Lives {
    /// Takes over a configuration. What is held stays, wanted or not.
    pub fn rewant(&mut self, config: &Config) {
        let mut before: Map<Slot, Want> = Map::new();
        for (slot, life) in self.certs.iter_mut() {
            before.extend(life.want.take().map(|want| (slot.clone(), want)));
        }
        self.order = config.mds.iter().map(|md| md.name.clone()).collect();
        self.mds = config.mds.iter().map(|md| (md.name.clone(), Arc::new(md.clone()))).collect();
        self.contacts.clear();
        self.forget_own();
        for md in self.mds.values() {
            for ca in &md.cas {
                self.contacts.or_default(md.account_at(ca)).extend(md.contacts.iter().cloned());
            }
            for mut want in md.wants(record::fingerprint(md)) {
                let slot = want.slot();
                let same = before.get(&slot).filter(|before| before.fingerprint == want.fingerprint);
                want.forced = same.is_some_and(|before| before.forced);
                self.certs.or_default(slot).want = Some(want);
            }
        }
        self.reconsider_staples();
        self.diaries.retain(|name, _| self.mds.contains_key(name));
        self.touched.extend(self.order.iter().cloned());
    }

    /// Which wants without a certificate go on with one that nobody asks for any more: new place, old place.
    pub fn heirs(&self) -> Vec<(Slot, Slot)> {
        let mut pairs = vec![];
        for family in KeyKind::FAMILIES {
            let lives = || self.certs.iter().filter(move |(slot, _)| slot.family == family);
            let heirs = lives().filter_map(|(slot, life)| match (&life.want, life.newest()) {
                (Some(want), None) => Some(Kin { md: &slot.md, names: &want.names }),
                _ => None,
            });
            // What an MD that still is has no use for just now may be of use to it again.
            let homeless = lives().filter(|(slot, _)| !self.mds.contains_key(&slot.md));
            let mut orphans = vec![];
            for (slot, life) in homeless {
                let (None, Some(held)) = (&life.want, life.newest()) else { continue };
                // A move that the power has broken off is ended: the same is held in both places.
                let is_same = |life: &Life| life.newest().is_some_and(|newest| newest.sha256 == held.sha256);
                match lives().find(|(_, life)| life.want.is_some() && is_same(life)) {
                    Some((twin, _)) => pairs.push((twin.clone(), slot.clone())),
                    None => orphans.push(Kin { md: &slot.md, names: &held.names }),
                }
            }
            let place = |md: &Name| Slot { md: md.clone(), family };
            let found = kin::recognise(&heirs.collect::<Vec<_>>(), &orphans);
            pairs.extend(found.into_iter().map(|(heir, orphan)| (place(heir), place(orphan))));
        }
        pairs
    }

    /// What is held at the old place is from now on held at the new one; its news are owed under the new name.
    pub fn inherit(&mut self, new: &Slot, old: &Slot, unsaved: Option<(Bundle, Trouble)>) {
        let Some(orphan) = self.certs.remove(old) else { return };
        let life = self.certs.or_default(new.clone());
        life.held = orphan.held;
        if unsaved.is_some() {
            // The one before stays where it is.
            life.held.truncate(1);
        }
        life.unsaved = unsaved.or(orphan.unsaved);
        life.staple = orphan.staple;
        life.note_revoked();
        (life.tried.told, life.tried.notified) = (None, None);
        life.tried.imposed = orphan.tried.imposed;
        life.tried.exported = orphan.tried.exported;
        life.tried.revoked = orphan.tried.revoked;
        self.touch(&new.md);
    }

    /// What stood in these places, and these accounts, are gone.
    pub fn forget(&mut self, places: &[Slot], accounts: &[String]) {
        self.drop_lives(&|slot| places.contains(slot));
        accounts.iter().for_each(|place| self.forget_account(place));
    }

    pub(super) fn drop_lives(&mut self, are_gone: &dyn Fn(&Slot) -> bool) {
        let gone: Vec<Slot> = self.certs.keys().filter(|slot| are_gone(slot)).cloned().collect();
        for slot in gone {
            self.certs.remove(&slot);
        }
    }
}
