//! The account's part of an order: it is found, made, told of other contacts, or made anew where the CA no longer knows it.

use super::{Flow, Next, Stage, text};
use crate::rules::acme::asking::{Question, absolute, out_of_turn};
use crate::rules::acme::problem::{BAD_BINDING, is, json};
use crate::rules::acme::turns::{Bond, Mac, Signer, Turn};
use crate::rules::acme::types::{AccountState, Contacts, NewAccount, Reply};
use crate::rules::tame::tame;
use crate::words::fault::{ACME_ERROR, Refusal};

/// The CA knows no such account.
const GONE: &str = "accountDoesNotExist";
/// The CA does not hear this account any more (RFC 8555 §7.3.6), or denies this question to it.
const DENIED: &str = "unauthorized";
/// It wants accounts that are bound to one at its own site (RFC 8555 §7.3.4).
const UNBOUND: &str = "externalAccountRequired";

impl Flow {
    /// The directory is read: on to the order, with an account.
    pub(super) fn begin_account(&mut self) -> Next {
        if self.brief.between_keys {
            self.find_account()
        } else if self.account.is_some() {
            self.use_account()
        } else if self.brief.key_was_shown {
            self.find_account()
        } else {
            self.make_account()
        }
    }

    /// The account is there; RFC 8555 §7.3.2: what has changed is told first.
    pub(super) fn use_account(&mut self) -> Next {
        match &self.account {
            Some(account) if self.told != self.brief.contacts => {
                let payload = text(&Contacts { contact: &self.brief.contacts });
                self.post(Stage::TellContacts, account.clone(), payload)
            }
            _ => self.new_order(),
        }
    }

    /// RFC 8555 §7.3.1: the CA knows an account by its key.
    fn find_account(&mut self) -> Next {
        let payload = NewAccount { only_return_existing: true, ..NewAccount::default() };
        self.post_by_key(Stage::FindAccount, &text(&payload), Signer::Key)
    }

    fn make_account(&mut self) -> Next {
        let terms_of_service_agreed = self.terms_are_agreed()?;
        let signer = self.newcomer()?;
        let contact = &self.brief.contacts;
        let payload = text(&NewAccount { contact, terms_of_service_agreed, ..NewAccount::default() });
        self.post_by_key(Stage::MakeAccount, &payload, signer)
    }

    /// How a new account is signed for: bound, where that is meant for this CA.
    fn newcomer(&self) -> Result<Signer, Refusal> {
        let doing = "making an account";
        let meta = self.directory.meta.as_ref();
        let required = meta.is_some_and(|meta| meta.external_account_required == Some(true));
        match self.brief.bond {
            None if required => {
                let why = "the CA wants accounts that are bound to one at its own site; see MDExternalAccountBinding";
                Err(Refusal::ours(doing, &format!("{ACME_ERROR}{UNBOUND}"), why))
            }
            Some(Bond { is_one_of_several: true, .. }) if !required => Ok(Signer::Key),
            Some(Bond { is_sound: false, .. }) => {
                let why = "the hmac of MDExternalAccountBinding is not base64url; write it as the CA has given it";
                Err(Refusal::ours(doing, BAD_BINDING, why))
            }
            Some(_) => Ok(Signer::Bound(self.mac)),
            None => Ok(Signer::Key),
        }
    }

    /// Most CAs take HS256, some one of the others alone; only trying tells.
    fn next_mac(&mut self) -> bool {
        let next = match self.mac {
            Mac::Hs256 => Mac::Hs384,
            Mac::Hs384 => Mac::Hs512,
            Mac::Hs512 => return false,
        };
        self.mac = next;
        self.brief.bond.is_some()
    }

    /// The CA wants the binding that was kept from it; whether there is one.
    fn was_meant(&mut self) -> bool {
        self.brief.bond.as_mut().is_some_and(|bond| core::mem::take(&mut bond.is_one_of_several))
    }

    fn post_by_key(&mut self, stage: Stage, payload: &str, signer: Signer) -> Next {
        self.stage = stage;
        let url = &self.directory.new_account;
        absolute(&self.brief.directory, &self.doing(), "newAccount", url)?;
        Ok(Turn::Call(self.asking.signed(Question::new(url, payload.into(), signer))))
    }

    fn terms_are_agreed(&self) -> Result<bool, Refusal> {
        let terms = self.directory.meta.as_ref().and_then(|meta| meta.terms_of_service.as_deref());
        let agreement = self.brief.agreement.as_deref();
        let Some(terms) = terms else { return Ok(agreement.is_some()) };
        if agreement.is_some_and(|agreed| agreed.eq_ignore_ascii_case("accepted") || agreed == terms) {
            return Ok(true);
        }
        let mut why = format!("the CA requires you to accept the terms-of-service as specified in {}", tame(terms));
        if let Some(agreed) = agreement {
            why.push_str(&format!("; MDCertificateAgreement names others, {agreed}"));
        } else {
            why.push_str("; if you do, write \"MDCertificateAgreement accepted\"");
        }
        Err(Refusal::ours("making an account", &format!("{ACME_ERROR}userActionRequired"), why))
    }

