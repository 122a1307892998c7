//! What is to be said of lives: for the board, for the log, for whoever asked.

use super::{Life, Lives, places};
use crate::rules::{plan, status};
use crate::words::board::{CertReport, Next, Report};
use crate::words::cert::{Backoff, Slot, Step, Why};
use crate::words::config::{Challenge, Md};
use crate::words::time::Unix;
use std::sync::Arc;

impl Lives {
    /// `; renewal from …`: what the log says comes next, where nothing else does.
    pub fn outlook(&self, slot: &Slot, now: Option<Unix>) -> String {
        if let Some(at) = self.activates_at(slot, now) {
            return format!("; in use from {at}");
        }
        match (self.step(slot, now), now.and_then(|now| self.acts_at(slot, now))) {
            (Step::Wait { .. } | Step::Ask, Some(at)) => format!("; renewal from {at}"),
            _ => String::new(),
        }
    }

    /// How a want stands, in one line, and whether that is well: nothing is left to do for it.
    pub fn summary(&self, slot: &Slot, now: Option<Unix>) -> (String, bool) {
        let Some(report) = self.md(&slot.md).map(|md| self.report(md, now, |_| false)) else {
            return (format!("{}: no longer in the configuration", slot.md), false);
        };
        let family = slot.family.trim_start_matches("own-");
        // Whether anything is stapled to it is no part of how a renewal ended.
        let certs = report.certs.into_iter().filter(|cert| cert.kind.family() == family);
        let certs = certs.map(|cert| CertReport { staple: None, ..cert }).collect();
        let one = Report { certs, ..report };
        let due = one.certs.iter().any(|cert| cert.why.is_some());
        let (lines, well) = status::text(&one);
        (lines.join("\n"), well && !due && now.is_some())
    }

    /// In the order of the configuration.
    pub fn reports(&self, now: Option<Unix>, busy: impl Fn(&Slot) -> bool) -> Vec<Report> {
        self.order.iter().filter_map(|name| self.mds.get(name)).map(|md| self.report(md, now, &busy)).collect()
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
        let account = self.accounts.get(&md.account_at(&ca)).and_then(|account| account.url.clone());
        let trouble = lives.iter().find_map(|(_, life)| {
            let unsaved = life.unsaved.as_ref().map(|(_, trouble)| trouble);
            unsaved.or(life.unsaved_tried.as_ref())
        });
        let place = md.account_at(&ca);
        let account_trouble = self.unsaved_accounts.iter().find(|(unsaved, _)| *unsaved == place);
        let trouble = trouble.or(account_trouble.map(|(_, trouble)| trouble));
        let trouble = trouble.map(|trouble| format!("not stored yet: {trouble}"));
        Report {
            records: if md.proves_by(Challenge::DnsPersist01) { self.records(md) } else { vec![] },
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
            Step::Ask | Step::Wait { .. } => {
                now.and_then(|now| self.acts_at(slot, now)).map_or(Next::Nothing, Next::At)
            }
        };
        let waits_for = match next {
            Next::At(until) => self.waits_for(plan::ca(want, &life.tried), until, now),
            _ => "",
        };
        let why = match now {
            Some(now) => plan::why(want, newest, &life.tried, now),
            None => newest.is_none().then_some(Why::Missing),
        };
        let incomplete =
            matches!(why, Some(Why::Missing | Why::Renamed | Why::OtherCa | Why::OtherKey | Why::OtherStaple));
        let forgiven = life.tried.fingerprint != want.fingerprint;
        let of_today = |backoff: &Backoff| match now {
            _ if forgiven => Backoff::default(),
            Some(now) if plan::by_another_clock(backoff, now) => Backoff::default(),
            _ => backoff.clone(),
        };
        let warn = self.mds.get(&want.md).map(|md| md.warn);
        let warned_from = newest.zip(warn).map(|(held, warn)| held.not_after.minus(warn.of(held.life())));
        Some(CertReport {
            kind: want.kind,
            own: slot.is_own(),
            ends_soon: warned_from.zip(now).is_some_and(|(from, now)| from <= now),
            held: active.cloned(),
            staged: plan::staged(want, &life.held, &life.tried, now).map(|(held, at)| (held.clone(), at)),
            suggested: newest.and_then(|held| plan::suggested(want, held, &life.tried)).cloned(),
            why,
            next,
            waits_for,
            renew_at: now
                .filter(|_| incomplete || why == Some(Why::Revoked))
                .or_else(|| newest.map(|held| plan::renew_at(want, held, &life.tried))),
            order: of_today(&life.tried.order),
            tell: of_today(&life.tried.tell),
            staple: life.staple_report(now),
            told: !want.tells || active.is_some_and(|held| !plan::is_owed(held, &life.tried)),
        })
    }
}

/// The CA that matters now: the one whose turn it is, where something is due; else the one that gave what is held.
fn ca_of<'a>(md: &Md, lives: impl Iterator<Item = &'a Life> + Clone, now: Option<Unix>) -> String {
    let due = lives.clone().find_map(|life| {
        let want = life.want.as_ref()?;
        let due = now.is_some_and(|now| plan::why(want, life.newest(), &life.tried, now).is_some());
        due.then(|| plan::ca(want, &life.tried))
    });
    let giver = || lives.clone().find_map(Life::newest).map(|held| held.ca.as_str());
    due.or_else(giver).or(md.cas.first().map(String::as_str)).unwrap_or_default().into()
}
