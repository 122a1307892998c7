//! What the keeper knows: every want beside what is held for it and what was tried. Plain bookkeeping over the rules;
//! nothing here touches a door.

mod own;

use crate::doors::clock::Push;
use crate::house::store::Loaded;
use crate::rules::kin::{self, Kin};
use crate::rules::{messages, plan, record};
use crate::words::board::{CertReport, Diary, Entry, Next, Report};
use crate::words::cert::{Account, Bundle, Fingerprint, Held, KeyKind, Outcome, Slot, Step, Tried, Want, Why};
use crate::words::config::{Config, Md};
use crate::words::fault::Trouble;
use crate::words::message::Said;
use crate::words::name::Name;
use crate::words::time::Unix;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub struct Lives {
    mds: BTreeMap<Name, Arc<Md>>,
    /// Their names in the order of the configuration.
    order: Vec<Name>,
    certs: BTreeMap<Slot, Life>,
    accounts: BTreeMap<String, Account>,
    /// What the MDs that may come to each CA give as their contacts.
    contacts: BTreeMap<String, BTreeSet<String>>,
    diaries: BTreeMap<Name, Diary>,
    said: BTreeMap<Name, Said>,
    /// The end of the longest wait that each CA has asked for, of whichever want.
    imposed: BTreeMap<String, Unix>,
    /// Before this moment no clock is believed.
    floor: Unix,
    /// Of which MDs there is something new to say.
    touched: BTreeSet<Name>,
    /// Why the operator's own files of an MD can't be used.
    faults: BTreeMap<Name, Vec<String>>,
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
}

impl Lives {
    pub fn new(loaded: Loaded, config: &Config) -> Self {
        let mut certs: BTreeMap<Slot, Life> = BTreeMap::new();
        for (slot, held) in loaded.certs {
            certs.entry(slot).or_default().held = held;
        }
        for (slot, tried) in loaded.tried {
            certs.entry(slot).or_default().tried = tried;
        }
        let mut lives = Self {
            mds: BTreeMap::new(),
            order: vec![],
            floor: plan::floor(certs.values().filter_map(Life::newest)),
            certs,
            accounts: loaded.accounts,
            contacts: BTreeMap::new(),
            diaries: BTreeMap::new(),
            said: loaded.said,
            imposed: BTreeMap::new(),
            touched: BTreeSet::new(),
            faults: BTreeMap::new(),
        };
        lives.sum_up_waits();
        lives.rewant(config);
        lives
    }

