//! The answers to pending http-01 challenges: put by the keeper, given by the listeners. One of the three locks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Token → key authorization.
#[derive(Default, Debug)]
pub struct Answers(Mutex<BTreeMap<String, String>>);

impl Answers {
    pub fn put(&self, token: &str, answer: &str) {
        self.lock().insert(token.into(), answer.into());
    }

    pub fn withdraw(&self, token: &str) {
        self.lock().remove(token);
    }

    pub fn withdraw_all(&self) {
        self.lock().clear();
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub fn find(&self, token: &str) -> Option<String> {
        self.lock().get(token).cloned()
    }

    /// A panic ends the process, so a poisoned lock is never met; should it be, the map is whole all the same.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
