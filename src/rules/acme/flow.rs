//! One order as turns: the house tells what it heard, the flow says what to do next. No key, clock, socket or dice.

mod account;
mod chain;
mod fuzz;
mod placing;
mod standing;

use crate::rules::acme::asking::{Asking, Question, Word, absolute, is_success, out_of_turn};
use crate::rules::acme::jws::base64url;
use crate::rules::acme::pace::Pace;
use crate::rules::acme::problem::{UNEXPECTED, from_problem, is, json, refusal};
use crate::rules::acme::proving::{
    Candidate, MISMATCH, READING, SETUP_FAILURE, UNSUITABLE, candidates, left_open, name_of, rejected,
};
use crate::rules::acme::types::{Authorization, Directory, Finalize, Order, Problem, Reply};
use crate::rules::tame::tame;
use crate::words::fault::{Failure, Refusal, Trouble};
use crate::words::name::Name;
use crate::words::time::Span;
use serde::Serialize;
use std::collections::VecDeque;

use standing::Standing;

#[doc(hidden)]
pub use fuzz::fuzz;

pub use crate::rules::acme::turns::{Ask, Bond, Brief, Granted, Heard, How, Mac, Proof, Signer, Turn, Turns};

/// One order, from the directory to the chain. The steps below stand in the order in which they are taken.
#[derive(Debug)]
pub struct Flow {
    brief: Brief,
    stage: Stage,
    asking: Asking,
    pace: Pace,
    directory: Directory,
    account: Option<String>,
    /// The contacts that the CA knows.
    told: Vec<String>,
    /// An account that the CA forgets right after it was made is not made a second time.
    account_is_fresh: bool,
    /// What a new account is bound by.
    mac: Mac,
    /// Whether the CA may have seen the key before this order; a new one is refused for another reason.
    key_is_old: bool,
    /// The profile that the order has, and why it is not the one that was wished for.
    profile: Option<String>,
    spurned: Option<String>,
    /// The order's own URL: it comes with newOrder and never again.
    order: String,
    finalize: Option<String>,
    finalized: bool,
    /// Authorizations still to be looked at.
    authorizations: VecDeque<String>,
    authorization: String,
    name: Option<Name>,
    candidates: VecDeque<Candidate>,
    candidate: Option<Candidate>,
    /// What the CA has given, the preferred one so far, and where else to look.
    chain: Vec<Vec<u8>>,
    alternates: VecDeque<String>,
    /// From a `Serve` to its `Unserve`.
    serving: Vec<Proof>,
    /// Those of them that stand in DNS, where all are looked for at once, and whether that was done.
    standing: VecDeque<Standing>,
    looked: bool,
    /// What is to be told when the `Unserve` is done.
    failure: Option<Failure>,
}

/// What the next [`Heard`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Start,
    Directory,
    FindAccount,
    MakeAccount,
    KeepAccount,
    TellContacts,
    /// Something was denied: is it because of the account?
    LookAtAccount,
    ReplaceKey,
    NewOrder,
    Authorization,
    Serve,
    /// The answer could not be put in place and is being taken away.
    Unset,
    Look,
    Challenge,
    RestAuthorization,
    PollAuthorization,
    /// The name is proven and its answer is being taken away.
    Proven,
    Finalize,
    RestOrder,
    PollOrder,
    Certificate,
    /// Another chain of the same.
    Alternate,
    /// The order has failed and the answer is being taken away.
    Failing,
    Over,
}

type Next = Result<Turn, Failure>;

impl Flow {
    pub fn new(brief: Brief) -> Self {
        Self {
            account: brief.account.clone(),
            told: brief.told.clone(),
            key_is_old: brief.account.is_some() || brief.key_was_shown,
            brief,
            stage: Stage::Start,
            asking: Asking::default(),
            pace: Pace::default(),
            directory: Directory::default(),
            account_is_fresh: false,
            mac: Mac::Hs256,
            profile: None,
            spurned: None,
            order: String::new(),
            finalize: None,
            finalized: false,
            authorizations: VecDeque::new(),
            authorization: String::new(),
            name: None,
            candidates: VecDeque::new(),
            candidate: None,
            chain: vec![],
            alternates: VecDeque::new(),
            serving: Vec::new(),
            standing: VecDeque::new(),
            looked: false,
            failure: None,
        }
    }

