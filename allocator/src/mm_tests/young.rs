//! The first objects of a class, which many threads take from slabs that all of them share.

use std::collections::{BTreeMap, BTreeSet};

use zonal_numa::NodeId;

use super::*;
use crate::class::SizeClass;
use crate::refill::MIN_THREADS_TO_SHARE;
use crate::registry::Remains;
use crate::visit::sweep::Sweep;

const LINE: usize = 64;
const SIZE: usize = 112;

/// The classes of which the first objects are shared.
fn young() -> impl Iterator<Item = SizeClass> {
    SizeClass::all().filter(|class| (32..=1024).contains(&class.size()))
}

/// Heaps of as many threads as share, and of one more.
fn many(mm: &'static Mm) -> (Vec<Owner>, Owner) {
    let others = (0..MIN_THREADS_TO_SHARE).map(|_| Owner::attach(mm)).collect();
    (others, Owner::attach(mm))
}

fn nr_slabs(owner: Owner) -> u32 {
    owner.heap().enter().classes.iter().map(|class| class.nr_slabs).sum()
}

fn commons(mm: &'static Mm) -> &'static Heap {
    mm.registry.all().find(|heap| heap.is_dead()).expect("commons")
}

/// All objects are freed by other threads than those that took them, and all threads end.
fn end(mm: &'static Mm, owners: &[Owner], blocks: impl IntoIterator<Item = NonNull<u8>>) {
    blocks.into_iter().zip(owners.iter().cycle()).for_each(|(block, owner)| owner.free(block));
    // SAFETY: the test's thread owns the heaps and does not use them again.
    owners.iter().for_each(|owner| unsafe { mm.detach(owner.0) });
    assert_nothing_left(mm);
}

#[test]
fn threads_share_pages_and_no_line() {
    let mm = fake_mm(1);
    let (mut owners, last) = many(mm);
    let first = owners.len();
    owners.push(last);
    owners.extend((0..28).map(|_| Owner::attach(mm)));
    let mut pages = BTreeSet::new();
    let mut lines = BTreeMap::new();
    let mut blocks = Vec::new();
    for (i, owner) in owners.iter().enumerate().skip(first) {
        // The second time round they go on with what they took first.
        for class in young().chain(young()) {
            let block = owner.alloc(class.size(), 8);
            let at = block.addr().get();
            for line in at / LINE..(at + class.size()).div_ceil(LINE) {
                assert_eq!(*lines.entry(line).or_insert(i), i, "{class:?}");
            }
            pages.insert(at / PAGE_SIZE);
            blocks.push(block);
        }
        assert_eq!(nr_slabs(*owner), 0);
    }
    let nr_young = young().count();
    let nr_bytes: usize = young().map(|class| 2 * class.size()).sum();
    let (nr_owners, nr_pages) = (owners.len() - first, pages.len());
    assert!(nr_pages <= nr_young + 2 * nr_owners * nr_bytes / PAGE_SIZE, "{nr_pages} pages");
    assert_eq!(BTreeSet::from_iter(&blocks).len(), blocks.len());
    mm.validate(Some(last.0)).unwrap();
    end(mm, &owners, blocks);
}

#[test]
fn a_thread_that_goes_on_has_slabs_of_its_own() {
    let mm = fake_mm(1);
    let (mut owners, last) = many(mm);
    let mut blocks: Vec<_> = (0..40).map(|_| last.alloc(SIZE, 8)).collect();
    assert_eq!((blocks.len(), nr_slabs(last)), (40, 1));
    // Objects of the commons are hits as its own, and go home when they leave its bin.
    for at in [0, 39] {
        last.free(blocks[at]);
        assert_eq!(last.alloc(SIZE, 8), blocks[at]);
    }
    blocks.extend((0..4000).map(|_| last.alloc(SIZE, 8)));
    owners.push(last);
    mm.validate(Some(last.0)).unwrap();
    end(mm, &owners, blocks);
}

/// Where it would not pay, or what a bin frees would not stay there, although there are commons.
#[test]
fn others_have_slabs_of_their_own_from_the_start() {
    let config = Config { checked: true, ..Config::default() };
    let checked = || Mm::new(Machine::fake(FakeBuilder::new().build()), config).unwrap();
    let ask = |mm: &'static Mm, owner: Owner, size: usize| {
        let heap = mm.make_heap(owner.heap().node(), false).unwrap();
        mm.registry.put_dead(heap, Remains::Common);
        owner.alloc_for(Request { size, align: 8, zeroed: false, grows: false });
        nr_slabs(owner)
    };
    for size in [16, 2048] {
        let mm = fake_mm(1);
        assert_eq!(ask(mm, many(mm).1, size), 1, "{size} bytes");
    }
    for mm in [fake_mm(2), checked()] {
        assert_eq!(ask(mm, many(mm).1, SIZE - 40), 1);
    }
    let mm = fake_mm(1);
    let owners: Vec<_> = (1..MIN_THREADS_TO_SHARE).map(|_| Owner::attach(mm)).collect();
    assert_eq!(ask(mm, owners[0], SIZE), 1, "few threads");
    Owner::attach(mm);
    assert_eq!(ask(mm, owners[1], SIZE), 0);
    let pinned = Owner(mm.attach_on(NodeId::ZERO, false).unwrap());
    assert_eq!(ask(mm, pinned, SIZE), 1, "of a node by name");
}

