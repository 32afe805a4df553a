//! The per-thread page cache: short stacks of page runs in front of the zone lock.
//!
//! It belongs to a heap and is touched inside the heap's gate only, by plain loads and stores.
//! `batch`, the number of runs moved under one zone lock, doubles with each refill and is halved
//! when a visitor drains the cache, so that it follows the traffic of the thread; `high`, what the
//! cache may hold, is four times that, and never more than its share of 1/64 of the charged memory.

use zonal_numa::NodeId;
use zonal_stats::HeapEvents;

use crate::error::AllocError;
use crate::mm::Attempt;
use crate::order::Order;
use crate::pages::Pages;
use crate::run::PageRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::{Migratetype, PageWord};

/// Orders that the cache serves: 0 to 4, up to 64 KiB, which covers every slab.
pub(crate) const NR_PCP_ORDERS: usize = 5;
const CAPACITY: usize = 16;
/// The most runs that come at a time: more would lie here, resident, for requests of other orders to miss.
const MAX_BATCH: usize = 4;
/// What may be held, in batches.
const HIGH_BATCHES: usize = 4;

#[derive(Debug)]
struct Stack {
    runs: [Option<PageRun>; CAPACITY],
    nr: usize,
    batch: usize,
}

/// The page cache of one thread for its home node.
#[derive(Debug)]
pub(crate) struct Pcp {
    stacks: [Stack; NR_PCP_ORDERS],
    pub(crate) events: HeapEvents,
}

impl Pcp {
    pub(crate) fn new() -> Pcp {
        Pcp {
            stacks: [const { Stack { runs: [const { None }; CAPACITY], nr: 0, batch: 1 } };
                NR_PCP_ORDERS],
            events: HeapEvents::default(),
        }
    }

    /// A run of that order on the home node, `from.node`, from the cache or with a batch from the zone.
    pub(crate) fn alloc(
        &mut self,
        pages: &Pages,
        order: Order,
        from: Attempt,
    ) -> Result<PageRun, AllocError> {
        let stack = &mut self.stacks[order.index()];
        if stack.nr == 0 {
            let batch = stack.batch;
            let out = &mut stack.runs[..batch];
            let got = pages.alloc_bulk(from.node, order, Migratetype::Slab, from.level, out);
            if got == 0 {
                return Err(AllocError::Exhausted { node: from.node, order: order.get() });
            }
            for run in stack.runs[..got].iter().flatten() {
                pages
                    .map
                    .word(run.head())
                    .store(PageWord::pcp(order.nr_pages() as u32).raw(), Relaxed);
            }
            // As they lie, since a program that goes through what it allocated in order is quicker if it ascends.
            stack.runs[..got].reverse();
            stack.nr = got;
            stack.batch = (batch * 2).min(MAX_BATCH);
            self.events.pcp_refill += got as u64;
        }
        stack.nr -= 1;
        let run = stack.runs[stack.nr]
            .take()
            .ok_or(AllocError::Exhausted { node: from.node, order: order.get() })?;
        pages.map.set_word(run.head(), PageWord::NOTHING);
        Ok(run)
    }

    /// Takes a run back; its words are all 0. One that may not rest here goes to its zone.
    pub(crate) fn free(&mut self, pages: &Pages, node: NodeId, order: Order, run: PageRun) {
        if !pages.may_rest(run.head(), node) {
            pages.free_run(run);
            return;
        }
        let stack = &mut self.stacks[order.index()];
        let high = stack.high(pages, order);
        if stack.nr >= high {
            let keep = high / 2;
            self.events.pcp_spill += (stack.nr - keep) as u64;
            stack.give_back(pages, keep);
        }
        pages.map.set_word(run.head(), PageWord::pcp(order.nr_pages() as u32));
        stack.runs[stack.nr] = Some(run);
        stack.nr += 1;
    }

    /// Gives everything back to the zones; returns the number of pages.
    pub(crate) fn drain(&mut self, pages: &Pages) -> usize {
        let mut drained = 0;
        for (order, stack) in self.stacks.iter_mut().enumerate() {
            drained += stack.nr << order;
            self.events.pcp_spill += stack.nr as u64;
            stack.give_back(pages, 0);
            stack.batch = (stack.batch / 2).max(1);
        }
        drained
    }

    /// What it holds and may hold.
    pub(crate) fn stats(&self, pages: &Pages) -> zonal_stats::Pcp {
        let mut stats = zonal_stats::Pcp::default();
        for (order, stack) in Order::ZERO.and_up().zip(&self.stacks) {
            stats.count += (stack.nr << order.get()) as u64;
            stats.high += (stack.high(pages, order) << order.get()) as u64;
            stats.batch += (stack.batch << order.get()) as u64;
        }
        stats
    }
}

impl Stack {
    /// Runs that it may hold.
    fn high(&self, pages: &Pages, order: Order) -> usize {
        (self.batch * HIGH_BATCHES).min(CAPACITY).min(pages.pcp_share(order))
    }

    /// Gives the oldest runs back until `keep` are left.
    fn give_back(&mut self, pages: &Pages, keep: usize) {
        let surplus = self.nr - keep;
        if surplus == 0 {
            return;
        }
        for run in self.runs[..surplus].iter().flatten() {
            pages.map.set_word(run.head(), PageWord::NOTHING);
        }
        pages.free_bulk(self.runs[..surplus].iter_mut().filter_map(Option::take));
        self.runs[..self.nr].rotate_left(surplus);
        self.nr = keep;
    }
}
