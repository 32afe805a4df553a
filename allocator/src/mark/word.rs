//! Who changes the word of a mark, and how. `[M1]` to `[M4]` are told in [`super`].
//!
//! A function that ends in `_found` is one attempt of the one without, on what its caller has found in the word: it
//! fails where the word is another by now, because a handler has come, or a visitor has closed the bins.

#[cfg(all(target_arch = "x86_64", not(zonal_loom)))]
use core::arch::asm;

use super::Mark;
use super::value::State;
use crate::fault::{fault, weakened_by};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
#[cfg(not(all(target_arch = "x86_64", not(zonal_loom))))]
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// What became of an attempt to take a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taking {
    Taken,
    /// Another call has it.
    Busy,
    /// The word is another by now.
    Changed,
}

/// What stands there.
#[inline(always)]
pub(crate) fn load(word: &AtomicU64) -> Mark {
    // Relaxed: to the owner its own store, or closed, which says nothing to it before it is inside the gate; to a
    // visitor `[M1]` says what the answer rests on.
    Mark::from_bits(word.load(Relaxed))
}

/// The same for a visitor, after its barrier.
pub(crate) fn load_settled(word: &AtomicU64) -> Mark {
    // ORDERING: Acquire, pairs with Release in `set`: who finds a hit over sees what it did.
    Mark::from_bits(word.load(weakened_by("runs_look_relaxed", Acquire)))
}

/// The owner takes the heap for a call that stands at `place`, its bins closed or not; false where another call has
/// it.
pub(crate) fn try_take(word: &AtomicU64, place: u64) -> bool {
    loop {
        match try_take_found(word, load(word), place) {
            Taking::Taken => return true,
            Taking::Busy => return false,
            Taking::Changed => (),
        }
    }
}

pub(crate) fn try_take_found(word: &AtomicU64, found: Mark, place: u64) -> Taking {
    if !found.is_takeable() {
        Taking::Busy
    } else if replace(word, found, Mark::at(place)) || fault("mark_taken_once") {
        Taking::Taken
    } else {
        Taking::Changed
    }
}

/// The owner takes the heap for the call of this mark, whatever call had it, which is gone.
pub(crate) fn seize(word: &AtomicU64, call: Mark) {
    while !replace(word, load(word), call) {}
}

/// The owner takes the heap for the call of this mark from the one that left `found`; closed bins stay so. False
/// where the word is another by now.
pub(crate) fn replace(word: &AtomicU64, found: Mark, call: Mark) -> bool {
    exchange(word, found, call.closed_as(found))
}

/// The owner, inside the gate `[M4]`, has the bins from now on until its call ends.
pub(crate) fn open(word: &AtomicU64) {
    set(word, load(word).opened());
}

/// The owner ends its call, if it is not at its end already; closed bins stay so.
#[inline(always)]
pub(crate) fn end(word: &AtomicU64) {
    while !end_found(word, load(word)) {}
}

#[inline(always)]
pub(crate) fn end_found(word: &AtomicU64, found: Mark) -> bool {
    let ended = if fault("mark_end_opens") { Mark::FREE } else { found.ended() };
    if fault("mark_end_blind") {
        set(word, ended);
        return true;
    }
    // `[M2]`: if it has ended, a visitor may be about to close the bins.
    found == ended || exchange(word, found, ended)
}

/// The owner gives the heap away: no thread has hits there from now on.
pub(crate) fn set_absent(word: &AtomicU64) {
    // ORDERING: AcqRel. Acquire, pairs with Release in `close`: who takes the heap next has to see the claim of a
    // visitor that closed it before. Release as in `set`.
    word.swap(Mark::ABSENT.bits(), if fault("mark_absent_relaxed") { Relaxed } else { AcqRel });
}

/// A hit at `place` marks the heap, as those of ffi do in assembly of their own; where that fails, which leaves
/// what it added, it has to [`undo_add`].
#[cfg(test)]
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
        set(word, Mark::from_bits(sum));
        compiler_fence(SeqCst);
        has_carried
    }
}

/// A hit that could not mark the heap takes back what it added `[M3]`.
pub(crate) fn undo_add(word: &AtomicU64, place: u64) {
    while !undo_add_found(word, load(word), place) {}
}

pub(crate) fn undo_add_found(word: &AtomicU64, found: Mark, place: u64) -> bool {
    if fault("mark_not_taken_back") {
        return true;
    }
    let is_undone = match found.state() {
        // Nobody's, where threads overwrite each other's: without all that was added.
        State::Absent => {
            set(word, Mark::ABSENT);
            return true;
        }
        // A handler took the heap for that of a call that is gone, and has ended.
        State::Free | State::Closed => true,
        // The handler's next call is gone, too, which stood further down. A sum lies above all places.
        State::Call { .. } | State::Sum => found.opened().bits() < place,
    };
    (is_undone && !fault("mark_back_blind")) || exchange(word, found, found.without(place))
}

/// The owner's change of the word in slow paths `[M2]`, `[M3]`: by one instruction across which the compiler moves
/// nothing.
#[inline(always)]
pub(super) fn exchange(word: &AtomicU64, from: Mark, to: Mark) -> bool {
    let (from, to) = (from.bits(), to.bits());
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
            store(word, to);
        } else if cfg!(zonal_loom) {
            store(word, found);
        }
        compiler_fence(SeqCst);
        found == from
    }
}

/// A store of the owner's, from a place `[M2]`, or inside the gate.
#[inline(always)]
pub(crate) fn set(word: &AtomicU64, mark: Mark) {
    store(word, mark.bits());
}

#[inline(always)]
fn store(word: &AtomicU64, bits: u64) {
    // ORDERING: Release, pairs with Acquire in `close`: who closes what a call has left sees what that did to
    // the bins. So is the store at the end of a hit, as all of this processor's are.
    // loom takes a store for one that may have come before an exchange of which it sees the result.
    #[cfg(zonal_loom)]
    word.swap(bits, weakened_by("mark_set_relaxed", Release));
    #[cfg(not(zonal_loom))]
    word.store(bits, weakened_by("mark_set_relaxed", Release));
}

/// A visitor that has claimed the gate, before its barrier `[M1]`, closes the bins; false where a call has them, or
/// they are closed already.
pub(crate) fn close(word: &AtomicU64) -> bool {
    let (free, closed) = (Mark::FREE.bits(), Mark::CLOSED.bits());
    if fault("mark_closed_over") {
        return word.swap(closed, Relaxed) == free;
    }
    // ORDERING: AcqRel. Acquire, pairs with Release in `set`, Release with Acquire in `set_absent`. The barrier that
    // follows orders it against marks.
    word.compare_exchange(free, closed, weakened_by("mark_close_relaxed", AcqRel), Relaxed).is_ok()
}

/// Whether the bins are closed: to a visitor after its barrier, and when the owner is out, that they are its own
/// `[M1]` to `[M4]`.
#[inline(always)]
pub(crate) fn is_closed(word: &AtomicU64) -> bool {
    load(word).is_closed() || fault("mark_unread")
}
