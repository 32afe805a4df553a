//! The life of heaps: threads register, work, end, and others take over what they leave, while
//! visitors make their rounds and other threads send objects back.
//!
//! Here the protocols meet that the other models show one by one: registry, gate, inbox. Whoever
//! is inside a heap is alone there, and no message is lost when a heap changes hands.
//!
//! Faults: `registry_take_visited` (a heap gets an owner while a visitor is at its bins),
//! `gate_visited_relaxed` (who inherits it misses what a visitor did there), `registry_share_full` (the
//! slabs of a heap that a visitor kept from being emptied are for all), `gate_no_heavy_barrier` (a visitor
//! meets the owner), `gate_end_relaxed` (the next one misses writes), `inbox_post_relaxed` (the heir reads a
//! message before it is written).

use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use zonal_numa::NodeId;

use super::inbox::{free, take};
use super::registry::{free_all, publish};
use super::{check, reached};
use crate::class::SizeClass;
use crate::gate;
use crate::heap::{Entered, Heap, HeapId};
use crate::registry::{Registry, Remains};

/// The registry, and for what lies inside each heap a cell by which loom sees who is there; and one for
/// its bins, at which its owner works without a gate.
struct Rig {
    registry: Registry,
    inside: [UnsafeCell<u32>; 3],
    bins: [UnsafeCell<u32>; 3],
}

impl Rig {
    fn new() -> Arc<Rig> {
        let [inside, bins] = [(); 2].map(|()| [(); 3].map(|()| UnsafeCell::new(0)));
        Arc::new(Rig { registry: Registry::new(), inside, bins })
    }

    /// Stands for slabs, page cache and outbox.
    fn work(&self, entered: &Entered<'_>) {
        let cell = &self.inside[entered.heap().id().index()];
        // SAFETY: whoever is inside the gate is alone.
        cell.with_mut(|n| unsafe { *n += 1 });
    }

    /// Who has the heap, or visits it in the pool: puts `nr` objects into the bins; what was there.
    fn refill(&self, heap: &Heap, nr: u32) -> u32 {
        let cell = &self.bins[heap.id().index()];
        // SAFETY: the caller is alone there.
        cell.with_mut(|n| unsafe { core::mem::replace(&mut *n, nr) })
    }

    /// A thread from its first miss to its end; returns its heap's number.
    fn live(&self) -> usize {
        let heap = match self.registry.take_dead(|_| true) {
            Some((heap, _)) => {
                reached("inherited");
                heap
            }
            None => publish(&self.registry),
        };
        // SAFETY: heaps live to the end of the model.
        let h: &Heap = unsafe { heap.as_ref() };
        self.refill(h, 1);
        self.work(&h.enter());
        self.refill(h, 1);
        self.registry.put_dead(heap, Remains::Whole);
        h.id().index()
    }

    /// A round over all heaps, as `Mm::visit_heaps` makes it.
    fn visit(&self) -> u32 {
        let mut nr_visits = 0;
        for heap in self.registry.all().filter(|heap| !heap.is_dead()) {
            if !heap.begin_visit() {
                continue;
            }
            gate::heavy();
            match heap.finish_visit(2) {
                Some(entered) => {
                    reached("visited");
                    self.work(&entered);
                    nr_visits += 1;
                }
                None => reached("busy"),
            }
        }
        for heap in self.registry.all() {
            if let Some(entered) = self.registry.visit_dead(heap).entered() {
                reached("visited-dead");
                self.work(&entered);
                self.refill(heap, 1);
                nr_visits += 1;
            }
        }
        nr_visits
    }

    /// Ends a thread whose heap is emptied then, as `Mm::bury` does.
    fn end(&self, heap: NonNull<Heap>) {
        let empty = |entered: &mut Entered<'_>| {
            self.work(entered);
            self.refill(entered.heap(), 0);
        };
        if !self.registry.empty_or_put(heap, empty) {
            return reached("stays-whole");
        }
        let worthy = |entered: &Entered<'_>| {
            reached("shared");
            self.work(entered);
            u64::MAX
        };
        self.registry.put_common(heap, worthy, |_, _| unreachable!("no others are there"));
    }

    /// Takes slabs from the commons, if there are any, as a refill does.
    fn adopt(&self) -> bool {
        let class = SizeClass::of(16).unwrap();
        self.registry.ask_commons(NodeId::ZERO, class, |commons| {
            let entered = commons.try_enter_unnoted()?;
            self.work(&entered);
            let cell = &self.bins[commons.id().index()];
            // SAFETY: nobody has a heap of the pool.
            assert_eq!(cell.with(|nr| unsafe { *nr }), 0, "shared with objects in its bins");
            Some(true)
        })
    }

    fn count(&self) -> u32 {
        // SAFETY: everybody else has ended.
        self.inside.iter().map(|cell| cell.with(|n| unsafe { *n })).sum()
    }
}

