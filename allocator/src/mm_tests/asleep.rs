//! Bins of threads that sleep, which kswapd empties: [`crate::mark`].

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use zonal_numa::NodeId;

use super::*;
use crate::class::SizeClass;
use crate::gate;
use crate::mark::{self, Mark};
use crate::visit::sweep::Sweep;

/// Where the stack of a call stands.
const PLACE: u64 = 64;
const SIZE: usize = 100;

/// An owner that marks its calls, as those of ffi do.
#[derive(Clone, Copy)]
struct Marker(Owner);

impl Marker {
    fn attach(mm: &'static Mm) -> Marker {
        let owner = Owner::attach(mm);
        // SAFETY: the owner gives its heap to hits.
        unsafe { Heap::release(owner.heap().detour()) };
        Marker(owner)
    }

    fn heap(&self) -> &'static Heap {
        self.0.heap()
    }

    fn mark(&self) -> Mark {
        // SAFETY: heaps are never unmapped.
        unsafe { &*self.heap().hot() }.mark()
    }

    /// A call, which tells `work` whether it has the bins.
    fn call<R>(&self, work: impl FnOnce(bool) -> R) -> R {
        let heap = self.heap();
        // SAFETY: heaps are never unmapped.
        let hot = unsafe { &*heap.hot() };
        if !mark::add(hot.mark_word(), PLACE) {
            mark::undo_add(hot.mark_word(), PLACE);
            assert!(hot.try_take(PLACE as usize), "nobody else is on this thread");
            // SAFETY: taken just now.
            unsafe { Heap::from_taken(heap.hot()) };
        }
        let done = work(!heap.is_closed());
        assert_eq!(heap.take_fault(), None);
        // SAFETY: the end of the call.
        unsafe { Heap::release(heap.hot()) };
        done
    }

    fn alloc(&self) -> NonNull<u8> {
        self.call(|has_bins| {
            // SAFETY: the test's thread owns the heap, and has marked it.
            let hit = has_bins.then(|| unsafe { HeapHot::pop(self.heap().hot(), SIZE) });
            hit.and_then(NonNull::new).unwrap_or_else(|| self.0.alloc_missed(SIZE, 8))
        })
    }

    fn free(&self, object: NonNull<u8>) {
        // SAFETY: as above; tests free what they allocated.
        self.call(|has_bins| unsafe {
            if !has_bins || !HeapHot::push(self.heap().hot(), object.as_ptr()) {
                self.heap().free(object).unwrap();
            }
        });
    }

    /// Leaves some thousand free objects, part of them in its bins.
    fn churn(&self) {
        let objects: Vec<_> = (0..5000).map(|_| self.alloc()).collect();
        objects.into_iter().for_each(|object| self.free(object));
    }

    /// Free objects in its bins.
    fn nr_in_bins(&self) -> usize {
        let inner = self.heap().try_enter_unnoted().unwrap();
        SizeClass::all()
            .map(|class| self.heap().bin_len(class, &inner.classes[class.index()]))
            .sum()
    }
}

/// A sweep a generation after the last one.
fn sweep(mm: &'static Mm) {
    mm.pages().set_generation(mm.pages().generation().wrapping_add(1));
    mm.sweep(
        None,
        Sweep { how: PurgeHow::ALL, idle_for: 1, step_pages: usize::MAX, max_pages: usize::MAX },
    );
}

/// Where bins cannot be closed there is nothing to see, which is said.
fn can_close(mm: &Mm) -> bool {
    let can_close = mark::CAN_CLOSE && mm.barrier() == gate::Barrier::Asymmetric;
    if !can_close {
        // The test runner hides what a passing test prints; not this line.
        let _ = writeln!(std::io::stderr(), "skipped: bins cannot be closed here");
    }
    can_close
}

#[test]
fn who_asks_for_it_empties_the_bins_of_others_at_once() {
    let mm = new_mm();
    let (asleep, busy) = (Marker::attach(mm), Marker::attach(mm));
    if !can_close(mm) {
        return;
    }
    asleep.churn();
    busy.churn();
    let in_bins = busy.nr_in_bins();
    assert!(asleep.nr_in_bins() > 100 && in_bins > 100);
    let nr_out = || mm.pages().zone_stats(NodeId::ZERO).unwrap().zone.nr_out;
    mm.drain_all(None);
    let before = nr_out();
    busy.call(|has_bins| {
        assert!(has_bins);
        mm.drain_bins(None);
    });
    assert_eq!((asleep.mark(), asleep.nr_in_bins()), (Mark::CLOSED, 0));
    assert_eq!((busy.mark(), busy.nr_in_bins()), (Mark::FREE, in_bins), "a call had them");
    mm.drain_all(None);
    assert!(nr_out() < before, "and its slabs go");
    // It opens them again.
    let object = asleep.alloc();
    asleep.free(object);
    assert_eq!(asleep.mark(), Mark::FREE);
    mm.validate(None).unwrap();
}

