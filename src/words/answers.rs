//! The answers to pending challenges: put by the keeper, given by the listeners. One of the three locks.

use crate::words::name::Name;
use crate::words::sorted::Map;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default, Debug)]
pub struct Answers(Mutex<Pending>);

/// Both lead to a key authorization.
#[derive(Default, Debug)]
struct Pending {
    /// http-01: by its token.
    tokens: Map<String, String>,
    /// tls-alpn-01: by the name that is to be proven.
    names: Map<Name, String>,
}

impl Answers {
    pub fn put(&self, token: &str, answer: &str) {
        self.lock().tokens.insert(token.into(), answer.into());
    }

    pub fn withdraw(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    pub fn withdraw_all(&self) {
        *self.lock() = Pending::default();
    }

    pub fn is_empty(&self) -> bool {
        let pending = self.lock();
        pending.tokens.is_empty() && pending.names.is_empty()
    }

    pub fn find(&self, token: &str) -> Option<String> {
        self.lock().tokens.get(token).cloned()
    }

    pub fn put_for(&self, name: &Name, answer: &str) {
        self.lock().names.insert(name.clone(), answer.into());
    }

    pub fn withdraw_for(&self, name: &Name) {
        self.lock().names.remove(name);
    }

    pub fn find_for(&self, name: &Name) -> Option<String> {
        self.lock().names.get(name).cloned()
    }

    /// A panic ends the process, so a poisoned lock is never met; should it be, the maps are whole all the same.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