#[test]
fn commons_are_made_once() {
    let mm = fake_mm(1);
    let (_, last) = many(mm);
    let nr_heaps = mm.registry.nr_heaps();
    assert_eq!(nr_heaps, MIN_THREADS_TO_SHARE + 2);
    let (common, remains) = mm.registry.take_any(|_| true).unwrap();
    assert_eq!(remains, Remains::Common);
    Owner::attach(mm);
    assert_eq!(mm.registry.nr_heaps(), nr_heaps + 1, "kswapd has them out");
    // Who finds none asks for a while.
    (0..5000).for_each(|_| _ = last.alloc(SIZE, 8));
    let class = SizeClass::of(SIZE).unwrap().index();
    assert_eq!(last.heap().enter().classes[class].young_misses, 2);
    mm.registry.put_dead(common, remains);
    mm.registry.bury_all_but(Some(last.0));
    mm.pages().set_threads(MIN_THREADS_TO_SHARE);
    Owner::attach(mm);
    commons(mm);
    assert_eq!(mm.registry.nr_heaps(), nr_heaps + 2, "a child has its own");
}

/// Nobody waits for the commons.
#[test]
fn a_thread_that_finds_somebody_there_makes_its_own() {
    for has_slab in [false, true] {
        let mm = fake_mm(1);
        let (owners, last) = many(mm);
        if has_slab {
            owners[0].alloc(SIZE, 8);
            assert_eq!(nr_slabs(owners[0]), 0);
        }
        let visitor = mm.registry.visit_dead(commons(mm)).entered().unwrap();
        last.alloc(SIZE, 8);
        assert_eq!(nr_slabs(last), 1);
        assert_eq!(last.heap().enter().pcp.stats(mm.pages()).count, 0, "not two");
        drop(visitor);
        mm.validate(Some(last.0)).unwrap();
    }
}

/// What came back to the commons serves before a new slab is made.
#[test]
fn what_comes_home_is_handed_out_again() {
    let mm = fake_mm(1);
    let (mut owners, last) = many(mm);
    let nr = SizeClass::of(1024).unwrap().objects();
    owners.extend((0..nr).map(|_| Owner::attach(mm)));
    let blocks: Vec<_> = owners.iter().take(nr).map(|owner| owner.alloc(1024, 8)).collect();
    let nr_common = || commons(mm).try_enter_unnoted().unwrap().events.slab_alloc;
    assert_eq!(nr_common(), 1);
    assert!(!commons(mm).is_drained(), "kswapd looks at what nobody took of it");
    owners[0].free(blocks[0]);
    owners[0].heap().enter().drain_owned(Deadline::NEVER);
    assert_eq!(last.alloc(1024, 8), blocks[0]);
    assert_eq!((nr_common(), nr_slabs(last)), (1, 0));
    owners[nr].alloc(1024, 8);
    assert_eq!(nr_common(), 2);
    mm.validate(Some(last.0)).unwrap();
}

/// kswapd gives back what nobody took of a slab, and those that come later go on beside the holes.
#[test]
fn holes_of_the_commons_stay_holes() {
    let mm = fake_mm(1);
    let (owners, last) = many(mm);
    let holes = || -> u16 {
        let inner = commons(mm).try_enter_unnoted().unwrap();
        let slab = inner.classes[SizeClass::of(SIZE).unwrap().index()].partial.head;
        // SAFETY: list members are live, and we are inside the gate.
        unsafe { (*slab).holes }
    };
    let first = owners[0].alloc(SIZE, 8);
    assert_eq!(holes(), 0);
    for _ in 0..2 {
        let how = PurgeHow::ALL;
        let all = Sweep { how, idle_for: 0, step_pages: 256, max_pages: usize::MAX };
        mm.sweep(Some(last.0), all);
    }
    assert_eq!(holes(), 0xFE);
    let charged = mm.pages().charged();
    let next = last.alloc(SIZE, 8);
    assert_eq!(next.addr().get() / PAGE_SIZE, first.addr().get() / PAGE_SIZE);
    assert_eq!((holes(), mm.pages().charged()), (0xFE, charged));
    assert_eq!(commons(mm).try_enter_unnoted().unwrap().events.slab_alloc, 1);
    mm.validate(Some(last.0)).unwrap();
}
