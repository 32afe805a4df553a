//! Pressure from outside: what the control group and the nodes have left, as caps on what zonal
//! holds.
//!
//! A cap is what is charged now plus what is left. Its lowest mark is the kernel's formula over the
//! whole budget. The others have more distance than those of a limit of the process's own, because
//! others fill the same budget between two readings: a tenth of it, as far as that is not more than
//! a group can fill in that time. The soft limit is a cap that does not move. The cap's **edge** is where the
//! kernel kills next; beyond `memory.high` it only slows the program down.
//!
//! Whoever reads opens files. So it is done once before anybody has memory, and from then on by
//! kswapd, or where there is none by callers, once they have a part of what the group
//! allows or where the user says so; by nobody under a seccomp filter that came after the start. What
//! cannot be read just now (no descriptor is left, or no memory for one) stays as it was read last.
//!
//! A cap that was read last holds for any time: it is what the budget leaves beside what others had,
//! and nobody knows better. Where they have less by now, requests reclaim more often than they must,
//! and pass; where they have more, it is still nearer than none.

use zonal_allocator::watermark::Watermarks;
use zonal_allocator::{Cap, Edge, Level, Lookout, Mm, PAGE_SIZE, Pages};
use zonal_numa::{Errno, GroupRoom, Room};

/// Time between two readings where there is a bound.
pub const INTERVAL_NS: u64 = 100_000_000;
/// The same where there is none: one may appear.
const UNBOUNDED_INTERVAL_NS: u64 = 1_000_000_000;
/// The largest distance of two marks, in pages: 256 MiB, what several processors touch between
/// two readings.
const LARGEST_STEP: usize = (256 << 20) / PAGE_SIZE;

/// The lowest mark is at least such a part of the budget, up to 16 MiB: what the process itself takes
/// beside zonal between two readings.
const MIN_PART: usize = 64;
const LARGEST_MIN: usize = (16 << 20) / PAGE_SIZE;
/// Callers look once they have one part in so many of what the group allows, or all that was left.
const NEAR_PART: usize = 16;
/// The youngest look that a caller relies on below the low mark, and when it reclaims.
pub(crate) const BELOW_LOW_NS: u64 = 20_000_000;
pub(crate) const IN_NEED_NS: u64 = 2_000_000;

/// A reading during which that many pages were given back is repeated, so often at most.
const MUCH: usize = (1 << 20) / PAGE_SIZE;
const MAX_TRIES: u32 = 3;

/// When to look next.
#[derive(Debug)]
pub struct Pressure {
    looks_from: usize,
    next_ns: u64,
    watch: Watch,
}

/// How closely the bounds have to be watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Watch {
    /// Nothing bounds memory.
    No,
    /// There is a bound, far away.
    Loose,
    /// A bound is near.
    Close,
}

/// The first look, before anybody has memory: a heap may fill the group before somebody comes to look
/// again. Where there is a limit, callers are to look, too, once they have a part of it.
pub fn begin(mm: &Mm) {
    let looks_from = match look_at_group(mm) {
        Ok(Some(Reading { room, .. })) => room.nearest.total / PAGE_SIZE / NEAR_PART,
        Ok(None) => return,
        // As soon as somebody can tell.
        Err(_) => 0,
    };
    mm.pages().lookout().open_from(looks_from);
}

/// A caller in need looks, if nobody did for so long and it is its part.
pub(crate) fn look_if_older(mm: &Mm, age_ns: u64) {
    let lookout = mm.pages().lookout();
    let may_look = is_worth_a_look(mm.pages(), lookout.callers_from());
    if may_look && lookout.is_due(mm.machine().now_ns(), age_ns) {
        look(mm, Watch::No);
    }
}

/// Whether so many pages are charged, or what the last look found is used up: others may have left.
fn is_worth_a_look(pages: &Pages, looks_from: usize) -> bool {
    let cap = pages.cap();
    let used_up = cap.pages.saturating_sub(cap.marks.low);
    looks_from != Lookout::NEVER && pages.charged() >= looks_from.min(used_up)
}

