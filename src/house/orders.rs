//! The two ends of an errand: what is made before an order begins, and the one commit point after it.

use crate::doors::https::Route;
use crate::doors::keys::{self, AccountKey};
use crate::house::errand::Errand;
use crate::house::keeper::Keeper;
use crate::rules::acme::flow::{Brief, Flow};
use crate::rules::x509;
use crate::words::board::Entry;
use crate::words::cert::{Account, Bundle, Held, Outcome, Slot, Want, Why};
use crate::words::config::{Challenge, Md};
use crate::words::fault::{Failure, Trouble};
use crate::words::message::Topic;

impl Keeper<'_> {
    /// Makes a new key and its request, and sets an errand going; unless there is no room yet.
    pub(super) fn begin(&mut self, slot: &Slot, why: Why) {
        let Some(want) = self.lives.want(slot).cloned() else { return };
        let Some(ca) = self.lives.ca(slot).filter(|ca| self.has_room_for(ca)).map(String::from) else { return };
        let Some(md) = self.lives.md(&slot.md).cloned() else { return };
        if let Err(trouble) = self.say(&md, Topic::Renewing) {
            return self.veto(&md, &trouble);
        }
        log::info!("{}: ordering a certificate ({}) from {ca}: {why}", slot.md, want.kind);
        match self.set_out(slot, &md, want, ca, why) {
            Ok(errand) => {
                self.errands.push(errand);
                self.lives.touch(&slot.md);
            }
            Err(trouble) => self.failed(slot, Outcome::OrderFailed(trouble.into())),
        }
    }

    fn set_out(&mut self, slot: &Slot, md: &Md, want: Want, ca: String, why: Why) -> Result<Errand, Trouble> {
        let key = keys::generate(want.kind)?;
        let csr = keys::request(&key, want.kind, &want.names)?;
        let (account, is_new) = self.account_for(&ca, md)?;
        let account_key = AccountKey::from_pkcs8(&account.key)?;
        let line = self.doors.wire.dial(&Route { roots: md.roots.clone(), proxy: md.proxy.clone() })?;
        let flow = Flow::new(Brief {
            directory: ca.clone(),
            names: want.names.clone(),
            csr,
            thumbprint: account_key.thumbprint(),
            account: account.url,
            key_was_shown: !is_new,
            contacts: md.contacts.clone(),
            agreement: md.agreement.clone(),
            challenges: self.challenges(md),
        });
        Ok(Errand::new((slot.clone(), want, why), ca, key, account_key, flow, line, self.answers.clone()))
    }

    /// What can be answered here: what the operator listed, else what arrives.
    fn challenges(&self, md: &Md) -> Vec<Challenge> {
        match &md.challenges {
            Some(list) => list.clone(),
            None if self.config.ports.http.is_some() => vec![Challenge::Http01],
            None => vec![],
        }
    }

    /// The account at this CA, and whether its key was made just now. The key is stored before any CA sees it: should
    /// the power go before the account's URL is known, the account is found again by its key.
    fn account_for(&mut self, ca: &str, md: &Md) -> Result<(Account, bool), Trouble> {
        if let Some(account) = self.lives.account(ca) {
            return Ok((account.clone(), false));
        }
        let account = Account {
            ca: ca.into(),
            url: None,
            key: AccountKey::generate()?,
            contacts: md.contacts.clone(),
            agreement: md.agreement.clone(),
        };
        self.put_account(account.clone(), "the new key is used all the same and stored later");
        Ok((account, true))
    }

    /// The CA has told the account's URL: nothing else is done before it is stored.
    pub(super) fn keep_account(&mut self, ca: &str, url: String) {
        let Some(account) = self.lives.account(ca) else { return };
        log::info!("account at {ca}: {url}");
        let account = Account { url: Some(url), ..account.clone() };
        self.put_account(account, "it is stored later, or found again by its key");
        self.look_again();
    }

    fn put_account(&mut self, account: Account, then: &str) {
        match self.store.put_account(self.doors.disk, &account) {
            Ok(()) => _ = self.unsaved_accounts.remove(&account.ca),
            Err(trouble) => {
                log::error!("the account at {} is not stored: {trouble}; {then}", account.ca);
                self.unsaved_accounts.insert(account.ca.clone());
            }
        }
        self.lives.keep_account(account);
    }

    /// The CA has given a chain: it is proven, then committed in one record. From then on it is ours.
    pub(super) fn arrive(&mut self, errand: Errand, chain: Vec<Vec<u8>>) {
        match self.prove(&errand, &chain) {
            Ok(held) => self.commit(&errand.slot, held, Bundle { key: errand.key, chain }),
            Err(failure) => self.failed(&errand.slot, Outcome::OrderFailed(failure)),
        }
    }

    fn prove(&self, errand: &Errand, chain: &[Vec<u8>]) -> Result<Held, Failure> {
        let want = &errand.want;
        let public = keys::public_key(&errand.key, want.kind)?;
        let now = self.now();
        Ok(x509::accept(chain, &public, &want.names, want.kind, &errand.ca, now)?)
    }

    fn commit(&mut self, slot: &Slot, held: Held, bundle: Bundle) {
        let saved = self.store.put_cert(self.doors.disk, slot, &held, &bundle);
        let line = format!("certificate until {}, serial {}", held.not_after, held.serial_hex());
        let unsaved = match saved {
            Ok(()) => None,
            Err(trouble) => {
                log::error!(
                    "{}: the new pair is not stored: {trouble}; it is used from memory and stored later",
                    slot.md
                );
                Some((bundle, trouble))
            }
        };
        if let Some(when) = self.doors.clock.now() {
            self.lives.note(&slot.md, Entry { when, what: "renewed", detail: line.clone() });
        }
        self.lives.arrived(slot, held, unsaved);
        self.succeeded(slot, &Outcome::Ordered);
        log::info!("{}: {line}{}", slot.md, self.lives.outlook(slot, self.now()));
    }

    /// Tries again what the disk did not take; whether all is there now.
    pub(super) fn save_again(&mut self) -> bool {
        self.unsaved_accounts.retain(|ca| {
            let Some(account) = self.lives.account(ca) else { return false };
            let saved = self.store.put_account(self.doors.disk, account);
            if saved.is_ok() {
                log::info!("the account at {ca} is stored now");
            }
            saved.is_err()
        });
        for slot in self.lives.unsaved() {
            let Some(life) = self.lives.life(&slot) else { continue };
            if let (Some((bundle, _)), Some(held)) = (life.unsaved.take(), life.held().cloned()) {
                let saved = self.store.put_cert(self.doors.disk, &slot, &held, &bundle);
                if saved.is_ok() {
                    log::info!("{}: the pair is stored now", slot.md);
                }
                let Some(life) = self.lives.life(&slot) else { continue };
                life.unsaved = saved.err().map(|trouble| (bundle, trouble));
            }
            self.save_tried(&slot);
        }
        self.unsaved_accounts.is_empty() && self.lives.unsaved().is_empty()
    }
}