    fn answered(&mut self, doing: &str, reply: &Reply, again: bool) -> Next {
        let no = (!is_success(reply.status)).then(|| refusal(doing, reply));
        match (self.stage, no) {
            (Stage::Directory, None) => self.read_directory(json(doing, reply)?),
            (Stage::FindAccount | Stage::MakeAccount | Stage::TellContacts | Stage::LookAtAccount, no) => {
                self.heard_of_account(doing, (reply, again), no)
            }
            (Stage::NewOrder, Some(no)) => self.refused_order(no),
            (Stage::NewOrder, None) => self.read_new_order(doing, reply),
            (Stage::Authorization, None) => self.read_authorization(doing, reply),
            (Stage::Challenge, None) => self.rest(Stage::RestAuthorization, doing, reply.retry_after),
            // What arrived once before may be refused the second time; the thing itself tells the truth.
            (Stage::Challenge, Some(_)) if again && is_ours(reply.status) => {
                self.rest(Stage::RestAuthorization, doing, None)
            }
            // Some CAs look while they are being told, and say here what they saw.
            (Stage::Challenge, Some(no)) if is_ours(reply.status) => {
                let rejected = self.candidate.as_ref().map(|candidate| candidate.proof.challenge);
                Err(Refusal { rejected, ..no }.into())
            }
            (Stage::Finalize, Some(_)) if again && is_ours(reply.status) => self.rest(Stage::RestOrder, doing, None),
            (Stage::PollAuthorization, None) => self.read_verdict(doing, reply),
            (Stage::Finalize, None) => {
                self.finalized = true;
                self.read_order(doing, reply)
            }
            (Stage::Finalize, Some(no)) if is(&no, "orderNotReady") => {
                self.rest(Stage::RestOrder, doing, reply.retry_after)
            }
            (Stage::PollOrder, None) => self.read_order(doing, reply),
            (Stage::Alternate, _) => Ok(self.read_alternate(Some(reply))),
            // Who is too busy to tell is asked again when it says.
            (Stage::PollAuthorization, Some(no)) if no.retry_after.is_some() && !is_ours(reply.status) => {
                self.rest(Stage::RestAuthorization, doing, no.retry_after).map_err(|_| no.into())
            }
            (Stage::PollOrder, Some(no)) if no.retry_after.is_some() && !is_ours(reply.status) => {
                self.rest(Stage::RestOrder, doing, no.retry_after).map_err(|_| no.into())
            }
            (Stage::Certificate, None) => self.read_certificate(doing, reply),
            (_, Some(no)) => Err(no.into()),
            (_, None) => Err(out_of_turn(doing)),
        }
    }

    /// What was heard of a turn that asked the CA nothing.
    fn done(&mut self, doing: &str, heard: Heard) -> Next {
        match (self.stage, heard) {
            (Stage::Start, Heard::Start) => self.start(doing),
            (Stage::KeepAccount, Heard::Done) => self.use_account(),
            (Stage::ReplaceKey, Heard::Key(thumbprint)) => self.replaced_key(thumbprint),
            (Stage::Serve, Heard::Done) => self.served(doing),
            (Stage::Serve, Heard::Silence(why)) => Ok(self.give_up_candidate(&why)),
            (Stage::Unset, Heard::Done | Heard::Silence(_)) => self.serve(),
            (Stage::Look, Heard::Done) => self.next_authorization(),
            (Stage::Look, Heard::Silence(why)) => Err(self.unseen(doing, &why)),
            (Stage::RestAuthorization, Heard::Done) => {
                self.post(Stage::PollAuthorization, self.authorization.clone(), String::new())
            }
            (Stage::Proven, Heard::Done | Heard::Silence(_)) => self.next_authorization(),
            (Stage::RestOrder, Heard::Done) => self.post(Stage::PollOrder, self.order.clone(), String::new()),
            (Stage::Failing, _) => Err(self.failure.take().unwrap_or_else(|| out_of_turn(doing))),
            (_, Heard::Silence(why)) => Err(Trouble::new(doing, why).into()),
            _ => Err(out_of_turn(doing)),
        }
    }

    /// The one way out for failures: answers that are served are taken away first.
    fn fail(&mut self, failure: Failure) -> Turn {
        if let Some(proof) = self.serving.pop() {
            self.stage = Stage::Failing;
            self.failure = Some(failure);
            return Turn::Unserve(proof);
        }
        self.stage = Stage::Over;
        Turn::Fail(failure)
    }

    fn start(&mut self, doing: &str) -> Next {
        if self.brief.challenges.is_empty() {
            return Err(Refusal::ours("choosing a challenge", MISMATCH, UNSUITABLE).into());
        }
        absolute(&self.brief.directory, doing, "its directory", &self.brief.directory)?;
        self.stage = Stage::Directory;
        Ok(Turn::Call(self.asking.directory(&self.brief.directory)))
    }

    fn read_directory(&mut self, directory: Directory) -> Next {
        absolute(&self.brief.directory, "reading the directory", "newNonce", &directory.new_nonce)?;
        self.asking.nonces_from(&directory.new_nonce);
        self.directory = directory;
        self.choose_profile()?;
        self.begin_account()
    }

