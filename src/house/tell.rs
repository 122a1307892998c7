//! Telling: the exports are written, then the operator's commands are run. It is owed until all of it is done.

use crate::house::keeper::Keeper;
use crate::words::cert::{Outcome, Slot, Step};
use crate::words::config::Md;
use crate::words::fault::Trouble;
use crate::words::message::Topic;
use crate::words::name::Name;
use crate::words::time::Unix;
use std::collections::BTreeSet;

impl Keeper<'_> {
    /// Tells of these certificates, MD by MD, each MD once for all of its kinds; one of which another kind is still to
    /// come waits for it.
    pub(super) fn tell(&mut self, slots: Vec<Slot>, now: Option<Unix>) {
        let mds: BTreeSet<Name> = slots.iter().map(|slot| slot.md.clone()).collect();
        for name in mds {
            let Some(md) = self.lives.md(&name).cloned() else { continue };
            let kinds = md.keys.iter().map(|kind| Slot { md: name.clone(), family: kind.family() });
            let coming = |slot: &Slot| self.busy(slot) || matches!(self.lives.step(slot, now), Step::Order { .. });
            if kinds.into_iter().any(|slot| coming(&slot)) {
                continue;
            }
            let owed: Vec<&Slot> = slots.iter().filter(|slot| slot.md == name).collect();
            match self.tell_md(&md, &owed) {
                Ok(()) => {
                    for slot in owed {
                        let exported = self.clear_exports(&md, slot);
                        if let Some(sha256) = self.lives.held(slot).map(|held| held.sha256) {
                            self.succeeded(slot, &Outcome::Told { sha256, exported });
                        }
                    }
                    let outlook = slots.iter().find(|slot| slot.md == name).map(|slot| self.lives.outlook(slot, now));
                    log::info!("{name}: told of it{}", outlook.unwrap_or_default());
                }
                Err(trouble) => {
                    for slot in owed {
                        self.failed(slot, Outcome::TellFailed(trouble.clone()));
                    }
                }
            }
        }
    }

    /// A command that has answered 0 is not called again because a later one has not.
    fn tell_md(&mut self, md: &Md, slots: &[&Slot]) -> Result<(), Trouble> {
        for slot in slots {
            self.export(md, slot)?;
        }
        let sha256 = |keeper: &Self, slot: &Slot| keeper.lives.held(slot).map(|held| held.sha256);
        let notified = |slot: &&Slot| self.lives.tried(slot).and_then(|tried| tried.notified) == sha256(self, slot);
        if !slots.iter().all(notified) {
            self.notify(md)?;
            for slot in slots {
                if let Some(sha256) = sha256(self, slot) {
                    self.lives.succeeded(slot, &Outcome::Notified(sha256), self.now());
                }
            }
        }
        self.say(md, Topic::Renewed)?;
        self.say(md, Topic::Installed)
    }
}
