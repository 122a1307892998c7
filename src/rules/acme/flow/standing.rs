//! The part of an order that is proven by DNS: its answers are all put in place, then all looked for, then the CA is told
//! of one after the other; they stand until the last is proven. So the two values of a name and its wildcard are there
//! together, and one wait does for all.

use super::{Flow, Next, Stage};
use crate::rules::acme::pace::Pace;
use crate::rules::acme::proving::{Candidate, SETUP_FAILURE};
use crate::rules::acme::turns::Turn;
use crate::words::config::Challenge;
use crate::words::fault::{Failure, Refusal, Trouble};
use crate::words::name::Name;

/// An answer in DNS that the CA was not told of yet.
#[derive(Debug)]
pub struct Standing {
    authorization: String,
    name: Name,
    pub candidate: Candidate,
}

impl Flow {
    /// An answer is in place; one in DNS waits for the others there.
    pub(super) fn served(&mut self, doing: &str) -> Next {
        match (self.candidate.take(), self.name.take()) {
            (Some(candidate), Some(name)) if candidate.proof.txt.is_some() => {
                let authorization = std::mem::take(&mut self.authorization);
                self.standing.push_back(Standing { authorization, name, candidate });
                self.next_authorization()
            }
            (candidate, name) => {
                (self.candidate, self.name) = (candidate, name);
                self.answer_challenge(doing)
            }
        }
    }

    /// Every authorization was read: on to those that wait for DNS, and then to the end of the order.
    pub(super) fn next_standing(&mut self) -> Next {
        if !std::mem::replace(&mut self.looked, true) && !self.standing.is_empty() {
            self.stage = Stage::Look;
            let proofs = self.standing.iter().map(|standing| &standing.candidate.proof);
            let patient = proofs.clone().any(|proof| proof.challenge == Challenge::Dns01);
            return Ok(Turn::Look { records: proofs.filter_map(|proof| proof.txt.clone()).collect(), patient });
        }
        if let Some(standing) = self.standing.pop_front() {
            self.authorization = standing.authorization;
            self.name = Some(standing.name);
            self.candidate = Some(standing.candidate);
            self.pace = Pace::default();
            self.stage = Stage::Challenge;
            return self.answer_challenge(&self.doing());
        }
        match self.serving.pop() {
            Some(proof) => {
                self.stage = Stage::Proven;
                Ok(Turn::Unserve(proof))
            }
            None => self.finalize(),
        }
    }

    pub(super) fn stands_in_dns(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.proof.txt.is_some())
    }

    /// DNS does not show what it should. The CA was not asked, so nothing was spent: a record that a person has to
    /// publish is waited for as for a network that is away; else the next order takes another way, if there is one.
    pub(super) fn unseen(&self, doing: &str, why: &Trouble) -> Failure {
        let mut publish: Vec<String> = vec![];
        for proof in self.standing.iter().map(|standing| &standing.candidate.proof) {
            let record = proof.txt.as_ref().filter(|_| proof.challenge == Challenge::DnsPersist01);
            let record = record.map(ToString::to_string);
            publish.extend(record.filter(|record| !publish.contains(record)));
        }
        if !publish.is_empty() {
            return Trouble::new(doing, format!("{}; publish {}", why.why, publish.join(" and "))).into();
        }
        let no = Refusal::ours(doing, SETUP_FAILURE, &why.why);
        Refusal { rejected: Some(Challenge::Dns01), ..no }.into()
    }
}
