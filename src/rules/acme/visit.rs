//! A visit to a CA that is no order: our account there is deactivated (RFC 8555 §7.3.6) or gets another key (RFC 8555
//! §7.3.5), or a certificate is revoked (RFC 8555 §7.6).

use crate::rules::acme::asking::{Asking, Question, Word, absolute, is_success, out_of_turn};
use crate::rules::acme::jws::base64url;
use crate::rules::acme::problem::{UNEXPECTED, is, json, refusal};
use crate::rules::acme::turns::{Heard, Signer, Turn, Turns};
use crate::rules::acme::types::{Directory, Reply};
use crate::words::fault::{Failure, Refusal};

/// From the directory to what it is for.
#[derive(Debug)]
pub struct Visit {
    /// The CA's directory URL.
    directory: String,
    new_account: String,
    account: Option<String>,
    purpose: Purpose,
    /// Where that is done; an account's end has no place of its own.
    place: String,
    stage: Stage,
    asking: Asking,
    /// Why the account's key did not do.
    failure: Option<Failure>,
}

/// What it is for.
#[derive(Debug)]
pub enum Purpose {
    Leave,
    /// The account's next key is with whoever signs.
    Roll,
    /// This certificate (DER), for one of the reasons of RFC 5280 §5.3.1. `by_its_key`: no account is asked for it.
    Revoke {
        cert: Vec<u8>,
        reason: Option<u8>,
        by_its_key: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Start,
    Directory,
    /// The account's URL was never learnt: the CA knows it by its key (RFC 8555 §7.3.1).
    Find,
    Act,
    /// The other key is on its way: the account's next one, or the certificate's.
    OtherKey,
    /// Whether the CA knows the account by its next key already.
    Check,
    /// The certificate's own key is as good as the account's.
    ByItsKey,
    Over,
}

type Next = Result<Turn, Failure>;

impl Visit {
    pub fn new(directory: String, account: Option<String>, purpose: Purpose) -> Self {
        Self {
            directory,
            new_account: String::new(),
            account,
            purpose,
            place: String::new(),
            stage: Stage::Start,
            asking: Asking::default(),
            failure: None,
        }
    }

    fn answered(&mut self, doing: &str, reply: &Reply) -> Next {
        if !is_success(reply.status) {
            return self.refused(refusal(doing, reply));
        }
        match self.stage {
            Stage::Directory => self.read_directory(doing, json(doing, reply)?),
            Stage::Find => {
                let account = reply.location.clone().unwrap_or_default();
                absolute(&self.directory, doing, "the account", &account)?;
                self.account = Some(account);
                self.act()
            }
            Stage::Check if reply.location != self.account => {
                Err(self.failure.take().unwrap_or_else(|| out_of_turn(doing)))
            }
            Stage::Act | Stage::Check | Stage::ByItsKey => Ok(self.finished()),
            Stage::Start | Stage::OtherKey | Stage::Over => Err(out_of_turn(doing)),
        }
    }

    fn refused(&mut self, no: Refusal) -> Next {
        let is_gone = is(&no, "accountDoesNotExist") || is(&no, "unauthorized");
        match (&self.purpose, self.stage) {
            // There is nothing left to end.
            (Purpose::Leave, Stage::Find | Stage::Act) if is_gone => Ok(self.finished()),
            (Purpose::Revoke { .. }, Stage::Act | Stage::ByItsKey) if is(&no, "alreadyRevoked") => Ok(self.finished()),
            (Purpose::Revoke { .. }, Stage::Find | Stage::Act) if is_gone => Ok(self.other_key(no)),
            // It may have been changed before, and nobody here has heard of it.
            (Purpose::Roll, Stage::Act) => Ok(self.other_key(no)),
            (Purpose::Roll, Stage::Check) => Err(self.failure.take().unwrap_or(Failure::Refusal(no))),
            _ => Err(no.into()),
        }
    }