    /// Takes over a configuration. What is held stays, wanted or not.
    pub fn rewant(&mut self, config: &Config) {
        let mut before: BTreeMap<Slot, Want> = BTreeMap::new();
        for (slot, life) in &mut self.certs {
            before.extend(life.want.take().map(|want| (slot.clone(), want)));
        }
        self.order = config.mds.iter().map(|md| md.name.clone()).collect();
        self.mds = config.mds.iter().map(|md| (md.name.clone(), Arc::new(md.clone()))).collect();
        self.contacts.clear();
        self.forget_own();
        for md in self.mds.values() {
            for ca in &md.cas {
                self.contacts.entry(ca.clone()).or_default().extend(md.contacts.iter().cloned());
            }
            for mut want in md.wants(record::fingerprint(md)) {
                let slot = want.slot();
                let same = before.get(&slot).filter(|before| before.fingerprint == want.fingerprint);
                want.forced = same.is_some_and(|before| before.forced);
                self.certs.entry(slot).or_default().want = Some(want);
            }
        }
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
            let orphans = homeless.filter_map(|(slot, life)| match (&life.want, life.newest()) {
                (None, Some(held)) => Some(Kin { md: &slot.md, names: &held.names }),
                _ => None,
            });
            let place = |md: &Name| Slot { md: md.clone(), family };
            let found = kin::recognise(&heirs.collect::<Vec<_>>(), &orphans.collect::<Vec<_>>());
            pairs.extend(found.into_iter().map(|(heir, orphan)| (place(heir), place(orphan))));
        }
        pairs
    }

    /// What is held at the old place is from now on held at the new one; its news are owed under the new name.
    pub fn inherit(&mut self, new: &Slot, old: &Slot) {
        let Some(orphan) = self.certs.remove(old) else { return };
        let life = self.certs.entry(new.clone()).or_default();
        life.held = orphan.held;
        life.unsaved = orphan.unsaved;
        (life.tried.told, life.tried.notified) = (None, None);
        life.tried.imposed = orphan.tried.imposed;
        life.tried.exported = orphan.tried.exported;
        self.touch(&new.md);
    }

    /// The slots that the configuration asks for.
    pub fn wanted(&self) -> Vec<Slot> {
        self.certs.iter().filter(|(_, life)| life.want.is_some()).map(|(slot, _)| slot.clone()).collect()
    }

    /// Those of these MDs.
    pub fn slots_of(&self, names: &[Name]) -> Vec<Slot> {
        let of = |md: &Name| {
            let first = Slot { md: md.clone(), family: "" };
            let lives = self.certs.range(first..).take_while(move |(slot, _)| slot.md == *md);
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

    pub fn account(&self, ca: &str) -> Option<&Account> {
        self.accounts.get(ca)
    }

    /// What anybody who may come to this CA gives as a contact.
    pub fn contacts(&self, ca: &str) -> &BTreeSet<String> {
        const NONE: &BTreeSet<String> = &BTreeSet::new();
        self.contacts.get(ca).unwrap_or(NONE)
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    pub fn forget_account(&mut self, ca: &str) {
        self.accounts.remove(ca);
        self.touched.extend(self.order.iter().cloned());
    }

    /// What stood in these places, and the accounts with these CAs, are gone.
    pub fn forget(&mut self, places: &[Slot], cas: &[String]) {
        self.certs.retain(|slot, _| !places.contains(slot));
        cas.iter().for_each(|ca| self.forget_account(ca));
    }

    pub fn keep_account(&mut self, account: Account) {
        let users = self.mds.values().filter(|md| md.cas.contains(&account.ca));
        self.touched.extend(users.map(|md| md.name.clone()));
        self.accounts.insert(account.ca.clone(), account);
    }

    pub fn holds_nothing(&self) -> bool {
        self.certs.values().all(|life| life.held.is_empty())
    }

    /// The wall clock, if it can be believed.
    pub fn believe(&self, now: Option<Unix>) -> Option<Unix> {
        plan::believe(now, self.floor)
    }

    /// What the rules say about a want.
    pub fn step(&self, slot: &Slot, now: Option<Unix>) -> Step {
        match self.certs.get(slot) {
            Some(Life { want: Some(want), held, tried, .. }) => {
                let imposed = self.imposed.get(plan::ca(want, tried)).copied();
                plan::decide(want, held, tried, imposed, now)
            }
            _ => Step::Wait { until: Unix::from_millis(u64::MAX) },
        }
    }

    fn sum_up_waits(&mut self) {
        self.imposed.clear();
        for imposed in self.certs.values().flat_map(|life| &life.tried.imposed) {
            let longest = self.imposed.entry(imposed.ca.clone()).or_default();
            *longest = imposed.until.max(*longest);
        }
    }

    /// Ends the wait that we gave ourselves; forces an order if that is what was asked.
    pub fn push(&mut self, slot: &Slot, push: Push) {
        let Some(life) = self.certs.get_mut(slot) else { return };
        if push != Push::Due {
            life.tried.order.until = None;
            life.tried.tell.until = None;
        }
        if let Some(want) = life.want.as_mut() {
            want.forced |= push == Push::Force && want.driven;
        }
    }

    /// A new pair is here, on the disk or (`unsaved`) not yet.
    pub fn arrived(&mut self, slot: &Slot, held: Held, unsaved: Option<(Bundle, Trouble)>) {
        self.floor = plan::floor([&held].into_iter()).max(self.floor);
        self.touched.insert(slot.md.clone());
        let life = self.certs.entry(slot.clone()).or_default();
        if life.unsaved.is_some() {
            // The one before is nowhere any more.
            life.held.clear();
        }
        life.held.insert(0, held);
        life.held.truncate(2);
        life.unsaved = unsaved;
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
            self.certs.entry(slot).or_default().held = held;
        }
        lines
    }

    pub fn succeeded(&mut self, slot: &Slot, outcome: &Outcome, now: Option<Unix>) {
        let Some((life, want, now)) = self.judged(slot, now) else { return };
        let next = plan::settle(&want, &life.tried, outcome, now, 0);
        life.want = Some(Want { forced: false, ..want });
        self.remember(slot, next);
    }

    /// The waits of all are summed up anew only where one has come or gone.
    fn remember(&mut self, slot: &Slot, next: Tried) {
        let Some(life) = self.certs.get_mut(slot) else { return };
        let waits = !next.imposed.is_empty() || !life.tried.imposed.is_empty();
        life.tried = next;
        if waits {
            self.sum_up_waits();
        }
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
        if ordering && plan::why(&unforced, life.newest(), now).is_none() {
            // It was asked for, not due: what the CA imposed stays, a count of failures would only worry people.
            next.order = life.tried.order.clone();
            next.tell = life.tried.tell.clone();
        }
        life.want = Some(unforced);
        self.remember(slot, next);
        let next = match (ordering, self.step(slot, Some(now))) {
            (true, Step::Wait { until }) if until.millis() < u64::MAX => Some(until),
            (true, _) => None,
            _ => self.tried(slot).and_then(|tried| tried.tell.until),
        };
        let mut then = next.map_or("no further try by itself".into(), |at| format!("next try {at}"));
        if let (Outcome::OrderFailed(_), Some(want)) = (outcome, self.want(slot).filter(|want| want.cas.len() > 1)) {
            then.push_str(&format!(" at {}", self.tried(slot).map_or("", |tried| plan::ca(want, tried))));
        }
        let entry = Entry { when: now, what: "errored", detail: what.clone() };
        self.diaries.entry(slot.md.clone()).or_default().note(entry);
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
        self.diaries.entry(md.clone()).or_default().note(entry);
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

    /// `; renewal from …`: what the log says comes next, where nothing else does.
    pub fn outlook(&self, slot: &Slot, now: Option<Unix>) -> String {
        if let Some(at) = self.activates_at(slot, now) {
            return format!("; in use from {at}");
        }
        match self.step(slot, now) {
            Step::Wait { until } if until.millis() < u64::MAX => format!("; renewal from {until}"),
            _ => String::new(),
        }
    }

    /// How a want stands, in one line, and whether that is well: nothing is left to do for it.
    pub fn summary(&self, slot: &Slot, now: Option<Unix>) -> (String, bool) {
        let Some(report) = self.md(&slot.md).map(|md| self.report(md, now, |_| false)) else {
            return (format!("{}: no longer in the configuration", slot.md), false);
        };
        let family = slot.family.trim_start_matches("own-");
        let one =
            Report { certs: report.certs.into_iter().filter(|cert| cert.kind.family() == family).collect(), ..report };
        let due = one.certs.iter().any(|cert| cert.why.is_some());
        let (lines, well) = crate::rules::status::text(&one);
        (lines.join("\n"), well && !due && now.is_some())
    }

    /// In the order of the configuration.
    pub fn reports(&self, now: Option<Unix>, busy: impl Fn(&Slot) -> bool) -> Vec<Report> {
        self.order.iter().filter_map(|name| self.mds.get(name)).map(|md| self.report(md, now, &busy)).collect()
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

    /// The reports of the MDs of which there is something new to say, each once.
    pub fn news(&mut self, now: Option<Unix>, busy: impl Fn(&Slot) -> bool) -> Vec<Report> {
        let touched = std::mem::take(&mut self.touched);
        touched.iter().filter_map(|name| self.mds.get(name)).map(|md| self.report(md, now, &busy)).collect()
    }

    fn report(&self, md: &Arc<Md>, now: Option<Unix>, busy: impl Fn(&Slot) -> bool) -> Report {
        let lives: Vec<(Slot, &Life)> =
            places(md).filter_map(|slot| self.certs.get(&slot).map(|life| (slot, life))).collect();
        let ca = ca_of(md, lives.iter().map(|(_, life)| *life), now);
        let account = self.accounts.get(&ca).and_then(|account| account.url.clone());
        let trouble = lives.iter().find_map(|(_, life)| {
            let unsaved = life.unsaved.as_ref().map(|(_, trouble)| trouble);
            unsaved.or(life.unsaved_tried.as_ref()).map(|trouble| format!("not stored yet: {trouble}"))
        });
        Report {
            md: md.clone(),
            ca,
            account,
            certs: lives.iter().filter_map(|(slot, life)| self.cert_report(slot, life, now, busy(slot))).collect(),
            log: self.diaries.get(&md.name).cloned().unwrap_or_default(),
            warning: self
                .watched(&md.name)
                .map(|watched| watched.said.warning_for(watched.fingerprint))
                .unwrap_or_default(),
            trouble,
            fault: self.faults.get(&md.name).filter(|faults| !faults.is_empty()).map(|faults| faults.join("; ")),
        }
    }

    fn cert_report(&self, slot: &Slot, life: &Life, now: Option<Unix>, busy: bool) -> Option<CertReport> {
        let want = life.want.as_ref()?;
        let newest = life.newest();
        let active = plan::active(want, &life.held, &life.tried, now);
        let next = match self.step(slot, now) {
            _ if busy => Next::Ordering,
            Step::NoClock => Next::NoClock,
            Step::Tell => Next::Telling,
            Step::Order { .. } => Next::Nothing,
            Step::Wait { until } if until.millis() == u64::MAX => Next::Nothing,
            Step::Wait { until } => Next::At(until),
        };
        let why = match now {
            Some(now) => plan::why(want, newest, now),
            None => newest.is_none().then_some(Why::Missing),
        };
        let incomplete =
            matches!(why, Some(Why::Missing | Why::Renamed | Why::OtherCa | Why::OtherKey | Why::OtherStaple));
        let forgiven = life.tried.fingerprint != want.fingerprint;
        let warn = self.mds.get(&want.md).map(|md| md.warn);
        let warned_from = newest.zip(warn).map(|(held, warn)| held.not_after.minus(warn.of(held.life())));
        Some(CertReport {
            kind: want.kind,
            own: slot.is_own(),
            ends_soon: warned_from.zip(now).is_some_and(|(from, now)| from <= now),
            held: active.cloned(),
            staged: plan::staged(want, &life.held, &life.tried, now).map(|(held, at)| (held.clone(), at)),
            why,
            next,
            renew_at: now.filter(|_| incomplete).or_else(|| newest.map(|held| plan::renew_at(want, held))),
            order: if forgiven { Default::default() } else { life.tried.order.clone() },
            tell: if forgiven { Default::default() } else { life.tried.tell.clone() },
            told: !want.tells || active.is_some_and(|held| !plan::is_owed(held, &life.tried)),
        })
    }
}

/// The places of an MD's certificates, those of the operator's own first.
pub fn places(md: &Md) -> impl Iterator<Item = Slot> {
    let own = if md.statics.is_empty() { &[][..] } else { &KeyKind::ALL };
    let own = own.iter().map(|kind| Slot::own(md.name.clone(), *kind));
    own.chain(md.keys.iter().map(|kind| Slot { md: md.name.clone(), family: kind.family() }))
}

/// The CA that matters now: the one whose turn it is, where something is due; else the one that gave what is held.
fn ca_of<'a>(md: &Md, lives: impl Iterator<Item = &'a Life> + Clone, now: Option<Unix>) -> String {
    let due = lives.clone().find_map(|life| {
        let want = life.want.as_ref()?;
        let due = now.is_some_and(|now| plan::why(want, life.newest(), now).is_some());
        due.then(|| plan::ca(want, &life.tried))
    });
    let giver = || lives.clone().find_map(Life::newest).map(|held| held.ca.as_str());
    due.or_else(giver).or(md.cas.first().map(String::as_str)).unwrap_or_default().into()
}
