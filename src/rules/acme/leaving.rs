//! Leaving a CA as turns: our account there is deactivated (RFC 8555 §7.3.6).

use crate::rules::acme::asking::{Asking, Question, Word, absolute, is_success, out_of_turn};
use crate::rules::acme::problem::{is, json, refusal};
use crate::rules::acme::turns::{Heard, Signer, Turn, Turns};
use crate::rules::acme::types::{Directory, Reply};
use crate::words::fault::Failure;

/// From the directory to the end of the account.
#[derive(Debug)]
pub struct Leaving {
    /// The CA's directory URL.
    directory: String,
    account: Option<String>,
    stage: Stage,
    asking: Asking,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Start,
    Directory,
    /// The account's URL was never learnt: the CA knows it by its key (RFC 8555 §7.3.1).
    Find,
    Deactivate,
    Over,
}

impl Leaving {
    pub fn new(directory: String, account: Option<String>) -> Self {
        Self { directory, account, stage: Stage::Start, asking: Asking::default() }
    }

    fn answered(&mut self, doing: &str, reply: &Reply) -> Result<Turn, Failure> {
        if !is_success(reply.status) {
            let no = refusal(doing, reply);
            // There is nothing left to end.
            let gone = self.stage != Stage::Directory && (is(&no, "accountDoesNotExist") || is(&no, "unauthorized"));
            return if gone { Ok(self.left()) } else { Err(no.into()) };
        }
        match self.stage {
            Stage::Directory => {
                let directory: Directory = json(doing, reply)?;
                absolute(&self.directory, doing, "newNonce", &directory.new_nonce)?;
                absolute(&self.directory, doing, "newAccount", &directory.new_account)?;
                self.asking.nonces_from(&directory.new_nonce);
                if let Some(account) = self.account.clone() {
                    return Ok(self.deactivate(account));
                }
                self.stage = Stage::Find;
                let payload = r#"{"onlyReturnExisting":true}"#.into();
                Ok(Turn::Call(self.asking.signed(Question::new(&directory.new_account, payload, Signer::Key))))
            }
            Stage::Find => {
                let account = reply.location.clone().unwrap_or_default();
                absolute(&self.directory, doing, "the account", &account)?;
                Ok(self.deactivate(account))
            }
            Stage::Deactivate => Ok(self.left()),
            Stage::Start | Stage::Over => Err(out_of_turn(doing)),
        }
    }

    fn deactivate(&mut self, account: String) -> Turn {
        self.stage = Stage::Deactivate;
        let payload = r#"{"status":"deactivated"}"#.into();
        Turn::Call(self.asking.signed(Question::new(&account, payload, Signer::Account(account.clone()))))
    }

    fn left(&mut self) -> Turn {
        self.stage = Stage::Over;
        Turn::Left
    }
}

impl Turns for Leaving {
    fn turn(&mut self, heard: Heard) -> Turn {
        let doing = match self.stage {
            Stage::Start | Stage::Directory => "reading the directory",
            Stage::Find => "finding the account",
            Stage::Deactivate | Stage::Over => "deactivating the account",
        };
        let next = match self.asking.hear(heard, doing) {
            Word::Call(ask) => Ok(Turn::Call(ask)),
            Word::Answer { reply, .. } => self.answered(doing, &reply),
            Word::Failed(failure) => Err(failure),
            Word::Other(Heard::Start) if self.stage == Stage::Start => {
                self.stage = Stage::Directory;
                Ok(Turn::Call(self.asking.directory(&self.directory)))
            }
            Word::Other(_) => Err(out_of_turn(doing)),
        };
        next.unwrap_or_else(|failure| {
            self.stage = Stage::Over;
            Turn::Fail(failure)
        })
    }
}
