//! What the lives know of OCSP: the question for each certificate, the answer to it, and what came of asking.

use super::{Life, Lives};
use crate::rules::ocsp::{self, Query};
use crate::rules::plan;
use crate::words::board::StapleReport;
use crate::words::cert::{Backoff, Slot, Window};
use crate::words::fault::{Failure, Trouble};
use crate::words::staple::Response;
use crate::words::time::{Span, Unix};

pub struct Staple {
    /// The certificate that all of this is about.
    pub sha256: [u8; 32],
    /// `None` where there is nobody to be asked.
    pub query: Option<Query>,
    pub response: Option<Response>,
    /// When it came; `None` for one that the store had.
    pub asked: Option<Unix>,
    /// A throw of the dice, anew for each response.
    pub throw: u32,
    pub tried: Backoff,
}

impl Life {
    /// What the responder has said of the newest certificate concerns whoever wants it.
    pub(super) fn note_revoked(&mut self) {
        let staple =
            self.staple.as_ref().filter(|staple| self.newest().is_some_and(|held| held.sha256 == staple.sha256));
        let response = staple.and_then(|staple| staple.response.as_ref());
        let revoked = response.is_some_and(|response| response.verdict.revoked);
        if let Some(want) = &mut self.want {
            want.revoked = revoked;
        }
    }

    pub(super) fn forgive_responder(&mut self) {
        if let Some(staple) = &mut self.staple {
            staple.tried = Backoff::default();
        }
    }

    pub(super) fn staple_report(&self, now: Option<Unix>) -> Option<StapleReport> {
        let staple = self.staple.as_ref().filter(|staple| staple.query.is_some())?;
        let verdict = staple.response.as_ref().map(|response| response.verdict);
        let verdict = verdict.filter(|verdict| now.is_none_or(|now| now < verdict.until));
        Some(StapleReport { verdict, tried: staple.tried.clone() })
    }
}

impl Staple {
    /// When its responder is asked next.
    pub fn due(&self, window: Window, now: Unix) -> Option<Unix> {
        self.query.as_ref()?;
        let verdict = self.response.as_ref().map(|response| &response.verdict);
        let at = verdict.map_or(now, |verdict| ocsp::renew_at(verdict, window, self.asked, self.throw));
        Some(plan::pending(self.tried.until, now).map_or(at, |until| at.max(until)))
    }
}

impl Lives {
    pub fn staple(&self, slot: &Slot) -> Option<&Staple> {
        self.certs.get(slot)?.staple.as_ref()
    }

    /// The same, if it is about this certificate.
    pub fn staple_of(&self, slot: &Slot, sha256: &[u8; 32]) -> Option<&Staple> {
        self.staple(slot).filter(|staple| staple.sha256 == *sha256)
    }

    pub fn keep_staple(&mut self, slot: &Slot, staple: Staple) {
        self.touch(&slot.md);
        if let Some(life) = self.certs.get_mut(slot) {
            life.staple = Some(staple);
            life.note_revoked();
        }
    }

    /// A new answer; whether it is another one than before.
    pub fn stapled(&mut self, slot: &Slot, response: Response, now: Option<Unix>, throw: u32) -> bool {
        self.touch(&slot.md);
        let Some(life) = self.certs.get_mut(slot) else { return false };
        let Some(staple) = &mut life.staple else { return false };
        (staple.asked, staple.tried) = (now, Backoff::default());
        // Of several machines behind one name some may be behind the others.
        let before = staple.response.as_ref();
        let newer = before.is_none_or(|before| before.verdict.from < response.verdict.from);
        if newer {
            (staple.response, staple.throw) = (Some(response), throw);
            life.note_revoked();
        }
        newer
    }

    /// No answer; when the next try is. `wait` is what the responder asks for.
    pub fn not_stapled(
        &mut self,
        slot: &Slot,
        why: Trouble,
        wait: Option<Span>,
        now: Unix,
        throw: u32,
    ) -> Option<Unix> {
        self.touch(&slot.md);
        let retry = self.want(slot)?.retry;
        let staple = self.certs.get_mut(slot)?.staple.as_mut()?;
        staple.tried = plan::failed(&staple.tried, &Failure::Trouble(why), retry, now, throw);
        let wait = wait.map(|wait| now.plus(wait.min(Span::hours(24))));
        staple.tried.until = wait.max(staple.tried.until);
        staple.tried.until
    }

    /// A changed configuration forgives, and may want nothing stapled any more.
    pub(super) fn reconsider_staples(&mut self) {
        for (slot, life) in self.certs.iter_mut() {
            if !self.mds.get(&slot.md).is_some_and(|md| md.stapling.on) {
                life.staple = None;
            }
            life.forgive_responder();
            life.note_revoked();
        }
    }
}