    fn read_new_order(&mut self, doing: &str, reply: &Reply) -> Next {
        let order: Order = json(doing, reply)?;
        self.order = self.location(doing, "the order", reply)?;
        if order.authorizations.len() > MOST_AUTHORIZATIONS {
            let why = format!("the order has more than {MOST_AUTHORIZATIONS} authorizations");
            return Err(Refusal::ours(doing, UNEXPECTED, why).into());
        }
        if order.status != "pending" {
            return self.follow(doing, order, reply.retry_after);
        }
        self.finalize = order.finalize;
        self.authorizations = order.authorizations.into();
        self.next_authorization()
    }

    fn next_authorization(&mut self) -> Next {
        self.name = None;
        self.candidate = None;
        if let Some(url) = self.authorizations.pop_front() {
            self.authorization.clone_from(&url);
            return self.post(Stage::Authorization, url, String::new());
        }
        self.next_standing()
    }

    fn read_authorization(&mut self, doing: &str, reply: &Reply) -> Next {
        let authorization: Authorization = json(doing, reply)?;
        if authorization.status == "valid" {
            return self.next_authorization();
        }
        let name = name_of(&authorization, &self.brief)?;
        if !is_open(&authorization) {
            return Err(rejected(&authorization, &name).into());
        }
        let account = self.account.as_deref().unwrap_or_default();
        self.candidates = candidates(authorization, &name, &self.brief, account)?;
        self.name = Some(name);
        self.pace = Pace::default();
        self.serve()
    }

    fn serve(&mut self) -> Next {
        let Some(candidate) = self.candidates.pop_front() else {
            return Err(self.failure.take().unwrap_or_else(|| out_of_turn("proving a name")));
        };
        let proof = candidate.proof.clone();
        self.candidate = Some(candidate);
        self.serving.push(proof.clone());
        self.stage = Stage::Serve;
        Ok(Turn::Serve(proof))
    }

    /// Another type may work; if none is left, this is the reason to tell.
    fn give_up_candidate(&mut self, why: &Trouble) -> Turn {
        let no = Refusal::ours(&self.doing(), SETUP_FAILURE, why.to_string());
        let turn = self.fail(no.into());
        self.stage = Stage::Unset;
        turn
    }

    fn answer_challenge(&mut self, doing: &str) -> Next {
        match &self.candidate {
            Some(candidate) if !candidate.begun => {
                let url = candidate.url.clone();
                self.post(Stage::Challenge, url, "{}".into())
            }
            _ => self.rest(Stage::RestAuthorization, doing, None),
        }
    }

    fn read_verdict(&mut self, doing: &str, reply: &Reply) -> Next {
        let authorization: Authorization = json(doing, reply)?;
        match &self.name {
            _ if authorization.status == "valid" => {
                if self.stands_in_dns() {
                    return self.next_authorization();
                }
                let proof = self.serving.pop().ok_or_else(|| out_of_turn(doing))?;
                self.stage = Stage::Proven;
                Ok(Turn::Unserve(proof))
            }
            _ if is_open(&authorization) => self.read_open(doing, &authorization, reply.retry_after),
            Some(name) => {
                let no = Refusal { retry_after: reply.retry_after, ..rejected(&authorization, name) };
                Err(no.into())
            }
            None => Err(out_of_turn(doing)),
        }
    }

    /// RFC 8555 §8.2: a CA that has looked and found nothing may leave the challenge open and say why. It looks again
    /// when it is told again, and nobody waits for it after that.
    fn read_open(&mut self, doing: &str, authorization: &Authorization, asked: Option<Span>) -> Next {
        if let Some(candidate) = &mut self.candidate
            && let Some(error) = left_open(authorization, candidate)
        {
            if std::mem::replace(&mut candidate.told_again, true) {
                let rejected = Some(candidate.proof.challenge);
                return Err(Refusal { rejected, retry_after: asked, ..from_problem(doing, error) }.into());
            }
            let url = candidate.url.clone();
            return self.post(Stage::Challenge, url, "{}".into());
        }
        self.rest(Stage::RestAuthorization, doing, asked)
    }

    fn finalize(&mut self) -> Next {
        let payload = text(&Finalize { csr: base64url(&self.brief.csr) });
        let url = self.finalize.clone().unwrap_or_default();
        // A CA that was not ready yet gets no new five minutes by asking for the same again.
        if self.stage != Stage::PollOrder {
            self.pace = Pace::default();
        }
        self.post(Stage::Finalize, url, payload)
    }

    fn read_order(&mut self, doing: &str, reply: &Reply) -> Next {
        let order = json(doing, reply)?;
        self.follow(doing, order, reply.retry_after)
    }

