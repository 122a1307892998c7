//! Dice that fall the same way each time: the xorshift of George Marsaglia.

/// The seed, which is not 0.
pub struct Xorshift(pub u64);

impl Xorshift {
    pub fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The bound is below 2^31.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.throw() >> 33) % bound
    }
}
