//! The lives of certificates that are the operator's own: their wants follow from what the files hold.

use super::Lives;
use crate::house::own::Pair;
use crate::rules::record;
use crate::words::cert::{Bundle, KeyKind, Slot};
use crate::words::config::Md;
use crate::words::name::Name;

/// What is in no record of ours.
pub struct Own {
    pub bundle: Bundle,
    /// Whether it is the MD's first one.
    first: bool,
}

impl Lives {
    /// Takes over what an MD's own files hold. What can't be read changes nothing: the pair that was read before is still
    /// good. The result is what is new, and what is newly wrong.
    pub fn see_own(&mut self, md: &Md, pairs: Vec<Pair>) -> (Vec<String>, Vec<String>) {
        let (mut news, mut faults, mut seen) = (vec![], vec![], vec![]);
        for (at, pair) in pairs.into_iter().enumerate() {
            let (held, bundle) = match pair {
                Ok(pair) => pair,
                Err(trouble) => {
                    faults.push(trouble.to_string());
                    continue;
                }
            };
            let slot = Slot::own(md.name.clone(), held.kind);
            if seen.contains(&slot) {
                faults.push(format!("two of its own certificates have keys of kind {}; one will do", held.kind));
                continue;
            }
            seen.push(slot.clone());
            let life = self.certs.or_default(slot.clone());
            life.want = Some(md.want_of_own(&held, record::fingerprint(md)));
            life.note_revoked();
            life.own = Some(Own { bundle, first: at == 0 });
            if life.newest().is_none_or(|known| known.sha256 != held.sha256) {
                life.held.clear();
                news.push(format!("{}: its own certificate ({}) until {}", md.name, held.kind, held.not_after));
                self.arrived(&slot, held, None);
            }
        }
        let known = self.faults.insert(md.name.clone(), faults.clone()).unwrap_or_default();
        if faults.is_empty() {
            self.drop_lives(&|slot| slot.md == md.name && slot.is_own() && !seen.contains(slot));
        } else {
            let unread = self.certs.iter_mut().filter(|(slot, _)| slot.md == md.name && slot.is_own());
            for life in unread.filter_map(|(_, life)| life.want.is_none().then_some(life)) {
                life.want = life.newest().map(|held| md.want_of_own(held, record::fingerprint(md)));
            }
        }
        if known != faults {
            self.touch(&md.name);
        }
        let fresh = faults.iter().filter(|fault| !known.contains(fault));
        (news, fresh.map(|fault| format!("{}: {fault}", md.name)).collect())
    }

    /// The kind of an own pair that is not its MD's first one.
    pub fn extra_own(&self, slot: &Slot) -> Option<KeyKind> {
        let life = self.certs.get(slot)?;
        life.own.as_ref().filter(|own| !own.first).and(life.newest()).map(|held| held.kind)
    }

    /// After a change of the configuration: what is no MD's own any more is not served any more.
    pub(super) fn forget_own(&mut self) {
        let mds = self.mds.clone();
        let has_own = |md: &Name| mds.get(md).is_some_and(|md| !md.statics.is_empty());
        self.drop_lives(&|slot| slot.is_own() && !has_own(&slot.md));
        self.faults.retain(|md, _| has_own(md));
    }
}
