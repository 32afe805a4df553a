//! The instance: one `Mm` owns all nodes, heaps and mappings of a process's allocator.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use zonal_numa::{Errno, MAX_NODES, Machine, MemPolicy, NodeId, NodeMask, PAGE_SIZE};

use crate::bin::HeapHot;
use crate::checked;
use crate::class::SizeClass;
use crate::deferred::Deferred;
use crate::doorbell::Doorbell;
use crate::error::AllocError;
use crate::gate::Barrier;
use crate::grow::HugePolicy;
use crate::guard::Guards;
use crate::heap::{Heap, HeapId};
use crate::huge::{self, Huge};
use crate::large::MAX_LARGE;
use crate::meta::{self, Meta};
use crate::misuse::{BadKind, BadPointer};
use crate::order::PAGEBLOCK_PAGES;
use crate::pages::{PageConfig, Pages};
use crate::pfn::Pfn;
use crate::policy::Placing;
use crate::registry::{Registry, Remains};
use crate::room::NodeReclaimMode;
use crate::slab::Slab;
use crate::vmstat::Vmstat;
use crate::watermark::WatermarkLevel;
use crate::word::Kind;

/// The largest alignment offered, in bytes.
pub const MAX_ALIGN: usize = 1 << 30;

/// Heaps of ended threads that wait whole for the next ones; where more threads end than begin, what
/// the others held is for those that still run.
const WHOLE_HEAPS: usize = 2;

const PAGEBLOCK_BYTES: usize = PAGEBLOCK_PAGES * PAGE_SIZE;

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

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Bytes; 0 counts as 1.
    pub size: usize,
    /// A power of two, at most [`MAX_ALIGN`].
    pub align: usize,
    /// The caller wants zeros, and so may leave much of it untouched: a hint.
    pub zeroed: bool,
}

/// Where and how hard one attempt looks for pages.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The node whose zones are asked.
    pub node: NodeId,
    /// How deep it may dip into the reserve.
    pub level: WatermarkLevel,
}

/// Memory handed out.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The first byte.
    pub start: NonNull<u8>,
    /// Every byte is zero already.
    pub known_zero: bool,
}

