//! The mark of a heap: a call of its owner has the bins, or they are closed to hits.
//!
//! Bins belong to whoever is inside the gate ([`crate::gate`]), and to an owner that has marked the heap:
//! a hit takes no more than that. What a thread that sleeps has in its bins can so be had only by a
//! visitor that has shut the owner out of its hits first.
//!
//! # Synchronisation
//!
//! One word. A hit adds its place, which is its stack pointer, and looks whether that carried out of the word:
//!
//! | value                | meaning                           | written by                                 |
//! |----------------------|-----------------------------------|--------------------------------------------|
//! | [`FREE`]             | no call; what a hit adds carries, | owner, who ends a call: [`end`], or a      |
//! |                      | and leaves a place                | hit's own store                            |
//! | place                | a call has the bins               | owner: from [`FREE`], by one               |
//! |                      |                                   | instruction: a hit's `add`, [`take`]       |
//! |                      |                                   | owner inside the gate: [`open`]            |
//! | [`CLOSED`]           | no call; hits miss                | visitor: [`FREE`] -> `CLOSED`, after its   |
//! |                      |                                   | claim and before its barrier: [`close`]    |
//! |                      |                                   | owner, who ends a call without: [`end`]    |
//! | place, with `CLOSED` | a call does without the bins      | owner: `CLOSED` -> this: [`take`]          |
//! | [`ABSENT`]           | no thread has hits there: in the  | whoever owns or buries the heap; its next  |
//! |                      | pool, borrowed, or without marks  | owner makes it `FREE`                      |
//! | any but `FREE`,      | a hit that has failed is about to | owner: `add` -> [`take_back`]              |
//! | with places added    | take it back: else as without it  |                                            |
//!
//! So others write where it is `FREE`, and only the owner in any other state. With `CLOSED` in the word, who is
//! inside the gate has the bins. Places are below 2^47, where a program has its stacks, and multiples of eight (bit
//! 0 is the owner's, for `ffi/src/jump`; what a hit leaves is eight less than its place). What is not `FREE` lies so
//! far below it that thousands of places added to it carry nowhere, nor change `CLOSED` or bit 0: one for each
//! handler that came just there.
//!
//! **Owner.** A mark is one instruction that reads, writes and tells: `add` without a lock, and its carry.
//! Another processor may come between its two halves, but not this one's scheduler, nor an interrupt: the owner
//! is always before or behind it. That costs a hit what a look and a store do; a `cmpxchg` costs more. A hit that
//! a heap profile watches has marked its detour first, from which handlers know of it.
//! If a hit finds `CLOSED`, it takes back what it added, the call notes its place there, goes in by the gate,
//! opens the bins, and goes on as ever. If a visitor is there, it does without its bins as well as its heap
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
//! 3. A mark that begins after the barrier reads `CLOSED` and fails. What it adds leaves `CLOSED` as it is, until
//!    it is taken back. A mark that fails before the barrier read what is not `FREE`, so nobody closes it
//!    meanwhile. The instruction by which slow paths change the word, [`exchange`], writes back what it read where
//!    it fails. That may be `FREE` over `CLOSED`, where it looked for something else; before the barrier, as in 1,
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
//! and does not touch the heap, but for adding a place and taking it back. So only what the interrupted call
//! found in the word may be out of date, and that it changes by one instruction, or looks again. Between the
//! adding and the taking back a second handler may come. Closed bins then look taken by the call that it has
//! interrupted, as they are about to be. Over the place of a call there is a [sum](is_sum) of places, from which
//! nobody can tell whose they are: the heap counts as taken. A jump out of the second handler leaves that sum. It
//! ends with the call below, if that is alive; whether it is the callers find out otherwise (`ffi/src/thread/life.rs`).
//!
//! **The end of a thread, and fork.** Who gives a heap away writes `ABSENT` last. A visitor may have closed it just
//! before and be inside: it is alone with the bins then, since nobody takes a heap in which somebody is. A forked
//! child does the same to the heaps of threads that it has not; fork waits for visitors before. The static heap of
//! threads that have none is `ABSENT`, too, and theirs together: what one adds there and takes back may be lost to
//! another, so that taking back restores all of it.
//!
//! This needs the instruction and the barrier. Other processors have no such instruction: a pair of load and
//! store exclusive is several, between which the barrier may fall, and an exchange by one instruction is
//! locked. There, and where each side of the gate has its own fence, nobody closes bins
//! ([`crate::gate::Barrier`]), and hits look and store. An emulator that makes several instructions of this one
//! keeps the promise as long as no thread loses its processor in it from one sweep to a later one.
//! Model: `loom/mark.rs`.

