//! Small and fast pseudo-random numbers, the same on each run.

/// SplitMix64.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    /// One stream a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// 64 random bits.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `low..high`.
    #[inline]
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low)
    }

    /// True once in `n` on average.
    #[inline]
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Sizes as programs ask for them: each doubling from `low` to `high` is as likely as the next.
    #[inline]
    pub fn log_size(&mut self, low: usize, high: usize) -> usize {
        let doublings = (high / low).ilog2() as usize;
        let base = low << self.below(doublings);
        self.between(base, 2 * base)
    }

    /// The usual mix: 94 % up to 512 B, 5 % up to 8 KiB, 1 % up to 64 KiB.
    #[inline]
    pub fn mixed_size(&mut self) -> usize {
        match self.below(100) {
            0 => self.log_size(8 << 10, 64 << 10),
            1..=5 => self.log_size(512, 8 << 10),
            _ => self.log_size(16, 512),
        }
    }
}
