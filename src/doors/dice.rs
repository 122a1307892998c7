//! Dice.

pub trait Dice {
    /// An even throw of 0 to `bound - 1`; 0 for a bound of 0 or 1.
    fn below(&mut self, bound: u32) -> u32;
}