#[test]
fn the_bins_of_a_sleeper_are_emptied_and_its_slabs_go() {
    let mm = new_mm();
    let asleep = Marker::attach(mm);
    if !can_close(mm) {
        return;
    }
    let kept = asleep.alloc();
    asleep.churn();
    assert!(asleep.nr_in_bins() > 100);
    sweep(mm);
    assert_eq!(asleep.mark(), Mark::FREE, "it may have been at work just now");
    sweep(mm);
    assert_eq!(asleep.mark(), Mark::CLOSED);
    assert!(asleep.nr_in_bins() > 100, "it may have had hits");
    sweep(mm);
    assert_eq!(asleep.nr_in_bins(), 0);
    assert!(snapshot(mm, None).small_bytes() < 2 * PAGE_SIZE as u64 * 32);
    (0..8).for_each(|_| sweep(mm));
    assert!(asleep.heap().is_drained(), "nobody comes again");

    // It goes on as ever.
    asleep.free(kept);
    assert_eq!((asleep.mark(), asleep.nr_in_bins()), (Mark::FREE, 1));
    asleep.churn();
    assert!(asleep.nr_in_bins() > 100);
    mm.validate(None).unwrap();
}

/// What others own goes home by its own outbox, and their slabs go, though they sleep as well.
#[test]
fn what_others_own_goes_home() {
    let mm = fake_mm(1);
    let [asleep, owner] = [(); 2].map(|()| Marker::attach(mm));
    if !can_close(mm) {
        return;
    }
    // Its bins are deep, and empty.
    asleep.churn();
    let own: Vec<_> = (0..asleep.nr_in_bins()).map(|_| asleep.alloc()).collect();
    let foreign: Vec<_> = (0..5000).map(|_| owner.alloc()).collect();
    foreign.into_iter().for_each(|object| asleep.free(object));
    let nr_foreign = asleep.nr_in_bins();
    assert!(nr_foreign > 100);
    let nr_home = || owner.heap().try_enter_unnoted().unwrap().events.remote_free as usize;
    (0..2).for_each(|_| sweep(mm));
    let before = nr_home();
    assert_eq!((asleep.mark(), asleep.nr_in_bins()), (Mark::CLOSED, nr_foreign));
    (0..4).for_each(|_| sweep(mm));
    assert_eq!((asleep.nr_in_bins(), nr_home()), (0, before + nr_foreign));
    assert!(asleep.heap().is_drained() && owner.heap().is_drained(), "nobody comes again");
    own.into_iter().for_each(|object| asleep.free(object));
    (0..4).for_each(|_| sweep(mm));
    mm.validate(None).unwrap();
    // SAFETY: this thread owns the heaps.
    [asleep, owner].into_iter().for_each(|it| unsafe { mm.detach(it.0.0) });
    assert_nothing_left(mm);
}

/// It would have to fill them again and again.
#[test]
fn an_owner_that_has_hits_keeps_its_bins() {
    let mm = new_mm();
    let awake = Marker::attach(mm);
    if !can_close(mm) {
        return;
    }
    awake.churn();
    let nr = awake.nr_in_bins();
    let mut nr_closed = 0;
    for _ in 0..20 {
        sweep(mm);
        nr_closed += u32::from(awake.mark() == Mark::CLOSED);
        let object = awake.alloc();
        awake.free(object);
        assert_eq!((awake.mark(), awake.nr_in_bins()), (Mark::FREE, nr));
    }
    assert_eq!(nr_closed, 1, "nor is it asked each time");
    assert!(awake.heap().is_drained());
    mm.validate(None).unwrap();
}

/// Nobody closes the bins of a call that has them, nor those of who has no hits.
#[test]
fn what_is_marked_is_not_closed() {
    let mm = new_mm();
    let busy = Marker::attach(mm);
    let unmarked = Owner::attach(mm);
    busy.churn();
    unmarked.alloc(SIZE, 8);
    sweep(mm);
    busy.call(|_| (0..4).for_each(|_| sweep(mm)));
    assert_eq!(busy.mark(), Mark::FREE);
    assert!(!unmarked.heap().is_closed());
    mm.validate(None).unwrap();
}

