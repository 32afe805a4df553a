//! What walks have learnt about places in the code: most stacks lead through the same few.
//!
//! # Synchronisation
//! One word an entry, with the whole address in it: a reader takes an entry whole or not at all, and what it
//! says stays true as long as the file is loaded. A file loaded where another one was may be given rules of
//! the older one, until [`forget`]: the stack comes out wrong, and nothing else. Relaxed, everywhere here:
//! nothing but the word itself is passed on.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use super::cfi::{Cfa, Registers, Rule, Saved};
use super::memory::Readable;
use super::strip;

/// 16 KiB: all of the library counts where a program locks its memory under a limit.
const CACHE_BITS: u32 = 11;
static CACHE: [AtomicU64; 1 << CACHE_BITS] = [const { AtomicU64::new(0) }; 1 << CACHE_BITS];
const RULE_BITS: u32 = 27;
/// Addresses of programs are below this.
const PC_BITS: u32 = 48;
const _: () = assert!(PC_BITS - CACHE_BITS + RULE_BITS == u64::BITS);

/// Forgets what is known about code.
pub(crate) fn forget() {
    for entry in &CACHE {
        entry.store(0, Relaxed);
    }
}

/// Entry and tag of an address: the multiplication by an odd number loses nothing.
fn key(pc: usize) -> (usize, u64) {
    let mixed = (pc as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << PC_BITS) - 1);
    ((mixed >> (PC_BITS - CACHE_BITS)) as usize, mixed & ((1 << (PC_BITS - CACHE_BITS)) - 1))
}

/// What is known about the code at `pc`.
pub(super) fn look_up(pc: usize) -> Option<Compact> {
    let (index, tag) = key(pc);
    let word = CACHE.get(index)?.load(Relaxed);
    // A rule is never 0: no CFA is its own return address.
    let rule = word & ((1 << RULE_BITS) - 1);
    (rule != 0 && word >> RULE_BITS == tag && pc >> PC_BITS == 0).then_some(Compact(rule))
}

/// That is so from now on, until another place needs the entry.
pub(super) fn remember(pc: usize, rule: Compact) {
    let (index, tag) = key(pc);
    if let Some(entry) = CACHE.get(index)
        && pc >> PC_BITS == 0
    {
        entry.store(tag << RULE_BITS | rule.0, Relaxed);
    }
}

/// A rule in 27 bits: whether the CFA goes by the frame pointer (1), the words to it (10), and how
/// many words below it the frame pointer (8) and the return address (8) are saved; 0 if they are
/// not.
#[derive(Clone, Copy)]
pub(super) struct Compact(u64);

impl Compact {
    pub(super) fn new(rule: &Rule) -> Option<Compact> {
        let (by_fp, offset) = match rule.cfa {
            Cfa::Sp(offset) => (0, offset),
            Cfa::Fp(offset) => (1, offset),
            _ => return None,
        };
        let words = |bytes: i64, limit: u64| {
            let words = u64::try_from(bytes).ok()? / 8;
            (bytes % 8 == 0 && words > 0 && words < limit).then_some(words)
        };
        let saved = |saved| match saved {
            Saved::Same => Some(0),
            Saved::At(offset) => words(offset.checked_neg()?, 1 << 8),
            _ => None,
        };
        let ra = saved(rule.ra).filter(|ra| *ra != 0)?;
        Some(Compact(by_fp | words(offset, 1 << 10)? << 1 | saved(rule.fp)? << 11 | ra << 19))
    }

    pub(super) fn caller(self, now: Registers, memory: &mut Readable) -> Option<Registers> {
        let below = |shift: u32| (self.0 >> shift & 0xff) as usize * 8;
        let base = if self.0 & 1 == 0 { now.sp } else { now.fp };
        let cfa = base.checked_add((self.0 >> 1 & 0x3ff) as usize * 8)?;
        let pc = strip(memory.word(cfa.checked_sub(below(19))?)?);
        let fp = match below(11) {
            0 => now.fp,
            below => memory.word(cfa.checked_sub(below)?)?,
        };
        (cfa > now.sp).then_some(Registers { pc, sp: cfa, fp })
    }
}
