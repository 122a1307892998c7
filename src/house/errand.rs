//! One errand: a conversation with a CA, carried out turn by turn through the line to it and the answers on port 80.
//! Between any two turns it can be left standing or be dropped; its answers go with it.

use crate::doors::clock::Ended;
use crate::doors::dns::{Glance, Seen};
use crate::doors::https::Line;
use crate::doors::keys::AccountKey;
use crate::doors::script::{Event, Script};
use crate::house::inquiries::Subject;
use crate::house::keeper::Doors;
use crate::house::webroot;
use crate::rules::acme::advice::Hint;
use crate::rules::acme::turns::{Ask, Granted, Heard, Proof, Turn, Turns};
use crate::rules::dns;
use crate::rules::txt::{self, Txt};
use crate::words::answers::Answers;
use crate::words::cert::{Slot, Want, Why};
use crate::words::config::Challenge;
use crate::words::fault::{Failure, Trouble};
use crate::words::name::Name;
use crate::words::secret::Secret;
use crate::words::time::Span;
use std::path::PathBuf;
use std::sync::Arc;

pub struct Errand {
    pub task: Task,
    /// The directory URL of the CA.
    pub ca: String,
    /// The place of our account there.
    pub place: String,
    account: AccountKey,
    flow: Box<dyn Turns>,
    heard: Heard,
    line: Box<dyn Line>,
    wait: Wait,
    /// Whether its CA keeps silent for longer than it should, or has done so up to its last call.
    pub hangs: bool,
    served: Served,
    looking: Option<Looking>,
    /// How long DNS may take; `None`: nobody looks.
    patience: Option<Span>,
}

/// What it is for.
pub enum Task {
    Order(Order),
    /// The CA is to say when it wants these to be renewed.
    Ask(Vec<Subject>),
    /// What is to be published for dns-persist-01, for this MD or all of them; whoever asked for that is told.
    Learn {
        name: Option<Name>,
        ended: Ended,
    },
    /// Our account there is to end; whoever asked for that is told how it went.
    Leave {
        ended: Ended,
    },
    /// Our account there is to have its next key; likewise.
    Roll {
        ended: Ended,
    },
    Revoke(Revocation),
}

pub struct Revocation {
    pub slot: Slot,
    pub sha256: [u8; 32],
    /// The certificate's own, PKCS#8.
    pub key: Secret,
}

pub struct Order {
    pub slot: Slot,
    pub why: Why,
    /// The want as it was when the order began.
    pub want: Want,
    /// The new certificate's key, PKCS#8.
    pub key: Secret,
}

/// What keeps an errand from its next turn; moments are those of the steady clock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    /// Its rest, up to this moment.
    Rest(Span),
    /// The answer to a call that was made at this moment.
    Answer(Span),
    /// What DNS shows.
    Look,
}

/// A look at DNS, again and again.
struct Looking {
    records: Vec<Txt>,
    /// They are on their way there; else they are there for long, if a person has published them.
    patient: bool,
    /// No other is begun after this moment; the next not before that.
    until: Span,
    next: Span,
    glance: Option<Box<dyn Glance>>,
}

/// What came of a turn.
pub enum Came {
    /// There is more to do, at once or later.
    Nothing,
    /// An answer is in place; [`Errand::refuse`] before the next turn if it shall not count.
    Served(Proof),
    /// The CA has been silent for so long that others should not count on it; or DNS is waited for.
    Silence,
    /// The account exists at this URL and has these contacts: keep it before the next turn.
    Account(String, Vec<String>),
    /// The account needs another key before the next turn.
    OldKey,
    Granted(Granted),
    /// What the CA said of each subject, and where it says it.
    Advised(Vec<Hint>, Option<String>),
    /// The account is there, and this is what the CA is called in DNS.
    Known(Vec<String>),
    /// What it was for is done.
    Finished,
    Nowhere(Failure),
}

/// From here on a CA that has not answered is taken for one that hangs; a good one answers within a second.
const SILENCE: Span = Span::secs(5);

