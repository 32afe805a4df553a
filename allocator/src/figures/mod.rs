//! Figures: what an instance tells of itself, and whether that agrees.
//!
//! Counters stand beside what they count. [`vmstat`] has those of the process and [`numastat`] those of placement,
//! which stand nowhere else; [`snapshot`] sums all up, [`survey`] walks the pages to see what lies where, and
//! [`audit`] works out anew what the page layer has counted.

mod audit;
pub(crate) mod numastat;
mod snapshot;
mod survey;
pub(crate) mod vmstat;
