//! Our accounts with CAs, as the keeper has them: made before an order, kept the moment they exist, shown, and ended.

use crate::doors::clock::Ended;
use crate::doors::keys::AccountKey;
use crate::house::errand::{Errand, Task};
use crate::house::inquiries::route;
use crate::house::jobs;
use crate::house::keeper::Keeper;
use crate::house::webroot;
use crate::rules::account;
use crate::rules::acme::leaving::Leaving;
use crate::rules::control::{Accounts, Say};
use crate::words::cert::Account;
use crate::words::config::Md;
use crate::words::fault::{Failure, Trouble};
use std::collections::BTreeSet;
use std::path::PathBuf;

impl Keeper<'_> {
    /// The account at this CA, and whether its key was made just now. The key is stored before any CA sees it: should
    /// the power go before the account's URL is known, the account is found again by its key.
    pub(super) fn account_for(&mut self, ca: &str, md: &Md) -> Result<(Account, bool), Trouble> {
        if let Some(account) = self.lives.account(ca) {
            return Ok((account.clone(), false));
        }
        let account = Account {
            ca: ca.into(),
            url: None,
            key: AccountKey::generate()?,
            contacts: vec![],
            agreement: md.agreement.clone(),
        };
        self.put_account(account.clone(), "the new key is used all the same and stored later");
        Ok((account, true))
    }

    /// Removes the answers that a daemon which was killed has left where other web servers find them.
    pub(super) fn sweep_webroots(&mut self) {
        let roots: BTreeSet<PathBuf> = self.config.mds.iter().filter_map(|md| md.webroot.clone()).collect();
        let keys = self.lives.accounts().filter(|_| !roots.is_empty());
        let keys = keys.filter_map(|account| AccountKey::from_pkcs8(&account.key).ok());
        let thumbprints: Vec<String> = keys.map(|key| key.thumbprint()).collect();
        for root in roots {
            webroot::sweep(self.doors.disk, &root, &thumbprints);
        }
    }

    /// The contacts that the account at this CA shall have when this MD uses it.
    pub(super) fn contacts(&self, ca: &str, md: &Md) -> Vec<String> {
        let has = self.lives.account(ca).map_or(&[][..], |account| &account.contacts);
        account::contacts(has, &md.contacts, self.lives.contacts(ca))
    }

    /// The CA has told the account's URL, or has heard its contacts: nothing else is done before that is stored.
    pub(super) fn keep_account(&mut self, ca: &str, url: String, contacts: Vec<String>) {
        let Some(account) = self.lives.account(ca) else { return };
        match &account.url {
            Some(old) if *old == url && contacts.is_empty() => log::info!("the account at {ca} has no contact now"),
            Some(old) if *old == url => {
                log::info!("the account at {ca} has other contacts now: {}", contacts.join(", "))
            }
            Some(old) => log::info!("the account at {ca} was gone ({old}); there is a new one: {url}"),
            None => log::info!("account at {ca}: {url}"),
        }
        let account = Account { url: Some(url), contacts, ..account.clone() };
        self.put_account(account, "it is stored later, or found again by its key");
        self.look_again();
    }

    /// The CA does not take this key any more: the errand gets another, the same as others there.
    pub(super) fn replace_key(&mut self, index: usize) {
        let Some(errand) = self.errands.get_mut(index) else { return };
        let ca = errand.ca.clone();
        let newer =
            self.lives.account(&ca).filter(|account| !errand.has_key(account)).map(|account| account.key.clone());
        let key = match newer {
            Some(key) => Ok(key),
            None => self.another_key(&ca),
        };
        if let Some(errand) = self.errands.get_mut(index) {
            errand.replace_key(key.and_then(|key| AccountKey::from_pkcs8(&key)));
        }
    }

    fn another_key(&mut self, ca: &str) -> Result<Vec<u8>, Trouble> {
        let key = AccountKey::generate()?;
        log::info!("the account at {ca} was ended there; a new one is made, with a new key");
        if let Some(account) = self.lives.account(ca) {
            let account = Account { url: None, contacts: vec![], key: key.clone(), ..account.clone() };
            self.put_account(account, "the new key is used all the same and stored later");
        }
        Ok(key)
    }

    fn put_account(&mut self, account: Account, then: &str) {
        match self.store.put_account(self.doors.disk, &account) {
            Ok(()) => _ = self.unsaved_accounts.remove(&account.ca),
            Err(trouble) => {
                log::error!("the account at {} is not stored: {trouble}; {then}", account.ca);
                self.unsaved_accounts.insert(account.ca.clone());
                self.save_later();
            }
        }
        self.lives.keep_account(account);
    }

    /// Somebody asks for the accounts, or for the end of one.
    pub(super) fn show_accounts(&mut self, what: &Accounts, ended: Ended) {
        let said = match what {
            Accounts::Show => Ok(account::lines(self.lives.accounts())),
            Accounts::Deactivate { ca } => match self.leave(ca.as_deref(), &ended) {
                Ok(()) => return,
                Err(why) => Err(why),
            },
        };
        let code = u8::from(said.is_err());
        jobs::end(&ended, said.unwrap_or_else(|why| vec![why]), code);
    }

    /// Sets an errand going that ends the account.
    fn leave(&mut self, ca: Option<&str>, ended: &Ended) -> Result<(), String> {
        if self.config.only_reads() {
            return Err("this daemon only reads the store (MDStoreLocks off); ask the one that writes it".into());
        }
        let account = account::pick(self.lives.accounts(), ca)?;
        let ca = &account.ca;
        if self.errands.iter().any(|errand| errand.ca == *ca) {
            return Err(format!("the CA {ca} is being talked to just now; ask again when that is over"));
        }
        let md = self.config.mds.iter().find(|md| md.cas.contains(ca));
        let route = md.map(route).unwrap_or_default();
        let line = self.doors.wire.dial(&route).map_err(|trouble| trouble.to_string())?;
        let key = AccountKey::from_pkcs8(&account.key).map_err(|trouble| trouble.to_string())?;
        let flow = Box::new(Leaving::new(ca.clone(), account.url.clone()));
        let task = Task::Leave { ended: ended.clone() };
        let errand = Errand::new(task, ca.clone(), key, flow, line, (self.answers.clone(), None));
        self.errands.push(errand);
        Ok(())
    }

    /// The account is at its end, or its end has failed.
    pub(super) fn left(&mut self, ca: &str, ended: &Ended, failure: Option<Failure>) {
        let line = match failure {
            Some(failure) => format!("the account at {ca} is not deactivated: {failure}"),
            None => {
                self.unsaved_accounts.remove(ca);
                self.lives.forget_account(ca);
                match self.store.remove_account(self.doors.disk, ca) {
                    Ok(()) => format!("the account at {ca} is deactivated; the next order there makes a new one"),
                    Err(trouble) => format!("the account at {ca} is deactivated; its record is still there: {trouble}"),
                }
            }
        };
        let well = self.lives.account(ca).is_none();
        log::info!("{line}");
        let _ = ended.try_send(Say::Line(line));
        let _ = ended.try_send(Say::End(u8::from(!well)));
        self.look_again();
    }
}
