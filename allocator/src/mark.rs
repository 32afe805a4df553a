//! The mark of a heap: a call of its owner has the bins, or they are closed to hits.
//!
//! Bins belong to whoever is inside the gate ([`crate::gate`]), and to an owner that has marked the heap:
//! a hit takes no more than that. What a thread that sleeps has in its bins can so be had only by a
//! visitor that has shut the owner out of its hits first.
//!
//! # Synchronisation
//!
//! One word, with a place on the owner's stack (a multiple of eight) and bits below it.
//!
//! | value                | meaning                           | written by                                 |
//! |----------------------|-----------------------------------|--------------------------------------------|
//! | [`FREE`]             | no call; hits may mark it         | owner, who ends a call: [`end`], or a      |
//! |                      |                                   | hit's own store                            |
//! | place                | a call has the bins               | owner: [`FREE`] -> place, by one           |
//! |                      |                                   | instruction: a hit, [`take`]               |
//! |                      |                                   | owner inside the gate: [`open`]            |
//! | [`CLOSED`]           | no call; hits miss                | visitor: [`FREE`] -> `CLOSED`, after its   |
//! |                      |                                   | claim and before its barrier: [`close`]    |
//! |                      |                                   | owner, who ends a call without: [`end`]    |
//! | place, with `CLOSED` | a call does without the bins      | owner: `CLOSED` -> this: [`take`]          |
//! | [`ABSENT`]           | no thread has hits there: in the  | whoever owns or buries the heap; its next  |
//! |                      | pool, borrowed, or without marks  | owner makes it `FREE`                      |
//!
//! So others write where it is `FREE`, and only the owner in any other state. (Bit 0 is the owner's, for
//! `ffi/src/jump`.) With `CLOSED` in the word, who is inside the gate has the bins.
//!
//! **Owner.** A mark is one instruction that looks and stores, `cmpxchg` without a lock. Another processor
//! may come between its two halves, but not this one's scheduler, nor an interrupt: the owner is always
//! before or behind it. A hit that a heap profile watches has marked its detour first, from which handlers know of it.
//! If a hit finds `CLOSED`, the call adds its place, goes in by the gate, opens the bins
//! there, and goes on as ever. If a visitor is there, it does without its bins as well as its heap
//! (`heap/visited.rs`), and leaves them closed.
//!
//! **Visitor.** It claims the gate, closes by a compare-exchange, runs the heavy barrier of the visit, and
//! waits until the owner is out. If it then finds the bins closed, they are its own until the visit ends:
//!
//! 1. The barrier (`MEMBARRIER_PRIVATE_EXPEDITED`) finds each thread of the process between two instructions,
//!    with all its stores made. A mark that read `FREE` before the closing has stored its place by then: over
//!    `CLOSED`, and nobody but who claimed the gate could close again, who closes before the barrier only.
//!    So the visitor does not find them closed.
//! 2. Nor does the owner store blindly what it found before the barrier. A hit that ends has its place in the
//!    word, from which nobody closes. A slow path ends by one instruction, too, and leaves what has ended.
//! 3. A mark that begins after the barrier reads `CLOSED` and fails. An instruction that fails writes back what
//!    it read. That may be `FREE` over `CLOSED`, where it looked for something else; before the barrier, as in 1,
//!    and the closing is lost. What it read after the barrier only the owner changes.
//! 4. It opens them inside the gate only, which is claimed. What it did to the bins before is seen: by the
//!    barrier, or by Acquire of the gate's `inside`. What the visitor did is seen by the owner, who comes
//!    through the gate after it (Release in `end_visit`, Acquire in `enter`).
//!
//! So a visitor that has gone has nothing to take back: `CLOSED` stays, whoever vanishes, until the owner
//! comes. A bin that was closed in an earlier visit and still is was not touched by any hit meanwhile: that
//! is how the keeper tells a thread that sleeps from one that has only hits (`sweep.rs`).
//!
//! **A signal handler** on the owner's thread may come between any two instructions of its calls. It finds
//! `FREE` or `CLOSED`, and makes a whole call of its own, after which it is one of the two again; or a place,
//! and does not touch the heap. So only what the interrupted call found in the word may be out of date, and
//! that it changes by one instruction, or looks again.
//!
//! **The end of a thread, and fork.** Who gives a heap away writes `ABSENT` last. A visitor may have closed it just
//! before and be inside: it is alone with the bins then, since nobody takes a heap in which somebody is. A forked
//! child does the same to the heaps of threads that it has not; fork waits for visitors before.
//!
//! A place whose low half is 0 is none (and one that is no multiple of 4, as only assembly has it, looks closed),
//! and a hit of such a call not seen: one in four thousand million, of those
//! inlined into a Rust program or watched only (`ffi/src/tls`). Its thread would have to lose its processor in it
//! from one sweep to a later one; calls that come here see to it that their place is another.
//!
//! This needs the instruction and the barrier. Other processors have no such instruction: a pair of load and
//! store exclusive is several, between which the barrier may fall, and an exchange by one instruction is
//! locked. There, and where each side of the gate has its own fence, nobody closes bins
//! ([`crate::gate::Barrier`]). An emulator that makes several instructions of this one keeps the promise
//! as long as no thread loses its processor in it from one sweep to a later one. Model: `loom/mark.rs`.

#[cfg(all(target_arch = "x86_64", not(zonal_loom)))]
use core::arch::asm;

use crate::fault::{fault, weakened_by};
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
#[cfg(not(all(target_arch = "x86_64", not(zonal_loom))))]
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// Nobody has the bins.
pub(crate) const FREE: u32 = 0;
/// The bins are closed to hits: a bit that no place has.
pub(crate) const CLOSED: u32 = 2;
/// No thread has hits there: no place either.
pub(crate) const ABSENT: u32 = 4;
/// In every place that is noted by [`take_from`], so that it is none of the above.
const SOME_PLACE: u32 = 8;

