//! Random changes of inputs.

/// A source of random numbers: the same seed, the same numbers.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(end as u64).unwrap_or(0) as usize
    }
}

/// Where parsers turn.
const TEXTS: [&[u8]; 16] = [
    b",",
    b":",
    b"=",
    b"-",
    b"+",
    b"\n",
    b" ",
    b"/",
    b"\0",
    b"0",
    b"-1",
    b"4294967296",
    b"18446744073709551615",
    b"99999999999999999999999",
    b"max",
    b"K",
];
const BYTES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'\n'];
/// Inputs do not grow without end.
const LONGEST: usize = 4096;

/// A change of one input of `corpus`.
pub(crate) fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        change(random, &mut input, corpus);
    }
    input.truncate(LONGEST);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() + 1 - at);
    match random.below(8) {
        0 => input.insert(at, random.below(256) as u8),
        1 => drop(input.splice(at..at, TEXTS[random.below(TEXTS.len())].iter().copied())),
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            drop(input.splice(at..at, copy));
        }
        4 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            drop(input.splice(at..end, other[from..].iter().copied()));
        }
        kind => {
            let Some(byte) = input.get_mut(at) else { return };
            *byte = match kind {
                5 => *byte ^ 1 << random.below(8),
                6 => BYTES[random.below(BYTES.len())],
                _ => byte.wrapping_add(random.below(9) as u8).wrapping_sub(4),
            };
        }
    }
}
