//! Heaps whose thread has ended: who takes them over, who looks into them, and the commons among them.

use core::ptr::{self, NonNull};

use zonal_numa::NodeId;

use super::Registry;
use crate::class::SizeClass;
use crate::fault::fault;
use crate::heap::{Entered, Heap, OwnHeap};
use crate::sync::atomic::Ordering::Relaxed;

/// Commons beyond this many may become heaps of threads again: a second one of a node comes up when
/// the first is not in the pool.
const MAX_COMMONS: usize = 8;

/// The heaps in the pool, on lists through `next`.
#[derive(Debug)]
pub(super) struct Pool {
    /// Heaps without a thread, by what remains of them; last ended first.
    dead: [*mut Heap; 3],
    nr_dead: [usize; 3],
}

// SAFETY: heaps in the pool belong to nobody; the pointer moves with the lock.
unsafe impl Send for Pool {}

/// What a heap in the pool holds, as far as its last holder knew: a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// All that its thread left.
    Whole = 0,
    /// Next to nothing.
    Empty = 1,
    /// Slabs for all threads of its node.
    Common = 2,
}

impl Remains {
    const ALL: [Remains; 3] = [Remains::Whole, Remains::Empty, Remains::Common];
}

/// What comes of going into a heap of the pool.
#[derive(Debug)]
pub(crate) enum DeadVisit<'a> {
    /// The caller is alone there.
    Entered(Entered<'a>),
    /// Another visitor is there.
    Busy,
    /// It is in the pool no more: somebody has it.
    Gone,
}

#[cfg(test)]
impl<'a> DeadVisit<'a> {
    pub(crate) fn entered(self) -> Option<Entered<'a>> {
        if let DeadVisit::Entered(entered) = self { Some(entered) } else { None }
    }
}

impl Registry {
    /// Heaps in the pool.
    pub(crate) fn nr_dead(&self) -> usize {
        self.pool.lock().nr_dead.iter().sum()
    }

    /// Heaps in the pool that came whole.
    pub(crate) fn nr_whole(&self) -> usize {
        self.pool.lock().nr_dead[Remains::Whole as usize]
    }

    /// A dead heap that `fits`, for a thread: the last ended first, whole ones before empty ones. None in
    /// which somebody is: a visitor of one in the pool may be at work on the bins.
    pub(crate) fn take_dead(
        &self,
        fits: impl Fn(&Heap) -> bool,
    ) -> Option<(NonNull<Heap>, Remains)> {
        let mut pool = self.pool.lock();
        let has_spare = pool.nr_dead[Remains::Common as usize] > MAX_COMMONS;
        let nr_lists = if has_spare { 3 } else { 2 };
        let fits =
            |heap: &Heap| (!heap.is_visited() || fault("registry_take_visited")) && fits(heap);
        let lists = &Remains::ALL[..nr_lists];
        lists.iter().find_map(|&of| Some((pool.take(of, fits)?, of)))
    }

    /// Any heap in the pool that `fits`, and what remained of it.
    pub(crate) fn take_any(
        &self,
        fits: impl Fn(&Heap) -> bool,
    ) -> Option<(NonNull<Heap>, Remains)> {
        let mut pool = self.pool.lock();
        Remains::ALL.into_iter().find_map(|of| Some((pool.take(of, &fits)?, of)))
    }

    /// Empties the bins of a heap whose thread ends, and whether they are: `empty` is not called while a
    /// visitor is there. Then it goes into the pool as it is, for nobody waits, and with objects in its
    /// bins its slabs are not for others. Who drains the dead comes to it.
    pub(crate) fn empty_or_put(
        &self,
        heap: NonNull<Heap>,
        empty: impl FnOnce(&mut Entered<'_>),
    ) -> bool {
        // SAFETY: the caller owns the heap.
        let h = unsafe { heap.as_ref() };
        let is_emptied = match h.try_enter() {
            Some(mut inner) => {
                empty(&mut inner);
                true
            }
            None => fault("registry_share_full"),
        };
        if !is_emptied {
            self.put_dead(heap, Remains::Whole);
        }
        is_emptied
    }

    /// Puts an emptied heap into the pool: `give` gives its slabs of the classes that are `worthy` of it,
    /// one bit each, to the commons of its node, which it becomes itself where there is none. While
    /// somebody is in one of the two it stays whole, for who drains the dead: what remains.
    pub(crate) fn put_common(
        &self,
        heap: NonNull<Heap>,
        worthy: impl FnOnce(&Entered<'_>) -> u64,
        give: impl FnOnce(&mut Entered<'_>, &mut Entered<'_>),
    ) -> Remains {
        let mut pool = self.pool.lock();
        // SAFETY: the caller owned the heap and gives it away.
        let h = unsafe { heap.as_ref() };
        let commons = pool.commons(h.node()).next();
        let share = || {
            // No use of it, or who drains the dead would never be done.
            let mut from = h.try_enter_unnoted()?;
            let classes = worthy(&from);
            if let Some(commons) = commons.filter(|_| classes != 0) {
                give(&mut from, &mut commons.try_enter()?);
            }
            Some(classes)
        };
        let remains = match share() {
            Some(classes) => {
                self.note_common(h.node(), classes);
                if commons.is_some() {
                    Remains::Empty
                } else {
                    self.has_commons[h.node().index()].store(true, Relaxed);
                    Remains::Common
                }
            }
            None => {
                h.note_use();
                Remains::Whole
            }
        };
        pool.put(h, remains);
        remains
    }

    /// Goes into a heap in the pool, unless another visitor is there. Nobody takes it
    /// over before the visit ends, so its bins are the visitor's, too: whoever had it before left it
    /// under the lock, which this holds, and whoever comes under it passes over what is visited.
    pub(crate) fn visit_dead<'a>(&self, heap: &'a Heap) -> DeadVisit<'a> {
        let _pool = self.pool.lock();
        if !heap.is_dead() {
            return DeadVisit::Gone;
        }
        heap.visit_dead().map_or(DeadVisit::Busy, DeadVisit::Entered)
    }

