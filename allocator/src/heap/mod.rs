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
mod kept;
mod own;
mod owner;
mod policy;
mod pooled;
mod taken;
mod visited;
mod watch;

use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;
use zonal_numa::{NodeId, PAGE_SIZE};

use crate::class::SizeClass;
use crate::gate::{Barrier, Gate};
use crate::hot::HeapHot;
use crate::large::cache::Runs;
use crate::mark;
use crate::mm::Mm;
use crate::remote::Inbox;
use crate::remote::group::{Group, Sharing};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::word::PageWord;

pub(crate) use entered::Entered;
pub use entered::Patience;
pub use id::HeapId;
pub(crate) use inner::Inner;
pub use own::OwnHeap;

use owner::OwnerState;
use pooled::PoolState;
use watch::Watch;

/// What a heap is made for, and stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeapKind {
    /// Where its memory comes from.
    pub(crate) node: NodeId,
    /// How its gate keeps owner and visitors apart.
    pub(crate) barrier: Barrier,
    /// All its memory is of its node, and it serves those who ask for that.
    pub(crate) is_pinned: bool,
    /// With whom it shares objects: [`crate::remote::group`].
    pub(crate) sharing: Sharing,
}

/// A thread's heap.
#[repr(C)]
pub struct Heap {
    hot: UnsafeCell<HeapHot>,
    id: HeapId,
    kind: HeapKind,
    /// See [`Heap::has_large_hits`].
    has_large_hits: bool,
    mm: &'static Mm,
    owner: OwnerState,
    pub(crate) pool: PoolState,
    /// It may hold objects of others that it can hand out: a hint.
    pub(crate) reuses: AtomicBool,
    pub(crate) watch: Watch,
    /// When the last visitor left whom the owner waited for, in nanoseconds.
    left_at: AtomicU64,
    gate: CachePadded<Gate>,
    pub(crate) inbox: CachePadded<Inbox>,
    inner: UnsafeCell<Inner>,
    /// Large runs, whose end is not touched by most.
    kept: UnsafeCell<Runs>,
    /// What the owner has instead of `hot` when all its hits shall miss. Last, since most never have it: written when
    /// it is asked for, see [`Heap::detour`].
    detour: UnsafeCell<MaybeUninit<HeapHot>>,
}

// A thread that keeps no large runs, and is not watched, touches two pages of it.
const _: () = assert!(cfg!(zonal_loom) || offset_of!(Heap, kept) + Runs::WRITTEN <= 2 * PAGE_SIZE);

// What others write of it, or look at all the time, begins a line: owners write what lies before at each slow path.
const _: () = assert!(cfg!(zonal_loom) || offset_of!(Heap, pool).is_multiple_of(64));

// SAFETY: `hot` and `detour` are shared by the rules of `HeapHot`, the words of the owner, the pool and kswapd by
// theirs; `inner` belongs to whoever is inside the gate, and `kept` to a hit that finds that unclaimed, see `kept.rs`; `id`,
// `kind`, `has_large_hits` and `mm` are written before others know of the heap; the rest is atomic.
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
    pub(crate) unsafe fn init(place: NonNull<Heap>, mm: &'static Mm, kind: HeapKind) {
        let heap = place.as_ptr();
        // Field by field, since threads with the least stack that POSIX allows have no room for a
        // whole one.
        // SAFETY: each write goes to a field of `*place`, which the caller gives.
        unsafe {
            HeapHot::init(UnsafeCell::raw_get(&raw const (*heap).hot));
            (&raw mut (*heap).id).write(HeapId::FIRST);
            (&raw mut (*heap).kind).write(kind);
            let can_close = mark::CAN_CLOSE && kind.barrier == Barrier::Asymmetric;
            // The heaps of models belong to no instance that could tell.
            let has_large_hits =
                !cfg!(zonal_loom) && can_close && !kind.is_pinned && Self::is_kept_in(mm);
            (&raw mut (*heap).has_large_hits).write(has_large_hits);
            (&raw mut (*heap).mm).write(mm);
            (&raw mut (*heap).owner).write(OwnerState::new());
            (&raw mut (*heap).pool).write(PoolState::new());
            (&raw mut (*heap).reuses).write(AtomicBool::new(false));
            (&raw mut (*heap).watch).write(Watch::new());
            (&raw mut (*heap).left_at).write(AtomicU64::new(0));
            (&raw mut (*heap).gate).write(CachePadded::new(Gate::new()));
            (&raw mut (*heap).inbox).write(CachePadded::new(Inbox::new()));
            Inner::init(UnsafeCell::raw_get(&raw const (*heap).inner), mm);
            Runs::init(UnsafeCell::raw_get(&raw const (*heap).kept));
        }
        // SAFETY: written above. A field that was forgotten there is missing here, too.
        let Heap {
            hot: _,
            id: _,
            kind: _,
            has_large_hits: _,
            mm: _,
            owner: _,
            pool: _,
            reuses: _,
            watch: _,
            left_at: _,
            gate: _,
            inbox: _,
            inner: _,
            kept: _,
            detour: _,
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
            HeapHot::take_groups((*heap).hot.get(), |class| (*heap).first_group(class));
        }
    }

    /// Which bins take its objects of `class`, and whose objects its own bin takes.
    fn group(&self, class: SizeClass) -> Group {
        Group::of(self.kind.sharing, self.id, self.kind.node, class)
    }

    /// [`Heap::group`] for the loop over all classes, which the compiler would write out: 1.8 KB of code.
    #[inline(never)]
    fn first_group(&self, class: SizeClass) -> Group {
        self.group(class)
    }

    /// Whether bins of all threads take its objects of `class`, and its own bin theirs.
    pub(crate) fn shares_with_threads(&self, class: SizeClass) -> bool {
        self.group(class) == Group::SHARED
    }

    /// What stands on each page of its slabs of `class`.
    pub(crate) fn slab_word(&self, class: SizeClass) -> PageWord {
        PageWord::slab(self.id, self.group(class), class)
    }

    /// Its number.
    pub fn id(&self) -> HeapId {
        self.id
    }

    /// The node its memory comes from.
    pub fn node(&self) -> NodeId {
        self.kind.node
    }

    /// The instance it belongs to.
    #[inline]
    pub fn mm(&self) -> &'static Mm {
        self.mm
    }

    /// Whether [`Heap::take_large`] and the like may be tried: where all blocks are checked, or each request
    /// is placed among nodes, they may not.
    #[inline(always)]
    pub fn keeps_large(&self) -> bool {
        Self::is_kept_in(self.mm)
    }

    #[inline(always)]
    fn is_kept_in(mm: &Mm) -> bool {
        mm.is_one_node() && !mm.is_checked()
    }

    /// Whether [`Heap::take_large_at_once`] and the like may: where bins cannot be closed, or the heap is no thread's,
    /// they may not, either.
    #[inline(always)]
    pub fn has_large_hits(&self) -> bool {
        self.has_large_hits
    }
}
