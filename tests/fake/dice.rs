//! Dice that count.

use super::locked;
use edgemd::doors::dice::Dice;
use std::sync::{Arc, Mutex};

/// Throws 0, 1, 2, … within the bound.
#[derive(Clone, Default)]
pub struct Counter(Arc<Mutex<u32>>);

impl Counter {
    /// How often they were thrown.
    pub fn throws(&self) -> u32 {
        *locked(&self.0)
    }
}

impl Dice for Counter {
    fn below(&mut self, bound: u32) -> u32 {
        let mut throws = locked(&self.0);
        let throw = throws.checked_rem(bound).unwrap_or(0);
        *throws += 1;
        throw
    }
}
