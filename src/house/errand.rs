//! One errand: a conversation with a CA, carried out turn by turn through the line to it and the answers on port 80.
//! Between any two turns it can be left standing or be dropped; its answers go with it.

use crate::doors::clock::Ended;
use crate::doors::disk::Disk;
use crate::doors::https::Line;
use crate::doors::keys::AccountKey;
use crate::house::inquiries::Subject;
use crate::house::webroot;
use crate::rules::acme::advice::Hint;
use crate::rules::acme::turns::{Ask, Granted, Heard, Proof, Turn, Turns};
use crate::words::answers::Answers;
use crate::words::cert::{Account, Slot, Want, Why};
use crate::words::config::Challenge;
use crate::words::fault::{Failure, Trouble};
use crate::words::time::Span;
use std::path::PathBuf;
use std::sync::Arc;

pub struct Errand {
    pub task: Task,
    /// The directory URL of the CA.
    pub ca: String,
    account: AccountKey,
    flow: Box<dyn Turns>,
    heard: Heard,
    line: Box<dyn Line>,
    wait: Wait,
    /// Whether its CA keeps silent for longer than it should, or has done so up to its last call.
    pub hangs: bool,
    served: Served,
}

/// What it is for.
pub enum Task {
    Order(Order),
    /// The CA is to say when it wants these to be renewed.
    Ask(Vec<Subject>),
    /// Our account there is to end; whoever asked for that is told how it went.
    Leave {
        ended: Ended,
    },
}

pub struct Order {
    pub slot: Slot,
    pub why: Why,
    /// The want as it was when the order began.
    pub want: Want,
    /// The new certificate's key, PKCS#8.
    pub key: Vec<u8>,
}

/// What keeps an errand from its next turn; moments are those of the steady clock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    /// Its rest, up to this moment.
    Rest(Span),
    /// The answer to a call that was made at this moment.
    Answer(Span),
}

/// What came of a turn.
pub enum Came {
    /// There is more to do, at once or later.
    Nothing,
    /// An answer is in place; [`Errand::refuse`] before the next turn if it shall not count.
    Served(Proof),
    /// The CA has been silent for so long that others should not count on it.
    Silence,
    /// The account exists at this URL and has these contacts: keep it before the next turn.
    Account(String, Vec<String>),
    /// The account needs another key before the next turn.
    OldKey,
    Granted(Granted),
    /// What the CA said of each subject, and where it says it.
    Advised(Vec<Hint>, Option<String>),
    /// The account is no more.
    Left,
    Nowhere(Failure),
}

/// From here on a CA that has not answered is taken for one that hangs; a good one answers within a second.
const SILENCE: Span = Span::secs(5);

/// Later than anything.
const NEVER: Span = Span::millis(u64::MAX);

impl Errand {
    pub fn new(
        task: Task,
        ca: String,
        account: AccountKey,
        flow: Box<dyn Turns>,
        line: Box<dyn Line>,
        (answers, webroot): (Arc<Answers>, Option<PathBuf>),
    ) -> Self {
        let served = Served { answers, webroot, proofs: vec![] };
        let (heard, wait) = (Heard::Start, Wait::Nothing);
        Self { task, ca, account, flow, heard, line, wait, hangs: false, served }
    }

    /// Takes one turn, if nothing keeps it from that; `steady` is the moment.
    pub fn turn(&mut self, steady: Span, disk: &mut dyn Disk) -> Came {
        let goes_on = match self.wait {
            Wait::Nothing => true,
            Wait::Rest(until) => steady >= until,
            Wait::Answer(_) => self.hears(),
        };
        if !goes_on {
            let silent = matches!(self.wait, Wait::Answer(since) if steady >= since.plus(SILENCE));
            if silent && !self.hangs {
                self.hangs = true;
                return Came::Silence;
            }
            return Came::Nothing;
        }
        self.wait = Wait::Nothing;
        match self.flow.turn(std::mem::replace(&mut self.heard, Heard::Done)) {
            Turn::Call(ask) => self.call(&ask, steady),
            Turn::Serve(proof) => match self.served.put(disk, &proof) {
                Ok(()) => return Came::Served(proof),
                Err(trouble) => self.heard = Heard::Silence(trouble),
            },
            Turn::Unserve(proof) => self.served.withdraw(disk, &proof),
            Turn::Rest(span) => self.wait = Wait::Rest(steady.plus(span)),
            Turn::Keep { account, contacts } => return Came::Account(account, contacts),
            Turn::ReplaceKey => return Came::OldKey,
            Turn::Done(granted) => return Came::Granted(granted),
            Turn::Advised { hints, base } => return Came::Advised(hints, base),
            Turn::Left => return Came::Left,
            Turn::Fail(failure) => return Came::Nowhere(failure),
        }
        Came::Nothing
    }

