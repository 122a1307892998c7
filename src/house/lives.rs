//! What the keeper knows: every want beside what is held for it and what was tried. Plain bookkeeping over the rules;
//! nothing here touches a door.

mod change;
mod own;
mod records;
mod report;
mod staple;
mod waits;

pub use staple::Staple;

use crate::doors::clock::Push;
use crate::house::store::Loaded;
use crate::rules::crowd::{Orders, Start};
use crate::rules::{messages, plan};
use crate::words::board::{Diary, Entry};
use crate::words::cert::{Account, Advice, Bundle, Fingerprint, Held, KeyKind, Outcome, Slot, Tried, Want};
use crate::words::config::{Config, Md};
use crate::words::fault::Trouble;
use crate::words::message::Said;
use crate::words::name::Name;
use crate::words::sorted::{Map, Set};
use crate::words::time::Unix;
use std::sync::Arc;

pub struct Lives {
    mds: Map<Name, Arc<Md>>,
    /// Their names in the order of the configuration.
    order: Vec<Name>,
    certs: Map<Slot, Life>,
    /// By their places.
    accounts: Map<String, Account>,
    /// Those that the disk did not take yet, and why.
    unsaved_accounts: Vec<(String, Trouble)>,
    /// What the MDs that may use each of them give as their contacts.
    contacts: Map<String, Set<String>>,
    diaries: Map<Name, Diary>,
    said: Map<Name, Said>,
    /// The end of the longest wait that each CA has asked for, of whichever want.
    imposed: Map<String, Unix>,
    /// What was ordered of each CA of the public.
    orders: Map<String, Orders>,
    /// Set from the first moment with a clock, while nobody has asked for anything.
    start: Option<Start>,
    /// What each CA is called in DNS; `None`: it does not say.
    issuers: Map<String, Option<String>>,
    /// Where each CA says when it wants a certificate to be renewed, as far as that was seen since the start.
    bases: Map<String, String>,
    /// Before this moment no clock is believed.
    floor: Unix,
    /// Of which MDs there is something new to say.
    touched: Set<Name>,
    /// Why the operator's own files of an MD can't be used.
    faults: Map<Name, Vec<String>>,
}

/// One certificate's life.
#[derive(Default)]
pub struct Life {
    /// `None`: held, but no longer asked for.
    want: Option<Want>,
    /// The newest first, and the one before it.
    held: Vec<Held>,
    tried: Tried,
    /// The newest pair, if the disk did not take it yet, and why.
    pub unsaved: Option<(Bundle, Trouble)>,
    /// A pair of the operator's own, which is in no record.
    own: Option<own::Own>,
    staple: Option<Staple>,
    /// Why `tried` is not on the disk.
    unsaved_tried: Option<Trouble>,
}

/// An MD, its certificates, and what was said of it.
pub struct Watched<'a> {
    pub md: &'a Arc<Md>,
    pub held: Vec<&'a Held>,
    pub said: Said,
    pub fingerprint: Fingerprint,
}

impl Watched<'_> {
    /// When it is to be warned of next.
    pub fn warn_at(&self, now: Unix) -> Option<Unix> {
        let at = |held: &&Held| messages::warn_at(held, self.md.warn, &self.said, self.fingerprint, now);
        self.held.iter().map(at).min()
    }
}

impl Life {
    pub fn newest(&self) -> Option<&Held> {
        self.held.first()
    }

    /// What its export consists of.
    pub fn exported(&mut self, paths: Vec<String>) {
        self.tried.exported = paths;
    }
}

impl Lives {
    pub fn new(loaded: Loaded, config: &Config) -> Self {
        let mut certs: Map<Slot, Life> = Map::new();
        for (slot, held) in loaded.certs {
            certs.or_default(slot).held = held;
        }
        for (slot, tried) in loaded.tried {
            certs.or_default(slot).tried = tried;
        }
        let mut lives = Self {
            mds: Map::new(),
            order: vec![],
            floor: plan::floor(certs.values().filter_map(Life::newest)),
            certs,
            accounts: loaded.accounts,
            unsaved_accounts: vec![],
            contacts: Map::new(),
            diaries: Map::new(),
            said: loaded.said,
            imposed: Map::new(),
            orders: Map::new(),
            start: None,
            issuers: Map::new(),
            bases: Map::new(),
            touched: Set::new(),
            faults: Map::new(),
        };
        lives.sum_up_waits();
        lives.rewant(config);
        lives
    }

    /// The slots that the configuration asks for.
    pub fn wanted(&self) -> Vec<Slot> {
        self.certs.iter().filter(|(_, life)| life.want.is_some()).map(|(slot, _)| slot.clone()).collect()
    }