/// Whether marks are such that bins can be closed.
pub(crate) const CAN_CLOSE: bool = cfg!(any(target_arch = "x86_64", zonal_loom));

/// The owner takes the heap for a call that stands at `place`, its bins closed or not; false where another call
/// has it.
pub(crate) fn take(word: &AtomicU32, place: u32) -> bool {
    loop {
        // Relaxed: the owner's own, or closed, which says nothing before it is inside the gate.
        if let Some(is_taken) = take_as(word, word.load(Relaxed), place) {
            return is_taken;
        }
    }
}

/// The same if the word still is what was `found`; none where it has to be looked at again, as a handler has
/// opened the bins since, or a visitor closed them.
pub(crate) fn take_as(word: &AtomicU32, found: u32, place: u32) -> Option<bool> {
    if found != FREE && found != CLOSED {
        return Some(false);
    }
    (take_from(word, found, place) || fault("mark_taken_once")).then_some(true)
}

/// The owner, in a call that stands at `place`, takes the heap from no call, or from one that is gone. Whether
/// it has the bins.
pub(crate) fn take_over(word: &AtomicU32, place: u32) -> bool {
    loop {
        // Relaxed: as above.
        let found = word.load(Relaxed);
        if take_from(word, found, place) {
            return found & CLOSED == 0;
        }
    }
}

/// The same from the call that left `found`; false where the word is another by now.
pub(crate) fn take_from(word: &AtomicU32, found: u32, place: u32) -> bool {
    exchange(word, found, place | SOME_PLACE | found & CLOSED)
}

/// The owner, inside the gate, has the bins from now on until its call ends.
pub(crate) fn open(word: &AtomicU32) {
    set(word, word.load(Relaxed) & !CLOSED);
}

/// The owner ends its call, if it is not at its end already; closed bins stay so.
#[inline(always)]
pub(crate) fn end(word: &AtomicU32) {
    // Relaxed: the owner's own.
    while !end_as(word, word.load(Relaxed)) {}
}

/// The same if the word still is what was `found`; false where it is not, as a handler has come.
#[inline(always)]
pub(crate) fn end_as(word: &AtomicU32, found: u32) -> bool {
    let rest = if fault("mark_end_opens") { FREE } else { found & CLOSED };
    if fault("mark_end_blind") {
        set(word, rest);
        return true;
    }
    // If it has ended, a visitor may be about to close them.
    found == rest || exchange(word, found, rest)
}

/// The owner gives the heap away: no thread has hits there from now on.
pub(crate) fn leave(word: &AtomicU32) {
    // ORDERING: AcqRel. Acquire, pairs with Release in `close`: who takes the heap next has to see the claim of a
    // visitor that closed it before. Release as in `set`.
    word.swap(ABSENT, if fault("mark_leave_relaxed") { Relaxed } else { AcqRel });
}

/// The owner's change of the word, as hits make it: by one instruction across which the compiler moves nothing.
#[inline(always)]
pub(crate) fn exchange(word: &AtomicU32, from: u32, to: u32) -> bool {
    #[cfg(all(target_arch = "x86_64", not(zonal_loom)))]
    {
        let found: u32;
        // SAFETY: reads and writes this word, which is valid.
        unsafe {
            asm!(
                "cmpxchg dword ptr [{word}], {to:e}",
                word = in(reg) word.as_ptr(),
                to = in(reg) to,
                inout("eax") from => found,
                options(nostack),
            );
        }
        found == from
    }
    #[cfg(not(all(target_arch = "x86_64", not(zonal_loom))))]
    {
        // Relaxed: nobody else writes it (a model lets in between what the instruction does). The fences are
        // for handlers of the same thread.
        compiler_fence(SeqCst);
        let found = word.load(Relaxed);
        if found == from {
            set(word, to);
        } else if cfg!(zonal_loom) {
            set(word, found);
        }
        compiler_fence(SeqCst);
        found == from
    }
}

/// A store of the owner's.
#[inline(always)]
pub(crate) fn set(word: &AtomicU32, value: u32) {
    // ORDERING: Release, pairs with Acquire in `close`: who closes what a call has left sees what that did to
    // the bins. So is the store at the end of a hit, as all of this processor's are.
    // loom takes a store for one that may have come before an exchange of which it sees the result.
    #[cfg(zonal_loom)]
    word.swap(value, weakened_by("mark_set_relaxed", Release));
    #[cfg(not(zonal_loom))]
    word.store(value, weakened_by("mark_set_relaxed", Release));
}

/// A visitor that has claimed the gate, before its barrier, closes the bins; false where a call has them, or
/// they are closed already.
pub(crate) fn close(word: &AtomicU32) -> bool {
    if fault("mark_closed_over") {
        return word.swap(CLOSED, Relaxed) == FREE;
    }
    // ORDERING: AcqRel. Acquire, pairs with Release in `set`, Release with Acquire in `leave`. The barrier that
    // follows orders it against marks.
    word.compare_exchange(FREE, CLOSED, weakened_by("mark_close_relaxed", AcqRel), Relaxed).is_ok()
}

/// Whether the bins are closed: to a visitor after its barrier, and when the owner is out, that they are its
/// own.
#[inline(always)]
pub(crate) fn is_closed(word: &AtomicU32) -> bool {
    // Relaxed: see above for what the answer rests on.
    word.load(Relaxed) & CLOSED != 0 || fault("mark_unread")
}
