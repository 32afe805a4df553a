//! The heap of a thread: bins in front, slabs and caches behind the owner gate.
//!
//! ```text
//!   HeapHot            Inner (inside the gate)                         shared
//!   bins[class] <----> classes[class]: partial slabs                    inbox <-- other threads
//!   (owner, no gate)   pcp: page runs      outbox: unsent messages      gate  <-- visitors
//! ```
//!
//! The owner works on the bins without any synchronisation. All else is reached through
//! [`Heap::enter`] by the owner or [`Heap::begin_visit`] by anybody else; both lead to the only
//! reference to [`Inner`]. A heap outlives its thread: it goes to the registry's pool with all it
//! holds and the next thread on that node takes it over whole.

use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;
use zonal_numa::{MemPolicy, NodeId};
use zonal_stats::HeapEvents;

use crate::bin::HeapHot;
use crate::checked::Quarantine;
use crate::class::{NR_CLASSES, SizeClass};
use crate::gate::{Barrier, Gate};
use crate::large_cache::LargeCache;
use crate::misuse::BadPointer;
use crate::mm::Mm;
use crate::outbox::Outbox;
use crate::pcp::Pcp;
use crate::policy::is_in_turn;
use crate::profile::Countdown;
use crate::remote::Inbox;
use crate::slab::SlabList;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::turns::Turns;

/// Bits of a page word below the heap's number.
pub(crate) const TAG_SHIFT: u32 = 10;
const _: () = assert!(crate::class::CLASS_LIMIT <= 1 << TAG_SHIFT);

/// Number of a heap, 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct HeapId(u16);

impl HeapId {
    /// None for 0, which means "no heap" in page words.
    pub fn new(id: u16) -> Option<HeapId> {
        (id != 0).then_some(HeapId(id))
    }

    /// The owner that a slab page's word names.
    #[inline]
    pub fn from_word(word: u32) -> Option<HeapId> {
        Self::new((word >> TAG_SHIFT) as u16)
    }

    /// Position in the registry's table.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    #[inline]
    pub(crate) fn tag(self) -> u64 {
        u64::from(self.0) << TAG_SHIFT
    }
}

/// What a heap keeps for one class besides its bin.
#[derive(Debug)]
pub(crate) struct ClassState {
    /// Slabs with free objects.
    pub(crate) partial: SlabList,
    pub(crate) nr_slabs: u32,
    /// Slabs on `partial` of which all objects are free.
    pub(crate) nr_empty: u32,
    /// The bin's array, slot 0 null; null while the class was never used.
    pub(crate) array: *mut *mut u8,
    /// Slots of the array, with slot 0.
    pub(crate) slots: u16,
    /// Refills since the array last grew.
    pub(crate) refills: u8,
    /// The bin overflowed since the array last grew.
    pub(crate) spilled: bool,
    /// Requests that found the bin empty, and the bytes that they asked for: a sample of all.
    pub(crate) sampled: u32,
    pub(crate) sampled_bytes: u64,
}

impl ClassState {
    const NEW: ClassState = ClassState {
        partial: SlabList::EMPTY,
        nr_slabs: 0,
        nr_empty: 0,
        array: ptr::null_mut(),
        slots: 0,
        refills: 0,
        spilled: false,
        sampled: 0,
        sampled_bytes: 0,
    };

    /// Notes the size of a request that found the bin empty.
    pub(crate) fn sample(&mut self, size: usize) {
        // After four thousand million requests the sample is good enough.
        if let Some(sampled) = self.sampled.checked_add(1) {
            self.sampled = sampled;
            self.sampled_bytes += size as u64;
        }
    }
}

/// What only the one inside the gate may touch.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) classes: [ClassState; NR_CLASSES],
    pub(crate) pcp: Pcp,
    pub(crate) large: LargeCache,
    pub(crate) outbox: Outbox,
    pub(crate) quarantine: Quarantine,
    /// Of the random order in which objects of a page are handed out. Not 0.
    pub(crate) seed: u64,
    /// Bytes that all bins together can hold, against the budget.
    pub(crate) bin_bytes: usize,
    /// Bytes of the slabs on lists of which all objects are free.
    pub(crate) empty_bytes: usize,
    /// The first misuse found where it could not be returned.
    pub(crate) fault: Option<BadPointer>,
    /// Counted here; those of the page cache, in it.
    pub(crate) events: HeapEvents,
}

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
    /// It belongs to a handle, not to a thread: that survives a fork.
    is_held: Cell<bool>,
    /// Slow paths in a row that found the owner on another node.
    strays: Cell<u8>,
    barrier: Barrier,
    mm: &'static Mm,
    /// The owner's way to the next sample of the heap profile.
    countdown: Countdown,
    /// Next heap in the registry's pool, while it is there.
    pub(crate) next_dead: Cell<*mut Heap>,
    /// In the pool: its holder, not a visitor, takes care of it.
    pub(crate) dead: AtomicBool,
    /// Left torn by a thread that vanished in a fork: never used again.
    torn: AtomicBool,
    /// Slow paths of the owner so far, as the keeper compares it.
    epoch: AtomicU32,
    /// `epoch` when the keeper last looked, and when the heap was last drained.
    pub(crate) seen: AtomicU32,
    /// The generation in which the keeper first saw that value.
    pub(crate) seen_at: AtomicU32,
    pub(crate) drained: AtomicU32,
    gate: CachePadded<Gate>,
    pub(crate) inbox: CachePadded<Inbox>,
    inner: UnsafeCell<Inner>,
}

