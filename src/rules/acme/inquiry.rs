//! Asking a CA about certificates as turns: the directory unless it is known where to ask, then one question for each.

use crate::rules::acme::advice::{self, ASKING, Hint};
use crate::rules::acme::asking::{absolute, is_success};
use crate::rules::acme::problem::{json, refusal};
use crate::rules::acme::turns::{Ask, Heard, How, Turn, Turns};
use crate::rules::acme::types::{Directory, Reply};

/// It never fails: what can't be asked is a [`Hint`], too.
#[derive(Debug)]
pub struct Inquiry {
    /// The CA's directory URL.
    directory: String,
    /// The answer that is waited for is the directory.
    reads_directory: bool,
    /// Where the CA answers.
    base: Option<String>,
    /// The ids of the certificates (RFC 9773 §4.1).
    ids: Vec<String>,
    hints: Vec<Hint>,
}

impl Inquiry {
    pub fn new(directory: String, base: Option<String>, ids: Vec<String>) -> Self {
        Self { directory, reads_directory: false, base, ids, hints: vec![] }
    }

    fn next(&mut self) -> Turn {
        let url = match (&self.base, self.ids.get(self.hints.len())) {
            (_, None) => {
                let hints = std::mem::take(&mut self.hints);
                return Turn::Advised { hints, base: self.base.take() };
            }
            (Some(base), Some(id)) => format!("{}/{id}", base.trim_end_matches('/')),
            (None, Some(_)) => {
                self.reads_directory = true;
                self.directory.clone()
            }
        };
        Turn::Call(Ask { url, accept: None, how: How::Get })
    }

    fn read_directory(&mut self, reply: &Reply) -> Result<(), Hint> {
        let doing = "reading the directory";
        if !is_success(reply.status) {
            let (why, retry_after) = (refusal(doing, reply).to_string(), reply.retry_after);
            return Err(Hint::Passing { why, retry_after });
        }
        let lasting = |why: String| Hint::Lasting { why };
        let directory: Directory = json(doing, reply).map_err(|no| lasting(no.to_string()))?;
        let base = directory.renewal_info.ok_or(Hint::Absent)?;
        absolute(&self.directory, doing, "renewalInfo", &base).map_err(|no| lasting(no.to_string()))?;
        self.base = Some(base);
        Ok(())
    }

    /// The rest would fare no better.
    fn give_up(&mut self, hint: Hint) {
        self.hints.resize(self.ids.len(), hint);
    }
}

impl Turns for Inquiry {
    fn turn(&mut self, heard: Heard) -> Turn {
        match heard {
            Heard::Reply(reply) if std::mem::take(&mut self.reads_directory) => {
                if let Err(hint) = self.read_directory(&reply) {
                    self.give_up(hint);
                }
            }
            Heard::Reply(reply) => match advice::read(&reply) {
                // Who says that it is too busy says it to all.
                busy @ Hint::Passing { .. } => self.give_up(busy),
                hint => self.hints.push(hint),
            },
            Heard::Silence(why) => {
                self.base = None;
                self.give_up(Hint::Passing { why: format!("{ASKING}: {why}"), retry_after: None });
            }
            Heard::Start | Heard::Done | Heard::Key(_) => {}
        }
        self.next()
    }
}
