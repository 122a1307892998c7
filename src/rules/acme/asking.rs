//! One question until it is answered: with a nonce, again when the nonce was refused, again when the answer was lost.

use crate::rules::acme::problem::{UNEXPECTED, is, refusal};
use crate::rules::acme::turns::{Ask, Heard, How, Signer};
use crate::rules::acme::types::Reply;
use crate::rules::tame::tame;
use crate::words::fault::{Failure, Refusal, Trouble};

/// How often a CA may refuse our nonces, and how often an answer may get lost.
const REFUSED_PER_QUESTION: u32 = 20;
const REFUSED_PER_ORDER: u32 = 100;
const LOST_PER_ORDER: u32 = 2;

/// Remembers the question behind the question: while a nonce is fetched, the answer belongs to the nonce alone.
#[derive(Debug, Default)]
pub struct Asking {
    new_nonce: String,
    nonce: Option<String>,
    open: Option<Open>,
    refused: u32,
    lost: u32,
}

#[derive(Debug)]
enum Open {
    Directory(String),
    /// The nonce was asked for; the question waits for it.
    Nonce(Question),
    Signed(Question),
}

/// A question to be signed, without its nonce.
#[derive(Debug)]
pub struct Question {
    pub url: String,
    pub accept: Option<&'static str>,
    pub payload: String,
    pub signer: Signer,
    refused: u32,
    again: bool,
}

impl Question {
    pub fn new(url: &str, payload: String, signer: Signer) -> Self {
        Self { url: url.into(), accept: None, payload, signer, refused: 0, again: false }
    }
}

/// What a [`Heard`] turned out to be.
pub enum Word {
    /// The question still stands; this comes first.
    Call(Ask),
    /// The answer. `again`: the question may have arrived once before.
    Answer { reply: Reply, again: bool },
    /// There will be none.
    Failed(Failure),
    /// No question was open.
    Other(Heard),
}

impl Asking {
    /// Where nonces come from, as the directory says.
    pub fn nonces_from(&mut self, url: &str) {
        self.new_nonce = url.into();
    }

    pub fn directory(&mut self, url: &str) -> Ask {
        self.open = Some(Open::Directory(url.into()));
        Ask { url: url.into(), accept: None, how: How::Get }
    }

    pub fn signed(&mut self, question: Question) -> Ask {
        let Some(nonce) = self.nonce.take() else {
            self.open = Some(Open::Nonce(question));
            return Ask { url: self.new_nonce.clone(), accept: None, how: How::Head };
        };
        let how = How::Post { payload: question.payload.clone(), nonce, signer: question.signer.clone() };
        let ask = Ask { url: question.url.clone(), accept: question.accept, how };
        self.open = Some(Open::Signed(question));
        ask
    }

    pub fn hear(&mut self, heard: Heard, doing: &str) -> Word {
        match (self.open.take(), heard) {
            (None, heard) => Word::Other(heard),
            (Some(open), Heard::Silence(trouble)) => self.repeat(open, &trouble, doing),
            (Some(Open::Directory(_)), Heard::Reply(reply)) => Word::Answer { reply, again: false },
            (Some(Open::Nonce(question)), Heard::Reply(reply)) => self.fetched(question, &reply),
            (Some(Open::Signed(question)), Heard::Reply(reply)) => self.answered(question, reply, doing),
            (Some(_), Heard::Start | Heard::Done | Heard::Key(_)) => Word::Failed(out_of_turn(doing)),
        }
    }

    /// The nonce is here: now the question behind it.
    fn fetched(&mut self, question: Question, reply: &Reply) -> Word {
        let doing = "asking for a nonce";
        if !is_success(reply.status) {
            return Word::Failed(refusal(doing, reply).into());
        }
        self.remember(reply);
        if self.nonce.is_none() {
            return Word::Failed(Refusal::ours(doing, UNEXPECTED, "the CA's answer carries no usable nonce").into());
        }
        Word::Call(self.signed(question))
    }

    fn answered(&mut self, mut question: Question, reply: Reply, doing: &str) -> Word {
        self.remember(&reply);
        if is_success(reply.status) {
            return Word::Answer { reply, again: question.again };
        }
        let no = refusal(doing, &reply);
        if !is(&no, "badNonce") {
            return Word::Answer { reply, again: question.again };
        }
        question.refused += 1;
        self.refused += 1;
        if question.refused > REFUSED_PER_QUESTION || self.refused > REFUSED_PER_ORDER {
            return Word::Failed(no.into());
        }
        Word::Call(self.signed(question))
    }

