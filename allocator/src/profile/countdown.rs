//! When to sample, and what a sample stands for.

use core::cell::Cell;

/// Distance to a thread's next sampling point, in bytes.
///
/// The points are a Poisson process over the bytes that the thread allocates: gaps are exponential
/// with the period as mean, so the process has no memory, and neither a pattern of the program nor
/// a pause of the profile can lean on it.
#[derive(Debug, Default)]
pub struct Countdown {
    left: Cell<i64>,
    /// State of the generator; 0 before the first use.
    seed: Cell<u64>,
}

impl Countdown {
    /// Nothing drawn yet: the first use draws a gap.
    pub const fn new() -> Countdown {
        Countdown { left: Cell::new(0), seed: Cell::new(0) }
    }

    /// Takes `size` bytes off; true when a point, or the need to draw the first, lies in them.
    #[inline(always)]
    pub fn spend(&self, size: usize) -> bool {
        // A size beyond the address space was refused before.
        let left = self.left.get().wrapping_sub(size.cast_signed() as i64);
        self.left.set(left);
        left < 0
    }

    /// Whether the next point lies behind an object of `size` bytes.
    #[inline(always)]
    pub fn covers(&self, size: usize) -> bool {
        self.left.get() >= size.cast_signed() as i64
    }

    /// After [`Countdown::spend`] said true: draws the next gap, and whether the object of `size`
    /// bytes has a point. `seed` gives a number that differs from thread to thread.
    #[cold]
    pub fn draw(&self, size: usize, period: u64, seed: impl FnOnce() -> u64) -> bool {
        let is_first = self.seed.get() == 0;
        if is_first {
            self.seed.set(seed() | 1);
            // The point that a gap from the start would have given.
            let left = self.gap(period).wrapping_sub(size.cast_signed() as i64);
            self.left.set(left);
            if left >= 0 {
                return false;
            }
        }
        self.left.set(self.gap(period));
        true
    }

    /// Forgets the gap, for another period.
    pub fn reset(&self) {
        self.left.set(0);
        self.seed.set(0);
    }

    /// An exponential number with the mean `period`, exactly, from uniform ones and comparisons
    /// alone: J. von Neumann, "Various techniques used in connection with random digits" (1951).
    /// The length of a falling run of uniform numbers is odd with the chance e^-x of its first one
    /// x; every run that is even adds one to the whole part.
    fn gap(&self, period: u64) -> i64 {
        let mut whole: u64 = 0;
        loop {
            let first = self.uniform();
            let (mut last, mut length) = (first, 1_u32);
            loop {
                let next = self.uniform();
                if next >= last {
                    break;
                }
                last = next;
                length += 1;
            }
            if length % 2 == 1 {
                let bytes = u128::from(period) * ((u128::from(whole) << 32) + u128::from(first));
                return i64::try_from(bytes >> 32).unwrap_or(i64::MAX);
            }
            whole += 1;
        }
    }

    /// 32 random bits: the upper half of splitmix64.
    fn uniform(&self) -> u32 {
        let state = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed.set(state);
        let x = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) >> 32) as u32
    }
}

/// How many objects of its size a sampled object stands for: 1 over the chance that it was sampled,
/// in 1/256.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weight(u32);

impl Weight {
    const ONE: f64 = 256.0;

    /// 1 / (1 - e^(-size/period)).
    pub fn of(size: usize, period: u64) -> Weight {
        let x = size.max(1) as f64 / period.max(1) as f64;
        // Rounded; a float beyond the range of the integer becomes its limit.
        Weight((Self::ONE / one_minus_exp(x) + 0.5) as u32)
    }

    /// The objects that it stands for, in 1/256.
    pub(super) fn objects(self) -> u64 {
        u64::from(self.0)
    }

    /// The bytes that it stands for.
    pub(super) fn bytes(self, size: usize) -> u64 {
        let bytes = u128::from(self.0) * size as u128 / 256;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// 1 - e^-x for x > 0. There is no libm here: halve x until its series is short, then undo the
/// halvings by 1 - e^-2y = (1 - e^-y) (2 - (1 - e^-y)), which loses no digits for a small x.
fn one_minus_exp(x: f64) -> f64 {
    if x > 32.0 {
        return 1.0;
    }
    let (mut y, mut halvings) = (x, 0);
    while y > 1.0 / 64.0 {
        y /= 2.0;
        halvings += 1;
    }
    // y - y^2/2! + y^3/3! - y^4/4!: the next term is below 1e-11.
    let mut p = y * (1.0 - y / 2.0 * (1.0 - y / 3.0 * (1.0 - y / 4.0)));
    for _ in 0..halvings {
        p *= 2.0 - p;
    }
    p
}
