//! The mark of a heap: a call of its owner has the bins, or they are closed to hits.
//!
//! Bins belong to whoever is inside the gate ([`crate::gate`]), and to an owner that has marked the heap: a hit
//! takes no more than that. So a visitor can have what lies in the bins of a thread that sleeps only once it has
//! shut that thread out of its hits.
//!
//! Reading order: this page, [`Mark`] (what the word says), `word.rs` (who changes it, and how).
//!
//! # Synchronisation
//!
//! One word a heap. A hit adds its *place*, which is its stack pointer, and looks whether that carried out of
//! the word. Others write where it is `FREE`; in any other state only the owner does.
//!
//! | word           | meaning                                    | written by                                      |
//! |----------------|--------------------------------------------|-------------------------------------------------|
//! | `FREE`         | no call; what a hit adds carries,          | owner, as a call ends: [`end`], or a hit's own  |
//! |                | and leaves a place                         | store                                           |
//! | place          | a call has the bins                        | owner: `FREE` -> place, by one instruction: a   |
//! |                |                                            | hit's `add`, [`try_take`]; from another's       |
//! |                |                                            | place: [`replace`], [`seize`]; inside the gate, |
//! |                |                                            | from place with `CLOSED`: [`open`]; from        |
//! |                |                                            | `ABSENT`, of a heap it goes on with: [`set`]    |
//! | `CLOSED`       | no call; hits miss                         | visitor: `FREE` -> `CLOSED`, after its claim    |
//! |                |                                            | and before its barrier: [`close`];              |
//! |                |                                            | owner, as a call ends that did without: [`end`] |
//! | place with     | a call does without the bins: who is       | owner: `CLOSED` -> this: [`try_take`]           |
//! | `CLOSED`       | inside the gate has them                   | from another's place: [`replace`], [`seize`]    |
//! | `ABSENT`       | no thread has hits there: the heap is in   | whoever owns or buries the heap:                |
//! |                | the pool, borrowed, or without marks       | [`set_absent`]; its next owner makes it `FREE`: |
//! |                |                                            | [`end`]                                         |
//! | any but        | a hit that failed is about to take back    | owner: a hit's `add`, then [`undo_add`]; else   |
//! | `FREE`, with   | what it added                              | it counts as the same without these places      |
//! | places added   |                                            |                                                 |
//!
//! Beside its place a call that is slow has a bit, which the owner sets and takes away by [`set`], as nobody else
//! writes then: [`Mark::is_slow`].
//!
//! # The owner
//!
//! A hit marks the heap by one instruction that reads, writes and tells: `add` without a lock, and its carry.
//! Another processor may come between the two halves of that, but not this one's scheduler, nor an interrupt: the
//! owner is always before it or behind it. It costs what a look and a store do; a `cmpxchg` costs more.
//!
//! A hit that finds `CLOSED` takes back what it added. Its call goes on as a miss: it takes the heap with the bins
//! closed, goes in by the gate, opens them, and has them. If a visitor is inside, the call does without its bins as
//! well as without its heap (`heap/visited.rs`), and leaves them closed. A hit that a heap profile watches has marked
//! its detour first; by that one handlers know of it.
//!
//! # The visitor
//!
//! It claims the gate, closes the bins by a compare-exchange, runs the heavy barrier of the visit, and waits until
//! the owner is out. If it then finds the bins closed, they are its own until the visit ends, since:
//!
//! - `[M1]` *A mark from before the barrier is seen.* The barrier (`MEMBARRIER_PRIVATE_EXPEDITED`) finds each thread
//!   of the process between two instructions, with all its stores made. A mark that read `FREE` before the closing
//!   has stored its place by then, over `CLOSED`; and nobody closes again, since that takes a claim of the gate, and
//!   comes before a barrier only. So the visitor does not find the bins closed.
//! - `[M2]` *The owner stores nothing blindly that it found before the barrier.* A hit that ends has its place in the
//!   word, and from a place nobody closes. A slow path changes the word by one instruction, too, and leaves what has
//!   ended already.
//! - `[M3]` *A mark that begins after the barrier fails.* It reads `CLOSED`; what it adds leaves `CLOSED` as it is,
//!   until it is taken back. A mark that fails before the barrier read what is not `FREE`, from which nobody closes.
//!   The instruction of slow paths ([`word::exchange`]) writes back what it read where it fails: if that is `FREE`
//!   over `CLOSED`, it is before the barrier, as in `[M1]`, and the closing is lost; after it, what it read only the
//!   owner changes.
//! - `[M4]` *The owner opens them inside the gate only*, which is claimed. What it did to the bins before is seen by
//!   the visitor: by the barrier, or by Acquire of the gate's `inside`. What the visitor did is seen by the owner,
//!   who comes through the gate after it (Release in `end_visit`, Acquire in `enter`).
//!
//! So a visitor that has gone has nothing to take back: `CLOSED` stays, whoever vanishes, until the owner comes. Bins
//! that were closed in an earlier visit and still are were touched by no hit meanwhile: that is how kswapd tells a
//! thread that sleeps from one that has only hits (`visit/sweep.rs`).
//!
//! # Signal handlers
//!
//! A handler on the owner's thread may come between any two instructions of its calls. It finds `FREE` or `CLOSED`,
//! and makes a whole call of its own, after which the word is one of the two again. Or it finds a place, and does not
//! touch the heap, but for adding a place and taking it back. So only what the interrupted call *found* in the word
//! may be out of date: it changes the word by an instruction that compares, and looks again where that fails.
//!
//! Between adding and taking back a second handler may come. Closed bins then look taken by the call that it has
//! interrupted, as they are about to be. Over the place of a call there is a [sum](State::Sum) of places, from which
//! nobody can tell whose they are: the heap counts as taken. A jump out of the second handler leaves that sum. It ends
//! with the call below, if that is alive; whether it is the callers find out otherwise (`ffi/src/thread/life.rs`).
//!
//! # The end of a thread, and fork
//!
//! Who gives a heap away writes `ABSENT` last. A visitor may have closed it just before and be inside: it is alone with
//! the bins then, since nobody takes a heap in which somebody is. A forked child does the same to the heaps of threads
//! that it has not; fork waits for visitors before. The static heap of threads that have none is `ABSENT`, too, and
//! theirs together: what one of them adds there and takes back may be lost to another, so that taking back restores
//! all of it.
//!
//! # Where bins cannot be closed
//!
//! This needs the instruction and the barrier. Other processors have no such instruction: a pair of load and
//! store exclusive is several, between which the barrier may fall, and an exchange by one instruction is
//! locked. There, and where each side of the gate has its own fence, nobody closes bins
//! ([`crate::gate::Barrier`]), and hits look and store. An emulator that makes several instructions of this one
//! keeps the promise as long as no thread loses its processor in it from one sweep to a later one.
//!
//! Model: `loom/mark.rs`.

mod value;
mod word;

pub use value::{Mark, State};
#[cfg(test)]
pub(crate) use word::add;
#[cfg(all(test, zonal_loom))]
pub(crate) use word::{Taking, end_found, load, try_take_found, undo_add_found};
pub(crate) use word::{
    close, end, is_closed, load_settled, open, replace, seize, set, set_absent, try_take, undo_add,
};

/// Whether marks are such that bins can be closed.
pub(crate) const CAN_CLOSE: bool = cfg!(any(target_arch = "x86_64", zonal_loom));