    /// The answer to a question that was about the account.
    pub(super) fn heard_of_account(
        &mut self,
        doing: &str,
        (reply, again): (&Reply, bool),
        no: Option<Refusal>,
    ) -> Next {
        let may_be_bound = self.brief.bond.is_some();
        match (self.stage, no) {
            // The CA has not heard of the newer key: it is the older one then.
            (Stage::FindAccount, Some(no)) if is(&no, GONE) && self.brief.between_keys => {
                self.stage = Stage::ReplaceKey;
                Ok(Turn::ReplaceKey)
            }
            (Stage::FindAccount, Some(no)) if is(&no, GONE) || (may_be_bound && is(&no, UNBOUND)) => {
                self.failure.take().map_or_else(|| self.make_account(), Err)
            }
            (Stage::FindAccount, Some(no)) if is(&no, DENIED) && self.key_is_old => Ok(self.replace_key()),
            (Stage::MakeAccount, Some(no)) if is(&no, DENIED) && self.key_is_old && !may_be_bound => {
                Ok(self.replace_key())
            }
            (Stage::MakeAccount, Some(no)) if is(&no, "badSignatureAlgorithm") && self.next_mac() => {
                self.make_account()
            }
            // Its directory did not say so.
            (Stage::MakeAccount, Some(no)) if is(&no, UNBOUND) && self.was_meant() => self.make_account(),
            // The binding may be good for once, and the answer to that was lost.
            (Stage::MakeAccount, Some(no)) if may_be_bound && again => {
                self.failure = Some(no.into());
                self.find_account()
            }
            (Stage::FindAccount, None) => self.keep_account(self.location(doing, "the account", reply)?),
            (Stage::MakeAccount, None) => {
                // Nobody may replace what another account has.
                self.brief.replaces = None;
                self.told.clone_from(&self.brief.contacts);
                self.keep_account(self.location(doing, "the account", reply)?)
            }
            (Stage::TellContacts, None) => {
                self.told.clone_from(&self.brief.contacts);
                self.stage = Stage::KeepAccount;
                self.account.clone().map(|account| self.keep(account)).ok_or_else(|| out_of_turn(doing))
            }
            (Stage::TellContacts, Some(no)) => self.doubt_account(no),
            (Stage::LookAtAccount, no) => self.judge_account(doing, reply, no),
            (_, Some(no)) => Err(no.into()),
            (_, None) => Err(out_of_turn(doing)),
        }
    }

    fn keep_account(&mut self, account: String) -> Next {
        self.account = Some(account.clone());
        self.account_is_fresh = true;
        self.stage = Stage::KeepAccount;
        Ok(self.keep(account))
    }

    fn keep(&self, account: String) -> Turn {
        Turn::Keep { account, contacts: self.told.clone() }
    }

    /// A refusal that may be the account's fault and not the question's.
    pub(super) fn doubt_account(&mut self, no: Refusal) -> Next {
        match self.account.clone() {
            _ if self.account_is_fresh => Err(no.into()),
            _ if is(&no, GONE) => self.make_account(),
            Some(account) if is(&no, DENIED) => {
                self.failure = Some(no.into());
                self.post(Stage::LookAtAccount, account, String::new())
            }
            _ => Err(no.into()),
        }
    }

    /// An account that the CA still shows as valid was not the reason.
    fn judge_account(&mut self, doing: &str, reply: &Reply, no: Option<Refusal>) -> Next {
        let ended = match no {
            None => json::<AccountState>(doing, reply)?.status != "valid",
            Some(no) => is(&no, DENIED) || is(&no, GONE),
        };
        let failure = self.failure.take();
        if ended { Ok(self.replace_key()) } else { Err(failure.unwrap_or_else(|| out_of_turn(doing))) }
    }

    /// The account has ended, and its key with it: a CA takes it for no other.
    fn replace_key(&mut self) -> Turn {
        (self.key_is_old, self.brief.between_keys) = (false, false);
        self.account = None;
        self.stage = Stage::ReplaceKey;
        Turn::ReplaceKey
    }

    /// The new key is there.
    pub(super) fn replaced_key(&mut self, thumbprint: String) -> Next {
        self.brief.thumbprint = thumbprint;
        if core::mem::take(&mut self.brief.between_keys) { self.begin_account() } else { self.make_account() }
    }
}