    /// Lets `take` look at one commons of `node` after the other for a slab of `class`: until it has
    /// one, which it says, or none if somebody is at work there. Whether it has one; not where the
    /// pool is busy.
    pub(crate) fn ask_commons(
        &self,
        node: NodeId,
        class: SizeClass,
        mut take: impl FnMut(&'static Heap) -> Option<bool>,
    ) -> bool {
        let Some(pool) = self.pool.try_lock() else { return false };
        let commons = pool.commons(node);
        let _held = (!fault("registry_common_unlocked")).then_some(pool);
        // Not if the commons are not here because somebody empties their caches.
        let mut has_none = false;
        for heap in commons {
            match take(heap) {
                Some(false) => has_none = true,
                other => return other.unwrap_or(false),
            }
        }
        if has_none {
            self.common_classes[node.index()].fetch_and(!(1 << class.index()), Relaxed);
        }
        false
    }

    /// Whether the caller is the one to make the commons of `node`: nobody did so far.
    pub(crate) fn claim_commons(&self, node: NodeId) -> bool {
        // Relaxed: one has it, and that is all it says.
        let has_commons = &self.has_commons[node.index()];
        !has_commons.load(Relaxed) && !has_commons.swap(true, Relaxed)
    }

    /// The caller could not.
    pub(crate) fn unclaim_commons(&self, node: NodeId) {
        self.has_commons[node.index()].store(false, Relaxed);
    }

    /// The commons of `node` may have slabs of these classes, one bit each.
    pub(crate) fn note_common(&self, node: NodeId, classes: u64) {
        self.common_classes[node.index()].fetch_or(classes, Relaxed);
    }

    /// Whether the commons of `node` may have slabs of `class`.
    #[inline]
    pub(crate) fn has_common(&self, node: NodeId, class: SizeClass) -> bool {
        self.common_classes[node.index()].load(Relaxed) & (1 << class.index()) != 0
    }

    /// Puts a heap into the pool, of which so much remains.
    pub(crate) fn put_dead(&self, heap: NonNull<Heap>, remains: Remains) {
        // SAFETY: the caller owned the heap and gives it away.
        self.pool.lock().put(unsafe { heap.as_ref() }, remains);
    }

    /// Calls `visit` for every heap in the pool, which nobody can take meanwhile: for a word or two.
    pub(crate) fn for_each_dead(&self, mut visit: impl FnMut(&Heap)) {
        let pool = self.pool.lock();
        for mut next in pool.dead {
            while let Some(heap) = NonNull::new(next) {
                // SAFETY: heaps are never unmapped; `next` belongs to the pool's holder.
                let h = unsafe { heap.as_ref() };
                next = h.pool.next.get();
                if !h.is_torn() {
                    visit(h);
                }
            }
        }
    }

    /// A forked child: every heap but `own` has lost its thread. Runs single-threaded.
    pub(crate) fn bury_all_but(&self, own: Option<OwnHeap>) {
        let mut pool = self.pool.lock();
        *pool = Pool::EMPTY;
        // Those of the parent are heaps for threads here.
        self.has_commons.iter().for_each(|has| has.store(false, Relaxed));
        for heap in self.all() {
            if !OwnHeap::is(own, heap) && !heap.is_held() {
                pool.put(heap, Remains::Whole);
            }
        }
    }
}

impl Pool {
    pub(super) const EMPTY: Pool = Pool { dead: [ptr::null_mut(); 3], nr_dead: [0; 3] };

    /// The commons of a node, for as long as the lock is held.
    fn commons(&self, node: NodeId) -> impl Iterator<Item = &'static Heap> + use<> {
        let mut next = self.dead[Remains::Common as usize];
        let all = core::iter::from_fn(move || {
            // SAFETY: heaps are never unmapped; `next` belongs to the pool's holder.
            let heap: &'static Heap = unsafe { next.as_ref() }?;
            next = heap.pool.next.get();
            Some(heap)
        });
        all.filter(move |heap| !heap.is_torn() && heap.node() == node)
    }

    fn take(&mut self, of: Remains, fits: impl Fn(&Heap) -> bool) -> Option<NonNull<Heap>> {
        let mut previous: *mut Heap = ptr::null_mut();
        let mut current = self.dead[of as usize];
        while let Some(heap) = NonNull::new(current) {
            // SAFETY: heaps are never unmapped; `next` belongs to the pool's holder.
            let h = unsafe { heap.as_ref() };
            if !h.is_torn() && fits(h) {
                match NonNull::new(previous) {
                    _ if fault("registry_take_shared") => (),
                    // SAFETY: as above.
                    Some(p) => unsafe { p.as_ref() }.pool.next.set(h.pool.next.get()),
                    None => self.dead[of as usize] = h.pool.next.get(),
                }
                h.pool.next.set(ptr::null_mut());
                h.pool.dead.store(false, Relaxed);
                self.nr_dead[of as usize] -= 1;
                return Some(heap);
            }
            previous = current;
            current = h.pool.next.get();
        }
        None
    }

    fn put(&mut self, heap: &Heap, remains: Remains) {
        heap.leave_bins();
        heap.pool.next.set(self.dead[remains as usize]);
        // Relaxed: a hint for rounds over all heaps, which may see it late.
        heap.pool.dead.store(true, Relaxed);
        self.dead[remains as usize] = ptr::from_ref(heap).cast_mut();
        self.nr_dead[remains as usize] += 1;
    }
}
