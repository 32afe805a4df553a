//! Pressure from outside: what the control group and the nodes have left, as caps on what zonal
//! holds.
//!
//! A cap is what is charged now plus what is left. Its headroom marks are the kernel's formula over
//! the whole budget, with more distance than a limit of the process's own, because others fill the
//! same budget between two readings. The soft limit is a cap that does not move.
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
/// Distance of the marks in ten-thousandths of the shared budget.
const SHARED_SCALE: u32 = 200;

/// When to look next.
#[derive(Debug)]
pub struct Pressure {
    reads: bool,
    next_ns: u64,
    /// Less than a quarter of a budget is left.
    is_near: bool,
}

impl Pressure {
    /// With `reads`, files are opened.
    pub fn new(reads: bool) -> Pressure {
        Pressure { reads, next_ns: 0, is_near: false }
    }

    /// Whether a bound is so near that it should be watched closely.
    pub fn is_near(&self) -> bool {
        self.is_near
    }

    /// Sets the caps anew, if it is time.
    pub fn refresh(&mut self, mm: &Mm, now: u64) {
        if now < self.next_ns {
            return;
        }
        let (machine, pages) = (mm.machine(), mm.pages());
        let reads = self.reads && !machine.is_confined_since_start();
        let soft = pages.soft_cap();
        let mut bound = Bound { is_any: soft != Cap::NONE, is_near: false };
        // Before the reading: what is charged meanwhile counts twice rather than not at all.
        let charged = pages.charged();
        let group = if reads { machine.group_room() } else { None };
        pages.set_cap(soft.tighter(cap(charged, group)));
        bound.note(group);
        for node in pages.online().iter().filter(|_| reads) {
            let charged = pages.charged_to(node);
            let room = machine.node_room(node);
            pages.set_node_cap(node, cap(charged, room));
            bound.note(room);
        }
        self.is_near = bound.is_near;
        let interval = if bound.is_any { INTERVAL_NS } else { UNBOUNDED_INTERVAL_NS };
        self.next_ns = now + interval;
    }
}

/// What a reading found.
struct Bound {
    is_any: bool,
    is_near: bool,
}

impl Bound {
    fn note(&mut self, room: Option<Room>) {
        self.is_any |= room.is_some();
        self.is_near |= room.is_some_and(|room| room.available < room.total / 4);
    }
}

/// The cap of a process that has `charged` pages and that room beside them.
fn cap(charged: usize, room: Option<Room>) -> Cap {
    room.map_or(Cap::NONE, |Room { total, available }| Cap {
        pages: charged + available / PAGE_SIZE,
        marks: Watermarks::for_budget(total / PAGE_SIZE, SHARED_SCALE),
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
        // 4 MiB by the kernel's formula, and twice 2 % of the budget.
        assert_eq!(tight.marks.min, 1024);
        assert_eq!(tight.marks.low - tight.marks.min, GIB / PAGE_SIZE / 10_000 * 200);
        assert_eq!(cap(1000, None), Cap::NONE);
    }
}