// SAFETY: `hot`, `detour`, `policy`, `strays`, `asked`, `turns`, `countdown` are the owner's, `inner`
// belongs to whoever is inside the gate, `next_dead` to the holder of the registry lock; the rest is
// atomic or immutable.
unsafe impl Sync for Heap {}
// SAFETY: a heap is bound to its owner by the registry, not to an OS thread.
unsafe impl Send for Heap {}

impl core::fmt::Debug for Heap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Heap").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Heap {
    /// Makes a heap in `place`.
    ///
    /// # Safety
    /// `place` is valid for a `Heap`, and no other heap has this `id`.
    pub(crate) unsafe fn init(
        place: NonNull<Heap>,
        mm: &'static Mm,
        id: HeapId,
        node: NodeId,
        barrier: Barrier,
    ) {
        let heap = place.as_ptr();
        // Field by field, since threads with the least stack that POSIX allows have no room for a
        // whole one.
        // SAFETY: each write goes to a field of `*place`, which the caller gives.
        unsafe {
            (&raw mut (*heap).hot).write(UnsafeCell::new(HeapHot::EMPTY));
            (*(*heap).hot.get()).tag = id.tag();
            (&raw mut (*heap).detour).write(UnsafeCell::new(HeapHot::DETOUR));
            (&raw mut (*heap).id).write(id);
            (&raw mut (*heap).node).write(node);
            (&raw mut (*heap).policy).write(Cell::new(MemPolicy::LOCAL));
            (&raw mut (*heap).asked).write(Cell::new(None));
            (&raw mut (*heap).turns).write(Cell::new(ptr::null()));
            (&raw mut (*heap).is_pinned).write(Cell::new(false));
            (&raw mut (*heap).is_held).write(Cell::new(false));
            (&raw mut (*heap).strays).write(Cell::new(0));
            (&raw mut (*heap).barrier).write(barrier);
            (&raw mut (*heap).mm).write(mm);
            (&raw mut (*heap).countdown).write(Countdown::new());
            (&raw mut (*heap).next_dead).write(Cell::new(ptr::null_mut()));
            (&raw mut (*heap).dead).write(AtomicBool::new(false));
            (&raw mut (*heap).torn).write(AtomicBool::new(false));
            (&raw mut (*heap).epoch).write(AtomicU32::new(0));
            (&raw mut (*heap).seen).write(AtomicU32::new(0));
            (&raw mut (*heap).seen_at).write(AtomicU32::new(0));
            (&raw mut (*heap).drained).write(AtomicU32::new(0));
            (&raw mut (*heap).gate).write(CachePadded::new(Gate::new()));
            (&raw mut (*heap).inbox).write(CachePadded::new(Inbox::new()));
            let inner = UnsafeCell::raw_get(&raw const (*heap).inner);
            for class in 0..NR_CLASSES {
                (&raw mut (*inner).classes[class]).write(ClassState::NEW);
            }
            (&raw mut (*inner).pcp).write(Pcp::new());
            (&raw mut (*inner).large).write(LargeCache::EMPTY);
            (&raw mut (*inner).outbox).write(Outbox::new());
            (&raw mut (*inner).quarantine).write(Quarantine::EMPTY);
            (&raw mut (*inner).seed).write(mm.machine().random() | 1);
            (&raw mut (*inner).bin_bytes).write(0);
            (&raw mut (*inner).empty_bytes).write(0);
            (&raw mut (*inner).fault).write(None);
            (&raw mut (*inner).events).write(HeapEvents::default());
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
            is_held: _,
            strays: _,
            barrier: _,
            mm: _,
            countdown: _,
            next_dead: _,
            dead: _,
            torn: _,
            epoch: _,
            seen: _,
            seen_at: _,
            drained: _,
            gate: _,
            inbox: _,
            inner: _,
        } = unsafe { &*heap };
    }

    /// The part that hits touch.
    #[inline]
    pub fn hot(&self) -> *mut HeapHot {
        self.hot.get()
    }

    /// What the owner gives to its hits instead of [`Heap::hot`] to make them all miss.
    #[inline]
    pub fn detour(&self) -> *mut HeapHot {
        self.detour.get()
    }

    /// The heap whose `hot` or `detour` its owner took, as its slow path begins. The mark of the
    /// place on the stack is in `hot` from here on.
    ///
    /// # Safety
    /// `taken` came from [`Heap::hot`] or [`Heap::detour`], and the calling thread owns the heap.
    #[inline]
    pub unsafe fn from_taken(taken: *mut HeapHot) -> NonNull<Heap> {
        // SAFETY: the caller's promise; both are fields of a repr(C) struct, `hot` the first.
        unsafe {
            let Some(heap) = Heap::from_detour(taken) else {
                return NonNull::new_unchecked(taken.cast());
            };
            HeapHot::copy_frame(heap.cast().as_ptr(), taken);
            heap
        }
    }

    /// Whoever has the heap gives it back, whichever way it was taken.
    ///
    /// # Safety
    /// As for [`Heap::from_taken`].
    #[inline]
    pub unsafe fn release(taken: *mut HeapHot) {
        // SAFETY: both are fields of a repr(C) struct, `hot` the first; the caller owns the heap.
        unsafe {
            let detour = if HeapHot::is_detour(taken) {
                taken
            } else {
                taken.byte_add(offset_of!(Heap, detour))
            };
            (*detour).clear_frame();
            (*detour.byte_sub(offset_of!(Heap, detour))).clear_frame();
        }
    }

    /// The heap whose `detour` was taken, if that was one; the mark stays there.
    ///
    /// # Safety
    /// As for [`Heap::from_taken`]; or `taken` is the empty heap.
    #[inline(always)]
    pub unsafe fn from_detour(taken: *mut HeapHot) -> Option<NonNull<Heap>> {
        // SAFETY: the caller's promise; the detour is a field of a repr(C) struct.
        unsafe {
            HeapHot::is_detour(taken)
                .then(|| NonNull::new_unchecked(taken.byte_sub(offset_of!(Heap, detour)).cast()))
        }
    }

    /// The owner's way to the next sample of the heap profile. The owner's alone.
    #[inline(always)]
    pub fn countdown(&self) -> &Countdown {
        &self.countdown
    }

    /// Its number.
    pub fn id(&self) -> HeapId {
        self.id
    }

    /// The node its memory comes from.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The owner's memory policy, as last read.
    pub(crate) fn policy(&self) -> MemPolicy {
        self.policy.get()
    }

    /// A thread takes the heap that asked for `asked` and so has that policy.
    pub(crate) fn take_over(&self, policy: MemPolicy, asked: Option<MemPolicy>) {
        self.policy.set(policy);
        self.strays.set(0);
        self.asked.set(asked);
        self.prepare_turns();
    }

    /// The owner asks for a policy, or for none of its own. Owner only.
    pub(crate) fn ask_for(&self, asked: Option<MemPolicy>) {
        self.asked.set(asked);
        self.prepare_turns();
        self.read_policy();
    }

    /// The policy that the owner asked for by itself. Owner only.
    pub fn asked_policy(&self) -> Option<MemPolicy> {
        self.asked.get()
    }

    fn prepare_turns(&self) {
        if self.turns.get().is_null() && self.asked.get().is_some_and(is_in_turn) {
            let memory = self.mm.meta().alloc(self.mm.machine(), size_of::<Turns>());
            // Without memory it goes by the turns of the process.
            let Some(place) = memory.map(NonNull::cast::<Turns>) else { return };
            // SAFETY: a fresh block of that size, aligned to it, for as long as the heap.
            unsafe { place.write(Turns::new()) };
            self.turns.set(place.as_ptr());
        }
    }

    /// Whose turn it is, where the owner has turns of its own. Owner only.
    pub(crate) fn turns(&self) -> Option<&Turns> {
        self.asked.get()?;
        // SAFETY: null or made by `prepare_turns`, for ever.
        unsafe { self.turns.get().as_ref() }
    }

    /// Whether all its memory is of its node.
    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned.get()
    }

    /// For whoever made it.
    pub(crate) fn pin(&self) {
        self.is_pinned.set(true);
    }

    pub(crate) fn is_held(&self) -> bool {
        self.is_held.get()
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.is_held.set(held);
    }

    /// Reads the owner's memory policy again. Owner only.
    pub(crate) fn read_policy(&self) {
        if !self.mm.is_one_node() {
            self.policy.set(self.mm.policy_now(self.asked.get()));
        }
    }

    /// Whether the owner's memory should come from another node: at the second slow path in a row
    /// that finds it there. Owner only.
    pub(crate) fn is_astray(&self) -> bool {
        let here = self.mm.home_for(self.policy(), self.mm.machine().current_node());
        let strays = if here == self.node { 0 } else { self.strays.get() + 1 };
        self.strays.set(strays % 2);
        strays == 2
    }

    /// The instance it belongs to.
    #[inline]
    pub fn mm(&self) -> &'static Mm {
        self.mm
    }

    /// Owner only: goes inside the gate.
    #[inline]
    pub(crate) fn enter(&self) -> Entered<'_> {
        if !self.gate.try_enter(self.barrier) {
            self.wait_for_visitor();
        }
        self.note_entry()
    }

    /// Goes inside after the visitor has left, and counts the time.
    #[cold]
    fn wait_for_visitor(&self) {
        if cfg!(zonal_loom) {
            // The heaps of models belong to no instance that could count.
            return self.gate.enter(self.barrier);
        }
        let machine = self.mm.machine();
        let since = machine.now_ns();
        self.gate.enter(self.barrier);
        self.mm.vmstat().note_blocked(machine.now_ns().saturating_sub(since));
    }

    /// Owner only: goes inside the gate unless a visitor is there. Makes no system call.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Entered<'_>> {
        self.gate.try_enter(self.barrier).then(|| self.note_entry())
    }

    #[inline]
    fn note_entry(&self) -> Entered<'_> {
        // Relaxed: one writer; the keeper only compares for change.
        self.epoch.store(self.epoch.load(Relaxed).wrapping_add(1), Relaxed);
        Entered { heap: self, visitor: false }
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

    /// Whether nothing happened since it was drained: neither its owner did anything, nor has
    /// anybody sent objects back.
    pub(crate) fn is_drained(&self) -> bool {
        // Relaxed: what is missed now is seen next time.
        self.epoch() == self.drained.load(Relaxed) && self.inbox.is_empty()
    }

    /// Counts the owner's slow paths.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// First half of a visit, see [`Gate`]. The caller issues the heavy barrier for all heaps of
    /// its round, then calls [`Heap::finish_visit`].
    pub(crate) fn begin_visit(&self) -> bool {
        self.gate.begin_visit()
    }

    /// Second half: the heap, or none when its owner stayed inside for too long.
    pub(crate) fn finish_visit(&self, patience: u32) -> Option<Entered<'_>> {
        if self.gate.settle(patience) {
            return Some(Entered { heap: self, visitor: true });
        }
        self.gate.end_visit();
        None
    }

    /// Second half of a visit for fork: whether the owner is out. The visit goes on.
    pub(crate) fn is_settled(&self, patience: u32) -> bool {
        self.gate.settle(patience)
    }

    /// Ends a visit that handed out no [`Entered`].
    pub(crate) fn leave_open(&self) {
        self.gate.end_visit();
    }

    /// A forked child: nobody is inside any more.
    pub(crate) fn reopen_gate(&self) {
        self.gate.reinit();
    }

    /// Whether somebody is inside its gate.
    pub fn is_entered(&self) -> bool {
        self.gate.is_inside()
    }

    /// The misuse that a slow path came upon, once.
    pub fn take_fault(&self) -> Option<BadPointer> {
        self.enter().fault.take()
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

/// The one inside a heap's gate: the only way to [`Inner`].
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    heap: &'a Heap,
    visitor: bool,
}

impl<'a> Entered<'a> {
    /// Whether the owner may be at work on the bins meanwhile.
    pub(crate) fn is_visitor(&self) -> bool {
        self.visitor
    }

    /// Whether the owner waits for this visitor.
    pub(crate) fn is_wanted(&self) -> bool {
        self.visitor && self.heap.gate.is_wanted()
    }

    /// The heap, for what is not behind the gate.
    pub(crate) fn heap(&self) -> &'a Heap {
        self.heap
    }
}

impl Deref for Entered<'_> {
    type Target = Inner;
    #[inline]
    fn deref(&self) -> &Inner {
        // SAFETY: the gate lets one in at a time.
        unsafe { &*self.heap.inner.get() }
    }
}

impl DerefMut for Entered<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Inner {
        // SAFETY: the gate lets one in at a time.
        unsafe { &mut *self.heap.inner.get() }
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.visitor {
            self.heap.gate.end_visit();
        } else {
            self.heap.gate.leave();
        }
    }
}
