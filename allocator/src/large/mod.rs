//! Large blocks: runs of pages, from 32 KiB to 4 MiB, and what lies between them and the zone.
//!
//! ```text
//!   request, free --> what a thread keeps --> what the threads of a node --> zone
//!                     (kept_hits, cache)      left (node_cache, stripe)
//! ```
//!
//! Reading order: `blocks` does all of a request and a free, `kept_hits` the common case of both. `kept_runs` is how
//! free runs are kept, by a thread and in a stripe; `cache` decides what a thread keeps, within the room that
//! `kept_room` gives it out of `kept_pool`. `node_cache` and its stripes have what threads left for each other. `slack`
//! finds writes past the end of a block.

pub(crate) mod blocks;
pub(crate) mod cache;
mod kept_hits;
pub(crate) mod kept_pool;
mod kept_room;
pub(crate) mod kept_runs;
pub(crate) mod node_cache;
mod slack;
mod stripe;

pub use self::kept_hits::Kept;

pub(crate) use self::blocks::{GROWTH_PART, MAX_LARGE, kept_pages_for};
