//! Visits: what others do in a thread's heap, inside its gate ([`crate::gate`]).
//!
//! Reading order: `rounds` goes from heap to heap, with one barrier for many. `drain` gives back what heaps hold free,
//! `sweep` what those of sleepers do, and `dead` what ended threads left. `walk` is a place in the slabs of a heap, for
//! who looks at them in several visits.

mod dead;
mod drain;
mod rounds;
pub(crate) mod sweep;
pub(crate) mod walk;