/// The owner that finds its bins closed and a visitor there goes on without both.
#[test]
fn the_owner_waits_for_nobody_who_is_at_its_bins() {
    let mm = new_mm();
    let own = Marker::attach(mm);
    if !can_close(mm) {
        return;
    }
    own.churn();
    let heap = own.heap();
    assert!(heap.begin_visit() && heap.close_bins() && mm.heavy_barrier());
    let visitor = heap.finish_visit(1).unwrap();
    assert!(visitor.visitor_has_bins());
    let objects: Vec<_> = (0..300).map(|_| own.alloc()).collect();
    assert!(visitor.is_wanted(), "it may make haste");
    objects.iter().take(100).for_each(|&object| own.free(object));
    let stats = mm.vmstat().stats();
    assert_eq!((stats.visited_alloc, stats.visited_free), (300, 100));
    assert_eq!((own.mark(), stats.throttled), (Mark::CLOSED, 0));
    drop(visitor);
    objects.iter().skip(100).for_each(|&object| own.free(object));
    assert_eq!(own.mark(), Mark::FREE);
    assert_eq!(mm.vmstat().stats().visited_free, 100);
    mm.validate(None).unwrap();
}

/// A heap whose thread ends while its bins are closed has hits again with the next one.
#[test]
fn closed_bins_open_with_the_next_thread() {
    let mm = new_mm();
    let ended = Marker::attach(mm);
    if !can_close(mm) {
        return;
    }
    ended.churn();
    (0..2).for_each(|_| sweep(mm));
    assert_eq!(ended.mark(), Mark::CLOSED);
    // SAFETY: this thread owns the heap.
    unsafe { mm.detach(ended.0.0) };
    assert_eq!(ended.mark(), Mark::ABSENT);
    let next = Marker::attach(mm);
    assert_eq!((next.heap().id(), next.mark()), (ended.heap().id(), Mark::FREE));
    next.churn();
    mm.validate(None).unwrap();
}

/// What threads without a heap add to the one that they share, and each takes back, may be another's.
#[test]
fn what_nobody_owns_stays_absent() {
    if !mark::CAN_CLOSE {
        return;
    }
    let hot = HeapHot::EMPTY;
    assert!(!mark::add(hot.mark_word(), PLACE) && !mark::add(hot.mark_word(), 1 << 46));
    mark::undo_add(hot.mark_word(), PLACE);
    assert_eq!(hot.mark(), Mark::ABSENT);
    mark::undo_add(hot.mark_word(), 1 << 46);
    assert_eq!(hot.mark(), Mark::ABSENT);
    // A hit that fails with the bins closed leaves them so.
    hot.set_mark(Mark::CLOSED);
    assert!(!mark::add(hot.mark_word(), PLACE) && hot.is_closed());
    mark::undo_add(hot.mark_word(), PLACE);
    assert_eq!(hot.mark(), Mark::CLOSED);
}

/// Owners that work and pause, and kswapd that comes at any time.
#[test]
fn pauses_at_any_time() {
    const ROUNDS: usize = 100;
    let mm = new_mm();
    let can_close = can_close(mm);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let kswapd = scope.spawn(|| {
            while !is_over.load(Relaxed) {
                sweep(mm);
            }
        });
        let owners = [1, 2].map(|seed| {
            scope.spawn(move || {
                let own = Marker::attach(mm);
                let mut rng = Rng(seed);
                let mut live: Vec<(NonNull<u8>, u8)> = Vec::new();
                for round in 0..ROUNDS {
                    for _ in 0..rng.next() % 2000 {
                        if rng.next().is_multiple_of(2) || live.is_empty() {
                            let fill = rng.next() as u8;
                            let object = own.alloc();
                            // SAFETY: a new object of that size.
                            unsafe { object.write_bytes(fill, SIZE) };
                            live.push((object, fill));
                        } else {
                            let (object, fill) = live.swap_remove(rng.next() as usize % live.len());
                            // SAFETY: a live object.
                            let bytes =
                                unsafe { core::slice::from_raw_parts(object.as_ptr(), SIZE) };
                            assert!(bytes.iter().all(|&byte| byte == fill));
                            own.free(object);
                        }
                    }
                    // Now and then until it is taken for asleep, or a little longer.
                    let is_pause = round % 4 == 0 && can_close;
                    while is_pause && !own.heap().is_closed() && !own.heap().is_drained() {
                        std::thread::yield_now();
                    }
                    (0..rng.next() % 8).for_each(|_| std::thread::yield_now());
                }
                live.into_iter().for_each(|(object, _)| own.free(object));
                // SAFETY: this thread owns the heap.
                unsafe { mm.detach(own.0.0) };
            })
        });
        owners.into_iter().for_each(|owner| owner.join().unwrap());
        is_over.store(true, Relaxed);
        kswapd.join().unwrap();
    });
    assert_nothing_left(mm);
}