/// Everything: the page allocator of all nodes, heaps, huge blocks, metadata.
#[derive(Debug)]
pub struct Mm {
    pages: Pages,
    meta: Meta,
    huge: Huge,
    deferred: Deferred,
    doorbell: Doorbell,
    pub(crate) registry: Registry,
    vmstat: Vmstat,
    barrier: Barrier,
    one_node: bool,
    shuffle: bool,
    checked: bool,
    /// See [`crate::checked`].
    key: u64,
    guards: Guards,
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
        // the reference is made.
        unsafe {
            Pages::init(&raw mut (*place).pages, machine, &config.pages)?;
            (&raw mut (*place).meta).write(Meta::new(rest));
            (&raw mut (*place).huge).write(Huge::new());
            (&raw mut (*place).deferred).write(Deferred::new());
            (&raw mut (*place).doorbell).write(Doorbell::new());
            (&raw mut (*place).registry).write(Registry::new());
            (&raw mut (*place).vmstat).write(Vmstat::new());
            (&raw mut (*place).barrier).write(barrier);
            (&raw mut (*place).one_node).write(one_node);
            (&raw mut (*place).placing).write({
                let Config { policy, weights, .. } = config;
                Placing::new(policy, weights.0, &(*place).pages)
            });
            (&raw mut (*place).shuffle).write(config.shuffle);
            (&raw mut (*place).checked).write(config.checked);
            (&raw mut (*place).key).write(key);
            (&raw mut (*place).guards).write(Guards::new());
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

    /// The bell that calls the background reclaimer.
    #[inline]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
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

    /// A heap for a thread that starts: one that a thread on this node left, or a new one.
    ///
    /// # Errors
    /// `Exhausted` when there is no memory for it.
    pub fn attach(&'static self) -> Result<NonNull<Heap>, AllocError> {
        self.attach_asking(None)
    }

    /// The same for a thread that asked for a policy before.
    fn attach_asking(&'static self, asked: Option<MemPolicy>) -> Result<NonNull<Heap>, AllocError> {
        self.pages.refresh_allowed();
        let policy = self.policy_now(asked);
        let node = self.home_for(policy, self.machine().current_node());
        let heap = self.heap_on(node, false)?;
        self.note_threads();
        // SAFETY: heaps are never unmapped, and this one is the caller's now.
        unsafe { heap.as_ref() }.take_over(policy, asked);
        Ok(heap)
    }

    /// A heap whose memory is all of `node`, for whoever holds it: not to be used by two threads at
    /// a time, and to be given back by [`Mm::detach`]. `held`: it stays with its holder in a child.
    ///
    /// # Errors
    /// `Exhausted` when there is no memory for it, or the node has none that may be used.
    pub fn attach_on(&'static self, node: NodeId, held: bool) -> Result<NonNull<Heap>, AllocError> {
        self.pages.refresh_allowed();
        let exhausted = AllocError::Exhausted { node, order: 0 };
        let policy = MemPolicy::bind(NodeMask::of(node));
        if !self.pages.allowed().contains(node) {
            return Err(exhausted);
        }
        let heap = self.heap_on(node, true)?;
        // SAFETY: heaps are never unmapped, and this one is the caller's now.
        let h = unsafe { heap.as_ref() };
        h.take_over(policy, Some(policy));
        h.set_held(held);
        self.bound_from_now_on(policy);
        Ok(heap)
    }

    fn heap_on(&'static self, node: NodeId, pinned: bool) -> Result<NonNull<Heap>, AllocError> {
        let fits = |heap: &Heap| heap.is_pinned() == pinned && heap.node() == node;
        if let Some(heap) = self.registry.take_dead(fits) {
            return Ok(heap);
        }
        let fresh = self.registry.publish(self.machine(), |id| {
            let place = self.meta.alloc(self.machine(), size_of::<Heap>())?.cast::<Heap>();
            // SAFETY: a fresh block of that size, aligned to its size; the number is new.
            unsafe {
                Heap::init(place, self, id, node, self.barrier);
                if pinned {
                    place.as_ref().pin();
                }
            }
            Some(place)
        });
        let any = || self.registry.take_dead(|heap| !pinned && !heap.is_pinned());
        fresh.or_else(any).ok_or(AllocError::Exhausted { node, order: 0 })
    }

    /// Takes the heap of a thread that ends.
    ///
    /// # Safety
    /// The calling thread owns `heap` and does not touch it afterwards.
    pub unsafe fn detach(&'static self, heap: NonNull<Heap>) {
        let is_one_too_many = self.registry.nr_whole() >= WHOLE_HEAPS;
        self.bury(heap, if is_one_too_many { Remains::Empty } else { Remains::Whole });
    }

    /// Takes a heap that the calling thread owned, as it is or emptied before.
    fn bury(&'static self, heap: NonNull<Heap>, remains: Remains) {
        // SAFETY: heaps are never unmapped.
        let h = unsafe { heap.as_ref() };
        h.set_held(false);
        if remains == Remains::Whole {
            let mut inner = h.enter();
            inner.collect(h);
            inner.post_all(h);
            drop(inner);
            self.registry.put_dead(heap, remains);
        } else {
            h.drain_owned();
            self.share(heap);
        }
        self.note_threads();
    }

    fn note_threads(&self) {
        // Read one after the other: another thread may come and go between.
        let nr_dead = self.registry.nr_dead();
        self.pages.set_threads(self.registry.nr_heaps().saturating_sub(nr_dead));
    }

    /// Whether the owner of `heap` is to [`Mm::exchange`] it: its thread has moved to another node,
    /// or its policy has.
    ///
    /// # Safety
    /// The calling thread owns `heap`.
    #[inline]
    pub unsafe fn is_astray(&self, heap: NonNull<Heap>) -> bool {
        // SAFETY: heaps are never unmapped.
        !self.one_node && unsafe { heap.as_ref() }.is_astray()
    }

    /// A heap of the node where the thread is now, for the thread's old one. That stays behind with
    /// all its slabs, which so remain at home, and goes to another thread of its node.
    ///
    /// # Safety
    /// The calling thread owns `old` and uses only the answer afterwards.
    #[cold]
    pub unsafe fn exchange(&'static self, old: NonNull<Heap>) -> NonNull<Heap> {
        // SAFETY: heaps are never unmapped.
        let asked = unsafe { old.as_ref() }.asked_policy();
        let Ok(new) = self.attach_asking(asked) else { return old };
        // SAFETY: both are the calling thread's own.
        unsafe {
            HeapHot::copy_frame(new.as_ref().hot(), old.as_ref().hot());
            self.note_migration(new.as_ref().node());
            if let Some(bad) = old.as_ref().take_fault() {
                new.as_ref().enter().fault.get_or_insert(bad);
            }
        }
        // Whole, for the next thread there.
        self.bury(old, Remains::Whole);
        new
    }

    /// Frees what signal handlers put aside. `heap` belongs to the calling thread.
    #[inline]
    pub(crate) fn run_deferred(&self, heap: &Heap) {
        if self.deferred.is_waiting() {
            self.deferred.take(|block| {
                if self.is_checked() {
                    self.unlink(block);
                }
                // SAFETY: the handler gave the block away; the caller owns `heap`.
                if let Err(bad) = unsafe { heap.free_now(block) } {
                    heap.enter().fault.get_or_insert(bad);
                }
            });
        }
    }

    /// Memory for a call that interrupted zonal on its own thread. Async-signal-safe.
    pub fn deferred_alloc(&self, size: usize, align: usize) -> Option<NonNull<u8>> {
        self.deferred.alloc(self.machine(), size, align)
    }

    /// Frees for a call that interrupted zonal on its own thread. Async-signal-safe.
    pub fn deferred_free(&self, block: NonNull<u8>) {
        if self.deferred.size_of(block.addr().get()).is_some() {
            self.deferred.free();
        } else {
            self.deferred.push(block);
        }
    }

    /// Whether it is a block of the signal arena.
    pub(crate) fn is_deferred(&self, addr: usize) -> bool {
        self.deferred.size_of(addr).is_some()
    }

    pub(crate) fn defer(&self, block: NonNull<u8>) {
        self.deferred.push(block);
    }

    /// What a page without a word means for a pointer into it.
    pub(crate) fn kind_of_nothing(&self, pfn: Pfn) -> BadKind {
        // A large run has a word on its head only: look back for it inside the largest block.
        let first = pfn.index().saturating_sub(MAX_LARGE / PAGE_SIZE);
        for i in (first..pfn.index()).rev() {
            let word = self.pages.map.word_at(Pfn::new(i as u32));
            if word.kind() == Kind::Large && i + word.payload() as usize > pfn.index() {
                return BadKind::Interior;
            }
            if !word.is_nothing() {
                break;
            }
        }
        BadKind::NotAllocated
    }

    /// Frees a block outside the window: a huge one, or one of the signal arena.
    pub(crate) fn free_outside(&self, addr: usize) -> Result<(), BadPointer> {
        if self.deferred.size_of(addr).is_some() {
            self.deferred.free();
            return Ok(());
        }
        self.doorbell.ring();
        self.huge.free(&self.pages, addr)
    }

    /// Bytes that the live block at `block` can hold.
    ///
    /// # Errors
    /// A [`BadPointer`] when no live block starts there.
    pub fn usable_size(&self, block: NonNull<u8>) -> Result<usize, BadPointer> {
        if self.is_checked() { self.checked_size(block) } else { self.capacity(block) }
    }

    /// Bytes of the live block at `block`, with what its checks take.
    pub(crate) fn capacity(&self, block: NonNull<u8>) -> Result<usize, BadPointer> {
        let addr = block.addr().get();
        let map = &self.pages.map;
        let Some(pfn) = map.pfn_of(addr) else {
            return match self.deferred.size_of(addr) {
                Some(size) => Ok(size),
                None => self.huge.size_of(addr),
            };
        };
        let word = map.word_at(pfn);
        match word.kind() {
            Kind::Slab => {
                let class = word.as_slab().and_then(|(_, offset)| SizeClass::from_offset(offset));
                let Some(class) = class else {
                    return Err(BadPointer::new(addr, self.kind_of_nothing(pfn)));
                };
                let start = map.addr_of(pfn.block(class.slab_order())).addr();
                match self.object_at(class, addr - start) {
                    Some(_) => Ok(class.size()),
                    None => Err(BadPointer::new(addr, BadKind::Interior)),
                }
            }
            Kind::Large if addr.is_multiple_of(PAGE_SIZE) => {
                Ok(word.payload() as usize * PAGE_SIZE)
            }
            Kind::Large => Err(BadPointer::new(addr, BadKind::Interior)),
            _ => Err(BadPointer::new(addr, BadKind::NotAllocated)),
        }
    }

    /// The same for a call that interrupted zonal on its own thread; none where that would take a
    /// lock which the thread may hold.
    pub fn usable_size_interrupted(&self, block: NonNull<u8>) -> Option<Result<usize, BadPointer>> {
        (self.is_sized_without_lock(block) || !self.huge.is_locked())
            .then(|| self.usable_size(block))
    }

    /// Whether [`Mm::usable_size`] of `block` takes no lock: all but huge blocks.
    pub fn is_sized_without_lock(&self, block: NonNull<u8>) -> bool {
        let addr = block.addr().get();
        self.pages.map.pfn_of(addr).is_some() || self.deferred.size_of(addr).is_some()
    }

    /// Where the header of the slab around a small object is; for validation.
    pub(crate) fn slab_at(&self, pfn: Pfn, class: SizeClass) -> NonNull<Slab> {
        Slab::of(&self.pages.map, pfn, class)
    }
}

impl Heap {
    /// Memory for `request`, from the bins, slabs and zones of one node.
    ///
    /// # Errors
    /// `Exhausted` changes nothing: after reclaim the same call can be made again.
    ///
    /// # Safety
    /// The calling thread owns this heap.
    pub unsafe fn alloc(&self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        let (size, align) = (request.size.max(1), request.align);
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(AllocError::BadAlign);
        }
        if size > isize::MAX as usize - align {
            return Err(AllocError::TooLarge);
        }
        self.mm().run_deferred(self);
        if self.mm().is_checked() {
            return self.alloc_checked(request, from);
        }
        self.alloc_plain(request, from)
    }

