//! Dice.

use ring::rand::SecureRandom as _;

pub trait Dice {
    /// An even throw of 0 to `bound - 1`; 0 for a bound of 0 or 1.
    fn below(&mut self, bound: u32) -> u32;
}

/// The kernel's.
pub struct SystemDice(ring::rand::SystemRandom);

impl Default for SystemDice {
    fn default() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Dice for SystemDice {
    fn below(&mut self, bound: u32) -> u32 {
        if bound < 2 {
            return 0;
        }
        // The throws above the last full multiple of `bound` would favour small results.
        let fair = u32::MAX - u32::MAX % bound;
        loop {
            let mut bytes = [0; 4];
            // A kernel without randomness can't keep anything secret, either; here it only costs the jitter.
            if self.0.fill(&mut bytes).is_err() {
                return 0;
            }
            let throw = u32::from_ne_bytes(bytes);
            if throw < fair {
                return throw % bound;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_are_even_and_below_the_bound() {
        let mut dice = SystemDice::default();
        assert_eq!((dice.below(0), dice.below(1)), (0, 0));
        let mut counts = [0_u32; 6];
        for _ in 0..6000 {
            counts[dice.below(6) as usize] += 1;
        }
        // Eight standard deviations to each side: a fair die fails once in 10^14 runs.
        assert!(counts.iter().all(|count| (770..=1230).contains(count)), "{counts:?}");
        let high = (0..100).filter(|_| dice.below(u32::MAX) > u32::MAX / 2).count();
        assert!((10..=90).contains(&high), "{high} of 100 in the upper half");
    }
}
