//! The heap of a thread: bins in front, slabs and caches behind the owner gate.
//!
//! ```text
//!   HeapHot            Inner (inside the gate)                         shared
//!   bins[class] <----> classes[class]: partial slabs                    inbox <-- other threads
//!   (owner, no gate)   pcp: page runs      outbox: unsent messages      gate  <-- visitors
//! ```
//!
//! The owner works on the bins without any synchronisation. All else is reached through
//! [`Heap::try_enter`] by the owner or [`Heap::begin_visit`] by anybody else; both lead to the only
//! reference to [`Inner`]. A heap outlives its thread: it goes to the registry's pool with all it
//! holds and the next thread on that node takes it over whole.

mod entered;
mod id;
mod inner;
mod policy;
mod taken;
mod visited;

use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;
use zonal_numa::{MemPolicy, NodeId, PAGE_SIZE};

use crate::hot::HeapHot;
use crate::class::SizeClass;
use crate::gate::{Barrier, Gate};
use crate::group::{Group, Sharing};
use crate::large_cache::LargeCache;
use crate::misuse::BadPointer;
use crate::mm::Mm;
use crate::policy::turns::Turns;
use crate::profile::Countdown;
use crate::remote::Inbox;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use crate::word::PageWord;

pub(crate) use entered::Entered;
pub use entered::Patience;
pub use id::HeapId;
pub(crate) use inner::{ClassState, Inner};

/// A thread's heap.
#[repr(C)]
pub struct Heap {
    hot: UnsafeCell<HeapHot>,
    /// What the owner has instead of `hot` when all its hits shall miss.
    detour: UnsafeCell<HeapHot>,
    id: HeapId,
    node: NodeId,
    /// The owner's memory policy, as last read.
    policy: Cell<MemPolicy>,
    /// What the owner asked for by itself.
    asked: Cell<Option<MemPolicy>>,
    /// Whose turn it is under such a policy; null before one with turns.
    turns: Cell<*const Turns>,
    /// All its memory is of its node, and it serves those who ask for that.
    is_pinned: Cell<bool>,
    /// With whom it shares objects: [`crate::group`].
    sharing: Cell<Sharing>,
    /// It belongs to a handle, not to a thread: that survives a fork.
    is_held: Cell<bool>,
    /// Slow paths in a row that found the owner on another node.
    strays: Cell<u8>,
    barrier: Barrier,
    /// See [`Heap::keeps_large`].
    keeps_large: bool,
    mm: &'static Mm,
    /// The owner's way to the next sample of the heap profile.
    countdown: Countdown,
    /// The signals that the owner's thread blocks as a rule: the caller's word.
    signals: Cell<u64>,
    /// Where the owner's stack stood as its slow path began: the caller's word.
    slow_place: Cell<usize>,
    /// The owner's way to the next fenced object, in misses.
    misses: Countdown,
    /// The first misuse that the owner found where it could not be returned.
    noted: Cell<Option<BadPointer>>,
    /// Next heap in the registry's pool, while it is there.
    pub(crate) next_dead: Cell<*mut Heap>,
    /// In the pool: its holder, not a visitor, takes care of it.
    pub(crate) dead: AtomicBool,
    /// Left torn by a thread that vanished in a fork: never used again.
    torn: AtomicBool,
    /// It may hold objects of others that it can hand out: a hint.
    pub(crate) reuses: AtomicBool,
    /// Slow paths of the owner so far, as the keeper compares it.
    epoch: AtomicU32,
    /// `epoch` when the keeper last looked, and when the heap was last drained.
    pub(crate) seen: AtomicU32,
    /// The generation in which the keeper first saw that value.
    pub(crate) seen_at: AtomicU32,
    pub(crate) drained: AtomicU32,
    /// `epoch` when the keeper last closed the bins, and the generation of that.
    pub(crate) closed: AtomicU32,
    pub(crate) closed_at: AtomicU32,
    /// When the last visitor left whom the owner waited for, in nanoseconds.
    left_at: AtomicU64,
    gate: CachePadded<Gate>,
    pub(crate) inbox: CachePadded<Inbox>,
    inner: UnsafeCell<Inner>,
}

