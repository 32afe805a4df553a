//! The registry: who finds a heap finds it whole; a dead heap gets one new owner.
//!
//! Faults: `registry_table_relaxed` and `registry_publish_relaxed` (a reader follows a pointer to
//! something that is not there yet for it), `registry_common_unlocked` (two at work on one heap),
//! `registry_take_shared` (a dead heap gets two owners).

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use zonal_numa::{Machine, NodeId};

use super::{check, reached};
use crate::class::SizeClass;
use crate::gate::Barrier;
use crate::heap::{Entered, Heap, HeapId, HeapKind};
use crate::mm::Mm;
use crate::registry::{Registry, Remains};
use crate::remote::group::Sharing;

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(Machine::linux)
}

/// An instance to be pointed to, not to be used: its arrays are too large for a model.
fn mm() -> &'static Mm {
    static MM: OnceLock<&'static MaybeUninit<Mm>> = OnceLock::new();
    let mm = MM.get_or_init(|| Box::leak(Box::new_uninit()));
    // SAFETY: memory of the right size and alignment, into which no function called here looks.
    unsafe { &*mm.as_ptr() }
}

pub(super) fn publish(registry: &Registry) -> NonNull<Heap> {
    let place = NonNull::from(Box::leak(Box::<Heap>::new_uninit())).cast();
    // SAFETY: room for a heap, of which nobody else knows.
    unsafe {
        let kind = HeapKind {
            node: NodeId::ZERO,
            barrier: Barrier::Asymmetric,
            is_pinned: false,
            sharing: Sharing::NEW,
        };
        Heap::init(place, mm(), kind);
        assert!(registry.publish(machine(), place));
    }
    place
}

/// Whether the heap is there; then its own words tell loom whether the reader may see them.
fn look_up(registry: &Registry, number: u16) -> bool {
    let id = HeapId::new(number).unwrap();
    let Some(heap) = registry.get(id) else { return false };
    assert!(heap.id() == id && !heap.is_entered());
    assert!(heap.inbox.take().is_null());
    true
}

#[test]
fn publication() {
    check("registry:publish", &["found-both", "found-one", "found-none", "listed"], || {
        let registry = Arc::new(Registry::new());
        let other = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || publish(&registry).as_ptr().addr())
        };
        let reader = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                let nr_listed = registry.all().map(|heap| assert!(!heap.is_entered())).count();
                let nr_found = [2, 1].into_iter().filter(|&n| look_up(&registry, n)).count();
                assert!(nr_found >= nr_listed);
                reached(["found-none", "found-one", "found-both"][nr_found]);
                reached(if nr_listed > 0 { "listed" } else { "not-listed" });
            })
        };
        let mine = publish(&registry);
        assert_ne!(mine.addr().get(), other.join().unwrap());
        reader.join().unwrap();
        assert_eq!((registry.nr_heaps(), registry.all().count()), (2, 2));
        free_all(&registry);
    });
}

#[test]
fn succession() {
    check("registry:succession", &["taken", "none-left"], || {
        let registry = Arc::new((Registry::new(), UnsafeCell::new(0)));
        publish(&registry.0);
        let others = [1, 2].map(|n| {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                let Some((heap, _)) = registry.0.take_dead(|_| true) else {
                    return reached("none-left");
                };
                reached("taken");
                // SAFETY: stands for the heap's contents, which are this thread's now.
                registry.1.with_mut(|owner| unsafe { *owner = n });
                registry.0.put_dead(heap, Remains::Whole);
            })
        });
        // SAFETY: the first owner, as above.
        registry.1.with_mut(|owner| unsafe { *owner = 4 });
        let first = registry.0.get(HeapId::new(1).unwrap()).unwrap();
        registry.0.put_dead(NonNull::from(first), Remains::Empty);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(registry.0.nr_dead(), 1);
        free_all(&registry.0);
    });
}

fn ask(registry: &Registry, mut work: impl FnMut()) -> bool {
    let take = |_: &Heap| {
        work();
        Some(true)
    };
    registry.ask_commons(NodeId::ZERO, SizeClass::of(16).unwrap(), take)
}

/// Whoever is at work on the commons is alone there, also with a kswapd that takes heaps out.
#[test]
fn commons() {
    check("registry:commons", &["adopted", "busy-or-none", "kept"], || {
        let registry = Arc::new((Registry::new(), UnsafeCell::new(0)));
        let heap = publish(&registry.0);
        // SAFETY: stands for the slabs of the heap, in turns by whoever the registry lets in.
        let work = |cell: &UnsafeCell<u32>| cell.with_mut(|n| unsafe { *n += 1 });
        let adopter = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                let is_adopted = ask(&registry.0, || work(&registry.1));
                reached(if is_adopted { "adopted" } else { "busy-or-none" });
            })
        };
        let kswapd = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                if let Some((heap, remains)) = registry.0.take_any(|_| true) {
                    reached("kept");
                    work(&registry.1);
                    registry.0.put_dead(heap, remains);
                }
            })
        };
        let worthy = |_: &Entered<'_>| {
            work(&registry.1);
            1
        };
        registry.0.put_common(heap, worthy, |_, _| unreachable!("there are no others"));
        [adopter, kswapd].into_iter().for_each(|thread| thread.join().unwrap());
        assert!(ask(&registry.0, || ()), "it stays the commons");
        free_all(&registry.0);
    });
}

/// Only a model ever frees a heap: at its end, when nobody is left.
pub(super) fn free_all(registry: &Registry) {
    for heap in registry.all() {
        // SAFETY: made by `publish` from a box; nothing is used after this.
        drop(unsafe { Box::from_raw(NonNull::from(heap).as_ptr()) });
    }
}
