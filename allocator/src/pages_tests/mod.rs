//! The page layer on a fake machine: each behaviour by itself. Random sequences against an oracle
//! are in `pages_proptest.rs`.

mod collapse;
mod fallback;
mod grow;
mod limits;
mod purge;
mod runs;
mod thp;

use zonal_numa::fake::{FakeBuilder, FakeMachine};
use zonal_numa::{Machine, NodeId, PAGE_SIZE};

use crate::error::AllocError;
use crate::order::Order;
use crate::pages::{PageConfig, Pages};
use crate::run::PageRun;
use crate::thp::Thp;
use crate::watermark::WatermarkLevel;
use crate::word::Migratetype;

pub(crate) const N0: NodeId = NodeId::ZERO;

/// A page layer of its own on a machine of its own; lives as long as the test process.
pub(crate) struct Rig {
    pub(crate) fake: &'static FakeMachine,
    pub(crate) pages: &'static Pages,
}

impl Rig {
    pub(crate) fn new(builder: FakeBuilder, config: &PageConfig) -> Rig {
        let fake = builder.build();
        let machine = Machine::fake(fake);
        let layout = std::alloc::Layout::new::<Pages>();
        // SAFETY: the layout has a size; zeroed memory of the right size and alignment is what
        // `init` asks for.
        let pages = unsafe {
            let at = std::alloc::alloc_zeroed(layout).cast::<Pages>();
            Pages::init(at, machine, config).unwrap();
            &*at
        };
        Rig { fake, pages }
    }

    pub(crate) fn plain() -> Rig {
        Rig::new(FakeBuilder::new(), &PageConfig { thp: Thp::Never, ..PageConfig::default() })
    }

    fn limited(limit: usize) -> Rig {
        let config = PageConfig { limit, thp: Thp::Never, ..PageConfig::default() };
        Rig::new(FakeBuilder::new(), &config)
    }

    pub(crate) fn alloc(&self, nr_pages: usize) -> Result<PageRun, AllocError> {
        self.alloc_as(nr_pages, Migratetype::Slab)
    }

    /// Gives all but the first `nr_pages` pages of the run back.
    pub(crate) fn shrink(&self, run: &mut PageRun, nr_pages: usize) {
        if nr_pages < run.nr_pages() {
            self.pages.free_run(run.split_tail(nr_pages));
        }
    }

    fn alloc_as(&self, nr_pages: usize, mt: Migratetype) -> Result<PageRun, AllocError> {
        self.pages.alloc_run(N0, nr_pages, Order::ZERO, mt, WatermarkLevel::Min)
    }

    fn zone(&self) -> zonal_stats::Zone {
        self.pages.zone_stats(N0).unwrap().zone
    }

    fn events(&self) -> zonal_stats::ZoneEvents {
        self.pages.zone_stats(N0).unwrap().events
    }

    fn touch(&self, run: &PageRun, byte: u8) {
        let addr = self.pages.map.addr_of(run.head());
        // SAFETY: the run is ours and committed.
        unsafe { addr.write_bytes(byte, run.nr_pages() * PAGE_SIZE) };
    }

    fn is_zero(&self, run: &PageRun) -> bool {
        let addr = self.pages.map.addr_of(run.head());
        // SAFETY: the run is ours and committed; anonymous memory is always initialised.
        let bytes = unsafe { std::slice::from_raw_parts(addr, run.nr_pages() * PAGE_SIZE) };
        bytes.iter().all(|&byte| byte == 0)
    }

    pub(crate) fn check(&self) {
        self.pages.validate().unwrap();
    }
}

fn exhausted<T: std::fmt::Debug + PartialEq>(result: Result<T, AllocError>) -> bool {
    matches!(result, Err(AllocError::Exhausted { .. }))
}