    /// Those of these MDs.
    pub fn slots_of(&self, names: &[Name]) -> Vec<Slot> {
        let of = |md: &Name| {
            let first = Slot { md: md.clone(), family: "" };
            let lives = self.certs.starting_at(&first).take_while(move |(slot, _)| slot.md == *md);
            lives.filter(|(_, life)| life.want.is_some()).map(|(slot, _)| slot.clone()).collect::<Vec<_>>()
        };
        names.iter().flat_map(of).collect()
    }

    pub fn want(&self, slot: &Slot) -> Option<&Want> {
        self.certs.get(slot)?.want.as_ref()
    }

    pub fn mds(&self) -> impl Iterator<Item = &Arc<Md>> {
        self.mds.values()
    }

    /// What was got last.
    pub fn newest(&self, slot: &Slot) -> Option<&Held> {
        self.certs.get(slot)?.newest()
    }

    /// The places where something is held for an MD, wanted or not.
    pub fn held_by(&self, md: &Name) -> Vec<Slot> {
        let held = self.certs.iter().filter(|(slot, life)| slot.md == *md && life.newest().is_some());
        held.map(|(slot, _)| slot.clone()).collect()
    }

    /// This certificate was revoked.
    pub fn revoked(&mut self, slot: &Slot, sha256: &[u8; 32]) -> Option<&Held> {
        self.touched.insert(slot.md.clone());
        let life = self.certs.get_mut(slot)?;
        life.tried.revoked = Some(*sha256);
        life.held.iter().find(|held| held.sha256 == *sha256)
    }

    /// The CA whose turn it is to be asked for this want.
    pub fn ca(&self, slot: &Slot) -> Option<&str> {
        let life = self.certs.get(slot)?;
        Some(plan::ca(life.want.as_ref()?, &life.tried))
    }

    /// The certificate that is in use.
    pub fn active(&self, slot: &Slot, now: Option<Unix>) -> Option<&Held> {
        let life = self.certs.get(slot)?;
        plan::active(life.want.as_ref()?, &life.held, &life.tried, now)
    }

    /// When the newest certificate will be in use, if it is not yet.
    pub fn activates_at(&self, slot: &Slot, now: Option<Unix>) -> Option<Unix> {
        let life = self.certs.get(slot)?;
        Some(plan::staged(life.want.as_ref()?, &life.held, &life.tried, now)?.1)
    }

    pub fn tried(&self, slot: &Slot) -> Option<&Tried> {
        Some(&self.certs.get(slot)?.tried)
    }

    pub fn md(&self, name: &Name) -> Option<&Arc<Md>> {
        self.mds.get(name)
    }

    /// In the order of the configuration.
    pub fn names(&self) -> Vec<Name> {
        self.order.clone()
    }

    pub fn account(&self, place: &str) -> Option<&Account> {
        self.accounts.get(place)
    }

    /// A link to the Internet is there: the waits end that we gave ourselves, but not one after a refusal of a moment ago:
    /// a link that comes and goes is no reason to be refused as often.
    pub fn link_up(&mut self, now: Option<Unix>) {
        for (slot, life) in self.certs.iter_mut() {
            for backoff in [&mut life.tried.order, &mut life.tried.tell] {
                if plan::link_ends(backoff, now) {
                    backoff.until = None;
                    self.touched.insert(slot.md.clone());
                }
            }
        }
    }

