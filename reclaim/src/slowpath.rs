//! The one retry loop: malloc, calloc, realloc and aligned requests all come through here.

use core::ptr::NonNull;

use zonal_allocator::watermark::WatermarkLevel;
use zonal_allocator::{
    AllocError, Attempt, BadPointer, Block, Deadline, Mm, OwnHeap, Patience, PurgeHow, Request,
};
use zonal_numa::{NodeId, PAGE_SIZE};

use crate::ladder::{self, Action, Context, Rung};
use crate::node_reclaim::{NodeReclaim, node_reclaim};
use crate::pressure;
use crate::scan;
use crate::shrink::shrink_node;
use crate::stall::Stall;

/// How long a request sleeps for kswapd's next step.
const LONGEST_WAIT_NS: u64 = 500_000;

/// Why a `realloc` failed; the old block is as it was.
#[derive(Clone, Copy, Debug)]
pub enum ReallocError {
    /// The pointer is no live block.
    Bad(BadPointer),
    /// No memory for the new size.
    Alloc(AllocError),
}

/// Memory for `request`, after as much reclaim as it takes.
///
/// # Errors
/// `Exhausted` only when nothing reclaimable is left, `TooLarge` and `BadAlign` at once.
pub fn alloc(own: OwnHeap, request: Request) -> Result<Block, AllocError> {
    let mm = own.mm();
    let first = mm.next_node(&own);
    let from = Attempt { node: first, level: WatermarkLevel::Low };
    match own.alloc(request, from) {
        Err(AllocError::Exhausted { .. }) => {}
        done => {
            if mm.pages().take_boost_wake() {
                wake_kswapd(mm);
            }
            return done;
        }
    }
    let zonelist = mm.zonelist(first);
    let nr_pages = request.size.div_ceil(PAGE_SIZE);
    if mm.node_reclaim_mode().is_on() {
        match nearby(own, first, nr_pages, |from| own.alloc(request, from)) {
            Err(AllocError::Exhausted { .. }) => {}
            done => return done,
        }
    }
    climb(Climb { own, first, zonelist, nr_pages, effort: Effort::Usual }, |from| {
        own.alloc(request, from)
    })
}

/// How far a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effort {
    /// One pass over what can be reclaimed, and no more.
    NoRetry,
    /// Until nothing is left.
    Usual,
}

/// A request in need.
#[derive(Clone, Copy)]
pub(crate) struct Climb<'a> {
    pub(crate) own: OwnHeap,
    /// The node that was asked first.
    pub(crate) first: NodeId,
    pub(crate) zonelist: &'a [NodeId],
    pub(crate) nr_pages: usize,
    pub(crate) effort: Effort,
}

/// Where nodes are far apart: makes room on the node that was asked first, then asks the others,
/// all before anybody goes below the low mark.
///
/// Apart, so that a request that succeeds takes no stack for it.
#[cold]
#[inline(never)]
fn nearby<T>(
    own: OwnHeap,
    first: NodeId,
    nr_pages: usize,
    attempt: impl Fn(Attempt) -> Result<T, AllocError>,
) -> Result<T, AllocError> {
    let mm = own.mm();
    let at = |node| attempt(Attempt { node, level: WatermarkLevel::Low });
    let reclaimed = node_reclaim(own, first, nr_pages);
    let mut answer = Err(AllocError::Exhausted { node: first, order: 0 });
    if matches!(reclaimed, NodeReclaim::Some | NodeReclaim::Success) {
        answer = at(first);
    }
    let others = mm.zonelist(first).iter().filter(|&&node| node != first && mm.may_use(&own, node));
    for &node in others {
        if !matches!(answer, Err(AllocError::Exhausted { .. })) {
            break;
        }
        answer = at(node);
    }
    answer
}

/// Goes up the ladder after a failed first attempt. Apart, so that a request that succeeds takes no stack for it.
#[cold]
#[inline(never)]
pub(crate) fn climb<T>(
    request: Climb<'_>,
    mut attempt: impl FnMut(Attempt) -> Result<T, AllocError>,
) -> Result<T, AllocError> {
    let Climb { own, first, zonelist, nr_pages, .. } = request;
    let mm = own.mm();
    let mut stall = Stall::new(mm, first, nr_pages);
    let mut from = Attempt { node: first, level: WatermarkLevel::Low };
    let mut rung = Rung::Low;
    loop {
        let (is_tried, is_over) = (rung == Rung::PurgedAll, stall.is_over());
        let context = Context {
            nr_nodes: zonelist.len() as u8,
            made_progress: stall.progress > 0 && request.effort == Effort::Usual,
            nr_loops: stall.nr_loops,
            is_over,
            awaits_round: (is_tried || is_over)
                && request.effort == Effort::Usual
                && stall.awaits_round(),
        };
        let Some((action, after, level)) = ladder::next(rung, context) else {
            return Err(AllocError::Exhausted { node: own.node(), order: 0 });
        };
        if is_tried {
            stall.nr_loops += 1;
            stall.progress = 0;
        }
        rung = after;
        from.level = level;
        act(&mut stall, own, action);
        from.node = match action {
            Action::OtherNode(n) => zonelist[usize::from(n)],
            _ => first,
        };
        if !mm.may_use(&own, from.node) {
            continue;
        }
        match attempt(from) {
            Err(AllocError::Exhausted { .. }) => {}
            done => {
                if rung == Rung::Reserve {
                    stall.give_way();
                }
                return done;
            }
        }
    }
}