// A thread that keeps no large runs touches three pages of it.
const _: () = assert!(
    cfg!(zonal_loom)
        || offset_of!(Heap, inner) + offset_of!(Inner, large) + LargeCache::WRITTEN
            <= 3 * PAGE_SIZE
);

// SAFETY: `hot`, `detour`, `policy`, `strays`, `asked`, `turns`, `countdown`, `misses`, `noted`,
// `signals` and `slow_place` are the owner's, `inner` belongs to whoever is inside the gate, `next_dead` to
// the holder of the registry lock; the rest is atomic or immutable.
unsafe impl Sync for Heap {}
// SAFETY: a heap is bound to its owner by the registry, not to an OS thread.
unsafe impl Send for Heap {}

impl core::fmt::Debug for Heap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Heap").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Heap {
    /// Makes a heap in `place`, which has no number yet.
    ///
    /// # Safety
    /// `place` is valid for a `Heap`. Nobody uses it before [`Heap::set_id`].
    pub(crate) unsafe fn init(
        place: NonNull<Heap>,
        mm: &'static Mm,
        node: NodeId,
        barrier: Barrier,
    ) {
        let heap = place.as_ptr();
        // Field by field, since threads with the least stack that POSIX allows have no room for a
        // whole one.
        // SAFETY: each write goes to a field of `*place`, which the caller gives.
        unsafe {
            (&raw mut (*heap).hot).write(UnsafeCell::new(HeapHot::EMPTY));
            (&raw mut (*heap).detour).write(UnsafeCell::new(HeapHot::DETOUR));
            (&raw mut (*heap).id).write(HeapId::FIRST);
            (&raw mut (*heap).node).write(node);
            (&raw mut (*heap).policy).write(Cell::new(MemPolicy::LOCAL));
            (&raw mut (*heap).asked).write(Cell::new(None));
            (&raw mut (*heap).turns).write(Cell::new(ptr::null()));
            (&raw mut (*heap).is_pinned).write(Cell::new(false));
            (&raw mut (*heap).sharing).write(Cell::new(Sharing::NEW));
            (&raw mut (*heap).is_held).write(Cell::new(false));
            (&raw mut (*heap).strays).write(Cell::new(0));
            (&raw mut (*heap).barrier).write(barrier);
            // The heaps of models belong to no instance that could tell.
            let keeps_large = !cfg!(zonal_loom) && mm.is_one_node() && !mm.is_checked();
            (&raw mut (*heap).keeps_large).write(keeps_large);
            (&raw mut (*heap).mm).write(mm);
            (&raw mut (*heap).countdown).write(Countdown::new());
            (&raw mut (*heap).signals).write(Cell::new(0));
            (&raw mut (*heap).slow_place).write(Cell::new(0));
            (&raw mut (*heap).misses).write(Countdown::new());
            (&raw mut (*heap).noted).write(Cell::new(None));
            (&raw mut (*heap).next_dead).write(Cell::new(ptr::null_mut()));
            (&raw mut (*heap).dead).write(AtomicBool::new(false));
            (&raw mut (*heap).torn).write(AtomicBool::new(false));
            (&raw mut (*heap).reuses).write(AtomicBool::new(false));
            (&raw mut (*heap).epoch).write(AtomicU32::new(0));
            (&raw mut (*heap).seen).write(AtomicU32::new(0));
            (&raw mut (*heap).seen_at).write(AtomicU32::new(0));
            (&raw mut (*heap).drained).write(AtomicU32::new(0));
            (&raw mut (*heap).closed).write(AtomicU32::new(0));
            (&raw mut (*heap).closed_at).write(AtomicU32::new(0));
            (&raw mut (*heap).left_at).write(AtomicU64::new(0));
            (&raw mut (*heap).gate).write(CachePadded::new(Gate::new()));
            (&raw mut (*heap).inbox).write(CachePadded::new(Inbox::new()));
            Inner::init(UnsafeCell::raw_get(&raw const (*heap).inner), mm);
        }
        // SAFETY: written above. A field that was forgotten there is missing here, too.
        let Heap {
            hot: _,
            detour: _,
            id: _,
            node: _,
            policy: _,
            asked: _,
            turns: _,
            is_pinned: _,
            sharing: _,
            is_held: _,
            strays: _,
            barrier: _,
            keeps_large: _,
            mm: _,
            countdown: _,
            signals: _,
            slow_place: _,
            misses: _,
            noted: _,
            next_dead: _,
            dead: _,
            torn: _,
            reuses: _,
            epoch: _,
            seen: _,
            seen_at: _,
            drained: _,
            closed: _,
            closed_at: _,
            left_at: _,
            gate: _,
            inbox: _,
            inner: _,
        } = unsafe { &*heap };
    }

    /// Gives it its number.
    ///
    /// # Safety
    /// `heap` was made by [`Heap::init`], nobody else knows of it, and no other has this number.
    pub(crate) unsafe fn set_id(heap: NonNull<Heap>, id: HeapId) {
        let heap = heap.as_ptr();
        // SAFETY: the caller is alone with it.
        unsafe {
            (&raw mut (*heap).id).write(id);
            HeapHot::take_groups((*heap).hot.get(), |class| (*heap).group(class));
        }
    }

    /// Which bins take its objects of `class`, and whose objects its own bin takes.
    fn group(&self, class: SizeClass) -> Group {
        Group::of(self.sharing.get(), self.id, self.node, class)
    }

    /// Whether bins of all threads take its objects of `class`, and its own bin theirs.
    pub(crate) fn shares_with_threads(&self, class: SizeClass) -> bool {
        self.group(class) == Group::SHARED
    }

    /// What stands on each page of its slabs of `class`.
    pub(crate) fn slab_word(&self, class: SizeClass) -> PageWord {
        PageWord::slab(self.id, self.group(class), class)
    }

    /// It shares its objects with these: for whoever made it, before it has a number.
    pub(crate) fn share(&self, sharing: Sharing) {
        self.sharing.set(sharing);
    }

    /// Its number.
    pub fn id(&self) -> HeapId {
        self.id
    }

    /// The node its memory comes from.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The instance it belongs to.
    #[inline]
    pub fn mm(&self) -> &'static Mm {
        self.mm
    }

    /// Whether [`Heap::take_large_at_once`] and the like may be tried: where all blocks are checked, or each request
    /// is placed among nodes, they may not.
    #[inline(always)]
    pub fn keeps_large(&self) -> bool {
        self.keeps_large
    }

    /// The owner's way to the next sample of the heap profile. The owner's alone.
    #[inline(always)]
    pub fn countdown(&self) -> &Countdown {
        &self.countdown
    }

    /// The signals that the owner's thread blocks as a rule, as it said: the heap only keeps the word,
    /// which the caller has no room for. The owner's alone.
    pub fn signals(&self) -> u64 {
        self.signals.get()
    }

    /// Says so. The owner's alone.
    pub fn set_signals(&self, mask: u64) {
        self.signals.set(mask);
    }

    /// The same to the next fenced object, in misses.
    #[inline(always)]
    pub(crate) fn misses(&self) -> &Countdown {
        &self.misses
    }

    pub(crate) fn is_held(&self) -> bool {
        self.is_held.get()
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.is_held.set(held);
    }

    /// Whether it waits in the pool for a thread.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// Whether its thread vanished inside it.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn.load(Relaxed)
    }

    /// For the holder of the registry lock.
    pub(crate) fn set_torn(&self, torn: bool) {
        // Relaxed: others only pass it over.
        self.torn.store(torn, Relaxed);
    }

    /// Counts the owner's slow paths.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// Whether nothing happened since it was drained: neither its owner did anything, nor has
    /// anybody sent objects back.
    pub(crate) fn is_drained(&self) -> bool {
        // Relaxed: what is missed now is seen next time.
        self.epoch() == self.drained.load(Relaxed) && self.inbox.is_empty()
    }

    /// Objects in the bin of `class`. Owner only; others get an estimate.
    pub(crate) fn bin_len(&self, class: SizeClass, state: &ClassState) -> usize {
        if state.array.is_null() {
            return 0;
        }
        // SAFETY: `top` points into the array, above slot 0. A stale read by another thread still
        // points into some array of this bin; the caller only counts.
        let top = unsafe { (&raw const (*self.hot()).bins[class.index()].top).read() };
        (top.addr().saturating_sub(state.array.addr()) / size_of::<*mut u8>()).saturating_sub(1)
    }
}
