//! One errand: an order, carried out turn by turn through the line to its CA and the answers on port 80. Between any two
//! turns it can be left standing or be dropped; its answers go with it.

use crate::doors::https::Line;
use crate::doors::keys::AccountKey;
use crate::rules::acme::flow::{Ask, Flow, Heard, Proof, Turn};
use crate::words::answers::Answers;
use crate::words::cert::{Slot, Want, Why};
use crate::words::fault::{Failure, Trouble};
use crate::words::time::Span;
use std::sync::Arc;

pub struct Errand {
    pub slot: Slot,
    pub why: Why,
    /// The want as it was when the order began.
    pub want: Want,
    /// The new certificate's key, PKCS#8.
    pub key: Vec<u8>,
    /// Not to be taken up before this moment of the steady clock.
    pub rests_until: Span,
    account: AccountKey,
    flow: Flow,
    heard: Heard,
    line: Box<dyn Line>,
    served: Served,
}

/// What came of a turn.
pub enum Came {
    /// There is more to do, at once or after the rest.
    Nothing,
    /// An answer is in place; [`Errand::refuse`] before the next turn if it shall not count.
    Served(Proof),
    /// The account exists at this URL: keep it before the next turn.
    Account(String),
    /// The chain, DER, leaf first.
    Chain(Vec<Vec<u8>>),
    Nowhere(Failure),
}

impl Errand {
    pub fn new(
        (slot, want, why): (Slot, Want, Why),
        key: Vec<u8>,
        account: AccountKey,
        flow: Flow,
        line: Box<dyn Line>,
        answers: Arc<Answers>,
    ) -> Self {
        let served = Served { answers, tokens: vec![] };
        Self { slot, why, want, key, rests_until: Span::ZERO, account, flow, heard: Heard::Start, line, served }
    }

    /// Takes one turn; `steady` is the moment at which it is taken.
    pub fn turn(&mut self, steady: Span) -> Came {
        let heard = std::mem::replace(&mut self.heard, Heard::Done);
        match self.flow.turn(heard) {
            Turn::Call(ask) => self.heard = self.call(&ask),
            Turn::Serve(proof) => {
                self.served.put(&proof.token, &proof.key_authorization);
                return Came::Served(proof);
            }
            Turn::Unserve(proof) => self.served.withdraw(&proof.token),
            Turn::Rest(span) => self.rests_until = steady.plus(span),
            Turn::Keep { account } => return Came::Account(account),
            Turn::Done(chain) => return Came::Chain(chain),
            Turn::Fail(failure) => return Came::Nowhere(failure),
        }
        Came::Nothing
    }

    /// The answer that was put in place a turn ago is of no use.
    pub fn refuse(&mut self, why: Trouble) {
        self.heard = Heard::Silence(why);
    }

    fn call(&mut self, ask: &Ask) -> Heard {
        let request = self.account.request(ask);
        match request.and_then(|request| self.line.call(&request)) {
            Ok(reply) => Heard::Reply(reply),
            Err(trouble) => Heard::Silence(trouble),
        }
    }
}

/// The answers that stand for this errand. Dropping it withdraws them, whichever way the errand ends.
struct Served {
    answers: Arc<Answers>,
    tokens: Vec<String>,
}

impl Served {
    fn put(&mut self, token: &str, answer: &str) {
        self.answers.put(token, answer);
        self.tokens.push(token.into());
    }

    fn withdraw(&mut self, token: &str) {
        self.answers.withdraw(token);
        self.tokens.retain(|standing| standing != token);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for token in &self.tokens {
            self.answers.withdraw(token);
        }
    }
}
