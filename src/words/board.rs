//! The board: the last status of every MD, from which the control socket answers at any time. One of the three locks.

use crate::words::cert::{Backoff, Held, KeyKind, Suggested, Why};
use crate::words::config::Md;
use crate::words::staple::Verdict;
use crate::words::time::Unix;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default, Debug)]
pub struct Board(Mutex<Posted>);

#[derive(Default, Debug)]
struct Posted {
    /// In the order of the configuration.
    reports: Vec<Report>,
    /// Whether something was posted since the watcher looked, and who that is.
    news: bool,
    watcher: Option<Waker>,
}

impl Board {
    pub fn post(&self, reports: Vec<Report>) {
        self.change(|posted| *posted = reports);
    }

    /// Puts one MD's report in the place of its older one.
    pub fn repost(&self, report: Report) {
        self.change(|posted| {
            if let Some(place) = posted.iter_mut().find(|old| old.md.name == report.md.name) {
                *place = report;
            }
        });
    }

    pub fn read<T>(&self, view: impl FnOnce(&[Report]) -> T) -> T {
        view(&self.lock().reports)
    }

    /// Ready when something was posted since it last was; for one who waits.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut posted = self.lock();
        if core::mem::take(&mut posted.news) {
            return Poll::Ready(());
        }
        posted.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Report>)) {
        let mut posted = self.lock();
        change(&mut posted.reports);
        posted.news = true;
        let watcher = posted.watcher.take();
        drop(posted);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }

    /// A panic ends the process, so a poisoned lock is never met; should it be, the list is whole all the same.
    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be said of one MD.
#[derive(Clone, Debug)]
pub struct Report {
    pub md: Arc<Md>,
    /// The CA that is asked next, or else the one that gave what is held.
    pub ca: String,
    /// Our account's URL there.
    pub account: Option<String>,
    /// What a person has to have published for dns-persist-01, as far as it is known.
    pub records: Vec<String>,
    pub certs: Vec<CertReport>,
    pub log: Diary,
    /// What came of warning that a certificate runs out.
    pub warning: Backoff,
    /// Something that a person must see to and that belongs to no try: the store can't be written.
    pub trouble: Option<String>,
    /// Why the operator's own files can't be used.
    pub fault: Option<String>,
}

/// What is to be said of one of its certificates.
#[derive(Clone, Debug)]
pub struct CertReport {
    pub kind: KeyKind,
    /// Whether it is the operator's own.
    pub own: bool,
    /// The one that is in use.
    pub held: Option<Held>,
    /// A newer one, and when it will be.
    pub staged: Option<(Held, Unix)>,
    /// When the CA wants the newest one renewed.
    pub suggested: Option<Suggested>,
    pub why: Option<Why>,
    pub next: Next,
    /// Whose wait it is that the next try waits for, where it is neither its own nor its window: `, as the CA asked`.
    pub waits_for: &'static str,
    pub renew_at: Option<Unix>,
    pub order: Backoff,
    pub tell: Backoff,
    pub told: bool,
    /// `None` where nothing is stapled to it.
    pub staple: Option<StapleReport>,
    /// Whether it is in its warn window, or past its end.
    pub ends_soon: bool,
}

impl Report {
    /// What tests begin with: an MD of these certificates, and nothing amiss.
    #[doc(hidden)]
    pub fn sample(md: Arc<Md>, certs: Vec<CertReport>) -> Self {
        Self {
            md,
            ca: "https://ca.example/dir".into(),
            account: None,
            records: vec![],
            certs,
            log: Diary::default(),
            warning: Backoff::default(),
            trouble: None,
            fault: None,
        }
    }
}

impl CertReport {
    /// What tests begin with: there is nothing to be done about it.
    #[doc(hidden)]
    pub fn sample(held: Option<Held>) -> Self {
        Self {
            kind: KeyKind::P256,
            own: false,
            held,
            staged: None,
            suggested: None,
            why: None,
            next: Next::Nothing,
            renew_at: None,
            order: Backoff::default(),
            tell: Backoff::default(),
            told: true,
            waits_for: "",
            staple: None,
            ends_soon: false,
        }
    }
}

/// What is to be said of the OCSP response for it.
#[derive(Clone, Default, Debug)]
pub struct StapleReport {
    /// What it says, while it is good.
    pub verdict: Option<Verdict>,
    /// What came of asking since.
    pub tried: Backoff,
}

/// What happens next for it, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Not looked at yet, or nothing will happen by itself.
    Nothing,
    NoClock,
    Ordering,
    Telling,
    At(Unix),
}

/// The newest entries of one MD's log; kept in memory alone.
#[derive(Clone, Default, Debug)]
pub struct Diary(VecDeque<Entry>);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub when: Unix,
    /// The event's word: `renewed`, `errored`.
    pub what: &'static str,
    pub detail: String,
}

impl Diary {
    const LONGEST: usize = 128;

    pub fn note(&mut self, entry: Entry) {
        if self.0.len() >= Self::LONGEST {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// The newest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().rev()
    }
}