#[cfg(all(target_arch = "x86_64", not(zonal_loom)))]
use core::arch::asm;

use crate::fault::{fault, weakened_by};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
#[cfg(not(all(target_arch = "x86_64", not(zonal_loom))))]
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// Whether marks are such that bins can be closed.
pub(crate) const CAN_CLOSE: bool = cfg!(any(target_arch = "x86_64", zonal_loom));

/// Nobody has the bins. Where they can be closed, any place added to it carries.
pub(crate) const FREE: u64 = if CAN_CLOSE { 8_u64.wrapping_neg() } else { 0 };
/// The bins are closed to hits.
pub(crate) const CLOSED: u64 = 1 << 63;
/// No thread has hits there.
pub(crate) const ABSENT: u64 = 1 << 62;

/// `CLOSED` if that is in a word, and else nothing.
#[inline(always)]
const fn closed_in(word: u64) -> u64 {
    // Far from what carries, `FREE`, which begins with two ones.
    if word >> 62 == CLOSED >> 62 { CLOSED } else { 0 }
}

/// Whether a word says that hits miss until the owner has been inside the gate.
#[inline(always)]
pub(crate) const fn is_closed_in(word: u64) -> bool {
    closed_in(word) != 0
}

/// The place of the call that a word tells of, with bit 0; or a [sum](is_sum) of several.
#[inline(always)]
pub(crate) const fn place_in(word: u64) -> u64 {
    word & !closed_in(word)
}

/// Whether that is a sum of places: none lies above 2^47, unless the program asks the kernel for a stack there. A
/// sum with stacks far below looks like a place above each of them, so not gone as long as one is not.
#[inline(always)]
pub(crate) const fn is_sum(place: u64) -> bool {
    1 << 47 <= place && place < ABSENT
}

/// The owner takes the heap for a call that stands at `place`, its bins closed or not; false where another call
/// has it.
pub(crate) fn take(word: &AtomicU64, place: u64) -> bool {
    loop {
        // Relaxed: the owner's own, or closed, which says nothing before it is inside the gate.
        if let Some(is_taken) = take_as(word, word.load(Relaxed), place) {
            return is_taken;
        }
    }
}

/// The same if the word still is what was `found`; none where it has to be looked at again, as a handler has
/// opened the bins since, or a visitor closed them.
pub(crate) fn take_as(word: &AtomicU64, found: u64, place: u64) -> Option<bool> {
    if found != FREE && found != CLOSED {
        return Some(false);
    }
    (take_from(word, found, place) || fault("mark_taken_once")).then_some(true)
}

/// The owner, in a call that stands at `place`, takes the heap from no call, or from one that is gone.
pub(crate) fn take_over(word: &AtomicU64, place: u64) {
    // Relaxed: as above.
    while !take_from(word, word.load(Relaxed), place) {}
}

/// The same from the call that left `found`; false where the word is another by now.
pub(crate) fn take_from(word: &AtomicU64, found: u64, place: u64) -> bool {
    exchange(word, found, place | closed_in(found))
}

/// The owner, inside the gate, has the bins from now on until its call ends.
pub(crate) fn open(word: &AtomicU64) {
    set(word, word.load(Relaxed) & !CLOSED);
}

