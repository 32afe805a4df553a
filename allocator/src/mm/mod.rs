//! The instance: one `Mm` owns all nodes, heaps and mappings of a process's allocator.

mod alloc;
mod attach;
mod fork;
mod interrupted;
mod size;

use core::mem::MaybeUninit;
use core::ptr;

use crossbeam_utils::CachePadded;
use zonal_numa::{Errno, MAX_NODES, Machine, MemPolicy, NodeId, PAGE_SIZE};

use crate::deferred::Deferred;
use crate::doorbell::Doorbell;
use crate::figures::vmstat::Vmstat;
use crate::gate::Barrier;
use crate::heap::{Heap, HeapId};
use crate::huge::Huge;
use crate::meta::{self, Meta};
use crate::misuse::checked;
use crate::misuse::fence::Fence;
use crate::misuse::guard::Guards;
use crate::pages::{PageConfig, Pages};
use crate::policy::NodeReclaimMode;
use crate::policy::Placing;
use crate::registry::Registry;
use crate::remote::barn::Barn;
use crate::remote::flight::Flight;
use crate::thp::Density;

pub use alloc::{Attempt, Block, MAX_ALIGN, Request};

/// What an instance is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// The page layer's part.
    pub pages: PageConfig,
    /// Which nodes serve requests; none leaves that to each thread's policy in the kernel. Nodes
    /// that may not be used are ignored.
    pub policy: Option<MemPolicy>,
    /// Weights of the nodes for weighted interleaving; all zeros for those of the kernel.
    pub weights: Weights,
    /// Leave out every system call that is not needed to succeed (membarrier here).
    pub minimal_syscalls: bool,
    /// Begin each batch of objects from a slab with a random one of them.
    pub shuffle: bool,
    /// One miss of a small object in so many is served by an object that is checked, and the first
    /// misses of each class are; 0 for none.
    pub fence: u64,
    /// Look whether a large block was written past its end when it is freed or resized.
    pub slack: bool,
    /// Check every block when it is freed, and free memory when it is used again. The caller must
    /// not use the hit paths then.
    pub checked: bool,
}

/// A weight for each node; all zeros for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights(pub [u8; MAX_NODES]);

impl Default for Weights {
    fn default() -> Weights {
        Weights([0; MAX_NODES])
    }
}

/// Everything: the page allocator of all nodes, heaps, huge blocks, metadata.
#[derive(Debug)]
pub struct Mm {
    pages: Pages,
    meta: Meta,
    huge: Huge,
    deferred: Deferred,
    doorbell: Doorbell,
    flight: CachePadded<Flight>,
    barn: Barn,
    pub(crate) registry: Registry,
    vmstat: Vmstat,
    barrier: Barrier,
    one_node: bool,
    shuffle: bool,
    slack: bool,
    checked: bool,
    /// See [`crate::misuse::checked`].
    key: u64,
    guards: Guards,
    fence: Fence,
    placing: Placing,
}

impl Mm {
    /// Makes an instance on `machine`, in memory of its own, for ever.
    ///
    /// # Errors
    /// What the system answered when it gave no memory.
    pub fn new(machine: Machine, config: Config) -> Result<&'static Mm, Errno> {
        if !config.minimal_syscalls {
            machine.probe_batching();
            // For later: the answer does not matter, but a filter may kill whoever asks first.
            machine.can_place();
        }
        let asymmetric = !config.minimal_syscalls && machine.register_membarrier();
        let barrier = if asymmetric { Barrier::Asymmetric } else { Barrier::Symmetric };
        let one_node = machine.topology().nodes_online().count() <= 1;
        let key = checked::make_key(machine.random());
        // One mapping, so that a small process shares its last page with the first records.
        let span = machine.map(size_of::<Mm>() + meta::FIRST_PART, PAGE_SIZE)?;
        let (own, rest) = span.split_at(size_of::<Mm>());
        let place = ptr::with_exposed_provenance_mut::<MaybeUninit<Mm>>(own.addr()).cast::<Mm>();
        // SAFETY: a fresh mapping, large enough and page-aligned; every field is written before
        // the reference is made, but for the barn, which begins with zeros.
        unsafe {
            Pages::init(&raw mut (*place).pages, machine, &config.pages)?;
            if config.checked {
                // The zeros in what is freed are zonal's own.
                let density = CachePadded::new(Density::new(false));
                (&raw mut (*place).pages.density).write(density);
            }
            (&raw mut (*place).meta).write(Meta::new(rest));
            (&raw mut (*place).huge).write(Huge::new());
            (&raw mut (*place).deferred).write(Deferred::new());
            (&raw mut (*place).doorbell).write(Doorbell::new());
            (&raw mut (*place).flight).write(CachePadded::new(Flight::new()));
            (&raw mut (*place).registry).write(Registry::new());
            (&raw mut (*place).vmstat).write(Vmstat::new());
            (&raw mut (*place).barrier).write(barrier);
            (&raw mut (*place).one_node).write(one_node);
            (&raw mut (*place).placing).write({
                let Config { policy, weights, .. } = config;
                Placing::new(policy, weights.0, &(*place).pages)
            });
            (&raw mut (*place).shuffle).write(config.shuffle);
            (&raw mut (*place).slack).write(config.slack && !config.checked);
            (&raw mut (*place).checked).write(config.checked);
            (&raw mut (*place).key).write(key);
            (&raw mut (*place).guards).write(Guards::new());
            let period = if config.checked { 0 } else { config.fence };
            (&raw mut (*place).fence).write(Fence::new(period, key));
            Ok(&*place)
        }
    }

    /// The page allocator.
    #[inline]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The machine below.
    #[inline]
    pub fn machine(&self) -> &Machine {
        &self.pages.machine
    }

    #[inline]
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn huge(&self) -> &Huge {
        &self.huge
    }

    pub(crate) fn placing(&self) -> &Placing {
        &self.placing
    }

    /// The bell that calls kswapd.
    #[inline]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    pub(crate) fn barn(&self) -> &Barn {
        &self.barn
    }

    pub(crate) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// What reclaim did and cost.
    pub fn vmstat(&self) -> &Vmstat {
        &self.vmstat
    }

    pub(crate) fn is_one_node(&self) -> bool {
        self.one_node
    }

    pub(crate) fn is_shuffling(&self) -> bool {
        self.shuffle
    }

    /// Whether the slack of large blocks is filled and looked at.
    #[inline]
    pub(crate) fn has_slack(&self) -> bool {
        self.slack
    }

    /// Whether blocks are checked.
    #[inline]
    pub(crate) fn is_checked(&self) -> bool {
        self.checked
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.guards
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// What is reclaimed on a node before others are asked; off on machines with one node.
    pub fn node_reclaim_mode(&self) -> NodeReclaimMode {
        if self.one_node { NodeReclaimMode::default() } else { self.pages.node_reclaim }
    }

    /// Pages in freed mappings of the node that are kept for reuse.
    pub fn huge_cached_pages(&self, node: NodeId) -> usize {
        let mut bytes = 0;
        self.huge.for_each(|span, home, is_live| {
            if home == node && !is_live {
                bytes += span.len();
            }
        });
        bytes / PAGE_SIZE
    }

    /// How the owner gates order their stores and loads.
    pub fn barrier(&self) -> Barrier {
        self.barrier
    }

    /// The heap with that number.
    #[inline]
    pub(crate) fn heap(&self, id: HeapId) -> Option<&'static Heap> {
        self.registry.get(id)
    }
}