    /// [`Heap::alloc`] of a valid request, without any checks.
    pub(crate) fn alloc_plain(&self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        let (size, align) = (request.size.max(1), request.align);
        // Only objects of 8 bytes and less may be aligned to less than 16.
        let rounded = if align <= 8 { size } else { size.next_multiple_of(align) };
        if let Some(class) = SizeClass::of(rounded) {
            return self.alloc_class(class, size, from);
        }
        self.read_policy();
        let block = if size <= MAX_LARGE && align <= MAX_LARGE {
            self.mm().alloc_large(self, size, align, from)?
        } else {
            self.alloc_huge(request, from)?
        };
        self.mm().note_taken(self, from.node, size.div_ceil(PAGE_SIZE));
        Ok(block)
    }

    fn alloc_huge(&self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        let mm = self.mm();
        let Request { size, align, .. } = request;
        let policy = self.policy();
        let policy = HugePolicy { policy, weights: mm.weights_of(policy) };
        match mm.huge.alloc(&mm.pages, (from.node, policy), request, from.level) {
            Ok(block) => {
                let start = huge::pointer(block.span.addr()).ok_or(AllocError::TooLarge)?;
                Ok(Block { start, known_zero: block.known_zero })
            }
            // Rows of pageblocks are aligned to one.
            Err(_) if align <= PAGEBLOCK_BYTES => mm.alloc_row(size, from),
            Err(error) => Err(error),
        }
    }

    fn alloc_class(
        &self,
        class: SizeClass,
        size: usize,
        from: Attempt,
    ) -> Result<Block, AllocError> {
        loop {
            // SAFETY: `alloc`'s caller owns the heap.
            let object = unsafe { HeapHot::pop_class(self.hot(), class) };
            if let Some(start) = NonNull::new(object) {
                return Ok(Block { start, known_zero: false });
            }
            self.refill(class, size, from)?;
        }
    }
}