/// The owner ends its call, if it is not at its end already; closed bins stay so.
#[inline(always)]
pub(crate) fn end(word: &AtomicU64) {
    // Relaxed: the owner's own.
    while !end_as(word, word.load(Relaxed)) {}
}

/// The same if the word still is what was `found`; false where it is not, as a handler has come.
#[inline(always)]
pub(crate) fn end_as(word: &AtomicU64, found: u64) -> bool {
    let rest = if is_closed_in(found) && !fault("mark_end_opens") { CLOSED } else { FREE };
    if fault("mark_end_blind") {
        set(word, rest);
        return true;
    }
    // If it has ended, a visitor may be about to close them.
    found == rest || exchange(word, found, rest)
}

/// The owner gives the heap away: no thread has hits there from now on.
pub(crate) fn leave(word: &AtomicU64) {
    // ORDERING: AcqRel. Acquire, pairs with Release in `close`: who takes the heap next has to see the claim of a
    // visitor that closed it before. Release as in `set`.
    word.swap(ABSENT, if fault("mark_leave_relaxed") { Relaxed } else { AcqRel });
}

/// A hit at `place` marks the heap, as those of ffi do in assembly of their own; where that fails, which leaves
/// what it added, it has to [`take_back`].
#[cfg(any(test, zonal_loom))]
pub(crate) fn add(word: &AtomicU64, place: u64) -> bool {
    #[cfg(all(target_arch = "x86_64", not(zonal_loom)))]
    {
        let has_carried: u8;
        // SAFETY: reads and writes this word, which is valid.
        unsafe {
            asm!(
                "add qword ptr [{word}], {place}",
                "setc {has_carried}",
                word = in(reg) word.as_ptr(),
                place = in(reg) place,
                has_carried = lateout(reg_byte) has_carried,
                options(nostack),
            );
        }
        has_carried != 0
    }
    #[cfg(not(all(target_arch = "x86_64", not(zonal_loom))))]
    {
        compiler_fence(SeqCst);
        // Relaxed: as in `exchange`.
        let (sum, has_carried) = word.load(Relaxed).overflowing_add(place);
        set(word, sum);
        compiler_fence(SeqCst);
        has_carried
    }
}

/// A hit that could not mark the heap takes back what it added.
pub(crate) fn take_back(word: &AtomicU64, place: u64) {
    // Relaxed: the owner's own, as the word is not `FREE`; or `ABSENT`, where threads overwrite each other's.
    while !take_back_from(word, word.load(Relaxed), place) {}
}

/// The same if the word still is what was `found`; false where it is not, as a handler has come.
pub(crate) fn take_back_from(word: &AtomicU64, found: u64, place: u64) -> bool {
    if fault("mark_not_taken_back") {
        return true;
    }
    match found {
        ABSENT..CLOSED => {
            set(word, ABSENT);
            true
        }
        // A handler took the heap for that of a call that is gone, and has ended; or its next call is gone, too,
        // which stood further down.
        FREE | CLOSED if !fault("mark_back_blind") => true,
        _ if place_in(found) < place && !fault("mark_back_blind") => true,
        _ => exchange(word, found, found.wrapping_sub(place)),
    }
}

/// The owner's change of the word in slow paths: by one instruction across which the compiler moves nothing.
#[inline(always)]
pub(crate) fn exchange(word: &AtomicU64, from: u64, to: u64) -> bool {
    #[cfg(all(target_arch = "x86_64", not(zonal_loom)))]
    {
        let found: u64;
        // SAFETY: reads and writes this word, which is valid.
        unsafe {
            asm!(
                "cmpxchg qword ptr [{word}], {to}",
                word = in(reg) word.as_ptr(),
                to = in(reg) to,
                inout("rax") from => found,
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
pub(crate) fn set(word: &AtomicU64, value: u64) {
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
pub(crate) fn close(word: &AtomicU64) -> bool {
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
pub(crate) fn is_closed(word: &AtomicU64) -> bool {
    // Relaxed: see above for what the answer rests on.
    is_closed_in(word.load(Relaxed)) || fault("mark_unread")
}