    fn read_directory(&mut self, doing: &str, directory: Directory) -> Next {
        let (place, word) = match &self.purpose {
            Purpose::Leave => (Some(String::new()), ""),
            Purpose::Roll => (directory.key_change, "keyChange"),
            Purpose::Revoke { .. } => (directory.revoke_cert, "revokeCert"),
        };
        let Some(place) = place else {
            return Err(Refusal::ours(doing, UNEXPECTED, format!("the CA's directory has no {word}")).into());
        };
        for (name, url) in [("newNonce", &directory.new_nonce), ("newAccount", &directory.new_account), (word, &place)]
        {
            if !name.is_empty() {
                absolute(&self.directory, doing, name, url)?;
            }
        }
        self.asking.nonces_from(&directory.new_nonce);
        (self.new_account, self.place) = (directory.new_account, place);
        match (&self.purpose, &self.account) {
            (Purpose::Revoke { by_its_key: true, .. }, _) => self.post(Stage::ByItsKey, Signer::Key),
            (_, Some(_)) => self.act(),
            (_, None) => Ok(self.find(Stage::Find)),
        }
    }

    fn find(&mut self, stage: Stage) -> Turn {
        self.stage = stage;
        let payload = r#"{"onlyReturnExisting":true}"#.into();
        Turn::Call(self.asking.signed(Question::new(&self.new_account, payload, Signer::Key)))
    }

    fn act(&mut self) -> Next {
        let account = self.account.clone().unwrap_or_default();
        let signer = match self.purpose {
            Purpose::Roll => Signer::Changing(account),
            _ => Signer::Account(account),
        };
        self.post(Stage::Act, signer)
    }

    fn post(&mut self, stage: Stage, signer: Signer) -> Next {
        self.stage = stage;
        let (url, payload) = match &self.purpose {
            Purpose::Leave => (self.account.as_ref(), r#"{"status":"deactivated"}"#.into()),
            Purpose::Roll => (Some(&self.place), String::new()),
            Purpose::Revoke { cert, reason, .. } => {
                let reason = reason.map(|reason| format!(r#","reason":{reason}"#)).unwrap_or_default();
                (Some(&self.place), format!(r#"{{"certificate":"{}"{reason}}}"#, base64url(cert)))
            }
        };
        let url = url.map_or("", String::as_str);
        Ok(Turn::Call(self.asking.signed(Question::new(url, payload, signer))))
    }

    fn other_key(&mut self, no: Refusal) -> Turn {
        self.failure = Some(no.into());
        self.stage = Stage::OtherKey;
        Turn::ReplaceKey
    }

    fn has_other_key(&mut self) -> Next {
        match self.purpose {
            Purpose::Roll => Ok(self.find(Stage::Check)),
            _ => self.post(Stage::ByItsKey, Signer::Key),
        }
    }

    fn finished(&mut self) -> Turn {
        self.stage = Stage::Over;
        Turn::Finished
    }
}

impl Turns for Visit {
    fn turn(&mut self, heard: Heard) -> Turn {
        let doing = match (self.stage, &self.purpose) {
            (Stage::Start | Stage::Directory, _) => "reading the directory",
            (Stage::Find, _) => "finding the account",
            (_, Purpose::Leave) => "deactivating the account",
            (_, Purpose::Roll) => "changing the account's key",
            (_, Purpose::Revoke { .. }) => "revoking the certificate",
        };
        let next = match self.asking.hear(heard, doing) {
            Word::Call(ask) => Ok(Turn::Call(ask)),
            Word::Answer { reply, .. } => self.answered(doing, &reply),
            Word::Failed(failure) => Err(failure),
            Word::Other(Heard::Start) if self.stage == Stage::Start => {
                self.stage = Stage::Directory;
                Ok(Turn::Call(self.asking.directory(&self.directory)))
            }
            Word::Other(Heard::Key(_)) if self.stage == Stage::OtherKey => self.has_other_key(),
            Word::Other(Heard::Silence(why)) if self.stage == Stage::OtherKey => Err(why.into()),
            Word::Other(_) => Err(out_of_turn(doing)),
        };
        next.unwrap_or_else(|failure| {
            self.stage = Stage::Over;
            Turn::Fail(failure)
        })
    }
}