    /// The answer that was put in place a turn ago is of no use.
    pub fn refuse(&mut self, why: Trouble) {
        self.heard = Heard::Silence(why);
    }

    /// When it wants a turn that nobody else will call it to.
    pub fn wakes_at(&self) -> Span {
        match self.wait {
            Wait::Nothing => Span::ZERO,
            Wait::Rest(until) => until,
            Wait::Answer(_) if self.hangs => NEVER,
            Wait::Answer(since) => since.plus(SILENCE),
        }
    }

    /// The order that it is for.
    pub fn order(&self) -> Option<&Order> {
        match &self.task {
            Task::Order(order) => Some(order),
            Task::Ask(_) | Task::Leave { .. } => None,
        }
    }

    /// What it was for is done: from here on it is for something else, on the same line.
    pub fn turn_to(&mut self, task: Task, flow: Box<dyn Turns>) {
        (self.task, self.flow) = (task, flow);
        (self.heard, self.wait) = (Heard::Start, Wait::Nothing);
    }

    /// Whether it speaks with this account's key.
    pub fn has_key(&self, account: &Account) -> bool {
        AccountKey::from_pkcs8(&account.key).is_ok_and(|key| key.thumbprint() == self.account.thumbprint())
    }

    /// From here on it speaks with another key.
    pub fn replace_key(&mut self, key: Result<AccountKey, Trouble>) {
        match key {
            Ok(key) => {
                self.heard = Heard::Key(key.thumbprint());
                self.account = key;
            }
            Err(trouble) => self.heard = Heard::Silence(trouble),
        }
    }

    /// Ends it in its midst. Its line is left, if there is a call on it that will come to an end some time.
    pub fn hang_up(mut self, disk: &mut dyn Disk) -> Option<Box<dyn Line>> {
        while let Some(proof) = self.served.proofs.first().cloned() {
            self.served.withdraw(disk, &proof);
        }
        matches!(self.wait, Wait::Answer(_)).then_some(self.line)
    }

    fn call(&mut self, ask: &Ask, steady: Span) {
        match self.account.request(ask) {
            Ok(request) => {
                self.line.ask(request);
                if !self.hears() {
                    self.wait = Wait::Answer(steady);
                }
            }
            Err(trouble) => self.heard = Heard::Silence(trouble),
        }
    }

    fn hears(&mut self) -> bool {
        match self.line.heard() {
            Some(Ok(reply)) => {
                self.heard = Heard::Reply(reply);
                self.hangs = false;
            }
            Some(Err(trouble)) => self.heard = Heard::Silence(trouble),
            None => return false,
        }
        true
    }
}

/// The answers that stand for this errand. Dropping it withdraws them from port 80, whichever way the errand ends.
struct Served {
    answers: Arc<Answers>,
    /// Where those of http-01 stand as files, too.
    webroot: Option<PathBuf>,
    proofs: Vec<Proof>,
}

impl Served {
    fn put(&mut self, disk: &mut dyn Disk, proof: &Proof) -> Result<(), Trouble> {
        self.proofs.push(proof.clone());
        if proof.challenge == Challenge::TlsAlpn01 {
            self.answers.put_for(&proof.name, &proof.key_authorization);
            return Ok(());
        }
        self.answers.put(&proof.token, &proof.key_authorization);
        self.webroot.as_ref().map_or(Ok(()), |root| webroot::put(disk, root, &proof.token, &proof.key_authorization))
    }

    fn withdraw(&mut self, disk: &mut dyn Disk, proof: &Proof) {
        take_back(&self.answers, proof);
        if let (Some(root), Challenge::Http01) = (&self.webroot, proof.challenge) {
            webroot::withdraw(disk, root, &proof.token);
        }
        self.proofs.retain(|standing| standing != proof);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for proof in &self.proofs {
            take_back(&self.answers, proof);
        }
    }
}

fn take_back(answers: &Answers, proof: &Proof) {
    match proof.challenge {
        Challenge::TlsAlpn01 => answers.withdraw_for(&proof.name),
        _ => answers.withdraw(&proof.token),
    }
}