    /// The lost question may have used its nonce up, so it gets a fresh one.
    fn repeat(&mut self, open: Open, trouble: &Trouble, doing: &str) -> Word {
        self.lost += 1;
        if self.lost > LOST_PER_ORDER {
            return Word::Failed(Trouble::new(doing, trouble).into());
        }
        self.nonce = None;
        Word::Call(match open {
            Open::Directory(url) => self.directory(&url),
            Open::Nonce(question) => self.signed(question),
            Open::Signed(question) => self.signed(Question { again: true, ..question }),
        })
    }

    /// RFC 8555 §6.5.1: a nonce outside of base64url's alphabet is as good as none.
    fn remember(&mut self, reply: &Reply) {
        self.nonce = reply.nonce.clone().filter(|nonce| nonce.len() <= 512 && is_base64url(nonce));
    }
}

pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// A CA that is spoken to over https must not send us elsewhere in the clear.
pub fn absolute(directory: &str, doing: &str, what: &str, url: &str) -> Result<(), Refusal> {
    let plain = url.starts_with("http://") && !directory.starts_with("https://");
    if (plain || url.starts_with("https://")) && url.bytes().all(|byte| byte.is_ascii_graphic()) && url.len() <= LONGEST
    {
        return Ok(());
    }
    let why = format!("the CA gave \"{}\" as the address of {what}, which is no absolute https URL", tame(url));
    Err(Refusal::ours(doing, UNEXPECTED, why))
}

/// Of a URL: it goes into a head of a request, and the account's into flash.
const LONGEST: usize = 2000;

/// One or more characters of RFC 4648 §5, without padding.
pub fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The house heard something that it can't have heard now; a bug, told without a panic.
pub fn out_of_turn(doing: &str) -> Failure {
    Trouble::new(doing, "the order was told something out of turn").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCES: &str = "https://example.com/acme/new-nonce";

    fn asking() -> Asking {
        let mut asking = Asking::default();
        asking.nonces_from(NONCES);
        asking
    }

    fn order() -> Question {
        Question::new("https://example.com/acme/new-order", "{}".into(), Signer::Account("https://ca/1".into()))
    }

    fn reply(status: u16, nonce: Option<&str>, body: &str) -> Heard {
        Heard::Reply(Reply { status, nonce: nonce.map(Into::into), body: body.into(), ..Reply::default() })
    }

    /// The nonce that a question is sent with; `None` where a nonce is asked for first.
    fn sent(ask: &Ask) -> Option<&str> {
        match &ask.how {
            How::Post { nonce, .. } => Some(nonce),
            How::Head => {
                assert_eq!(ask.url, NONCES);
                None
            }
            How::Get => panic!("{ask:?}"),
        }
    }

    /// With the nonce of §7.2's example. The refusal brings the nonce to try again with.
    #[test]
    fn rfc_8555_6_5_a_refused_nonce_is_replaced_by_the_one_that_came_with_the_refusal() {
        let mut asking = asking();
        assert_eq!(sent(&asking.signed(order())), None);
        let again = |asking: &mut Asking, status: u16, nonce: &str, body: &str| match asking
            .hear(reply(status, Some(nonce), body), "x")
        {
            Word::Call(ask) => sent(&ask).map(String::from),
            _ => panic!("the question still stands"),
        };
        assert_eq!(again(&mut asking, 204, "oFvnlFP1wIhRlYS2jTaXbA", "").as_deref(), Some("oFvnlFP1wIhRlYS2jTaXbA"));
        let no = r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has an invalid anti-replay nonce"}"#;
        assert_eq!(again(&mut asking, 400, "K60BWPrMQG9SDxBDS_xtSw", no).as_deref(), Some("K60BWPrMQG9SDxBDS_xtSw"));
        match asking.hear(reply(201, Some("IXVHDyxIRGcTE0VSblhPzw"), "{}"), "x") {
            Word::Answer { reply, again } => assert_eq!((reply.status, again), (201, false)),
            _ => panic!("that is the answer"),
        }
        assert_eq!(sent(&asking.signed(order())), Some("IXVHDyxIRGcTE0VSblhPzw"), "used once, and so is the next");
    }

    #[test]
    fn rfc_8555_6_5_1_what_is_no_base64url_is_no_nonce() {
        for (nonce, good) in [
            ("eU2h1AQ", true),
            ("-_", true),
            ("", false),
            ("a=", false),
            ("a+b", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
            ("a\"", false),
        ] {
            let mut asking = asking();
            asking.remember(&Reply { nonce: Some(nonce.into()), ..Reply::default() });
            assert_eq!(sent(&asking.signed(order())), good.then_some(nonce));
        }
    }
}