/// What is charged, and the room beside it.
#[derive(Clone, Copy, Debug)]
struct Reading {
    charged: usize,
    room: GroupRoom,
}

impl Reading {
    /// Whether less is left than what reclaim rests at.
    fn is_tight(&self) -> bool {
        let Room { total, available } = self.room.nearest;
        available / PAGE_SIZE < marks(total / PAGE_SIZE).high
    }
}

/// Reads the room while others work, and may keep this thread from its processor meanwhile. Their
/// pages may count twice, never not at all: pages that were given back in between are neither charged
/// nor room, and what is charged and has no memory yet, or no more, is no room.
fn read<R: Into<GroupRoom>>(
    pages: &Pages,
    level: Level,
    room: impl Fn() -> Result<Option<R>, Errno>,
) -> Result<Option<Reading>, Errno> {
    let mut tries = 0;
    loop {
        let (charged, gone) = pages.ledger(level);
        let unsure = pages.nr_unsure();
        let Some(mut room) = room()?.map(Into::into) else { return Ok(None) };
        let unsure = unsure.max(pages.nr_unsure());
        let lost = pages.ledger(level).1.wrapping_sub(gone);
        tries += 1;
        if lost < MUCH || tries == MAX_TRIES {
            for room in [Some(&mut room.nearest), room.killer.as_mut()].into_iter().flatten() {
                room.available = room.available.saturating_sub(unsure * PAGE_SIZE);
            }
            return Ok(Some(Reading { charged: charged.saturating_sub(lost), room }));
        }
    }
}

/// Sets the caps anew, or has those count again that nobody can read. How closely they have to be
/// watched, if it was so closely before.
fn look(mm: &Mm, before: Watch) -> Watch {
    let (machine, pages) = (mm.machine(), mm.pages());
    if machine.is_confined_since_start() {
        pages.keep_cap(Level::Process);
        pages.online().iter().for_each(|node| pages.keep_cap(Level::Node(node)));
        // A bound from before the filter, or the user's, that this one never read.
        return if pages.has_cap() { before.max(Watch::Loose) } else { before };
    }
    let mut watch = if pages.soft_cap() == Cap::NONE { Watch::No } else { Watch::Loose };
    watch = watch.max(closeness(look_at_group(mm), before));
    for node in pages.online().iter() {
        let here = read(pages, Level::Node(node), || machine.node_room(node));
        match here {
            Ok(here) => pages.set_cap(Level::Node(node), cap(here)),
            Err(_) => pages.keep_cap(Level::Node(node)),
        }
        watch = watch.max(closeness(here, before));
    }
    pages.age_newest();
    watch
}

/// The process's cap anew, by what its group has left.
fn look_at_group(mm: &Mm) -> Result<Option<Reading>, Errno> {
    let pages = mm.pages();
    let group = read(pages, Level::Process, || mm.machine().group_room());
    match group {
        Ok(group) => {
            pages.set_cap(Level::Process, pages.soft_cap().tighter(cap(group)));
            pages.lookout().set_tight(group.is_some_and(|reading| reading.is_tight()));
        }
        Err(_) => pages.keep_cap(Level::Process),
    }
    group
}

impl Pressure {
    /// Files are opened as soon as so many pages are charged.
    pub fn new(looks_from: usize) -> Pressure {
        Pressure { looks_from, next_ns: 0, watch: Watch::No }
    }

    /// How closely the bounds have to be watched.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Sets the caps anew, if it is time.
    pub fn refresh(&mut self, mm: &Mm, now: u64) {
        let pages = mm.pages();
        if now < self.next_ns || !is_worth_a_look(pages, self.looks_from) {
            return;
        }
        pages.lookout().note(now);
        self.watch = look(mm, self.watch);
        let interval = if self.watch == Watch::No { UNBOUNDED_INTERVAL_NS } else { INTERVAL_NS };
        self.next_ns = now + interval;
    }
}