    fn follow(&mut self, doing: &str, order: Order, asked: Option<Span>) -> Next {
        self.finalize = order.finalize.or(self.finalize.take());
        match order.status.as_str() {
            "ready" if !self.finalized => self.finalize(),
            "pending" | "ready" | "processing" => self.rest(Stage::RestOrder, doing, asked),
            "valid" => self.fetch_certificate(doing, order.certificate),
            status => Err(order_failed(doing, status, order.error).into()),
        }
    }

    fn fetch_certificate(&mut self, doing: &str, url: Option<String>) -> Next {
        let Some(url) = url else {
            return Err(Refusal::ours(doing, UNEXPECTED, "the order is valid but names no certificate").into());
        };
        self.post(Stage::Certificate, url, String::new())
    }

    fn rest(&mut self, stage: Stage, doing: &str, asked: Option<Span>) -> Next {
        self.stage = stage;
        match self.pace.rest(asked) {
            Some(span) => Ok(Turn::Rest(span)),
            None => {
                let no = Refusal::ours(doing, "still-pending", "the CA was not done within 5 minutes");
                Err(Refusal { retry_after: asked, ..no }.into())
            }
        }
    }

    fn post(&mut self, stage: Stage, url: String, payload: String) -> Next {
        self.stage = stage;
        let doing = self.doing();
        absolute(&self.brief.directory, &doing, "the next step", &url)?;
        let account = self.account.clone().ok_or_else(|| out_of_turn(&doing))?;
        let mut question = Question::new(&url, payload, Signer::Account(account));
        if matches!(stage, Stage::Certificate | Stage::Alternate) {
            question.accept = Some("application/pem-certificate-chain");
        }
        Ok(Turn::Call(self.asking.signed(question)))
    }

    fn location(&self, doing: &str, what: &str, reply: &Reply) -> Result<String, Refusal> {
        let Some(url) = &reply.location else {
            return Err(Refusal::ours(doing, UNEXPECTED, format!("the CA did not say where {what} is (no Location)")));
        };
        absolute(&self.brief.directory, doing, what, url)?;
        Ok(url.clone())
    }

    fn doing(&self) -> String {
        let fixed = match self.stage {
            Stage::Start | Stage::Directory => "reading the directory",
            Stage::FindAccount => "finding the account",
            Stage::MakeAccount | Stage::KeepAccount | Stage::ReplaceKey => "making an account",
            Stage::TellContacts => "changing the account's contacts",
            Stage::LookAtAccount => "looking at the account",
            Stage::NewOrder => "placing the order",
            Stage::Authorization => READING,
            Stage::Finalize => "finalizing the order",
            Stage::RestOrder | Stage::PollOrder => "waiting for the certificate",
            Stage::Certificate | Stage::Alternate => "fetching the certificate",
            Stage::Failing | Stage::Over => "ending the order",
            Stage::Serve
            | Stage::Unset
            | Stage::Look
            | Stage::Challenge
            | Stage::RestAuthorization
            | Stage::PollAuthorization
            | Stage::Proven => {
                let standing = self.standing.front().map(|standing| &standing.candidate);
                let proof = self.candidate.as_ref().or(standing).map(|candidate| &candidate.proof);
                return proof.map_or(READING.into(), |p| format!("proving {} by {}", p.name, p.challenge.word()));
            }
        };
        fixed.into()
    }
}

impl Turns for Flow {
    fn turn(&mut self, heard: Heard) -> Turn {
        let doing = self.doing();
        let next = match self.asking.hear(heard, &doing) {
            Word::Call(ask) => Ok(Turn::Call(ask)),
            Word::Answer { reply, again } => self.answered(&doing, &reply, again),
            Word::Failed(_) if self.stage == Stage::Alternate => Ok(self.read_alternate(None)),
            Word::Failed(failure) => Err(failure),
            Word::Other(heard) => self.done(&doing, heard),
        };
        next.unwrap_or_else(|failure| self.fail(failure))
    }
}

/// Whether a refusal is about the question, and not about the CA's own state.
fn is_ours(status: u16) -> bool {
    (400..500).contains(&status) && status != 429
}

/// RFC 8555 §7.1.6 knows no processing authorization, but some CAs do.
fn is_open(authorization: &Authorization) -> bool {
    matches!(authorization.status.as_str(), "pending" | "processing")
}

/// Twice the names that any CA takes into one order.
const MOST_AUTHORIZATIONS: usize = 200;

fn order_failed(doing: &str, status: &str, error: Option<Problem>) -> Refusal {
    match error {
        Some(problem) => from_problem(doing, &problem),
        None => Refusal::ours(doing, UNEXPECTED, format!("the order is {}, and the CA gave no reason", tame(status))),
    }
}

fn text(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).expect("these are strings and flags, which JSON can always hold")
}