/// Later than anything.
const NEVER: Span = Span::millis(u64::MAX);

impl Errand {
    pub fn new(
        task: Task,
        (ca, place): (String, String),
        account: AccountKey,
        flow: Box<dyn Turns>,
        line: Box<dyn Line>,
        (answers, webroot): (Arc<Answers>, Option<PathBuf>),
    ) -> Self {
        let served = Served { answers, webroot, command: None, forgets: false, proofs: vec![] };
        let (heard, wait) = (Heard::Start, Wait::Nothing);
        Self { task, ca, place, account, flow, heard, line, wait, hangs: false, served, looking: None, patience: None }
    }

    /// How it answers in DNS: by this command, which `forgets` what it has put there; and how long that may take.
    pub fn with_dns(mut self, command: Option<Event>, forgets: bool, patience: Option<Span>) -> Self {
        (self.served.command, self.served.forgets, self.patience) = (command, forgets, patience);
        self
    }

    /// Takes one turn, if nothing keeps it from that; `steady` is the moment.
    pub fn turn(&mut self, steady: Span, doors: &mut Doors<'_>) -> Came {
        let goes_on = match self.wait {
            Wait::Nothing => true,
            Wait::Rest(until) => steady >= until,
            Wait::Answer(_) => self.hears(),
            Wait::Look => self.looks(steady, doors),
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
            Turn::Serve(proof) => match self.served.put(doors, &proof) {
                Ok(()) => return Came::Served(proof),
                Err(trouble) => self.heard = Heard::Silence(trouble),
            },
            Turn::Unserve(proof) => self.served.withdraw(doors, &proof),
            Turn::Look { records, patient } => return self.look(records, patient, steady),
            Turn::Rest(span) => self.wait = Wait::Rest(steady.plus(span)),
            Turn::Keep { account, contacts } => return Came::Account(account, contacts),
            Turn::ReplaceKey => return Came::OldKey,
            Turn::Done(granted) => return Came::Granted(granted),
            Turn::Advised { hints, base } => return Came::Advised(hints, base),
            Turn::Known(issuers) => return Came::Known(issuers),
            Turn::Finished => return Came::Finished,
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
            Wait::Look => match &self.looking {
                Some(Looking { glance: None, next, .. }) => *next,
                _ => NEVER,
            },
        }
    }

    /// Whether it does nothing but wait for DNS.
    pub fn is_idle(&self) -> bool {
        self.wait == Wait::Look
    }

    /// The order that it is for.
    pub fn order(&self) -> Option<&Order> {
        match &self.task {
            Task::Order(order) => Some(order),
            _ => None,
        }
    }

    /// What it was for is done: from here on it is for something else, on the same line.
    pub fn turn_to(&mut self, task: Task, flow: Box<dyn Turns>) {
        (self.task, self.flow) = (task, flow);
        (self.heard, self.wait) = (Heard::Start, Wait::Nothing);
    }

    /// Whether it speaks with this key, PKCS#8.
    pub fn has_key(&self, key: &[u8]) -> bool {
        AccountKey::from_pkcs8(key).is_ok_and(|key| key.thumbprint() == self.account.thumbprint())
    }

    /// From here on it speaks with another key.
    pub fn replace_key(&mut self, key: Result<AccountKey, Trouble>) {
        match key {
            Ok(key) => {
                self.heard = Heard::Key(key.thumbprint());
                self.account = key.in_place_of(&mut self.account);
            }
            Err(trouble) => self.heard = Heard::Silence(trouble),
        }
    }

