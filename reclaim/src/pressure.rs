//! Pressure from outside: what the control group and the nodes have left, as caps on what zonal
//! holds.
//!
//! A cap is what is charged now plus what is left. Its lowest mark is the kernel's formula over the
//! whole budget. The others have more distance than those of a limit of the process's own, because
//! others fill the same budget between two readings: a tenth of it, as far as that is not more than
//! a group can fill in that time. The soft limit is a cap that does not move.
//!
//! Whoever reads opens files, so it is the background reclaimer that does it, and callers only
//! where the user says so; and nobody under a seccomp filter that came after the start.

use zonal_allocator::watermark::Watermarks;
use zonal_allocator::{Cap, Mm, PAGE_SIZE};
use zonal_numa::Room;

/// Time between two readings where there is a bound.
pub const INTERVAL_NS: u64 = 100_000_000;
/// The same where there is none: one may appear.
const UNBOUNDED_INTERVAL_NS: u64 = 1_000_000_000;
/// The largest distance of two marks, in pages: 256 MiB, what several processors touch between
/// two readings.
const LARGEST_STEP: usize = (256 << 20) / PAGE_SIZE;

/// When to look next.
#[derive(Debug)]
pub struct Pressure {
    reads: bool,
    next_ns: u64,
    watch: Watch,
}

/// How closely the bounds have to be watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Watch {
    /// There is none.
    No,
    /// There is one.
    Loose,
    /// It is near.
    Close,
}

impl Pressure {
    /// With `reads`, files are opened.
    pub fn new(reads: bool) -> Pressure {
        Pressure { reads, next_ns: 0, watch: Watch::No }
    }

    /// How closely the bounds have to be watched.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Sets the caps anew, if it is time.
    pub fn refresh(&mut self, mm: &Mm, now: u64) {
        if now < self.next_ns {
            return;
        }
        let (machine, pages) = (mm.machine(), mm.pages());
        let reads = self.reads && !machine.is_confined_since_start();
        let soft = pages.soft_cap();
        let mut watch = if soft == Cap::NONE { Watch::No } else { Watch::Loose };
        // Before the reading: what is charged meanwhile counts twice rather than not at all.
        let charged = pages.charged();
        let group = if reads { machine.group_room() } else { None };
        pages.set_cap(soft.tighter(cap(charged, group)));
        watch = watch.max(closeness(group));
        for node in pages.online().iter().filter(|_| reads) {
            let charged = pages.charged_to(node);
            let room = machine.node_room(node);
            pages.set_node_cap(node, cap(charged, room));
            watch = watch.max(closeness(room));
        }
        self.watch = watch;
        let interval = if watch == Watch::No { UNBOUNDED_INTERVAL_NS } else { INTERVAL_NS };
        self.next_ns = now + interval;
    }
}

/// Near is twice the headroom at which reclaim rests.
fn closeness(room: Option<Room>) -> Watch {
    match room {
        None => Watch::No,
        Some(Room { total, available }) => {
            let near = 2 * marks(total / PAGE_SIZE).high;
            if available / PAGE_SIZE < near { Watch::Close } else { Watch::Loose }
        }
    }
}

/// The marks of a budget that others share.
fn marks(total_pages: usize) -> Watermarks {
    let min = Watermarks::for_budget(total_pages, 0).min;
    let step = (total_pages / 10).min(LARGEST_STEP);
    Watermarks { min, low: min + step, high: min + 2 * step }
}

/// The cap of a process that has `charged` pages and that room beside them.
fn cap(charged: usize, room: Option<Room>) -> Cap {
    room.map_or(Cap::NONE, |Room { total, available }| Cap {
        pages: charged + available / PAGE_SIZE,
        marks: marks(total / PAGE_SIZE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: usize = 1 << 30;

    #[test]
    fn a_cap_is_what_is_there_and_what_is_left() {
        let tight = cap(1000, Some(Room { total: GIB, available: 400 * PAGE_SIZE }));
        assert_eq!(tight.pages, 1400);
        // 4 MiB by the kernel's formula, and twice a tenth of the budget.
        let step = GIB / PAGE_SIZE / 10;
        assert_eq!(tight.marks, Watermarks { min: 1024, low: 1024 + step, high: 1024 + 2 * step });
        assert_eq!(marks(1024 * GIB / PAGE_SIZE).high, 32_768 + 2 * LARGEST_STEP);
        assert_eq!(cap(1000, None), Cap::NONE);
    }

    #[test]
    fn a_bound_is_watched_closely_when_it_is_near() {
        let watch = |available| closeness(Some(Room { total: GIB, available }));
        assert_eq!([watch(GIB / 2), watch(GIB / 4)], [Watch::Loose, Watch::Close]);
        assert!(closeness(None) < Watch::Loose && Watch::Loose < Watch::Close);
    }
}
