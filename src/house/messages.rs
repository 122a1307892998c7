//! Messages: what MDMessageCmd is told of an MD, each event no more often than the rules allow.

use crate::house::errand::Errand;
use crate::house::keeper::Keeper;
use crate::rules::acme::flow::Proof;
use crate::rules::messages;
use crate::rules::plan::THROW;
use crate::words::board::Entry;
use crate::words::config::Md;
use crate::words::fault::Trouble;
use crate::words::message::{Said, Topic};
use crate::words::name::Name;
use crate::words::time::Unix;

impl Keeper<'_> {
    /// Says this of an MD, unless it was said lately or there is nobody to hear it. Trouble with what is owed to nobody
    /// is logged, and no more.
    pub(super) fn say(&mut self, md: &Md, topic: Topic) -> Result<(), Trouble> {
        let (Some(_), Some(now)) = (&md.message, self.now()) else { return Ok(()) };
        if !messages::may(topic, &self.lives.said(&md.name), now) {
            return Ok(());
        }
        let came = self.utter(md, topic, topic.word());
        if came.is_err() && !messages::is_passing(topic) {
            return came;
        }
        if let Err(trouble) = came {
            log::warn!("{}: {trouble}", md.name);
        }
        let mut said = self.lives.said(&md.name);
        said.last.extend(self.now().map(|now| (topic, now)));
        self.keep_said(&md.name, said);
        Ok(())
    }

    /// Says that an answer to a challenge is in place.
    pub(super) fn say_setup(&mut self, md: &Md, proof: &Proof) -> Result<(), Trouble> {
        self.utter(md, Topic::ChallengeSetup, &messages::setup(proof.challenge, &proof.name))
    }

    /// Warns of what runs out, once a day each; the result is the moment of the next warning.
    pub(super) fn warn(&mut self, names: &[Name], now: Unix) -> Option<Unix> {
        let mut next: Option<Unix> = None;
        for name in names {
            let mut at = self.warn_at(name, now);
            if at.is_some_and(|at| at <= now) {
                self.warn_of(name, now);
                at = self.warn_at(name, now);
            }
            next = [next, at].into_iter().flatten().min();
        }
        next
    }

    /// When an MD is to be warned of; while it is being renewed there is nothing to warn of yet.
    fn warn_at(&self, md: &Name, now: Unix) -> Option<Unix> {
        let busy = self.errands.iter().filter_map(Errand::order).any(|order| order.slot.md == *md);
        if busy { None } else { self.lives.watched(md)?.warn_at(now) }
    }

    fn warn_of(&mut self, name: &Name, now: Unix) {
        let Some(watched) = self.lives.watched(name) else { return };
        let (md, said, fingerprint) = (watched.md.clone(), watched.said.clone(), watched.fingerprint);
        // The command may fail for days; a line a day is enough.
        if said.warning_for(fingerprint).failures == 0 {
            let first = watched.held.iter().map(|held| held.not_after).min().unwrap_or(now);
            let verb = if first > now { "ends" } else { "has ended" };
            log::warn!("{name}: its certificate {verb} {first} and was not renewed; `edgemd status {name}` says why");
        }
        let came = self.utter(&md, Topic::Expiring, Topic::Expiring.word());
        if let Err(trouble) = &came {
            log::warn!("{name}: {trouble}");
        }
        let (now, throw) = (self.now().unwrap_or(now), self.doors.dice.below(THROW));
        self.keep_said(name, messages::warned(&said, came, fingerprint, md.retry, now, throw));
        self.lives.touch(name);
    }

    fn utter(&mut self, md: &Md, topic: Topic, event: &str) -> Result<(), Trouble> {
        let came = self.message(md, event);
        if let (Some(_), Ok(()), Some(when)) = (&md.message, &came, self.now()) {
            let detail = event.strip_prefix(topic.word()).unwrap_or_default().trim_start_matches(':').into();
            self.lives.note(&md.name, Entry { when, what: topic.entry(), detail });
        }
        came
    }

    fn keep_said(&mut self, md: &Name, said: Said) {
        if let Err(trouble) = self.store.put_said(self.doors.disk, md, &said) {
            log::warn!("{md}: what was said is not noted: {trouble}; after a restart it may be said again");
        }
        self.lives.keep_said(md, said);
    }
}