    /// Ends it in its midst. Its line is left, if there is a call on it that will come to an end some time.
    pub fn hang_up(mut self, doors: &mut Doors<'_>) -> Option<Box<dyn Line>> {
        while let Some(proof) = self.served.proofs.first().cloned() {
            self.served.withdraw(doors, &proof);
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

    fn look(&mut self, records: Vec<Txt>, patient: bool, steady: Span) -> Came {
        let Some(patience) = self.patience else { return Came::Nothing };
        let until = steady.plus(if patient { patience } else { Span::ZERO });
        self.looking = Some(Looking { records, patient, until, next: steady, glance: None });
        self.wait = Wait::Look;
        Came::Silence
    }

    /// Goes on with its look at DNS; whether that is over. Where nothing can be seen from here, the time that DNS may
    /// take is waited out, and then the CA is the judge; one that is seen to be missing the CA is not asked for.
    fn looks(&mut self, steady: Span, doors: &mut Doors<'_>) -> bool {
        let Some(looking) = &mut self.looking else { return true };
        if looking.glance.is_none() && steady >= looking.next {
            looking.glance = Some(doors.dns.look(looking.records.clone()));
        }
        let Some(seen) = looking.glance.as_mut().and_then(|glance| glance.seen()) else { return false };
        looking.glance = None;
        looking.next = steady.plus(dns::PAUSE);
        match seen {
            Seen::All => {}
            _ if looking.next <= looking.until => return false,
            Seen::Missing(why) => self.heard = Heard::Silence(Trouble::new("looking at DNS", why)),
            Seen::Nothing(why) if !looking.patient => {
                let why = format!("{why}; MDChallengeDns01Wait off has the CA look all the same");
                self.heard = Heard::Silence(Trouble::new("looking at DNS", why));
            }
            Seen::Nothing(why) => log::warn!("DNS is not seen from here: {why}; the CA is told all the same"),
        }
        self.looking = None;
        true
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
    /// What puts those of dns-01 into DNS, and whether it is told a name alone to take them away.
    command: Option<Event>,
    forgets: bool,
    /// Where those of http-01 stand as files, too.
    webroot: Option<PathBuf>,
    proofs: Vec<Proof>,
}

impl Served {
    fn put(&mut self, doors: &mut Doors<'_>, proof: &Proof) -> Result<(), Trouble> {
        self.proofs.push(proof.clone());
        match proof.challenge {
            Challenge::Http01 => {
                self.answers.put(&proof.token, &proof.key_authorization);
                match &self.webroot {
                    Some(root) => webroot::put(doors.disk, root, &proof.token, &proof.key_authorization),
                    None => Ok(()),
                }
            }
            Challenge::TlsAlpn01 => {
                self.answers.put_for(&proof.name, &proof.key_authorization);
                Ok(())
            }
            Challenge::Dns01 => self.run(doors.script, proof, true),
            // A person has put it there, for good.
            Challenge::DnsPersist01 => Ok(()),
        }
    }

    fn withdraw(&mut self, doors: &mut Doors<'_>, proof: &Proof) {
        take_back(&self.answers, proof);
        match (&self.webroot, proof.challenge) {
            (Some(root), Challenge::Http01) => webroot::withdraw(doors.disk, root, &proof.token),
            (_, Challenge::Dns01) if self.command.is_some() => {
                if let Err(trouble) = self.run(doors.script, proof, false) {
                    let name = proof.txt.as_ref().map_or("", |txt| txt.name.as_str());
                    log::warn!("the TXT record at {name} may be left behind: {trouble}");
                }
            }
            _ => {}
        }
        self.proofs.retain(|standing| standing != proof);
    }

    /// MDChallengeDns01: `setup name value`, `teardown name [value]`.
    fn run(&self, script: &mut dyn Script, proof: &Proof, setup: bool) -> Result<(), Trouble> {
        let Some((mut event, txt)) = self.command.clone().zip(proof.txt.as_ref()) else {
            return Err(Trouble::new("answering dns-01", "there is no command for it (MDChallengeDns01)"));
        };
        event.argv.extend([if setup { "setup" } else { "teardown" }.to_owned(), txt::base(&proof.name).to_owned()]);
        if setup || !self.forgets {
            event.argv.push(txt.value.clone());
        }
        event.clears = !setup;
        script.run(&event)
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
        Challenge::Http01 => answers.withdraw(&proof.token),
        Challenge::Dns01 | Challenge::DnsPersist01 => {}
    }
}