    /// What anybody who may use the account in this place gives as a contact.
    pub fn contacts(&self, place: &str) -> &Set<String> {
        const NONE: &Set<String> = &Set::new();
        self.contacts.get(place).unwrap_or(NONE)
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    pub fn forget_account(&mut self, place: &str) {
        self.accounts.remove(place);
        self.saved_account(place, Ok(()));
    }

    /// Whether the disk took it.
    pub fn saved_account(&mut self, place: &str, saved: Result<(), Trouble>) {
        self.unsaved_accounts.retain(|(unsaved, _)| unsaved != place);
        self.unsaved_accounts.extend(saved.err().map(|trouble| (place.into(), trouble)));
        self.touched.extend(self.order.iter().cloned());
    }

    pub fn unsaved_accounts(&self) -> Vec<String> {
        self.unsaved_accounts.iter().map(|(place, _)| place.clone()).collect()
    }

    pub fn keep_account(&mut self, account: Account) {
        let users = self.mds.values().filter(|md| md.uses(&account));
        self.touched.extend(users.map(|md| md.name.clone()));
        self.accounts.insert(account.place(), account);
    }

    pub fn base(&self, ca: &str) -> Option<String> {
        self.bases.get(ca).cloned()
    }

    /// Where this CA says it; `None`: its directory has to be read again.
    pub fn answers_at(&mut self, ca: &str, base: Option<String>) {
        match base {
            Some(base) => _ = self.bases.insert(ca.into(), base),
            None => _ = self.bases.remove(ca),
        }
    }

    pub fn keep_advice(&mut self, slot: &Slot, advice: Advice) {
        self.touched.insert(slot.md.clone());
        if let Some(life) = self.certs.get_mut(slot) {
            life.tried.advice = Some(advice);
        }
    }

    /// The wall clock, if it can be believed.
    pub fn believe(&self, now: Option<Unix>) -> Option<Unix> {
        plan::believe(now, self.floor)
    }

    /// Ends the wait that we gave ourselves; forces an order if that is what was asked.
    pub fn push(&mut self, slot: &Slot, push: Push) {
        self.start = None;
        let Some(life) = self.certs.get_mut(slot) else { return };
        if push != Push::Due {
            life.tried.order.until = None;
            life.tried.tell.until = None;
            life.forgive_responder();
            life.tried.ask_anew();
        }
        if let Some(want) = life.want.as_mut() {
            want.forced |= push == Push::Force && want.driven;
        }
    }

    /// A new pair is here, on the disk or (`unsaved`) not yet.
    pub fn arrived(&mut self, slot: &Slot, held: Held, unsaved: Option<(Bundle, Trouble)>) {
        self.floor = plan::floor([&held].into_iter()).max(self.floor);
        self.touched.insert(slot.md.clone());
        let life = self.certs.or_default(slot.clone());
        if life.unsaved.is_some() {
            // The one before is nowhere any more.
            life.held.clear();
        }
        life.held.insert(0, held);
        life.held.truncate(2);
        life.unsaved = unsaved;
        life.note_revoked();
    }

    /// Takes over what the store holds now, and says what of it is new. What is no longer there is served all the same.
    pub fn found(&mut self, loaded: Loaded) -> Vec<String> {
        self.accounts = loaded.accounts;
        let mut lines = vec![];
        for (slot, held) in loaded.certs {
            let known = self.certs.get(&slot).and_then(Life::newest);
            let Some(newest) = held.first().filter(|newest| Some(*newest) != known) else { continue };
            lines.push(format!("{slot}: the store has a new certificate, until {}", newest.not_after));
            self.arrived(&slot, newest.clone(), None);
            self.certs.or_default(slot).held = held;
        }
        lines
    }

    pub fn succeeded(&mut self, slot: &Slot, outcome: &Outcome, now: Option<Unix>) {
        let Some((life, want, now)) = self.judged(slot, now) else { return };
        let next = plan::settle(&want, &life.tried, outcome, now, 0);
        life.want = Some(Want { forced: false, ..want });
        self.remember(slot, next);
    }

    /// Settles a failure and returns the line that says it.
    pub fn failed(&mut self, slot: &Slot, outcome: &Outcome, now: Option<Unix>, throw: u32) -> String {
        let what = match outcome {
            Outcome::OrderFailed(failure) => format!("order failed: {failure}"),
            Outcome::Vetoed(trouble) => format!("renewal put off: {trouble}"),
            Outcome::TellFailed(trouble) | Outcome::Unseen(trouble) => format!("notification failed: {trouble}"),
            Outcome::Ordered | Outcome::Notified(_) | Outcome::Told { .. } => String::new(),
        };
        let Some((life, want, now)) = self.judged(slot, now) else { return format!("{}: {what}", slot.md) };
        let mut next = plan::settle(&want, &life.tried, outcome, now, throw);
        let unforced = Want { forced: false, ..want };
        let ordering = matches!(outcome, Outcome::OrderFailed(_) | Outcome::Vetoed(_));
        if ordering && plan::why(&unforced, life.newest(), &life.tried, now).is_none() {
            // It was asked for, not due: what the CA imposed stays, a count of failures would only worry people.
            next.order = life.tried.order.clone();
            next.tell = life.tried.tell.clone();
        }
        life.want = Some(unforced);
        self.remember(slot, next);
        let next = match ordering {
            true => self.acts_at(slot, now).filter(|at| *at > now),
            false => self.tried(slot).and_then(|tried| tried.tell.until),
        };
        let mut then = next.map_or("no further try by itself".into(), |at| format!("next try {at}"));
        if let (Outcome::OrderFailed(_), Some(want)) = (outcome, self.want(slot).filter(|want| want.cas.len() > 1)) {
            then.push_str(&format!(" at {}", self.tried(slot).map_or("", |tried| plan::ca(want, tried))));
        }
        let entry = Entry { when: now, what: "errored", detail: what.clone() };
        self.diaries.or_default(slot.md.clone()).note(entry);
        format!("{}: {what}; {then}", slot.md)
    }

    /// A life, its want and the time, where all three are to be had.
    fn judged(&mut self, slot: &Slot, now: Option<Unix>) -> Option<(&mut Life, Want, Unix)> {
        self.touched.insert(slot.md.clone());
        let life = self.certs.get_mut(slot)?;
        let want = life.want.clone()?;
        Some((life, want, now?))
    }

    pub fn said(&self, md: &Name) -> Said {
        self.said.get(md).cloned().unwrap_or_default()
    }

    pub fn keep_said(&mut self, md: &Name, said: Said) {
        self.said.insert(md.clone(), said);
    }

    /// What an MD is to be warned of; `None` where nothing is held.
    pub fn watched(&self, md: &Name) -> Option<Watched<'_>> {
        let md = self.mds.get(md)?;
        let lives: Vec<&Life> = places(md).filter_map(|slot| self.certs.get(&slot)).collect();
        let fingerprint = lives.iter().find_map(|life| life.want.as_ref())?.fingerprint;
        let held: Vec<&Held> = lives.iter().filter_map(|life| life.newest()).collect();
        (!held.is_empty()).then(|| Watched { md, held, said: self.said(&md.name), fingerprint })
    }