#[test]
fn threads_and_visitors() {
    check("life:visits", &["inherited", "visited", "busy", "visited-dead"], || {
        let rig = Rig::new();
        let threads = [(); 2].map(|()| {
            let rig = Arc::clone(&rig);
            thread::spawn(move || rig.live())
        });
        // Without this loom overlooks the executions in which the threads come first.
        thread::yield_now();
        let nr_visits = rig.visit();
        let numbers = threads.map(|thread| thread.join().unwrap());
        let nr_heaps = rig.registry.nr_heaps();
        assert_eq!(nr_heaps, if numbers[0] == numbers[1] { 1 } else { 2 });
        assert_eq!(rig.registry.nr_dead(), nr_heaps);
        assert_eq!(rig.count(), 2 + nr_visits);
        free_all(&rig.registry);
    });
}

/// Objects that come back to a heap while its thread ends and another takes it over.
#[test]
fn inheritance() {
    check("life:messages", &["first-took", "heir-took", "left-over"], || {
        let rig = Rig::new();
        let first = publish(&rig.registry);
        let sender = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || {
                let heap = rig.registry.get(HeapId::new(1).unwrap()).unwrap();
                [1, 2].into_iter().for_each(|number| free(&heap.inbox, number));
            })
        };
        let heir = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || {
                let mut seen = Vec::new();
                let heap = rig.registry.take_dead(|_| true);
                if let Some((heap, _)) = heap {
                    // SAFETY: heaps live to the end of the model.
                    let entered = unsafe { heap.as_ref() }.enter();
                    rig.work(&entered);
                    if take(&entered.heap().inbox, &mut seen) > 0 {
                        reached("heir-took");
                    }
                }
                seen
            })
        };
        let mut seen = Vec::new();
        // As above.
        thread::yield_now();
        // SAFETY: as above.
        let entered = unsafe { first.as_ref() }.enter();
        rig.work(&entered);
        if take(&entered.heap().inbox, &mut seen) > 0 {
            reached("first-took");
        }
        drop(entered);
        rig.registry.put_dead(first, Remains::Whole);
        sender.join().unwrap();
        seen.extend(heir.join().unwrap());
        // SAFETY: as above.
        if take(&unsafe { NonNull::as_ref(&first) }.inbox, &mut seen) > 0 {
            reached("left-over");
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2], "lost or doubled");
        free_all(&rig.registry);
    });
}

/// A thread ends beside a visitor, and others ask for what it leaves: they get slabs only of a heap that
/// was emptied, and objects of no slab that somebody else has.
#[test]
fn ends() {
    let situations = ["shared", "stays-whole", "adopted", "none-yet", "visited", "drained"];
    check("life:ends", &situations, || {
        let rig = Rig::new();
        let heap = publish(&rig.registry);
        // SAFETY: heaps live to the end of the model.
        let h: &'static Heap = unsafe { heap.as_ref() };
        rig.refill(h, 1);
        let visitor = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || {
                if h.begin_visit() {
                    gate::heavy();
                    if let Some(entered) = h.finish_visit(2) {
                        reached("visited");
                        rig.work(&entered);
                    }
                }
            })
        };
        let other = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || reached(if rig.adopt() { "adopted" } else { "none-yet" }))
        };
        // As above.
        thread::yield_now();
        rig.end(heap);
        [visitor, other].into_iter().for_each(|thread| thread.join().unwrap());
        // Who drains the dead comes to what stayed whole.
        let class = SizeClass::of(16).unwrap();
        if !rig.registry.has_common(NodeId::ZERO, class) {
            reached("drained");
            let (taken, remains) = rig.registry.take_any(|_| true).unwrap();
            assert_eq!((taken, remains), (heap, Remains::Whole));
            rig.end(heap);
        }
        assert!(rig.adopt());
        free_all(&rig.registry);
    });
}
