//! Telling: the exports are written, the operator's commands are run, and the server is looked at that should show the
//! certificate. It is owed until all of it is done.

use crate::house::keeper::Keeper;
use crate::house::lives::places;
use crate::rules::served;
use crate::words::cert::{Outcome, Slot, Step};
use crate::words::config::Md;
use crate::words::fault::{Hook, Trouble};
use crate::words::message::Topic;
use crate::words::name::Name;
use crate::words::sorted::Set;
use crate::words::time::{Span, Unix};

/// Certificates of one MD that were ordered together come into use within this time of one another.
const TOGETHER: Span = Span::mins(10);

/// After commands that took so long all other work has this time to itself, before the next MD's are run.
const HELD_UP: Span = Span::secs(5);
const BREATH: Span = Span::secs(10);

impl Keeper<'_> {
    /// Tells of these certificates, MD by MD, each MD once for all of its kinds; one of which another kind is still to
    /// come waits for it.
    pub(super) fn tell(&mut self, slots: Vec<Slot>, now: Option<Unix>) {
        let mds: Set<Name> = slots.iter().map(|slot| slot.md.clone()).collect();
        for name in mds {
            let Some(md) = self.lives.md(&name).cloned() else { continue };
            let kinds = md.keys.iter().map(|kind| Slot { md: name.clone(), family: kind.family() });
            let coming = |slot: &Slot| {
                let soon =
                    self.lives.activates_at(slot, now).zip(now).is_some_and(|(at, now)| at.since(now) < TOGETHER);
                // Who is told finds all that is known; a CA that hangs holds up nobody.
                let asks = self.inquiry_about(slot).is_some_and(|errand| !errand.hangs);
                soon || asks || self.busy(slot) || matches!(self.lives.step(slot, now), Step::Order { .. })
            };
            if kinds.into_iter().any(|slot| coming(&slot)) {
                continue;
            }
            let begin = self.doors.clock.steady();
            if begin < self.tells_from {
                self.look_by = self.look_by.min(self.tells_from);
                continue;
            }
            let owed: Vec<&Slot> = slots.iter().filter(|slot| slot.md == name).collect();
            let came = self.tell_md(&md, &owed, now);
            let end = self.doors.clock.steady();
            if end.minus(begin) >= HELD_UP {
                self.tells_from = end.plus(BREATH);
            }
            match came {
                Ok(()) => {
                    for slot in owed {
                        let exported = self.clear_exports(&md, slot, log::Level::Error);
                        if let Some(sha256) = self.lives.active(slot, now).map(|held| held.sha256) {
                            self.succeeded(slot, &Outcome::Told { sha256, exported });
                        }
                    }
                    let outlook = slots.iter().find(|slot| slot.md == name).map(|slot| self.lives.outlook(slot, now));
                    log::info!("{name}: told of it{}", outlook.unwrap_or_default());
                }
                Err(outcome) => {
                    for slot in owed {
                        match &outcome {
                            Outcome::Unseen(_) if self.looks_again(slot) => self.succeeded(slot, &outcome),
                            _ => self.failed(slot, outcome.clone()),
                        }
                    }
                }
            }
        }
    }

    /// A command that has answered 0 is not called again because something after it has failed.
    fn tell_md(&mut self, md: &Md, slots: &[&Slot], now: Option<Unix>) -> Result<(), Outcome> {
        for slot in slots {
            self.export(md, slot, now).map_err(Outcome::TellFailed)?;
        }
        let sha256 = |keeper: &Self, slot: &Slot| keeper.lives.active(slot, now).map(|held| held.sha256);
        let notified = |slot: &&Slot| self.lives.tried(slot).and_then(|tried| tried.notified) == sha256(self, slot);
        if !slots.iter().all(notified) {
            self.notify(md).map_err(Outcome::TellFailed)?;
            for slot in slots {
                if let Some(sha256) = sha256(self, slot) {
                    self.lives.succeeded(slot, &Outcome::Notified(sha256), self.now());
                }
            }
        }
        self.look_whether_served(md, now).map_err(Outcome::Unseen)?;
        if !slots.iter().all(|slot| slot.is_own()) {
            self.say(md, Topic::Renewed).and_then(|()| self.say(md, Topic::Installed)).map_err(Outcome::TellFailed)?;
        }
        slots.iter().try_for_each(|slot| self.still_exported(md, slot)).map_err(Outcome::TellFailed)
    }

    /// MDNotifyServed: whether what is in use is what is shown there. Which of several kinds it is lies with the server.
    fn look_whether_served(&mut self, md: &Md, now: Option<Unix>) -> Result<(), Trouble> {
        let Some(place) = &md.served_at else { return Ok(()) };
        let ours: Vec<[u8; 32]> = places(md).filter_map(|slot| Some(self.lives.active(&slot, now)?.sha256)).collect();
        let shown = self.doors.look.leaf(place, &served::name(&md.names));
        let judged = shown.and_then(|leaf| {
            served::judge(&leaf, &ours).map_err(|why| Trouble::new(format!("looking at {place}"), why))
        });
        judged.map_err(|trouble| trouble.with(Hook::Notify))
    }

    fn looks_again(&self, slot: &Slot) -> bool {
        self.lives.tried(slot).is_some_and(|tried| served::pause(tried.looks).is_some())
    }
}