fn act(stall: &mut Stall, own: OwnHeap, action: Action) {
    let mm = stall.mm;
    match action {
        // Below the low mark: kswapd shall not wait for its tick.
        Action::Dip => {
            pressure::look_if_older(mm, pressure::BELOW_LOW_NS);
            wake_kswapd(mm);
        }
        Action::OtherNode(_) | Action::UseReserve => {}
        Action::DrainOwn => {
            stall.begin();
            mm.drain_own(own, Patience::PassBy, stall.control.deadline);
        }
        Action::Purge => {
            let lru = mm.pages().lruvec(stall.node);
            if scan::too_many_isolated(lru.nr_isolated, lru.nr_pages) {
                throttle(mm);
            }
            let nr_pages = shrink_node(mm, stall.node, stall.control);
            stall.note(nr_pages);
        }
        Action::Throttle => throttle(mm),
        Action::AwaitRound => stall.await_round(),
        Action::DrainAll => {
            let deadline = stall.control.deadline;
            let patience = stall.patience();
            let drained = mm.drain_own(own, patience, deadline)
                + mm.drain_all_until(Some(own), patience, deadline);
            let huge = mm.drain_huge_until(deadline) / PAGE_SIZE;
            let how = PurgeHow { deadline, ..PurgeHow::ALL };
            let holes = mm.purge_holes(Some(own), patience, how, stall.control.goal);
            stall.note(drained + huge + holes);
        }
        Action::Unreserve => {
            mm.pages().unreserve_highatomic(stall.node);
        }
    }
}

/// Does not let kswapd wait for its tick, if it can gain anything.
pub(crate) fn wake_kswapd(mm: &Mm) {
    if !mm.doorbell().is_hopeless() {
        mm.vmstat().note_wakeup();
        mm.doorbell().hurry();
    }
}

/// Waits for kswapd's next step, if there is a reclaimer and it can gain
/// anything, and counts the time.
fn throttle(mm: &Mm) {
    if mm.doorbell().is_hopeless() {
        return;
    }
    let since = mm.machine().now_ns();
    if mm.doorbell().wait_for_step(LONGEST_WAIT_NS) {
        let ns = mm.machine().now_ns().saturating_sub(since);
        // What is beyond that the kernel took to run this thread again.
        mm.vmstat().note_blocked(ns.min(LONGEST_WAIT_NS));
    }
}

/// Gives the live block at `block` room for `size` bytes, moving it if it must.
///
/// # Errors
/// The old block stays as it was.
///
/// # Safety
/// `block` is not used by anybody else meanwhile.
#[expect(unsafe_code, reason = "the program's block is copied and given up")]
pub unsafe fn realloc(
    own: OwnHeap,
    block: NonNull<u8>,
    size: usize,
) -> Result<NonNull<u8>, ReallocError> {
    let usable = own.mm().usable_size(block).map_err(ReallocError::Bad)?;
    // SAFETY: the calling thread owns the heap; the block is the caller's.
    if let Some(same) = unsafe { own.resize(block, size) } {
        return Ok(same);
    }
    let request = Request { size, align: 8, zeroed: false, grows: true };
    let new = alloc(own, request).map_err(ReallocError::Alloc)?.start;
    // SAFETY: both blocks are live, distinct, and at least that large; the old one is given up
    // after the copy.
    unsafe {
        new.copy_from_nonoverlapping(block, usable.min(size));
        own.free(block).map_err(ReallocError::Bad)?;
    }
    Ok(new)
}

/// Gives back to the system all that no live block needs, until `goal_bytes` are back. Returns the
/// bytes that went back: what the kernel had of it if it may be asked and answers, which is not done under a seccomp
/// filter, since that may kill who asks; otherwise what the accounts have.
pub fn trim(mm: &'static Mm, own: Option<OwnHeap>, goal_bytes: usize, may_ask: bool) -> usize {
    mm.drain_bins(own);
    mm.drain_all(own);
    if let Some(own) = own {
        mm.drain_own(own, Patience::Wait, Deadline::NEVER);
    }
    let how = PurgeHow { asks_kernel: may_ask && !mm.machine().is_filtered(), ..PurgeHow::ALL };
    let goal_pages = goal_bytes.div_ceil(PAGE_SIZE);
    let mut bytes = mm.trim_huge(goal_bytes, how.asks_kernel);
    let left = goal_pages.saturating_sub(bytes / PAGE_SIZE);
    bytes += mm.purge_holes(own, Patience::Wait, how, left) * PAGE_SIZE;
    for node in mm.machine().topology().nodes_online().iter() {
        let left = goal_pages.saturating_sub(bytes / PAGE_SIZE);
        if left == 0 {
            break;
        }
        bytes += mm.pages().purge(node, left, how) * PAGE_SIZE;
    }
    bytes
}
