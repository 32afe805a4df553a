//! Runs out of the zones and back into them, one by one and in bulk.

use core::ptr;

use zonal_numa::NodeId;

use super::Pages;
use crate::error::AllocError;
use crate::order::Order;
use crate::pages::grow::Growth;
use crate::pfn::Pfn;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;
use crate::zone::{Request, Shortage};

/// How often a request has the zone grow and finds nothing before it takes what there is: others used it
/// up, or it is of no use for this one.
const GROWTH_TRIES: u32 = 8;
/// And how often it finds that others did, which costs it nothing but the wait.
const PATIENT_TRIES: u32 = 64;
/// And of runs for which a bound node has no memory.
const SECURE_TRIES: u32 = 8;

impl Pages {
    /// Takes a run of exactly `nr_pages` pages (1 to 1024) from `node`, its address aligned to
    /// blocks of `align`.
    ///
    /// # Errors
    /// [`AllocError::Exhausted`] when the node has no such run and cannot get one within `level`;
    /// [`AllocError::TooLarge`] above 1024 pages.
    pub fn alloc_run(
        &self,
        node: NodeId,
        nr_pages: usize,
        align: Order,
        mt: Migratetype,
        level: WatermarkLevel,
    ) -> Result<PageRun, AllocError> {
        let order = Order::holding(nr_pages).ok_or(AllocError::TooLarge)?.max(align);
        let mut req = Request { nr_pages, order, mt, level, may_grow: true, align };
        let exhausted = AllocError::Exhausted { node, order: order.get() };
        let home = self.node(node).ok_or(exhausted)?;
        let (mut nr_insecure, mut nr_own, mut nr_others) = (0, 0, 0);
        loop {
            let seen = home.grown();
            let found = home.lock().alloc(&self.env(home), &req);
            match found.map(|run| self.secure(home, node, run)) {
                Ok(Some(run)) => return Ok(run),
                // What had no memory is not found again.
                Ok(None) if nr_insecure < SECURE_TRIES => nr_insecure += 1,
                Ok(None) | Err(Shortage::Exhausted) => return Err(exhausted),
                Err(Shortage::Grow { huge }) => {
                    req.may_grow = match self.grow(node, huge, &req, seen) {
                        Growth::Refused => false,
                        Growth::Own => {
                            nr_own += 1;
                            nr_own < GROWTH_TRIES
                        }
                        Growth::Others => {
                            nr_others += 1;
                            nr_others < PATIENT_TRIES
                        }
                    };
                }
            }
        }
    }

    /// Takes up to `out.len()` blocks of `order` from `node` with the zone locked once; fills
    /// `out` from the front and returns how many there are: zero when the node is exhausted.
    pub fn alloc_bulk(
        &self,
        node: NodeId,
        order: Order,
        mt: Migratetype,
        level: WatermarkLevel,
        out: &mut [Option<PageRun>],
    ) -> usize {
        let Some(home) = self.node(node) else { return 0 };
        let may_grow = true;
        let nr_pages = order.nr_pages();
        let req = Request { nr_pages, order, mt, level, may_grow, align: order };
        let mut taken = 0;
        let mut zone = home.lock();
        // Short of growing: what is there now is better than waiting for more.
        for slot in out.iter_mut() {
            let Ok(run) = zone.alloc(&self.env(home), &req) else { break };
            *slot = Some(run);
            taken += 1;
        }
        drop(zone);
        taken = self.secure_bulk((home, node), out, taken);
        if let (0, Some(first)) = (taken, out.first_mut()) {
            *first = self.alloc_run(node, order.nr_pages(), order, mt, level).ok();
            return usize::from(first.is_some());
        }
        taken
    }

    /// Takes a run back, to the zone its memory belongs to. The page words of the run are zero.
    pub fn free_run(&self, run: PageRun) {
        self.free_each(core::iter::once(run));
    }

    /// Takes runs back, locking a zone once for each stretch of runs of the same node.
    pub fn free_bulk(&self, mut runs: impl Iterator<Item = PageRun>) {
        self.free_all(&mut runs);
    }

    /// One function for all who free runs in bulk: the zone's part of it is long.
    #[inline(never)]
    fn free_all(&self, runs: &mut dyn Iterator<Item = PageRun>) {
        self.free_each(runs);
    }

    #[inline(always)]
    fn free_each(&self, runs: impl Iterator<Item = PageRun>) {
        let mut runs = runs.peekable();
        while let Some(first) = runs.peek() {
            let home = self.home(first.head());
            let env = self.env(home);
            let mut zone = home.lock();
            while let Some(run) = runs.next_if(|run| ptr::eq(self.home(run.head()), home)) {
                let nr_pages = run.nr_pages();
                zone.free(&env, run.into_head(), nr_pages);
            }
        }
    }

    /// Takes the free pages behind the live run of `have` pages at `head`, so that it has `want`;
    /// false, and nothing changed, when they are not free or not to be had. Owner of the run only.
    pub(crate) fn extend_run(&self, head: Pfn, have: usize, want: usize) -> bool {
        let home = self.home(head);
        if !home.lock().extend(&self.env(home), head, have, want) {
            return false;
        }
        let more = PageRun::new(head.add(have), want - have, false);
        self.secure(home, self.node_of(head), more).map(PageRun::into_head).is_some()
    }

    /// Makes the token of a run again from metadata that stood for it.
    ///
    /// # Safety
    /// The caller owns exactly these pages, and no other token for them exists or will be made.
    pub unsafe fn run_from_head(&self, head: Pfn, nr_pages: usize) -> PageRun {
        PageRun::new(head, nr_pages, false)
    }
}
