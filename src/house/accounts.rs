//! Our accounts with CAs, as the keeper has them: made before an order, kept the moment they exist, shown, and ended.

use crate::doors::clock::Ended;
use crate::doors::keys::AccountKey;
use crate::house::errand::{Errand, Task};
use crate::house::inquiries::route;
use crate::house::jobs;
use crate::house::keeper::Keeper;
use crate::house::prune::ONLY_READ;
use crate::house::webroot;
use crate::rules::account;
use crate::rules::acme::turns::{Bond, Brief};
use crate::rules::acme::visit::{Purpose, Visit};
use crate::rules::control::{Accounts, Say};
use crate::words::cert::Account;
use crate::words::config::Md;
use crate::words::fault::{Failure, Trouble};
use crate::words::secret::Secret;
use crate::words::sorted::Set;
use std::path::PathBuf;

impl Keeper<'_> {
    /// The account at this CA, and whether its key was made just now. The key is stored before any CA sees it: should
    /// the power go before the account's URL is known, the account is found again by its key.
    pub(super) fn account_for(&mut self, ca: &str, md: &Md) -> Result<(Account, bool), Trouble> {
        if let Some(account) = self.lives.account(&md.account_at(ca)) {
            return Ok((account.clone(), false));
        }
        if let Some(account) = self.store.find_account(self.doors.disk, &md.account_at(ca))? {
            self.lives.keep_account(account.clone());
            return Ok((account, false));
        }
        let account = Account {
            ca: ca.into(),
            key: AccountKey::generate()?,
            agreement: md.agreement.clone(),
            kid: md.binding.as_ref().map(|binding| binding.kid.clone()),
            ..Account::default()
        };
        self.put_account(account.clone(), "the new key is used all the same and stored later");
        Ok((account, true))
    }

    /// Removes the answers that a daemon which was killed has left where other web servers find them.
    pub(super) fn sweep_webroots(&mut self) {
        let roots: Set<PathBuf> = self.config.mds.iter().filter_map(|md| md.webroot.clone()).collect();
        let keys = self.lives.accounts().filter(|_| !roots.is_empty());
        let keys = keys.filter_map(|account| AccountKey::from_pkcs8(&account.key).ok());
        let thumbprints: Vec<String> = keys.map(|key| key.thumbprint()).collect();
        for root in roots {
            webroot::sweep(self.doors.disk, &root, &thumbprints);
        }
    }

    /// What is to be said of our account there where a conversation with this CA begins; the key that it is held with, and
    /// the account's place.
    pub(super) fn introduce(&mut self, ca: &str, md: &Md) -> Result<(Brief, AccountKey, String), Trouble> {
        let (account, is_new) = self.account_for(ca, md)?;
        // Where a change of keys was broken off, the newer one is asked for first.
        let mut key = AccountKey::from_pkcs8(account.next.as_ref().unwrap_or(&account.key))?;
        let bond = md.binding.as_ref().map(|binding| Bond {
            is_sound: key.bind(binding),
            is_one_of_several: md.cas_by_key.first().unwrap_or(&md.cas).len() > 1,
        });
        let place = account.place();
        let facts = Brief {
            directory: ca.into(),
            thumbprint: key.thumbprint(),
            account: account.url,
            key_was_shown: !is_new,
            between_keys: account.next.is_some(),
            contacts: self.contacts(&place, md),
            told: account.contacts,
            agreement: md.agreement.clone(),
            bond,
            ..Brief::default()
        };
        Ok((facts, key, place))
    }

    /// The contacts that the account in this place shall have when this MD uses it.
    pub(super) fn contacts(&self, place: &str, md: &Md) -> Vec<String> {
        let has = self.lives.account(place).map_or(&[][..], |account| &account.contacts);
        account::contacts(has, &md.contacts, self.lives.contacts(place))
    }

    /// The CA has told the account's URL, or has heard its contacts: nothing else is done before that is stored.
    pub(super) fn keep_account(&mut self, index: usize, url: String, contacts: Vec<String>) {
        let Some(errand) = self.errands.get(index) else { return };
        let Some(account) = self.lives.account(&errand.place) else { return };
        let ca = &account.ca;
        // Of two keys it is the one that the CA has answered to.
        let key = account.next.as_ref().filter(|next| errand.has_key(next)).unwrap_or(&account.key).clone();
        match &account.url {
            Some(old) if *old == url && account.next.is_some() => {
                log::info!("the account at {ca} has the new key that it was to have")
            }
            Some(old) if *old == url && contacts.is_empty() => log::info!("the account at {ca} has no contact now"),
            Some(old) if *old == url => {
                log::info!("the account at {ca} has other contacts now: {}", contacts.join(", "))
            }
            Some(old) => log::info!("the account at {ca} was gone ({old}); there is a new one: {url}"),
            None => log::info!("account at {ca}: {url}"),
        }
        let account = Account { url: Some(url), contacts, key, next: None, ..account.clone() };
        self.put_account(account, "it is stored later, or found again by its key");
        self.look_again();
    }

    /// The CA does not take this key any more: the errand gets another, the same as others there.
    pub(super) fn replace_key(&mut self, index: usize) {
        let Some(errand) = self.errands.get_mut(index) else { return };
        let (place, account) = (errand.place.clone(), self.lives.account(&errand.place));
        let other = match &errand.task {
            Task::Revoke(revocation) => Some(revocation.key.clone()),
            Task::Roll { .. } => account.and_then(|account| account.next.clone()),
            _ => account.filter(|account| !errand.has_key(&account.key)).map(|account| account.key.clone()),
        };
        if let (Task::Order(_), Some(Account { next: Some(_), .. })) = (&errand.task, account) {
            self.drop_next_key(&place);
        }
        let key = match other {
            Some(key) => Ok(key),
            None => self.another_key(&place),
        };
        if let Some(errand) = self.errands.get_mut(index) {
            errand.replace_key(key.and_then(|key| AccountKey::from_pkcs8(&key)));
        }
    }

    /// The CA has never heard of the key that was to take the place of the other.
    fn drop_next_key(&mut self, place: &str) {
        let Some(account) = self.lives.account(place) else { return };
        log::info!("the account at {} has the key that it had; a change of it was broken off", account.ca);
        let account = Account { next: None, ..account.clone() };
        self.put_account(account, "it is found out again by the next order");
    }

    fn another_key(&mut self, place: &str) -> Result<Secret, Trouble> {
        let key = AccountKey::generate()?;
        if let Some(account) = self.lives.account(place) {
            log::info!("the account at {} was ended there; a new one is made, with a new key", account.ca);
            let account = Account { url: None, contacts: vec![], key: key.clone(), ..account.clone() };
            self.put_account(account, "the new key is used all the same and stored later");
        }
        Ok(key)
    }

    fn put_account(&mut self, account: Account, then: &str) {
        let saved = self.store.put_account(self.doors.disk, &account);
        if let Err(trouble) = &saved {
            log::error!("the account at {} is not stored: {trouble}; {then}", account.ca);
            self.save_later();
        }
        self.lives.saved_account(&account.place(), saved);
        self.lives.keep_account(account);
    }

    /// Somebody asks for the accounts, for another key of one, or for its end.
    pub(super) fn show_accounts(&mut self, what: &Accounts, ended: Ended) {
        let said = match what {
            Accounts::Show => Ok(account::lines(self.lives.accounts())),
            Accounts::Roll { ca } => match self.visit(ca.as_deref(), Purpose::Roll, &ended) {
                Ok(()) => return,
                Err(why) => Err(why),
            },
            Accounts::Deactivate { ca } => match self.visit(ca.as_deref(), Purpose::Leave, &ended) {
                Ok(()) => return,
                Err(why) => Err(why),
            },
        };
        let code = u8::from(said.is_err());
        jobs::end(&ended, said.unwrap_or_else(|why| vec![why]), code);
    }

    /// Sets an errand going for the account's own sake.
    fn visit(&mut self, ca: Option<&str>, purpose: Purpose, ended: &Ended) -> Result<(), String> {
        if self.config.only_reads() {
            return Err(ONLY_READ.into());
        }
        let account = account::pick(self.lives.accounts(), ca)?.clone();
        let ca = &account.ca;
        let is_signed = |errand: &Errand| errand.ca == *ca && !matches!(errand.task, Task::Ask(_));
        if self.errands.iter().any(is_signed) {
            return Err(format!("the CA {ca} is being talked to just now; ask again when that is over"));
        }
        let users = || self.config.mds.iter().filter(|md| md.cas.contains(ca));
        let md = users().find(|md| md.uses(&account)).or(users().next());
        let route = md.map(route).unwrap_or_default();
        let said = |trouble: Trouble| trouble.to_string();
        let line = self.doors.wire.dial(&route).map_err(said)?;
        let mut key = AccountKey::from_pkcs8(&account.key).map_err(said)?;
        let ended = ended.clone();
        let task = match &purpose {
            Purpose::Roll => {
                key.gives_way_to(AccountKey::from_pkcs8(&self.next_key(&account)?).map_err(said)?);
                Task::Roll { ended }
            }
            _ if account.next.is_some() => return Err(jobs::HALF_ROLLED.into()),
            _ => Task::Leave { ended },
        };
        let flow = Box::new(Visit::new(ca.clone(), account.url.clone(), purpose));
        let at = (ca.clone(), account.place());
        self.errands.push(Errand::new(task, at, key, flow, line, (self.answers.clone(), None)));
        Ok(())
    }

    /// The key that the account is to have. It is in the store before the CA hears of it: should the power go, it is known
    /// that the CA may have either.
    fn next_key(&mut self, account: &Account) -> Result<Secret, String> {
        if let Some(next) = &account.next {
            return Ok(next.clone());
        }
        let next = AccountKey::generate().map_err(|trouble| trouble.to_string())?;
        let account = Account { next: Some(next.clone()), ..account.clone() };
        self.store
            .put_account(self.doors.disk, &account)
            .map_err(|trouble| format!("the new key is not stored, so it is not used: {trouble}"))?;
        self.lives.keep_account(account);
        Ok(next)
    }

    /// The account has its next key, or it is not known whether it has.
    pub(super) fn rolled(&mut self, place: &str, ended: &Ended, failure: Option<Failure>) {
        let Some(account) = self.lives.account(place).cloned() else { return };
        let ca = &account.ca;
        let well = failure.is_none();
        let line = match failure {
            Some(failure) => format!("the key of the account at {ca} is not changed: {failure}"),
            None => format!("the account at {ca} has a new key; its URL is what it was"),
        };
        if let (true, Some(key)) = (well, account.next.clone()) {
            self.put_account(Account { key, next: None, ..account }, "which of the two keys it has is found out again");
        }
        log::info!("{line}");
        jobs::end(ended, vec![line], u8::from(!well));
        self.look_again();
    }

    /// The account is at its end, or its end has failed.
    pub(super) fn left(&mut self, place: &str, ended: &Ended, failure: Option<Failure>) {
        // Behind the CA's URL stands what the account is bound to.
        let ca = place.split(' ').next().unwrap_or_default();
        let line = match failure {
            Some(failure) => format!("the account at {ca} is not deactivated: {failure}"),
            None => {
                self.lives.forget_account(place);
                match self.store.remove_account(self.doors.disk, place) {
                    Ok(()) => format!("the account at {ca} is deactivated; the next order there makes a new one"),
                    Err(trouble) => format!("the account at {ca} is deactivated; its record is still there: {trouble}"),
                }
            }
        };
        let well = self.lives.account(place).is_none();
        log::info!("{line}");
        let _ = ended.try_send(Say::Line(line));
        let _ = ended.try_send(Say::End(u8::from(!well)));
        self.look_again();
    }
}
