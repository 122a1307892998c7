//! The nouns between the house and an order's flow: what the order begins with, what is heard, what is to be done.

use crate::rules::acme::advice::Hint;
use crate::rules::acme::types::Reply;
use crate::rules::txt::Txt;
use crate::words::config::{Chain, Challenge};
use crate::words::fault::{Failure, Trouble};
use crate::words::name::Name;
use crate::words::time::Span;

/// The public facts that an order begins with.
#[derive(Clone, Debug, Default)]
pub struct Brief {
    /// The CA's directory URL.
    pub directory: String,
    pub names: Vec<Name>,
    /// The certificate request, DER (RFC 2986).
    pub csr: Vec<u8>,
    /// Of the account key (RFC 7638), base64url.
    pub thumbprint: String,
    /// The account's URL, unless it was never made or was lost.
    pub account: Option<String>,
    /// Whether the CA may know the account key although its URL is not known here.
    pub key_was_shown: bool,
    /// The key may be one that the CA has not got: then there is an older one.
    pub between_keys: bool,
    /// The `mailto:` URLs that the CA shall know.
    pub contacts: Vec<String>,
    /// Those that it knows.
    pub told: Vec<String>,
    /// `accepted`, or the URL of the terms that were accepted.
    pub agreement: Option<String>,
    /// Whether a new account can be bound to one at the CA's own site.
    pub bond: Option<Bond>,
    /// Which of the CA's chains; `None` is its own.
    pub chain: Option<Chain>,
    /// The types that can be answered here, the preferred first.
    pub challenges: Vec<Challenge>,
    pub profile: Option<String>,
    /// Whether there shall be no order without it.
    pub profile_mandatory: bool,
    /// The id (RFC 9773 §4.1) of the certificate in whose place the new one comes.
    pub replaces: Option<String>,
}

/// A binding (RFC 8555 §7.3.4), without its secret.
#[derive(Clone, Copy, Debug)]
pub struct Bond {
    /// Its key can be read.
    pub is_sound: bool,
    /// There are other CAs that it may be meant for: it is told only to one that asks for such a thing.
    pub is_one_of_several: bool,
}

/// What such a binding is signed by (RFC 7518 §3.1), in the order in which they are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mac {
    Hs256,
    Hs384,
    Hs512,
}

/// A conversation with a CA: it is told what was heard of its last turn and says the next one. `Done`, `Advised`, `Finished`
/// and `Fail` are the last.
pub trait Turns {
    fn turn(&mut self, heard: Heard) -> Turn;
}

/// What a conversation is told.
#[derive(Clone, Debug)]
pub enum Heard {
    Start,
    /// The answer to the last [`Turn::Call`].
    Reply(Reply),
    /// There will be no answer to it; or the last [`Turn::Serve`] could not be done, or [`Turn::Look`] saw nothing.
    Silence(Trouble),
    /// The last turn, which had no answer to give, is done.
    Done,
    /// There is another key, with this thumbprint.
    Key(String),
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    Call(Ask),
    Serve(Proof),
    Unserve(Proof),
    /// Not before DNS shows these is the CA told that answers are in place; `patient`: they are on their way.
    Look {
        records: Vec<Txt>,
        patient: bool,
    },
    Rest(Span),
    /// The account exists at this URL, and the CA knows these contacts: keep it before anything else.
    Keep {
        account: String,
        contacts: Vec<String>,
    },
    /// The key that is signed with is of no use at this CA: there is to be another one.
    ReplaceKey,
    Done(Granted),
    /// What the CA said of each certificate that it was asked about, in their order; and where it answers such questions.
    Advised {
        hints: Vec<Hint>,
        base: Option<String>,
    },
    /// The account is there; and this is what the CA is called in DNS (`caaIdentities`).
    Known(Vec<String>),
    /// What it was for is done.
    Finished,
    Fail(Failure),
}

/// What an order has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// DER, leaf first, as the CA gave it.
    pub chain: Vec<Vec<u8>>,
    /// The profile that was asked for; `spurned` says why it is not the one that was wished for.
    pub profile: Option<String>,
    pub spurned: Option<String>,
    /// Where the CA says when to renew it (RFC 9773 §4).
    pub renewal_info: Option<String>,
}

/// A question for the CA, unsigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    pub url: String,
    pub accept: Option<&'static str>,
    pub how: How,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    Get,
    Head,
    /// To be signed (RFC 8555 §6.2). An empty payload is POST-as-GET.
    Post {
        payload: String,
        nonce: String,
        signer: Signer,
    },
}

/// Which member of the protected header names the key (RFC 8555 §6.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Signer {
    /// `jwk`: the key itself.
    Key,
    /// Likewise, and the payload gets the binding of a new account, which the flow can't know.
    Bound(Mac),
    /// `kid`: the account's URL.
    Account(String),
    /// Likewise; the payload is what the account's next key says of the change (RFC 8555 §7.3.5), which a flow can't know.
    Changing(String),
}

/// An answer to be put in place for one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    pub challenge: Challenge,
    pub name: Name,
    /// Empty where the type has none.
    pub token: String,
    /// `token.thumbprint` (RFC 8555 §8.1).
    pub key_authorization: String,
    /// What DNS is to say.
    pub txt: Option<Txt>,
}