    pub fn note(&mut self, md: &Name, entry: Entry) {
        self.diaries.or_default(md.clone()).note(entry);
    }

    /// The exports are not what they should be: its news are owed again, if only to files that are to go.
    pub fn owe(&mut self, slot: &Slot) {
        if let Some(life) = self.certs.get_mut(slot) {
            (life.tried.owed, life.tried.notified) = (true, None);
            if let Some(want) = life.want.as_mut() {
                want.tells = true;
            }
        }
    }

    /// Whether the disk took it; the result is whether that has changed.
    pub fn saved_tried(&mut self, slot: &Slot, saved: Result<(), Trouble>) -> bool {
        self.touched.insert(slot.md.clone());
        let Some(life) = self.certs.get_mut(slot) else { return false };
        let failed = saved.is_err();
        std::mem::replace(&mut life.unsaved_tried, saved.err()).is_some() != failed
    }

    /// What the disk did not take.
    pub fn unsaved(&self) -> Vec<Slot> {
        let unsaved = |life: &Life| life.unsaved.is_some() || life.unsaved_tried.is_some();
        self.certs.iter().filter(|(_, life)| unsaved(life)).map(|(slot, _)| slot.clone()).collect()
    }

    /// The pair of this certificate, where it is in memory alone.
    pub fn unsaved_bundle(&self, slot: &Slot, sha256: &[u8; 32]) -> Option<&Bundle> {
        let life = self.certs.get(slot)?;
        let is_newest = life.newest().is_some_and(|newest| newest.sha256 == *sha256);
        let unsaved = life.unsaved.as_ref().map(|(bundle, _)| bundle);
        unsaved.or(life.own.as_ref().map(|own| &own.bundle)).filter(|_| is_newest)
    }

    pub fn life(&mut self, slot: &Slot) -> Option<&mut Life> {
        self.certs.get_mut(slot)
    }

    /// What is not renewed by us ages in silence.
    pub fn touch_idle(&mut self, names: &[Name]) {
        let idle = names.iter().filter_map(|name| self.mds.get(name)).filter(|md| !md.driven());
        self.touched.extend(idle.map(|md| md.name.clone()));
    }

    /// Something of this MD has begun or ended.
    pub fn touch(&mut self, md: &Name) {
        self.touched.insert(md.clone());
    }
}

/// The places of those certificates that are served: where there are the operator's own, it is these.
pub fn served(md: &Md) -> impl Iterator<Item = Slot> {
    let own = !md.statics.is_empty();
    places(md).filter(move |slot| slot.is_own() == own)
}

/// The places of an MD's certificates, those of the operator's own first.
pub fn places(md: &Md) -> impl Iterator<Item = Slot> {
    let own = if md.statics.is_empty() { &[][..] } else { &KeyKind::ALL };
    let own = own.iter().map(|kind| Slot::own(md.name.clone(), *kind));
    own.chain(md.keys.iter().map(|kind| Slot { md: md.name.clone(), family: kind.family() }))
}
