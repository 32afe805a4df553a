//! Whole pages, with the kernel's flags (`__get_free_pages`, include/linux/gfp_types.h).

use zonal_allocator::watermark::WatermarkLevel;
use zonal_allocator::{AllocError, Attempt, Block, OwnHeap};
use zonal_numa::{NodeId, PAGE_SIZE};

use crate::slowpath::{Climb, Effort, climb};

/// How far a request for pages goes, and what it wants. All off is the ordinary request: it
/// reclaims what it must, goes to other nodes, and fails when nothing is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageFlags {
    /// Never reclaims nor sleeps; may use half of the reserve and the pageblocks kept for such
    /// requests (`GFP_ATOMIC`).
    pub no_wait: bool,
    /// Reclaims once, and does not repeat it when others take what it gained (`__GFP_NORETRY`).
    pub no_retry: bool,
    /// Sleeps and tries again instead of failing (`__GFP_NOFAIL`). Without meaning beside `no_wait`.
    pub no_fail: bool,
    /// Takes pages of the node asked for or none (`__GFP_THISNODE`).
    pub this_node: bool,
    /// The pages are zero (`__GFP_ZERO`).
    pub zero: bool,
}

/// Between two climbs of a request that must not fail.
const NO_FAIL_WAIT_NS: u64 = 1_000_000;

/// `nr_pages` pages (1 to 1024), which go back by [`zonal_allocator::Heap::free`]. From `node`, or from where the
/// heap's policy says.
///
/// # Errors
/// `Exhausted` as the flags say, `TooLarge` for a number that no zone has.
pub fn alloc_pages(
    own: OwnHeap,
    node: Option<NodeId>,
    nr_pages: usize,
    flags: PageFlags,
) -> Result<Block, AllocError> {
    let mm = own.mm();
    let first = node.unwrap_or_else(|| mm.next_node(&own));
    let all = mm.zonelist(first);
    let zonelist = if flags.this_node { &all[..1] } else { all };
    if zonelist.first() != Some(&first) {
        // A node without memory: what is nearest to it is another one.
        return Err(exhausted(first));
    }
    let attempt = |from| own.alloc_pages(nr_pages, from, false);
    let mut block = attempt(Attempt { node: first, level: WatermarkLevel::Low });
    if flags.no_wait && is_exhausted(&block) {
        let level = WatermarkLevel::Harder;
        let mut urgent = zonelist.iter().map(|&node| Attempt { node, level });
        block = urgent
            .find_map(|from| own.alloc_pages(nr_pages, from, true).ok())
            .ok_or(exhausted(first));
    }
    let effort = if flags.no_retry { Effort::NoRetry } else { Effort::Usual };
    while !flags.no_wait && is_exhausted(&block) {
        block = climb(Climb { own, first, zonelist, nr_pages, effort }, attempt);
        if !flags.no_fail {
            break;
        }
        if is_exhausted(&block) {
            let since = mm.machine().now_ns();
            mm.doorbell().hurry();
            mm.doorbell().pause(NO_FAIL_WAIT_NS);
            mm.vmstat().note_blocked(mm.machine().now_ns().saturating_sub(since));
        }
    }
    let block = block?;
    if flags.zero {
        clear(block, nr_pages);
    }
    Ok(block)
}

/// Makes a new block of so many pages zeros.
#[expect(unsafe_code, reason = "the pages are written to")]
fn clear(block: Block, nr_pages: usize) {
    if !block.known_zero {
        // SAFETY: the block has that many pages and nobody else knows it.
        unsafe { block.start.write_bytes(0, nr_pages * PAGE_SIZE) };
    }
}

fn is_exhausted(block: &Result<Block, AllocError>) -> bool {
    matches!(block, Err(AllocError::Exhausted { .. }))
}

fn exhausted(node: NodeId) -> AllocError {
    AllocError::Exhausted { node, order: 0 }
}