/// Near is twice the headroom at which reclaim rests. Where nothing could be read there may be a bound,
/// as near as `before`.
fn closeness(reading: Result<Option<Reading>, Errno>, before: Watch) -> Watch {
    match reading {
        Ok(None) => Watch::No,
        Err(_) => before.max(Watch::Loose),
        Ok(Some(Reading { room, .. })) => {
            let Room { total, available } = room.nearest;
            let near = 2 * marks(total / PAGE_SIZE).high;
            if available / PAGE_SIZE < near { Watch::Close } else { Watch::Loose }
        }
    }
}

/// The marks of a budget that others share.
fn marks(total_pages: usize) -> Watermarks {
    let min =
        Watermarks::for_budget(total_pages, 0).min.max((total_pages / MIN_PART).min(LARGEST_MIN));
    let step = (total_pages / 10).min(LARGEST_STEP);
    Watermarks { min, low: min + step, high: min + 2 * step }
}

/// The cap of a process where that was read.
fn cap(reading: Option<Reading>) -> Cap {
    reading.map_or(Cap::NONE, |Reading { charged, room: GroupRoom { nearest, killer } }| {
        let full = |room: Room| charged + room.available / PAGE_SIZE;
        let marks_in = |room: Room| marks(room.total / PAGE_SIZE);
        let edge = killer.map_or(Edge::NONE, |killer| {
            let killed_from = full(killer);
            Edge { from: killed_from.saturating_sub(marks_in(killer).min), killed_from }
        });
        Cap { pages: full(nearest), marks: marks_in(nearest), edge }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: usize = 1 << 30;

    fn reading(available: usize) -> Option<Reading> {
        Some(Reading { charged: 1000, room: Room { total: GIB, available }.into() })
    }

    #[test]
    fn a_cap_is_what_is_there_and_what_is_left() {
        let tight = cap(reading(400 * PAGE_SIZE));
        assert_eq!(tight.pages, 1400);
        assert_eq!(tight.edge, Edge { from: 0, killed_from: 1400 });
        // A sixty-fourth, and twice a tenth of the budget.
        let step = GIB / PAGE_SIZE / 10;
        assert_eq!(tight.marks, Watermarks { min: 4096, low: 4096 + step, high: 4096 + 2 * step });
        // By the kernel's formula.
        assert_eq!(marks(1024 * GIB / PAGE_SIZE).high, 32_768 + 2 * LARGEST_STEP);
        assert_eq!(cap(None), Cap::NONE);
    }

    #[test]
    fn the_edge_is_the_lowest_mark_of_what_kills() {
        let with = |killer| {
            let room = reading(400 * PAGE_SIZE).unwrap().room;
            cap(Some(Reading { charged: 1000, room: GroupRoom { killer, ..room } }))
        };
        // Its own, not that of the nearest bound: a sixty-fourth of 128 MiB.
        let killer = Room { total: GIB / 8, available: 20_000 * PAGE_SIZE };
        assert_eq!(with(Some(killer)).edge, Edge { from: 20_488, killed_from: 21_000 });
        assert_eq!(with(None).edge, Edge::NONE);
    }

    #[test]
    fn a_bound_is_watched_closely_when_it_is_near() {
        let watch = |available| closeness(Ok(reading(available)), Watch::Close);
        assert_eq!([watch(GIB / 2), watch(GIB / 4)], [Watch::Loose, Watch::Close]);
        let unread = |before| closeness(Err(Errno::EMFILE), before);
        let befores = [Watch::No, Watch::Loose, Watch::Close];
        assert_eq!(befores.map(unread), [Watch::Loose, Watch::Loose, Watch::Close]);
        assert_eq!(closeness(Ok(None), Watch::Close), Watch::No);
        assert!(Watch::No < Watch::Loose && Watch::Loose < Watch::Close);
    }
}
