//! Objects of other heaps in a thread's bins.

use std::sync::Mutex;

use zonal_numa::{MAX_NODES, NodeId};

use super::*;
use crate::class::SizeClass;
use crate::remote::group::Group;

const SIZE: usize = 256;

/// A heap, another one whose bin of `size` has an array, and the block for which that was made.
fn two(mm: &'static Mm, size: usize) -> ([Owner; 2], NonNull<u8>) {
    let [owner, other] = [(); 2].map(|()| Owner::attach(mm));
    let block = other.alloc(size, 8);
    ([owner, other], block)
}

/// How many objects `other` has to send.
fn nr_unsent(other: Owner) -> usize {
    other.heap().enter().open_messages().map(|message| message.nr as usize).sum()
}

fn nr_cached(owner: Owner, size: usize) -> usize {
    let class = SizeClass::of(size).unwrap();
    owner.heap().bin_len(class, &owner.heap().enter().classes[class.index()])
}

fn bad_of(p: NonNull<u8>, kind: BadKind) -> Option<crate::BadPointer> {
    Some(crate::BadPointer::new(p.addr().get(), kind))
}

fn end(mm: &'static Mm, owners: impl IntoIterator<Item = Owner>) {
    // SAFETY: the test's thread owns the heaps and does not use them again.
    owners.into_iter().for_each(|owner| unsafe { mm.detach(owner.0) });
    assert_nothing_left(mm);
}

#[test]
fn what_a_thread_frees_it_hands_out_again_whoever_owns_it() {
    let mm = fake_mm(1);
    for size in [Group::SHARED_FROM, 80, SIZE, 5000, 32 << 10] {
        let ([owner, other], block) = two(mm, size);
        let foreign = owner.alloc(size, 8);
        let before = nr_cached(other, size);
        other.free(foreign);
        assert_eq!((nr_cached(other, size), nr_unsent(other)), (before + 1, 0), "{size}");
        mm.validate(Some(other.0)).unwrap();
        assert_eq!(other.alloc(size, 8), foreign, "the one freed last");
        owner.free(foreign);
        owner.free(block);
        end(mm, [owner, other]);
    }
}

#[test]
fn parts_of_lines_and_what_is_of_several_nodes_go_home() {
    for (nr_nodes, size) in [(1, 8), (1, 16), (2, 16), (2, SIZE)] {
        let mm = fake_mm(nr_nodes);
        let ([owner, other], block) = two(mm, size);
        let foreign = owner.alloc(size, 8);
        let before = nr_cached(other, size);
        other.free(foreign);
        assert_eq!((nr_cached(other, size), nr_unsent(other)), (before, 1), "{nr_nodes}, {size}");
        other.free(block);
        end(mm, [owner, other]);
    }
}

/// What is of a node by name stays there, on a machine with one, too.
#[test]
fn heaps_of_a_node_keep_to_themselves() {
    let mm = fake_mm(1);
    let (owner, pinned) = (Owner::attach(mm), Owner(mm.attach_on(NodeId::ZERO, false).unwrap()));
    let [mine, its] = [owner, pinned].map(|it| it.alloc(SIZE, 8));
    owner.free(its);
    pinned.free(mine);
    assert_eq!([owner, pinned].map(nr_unsent), [1, 1]);
    end(mm, [owner, pinned]);
}

/// Also where both heaps have the same group by number, and the object went through the inbox of who freed it.
#[test]
fn checked_blocks_of_others_lie_in_no_bin() {
    let machine = FakeBuilder::new().nodes(MAX_NODES).build();
    let config = Config { checked: true, ..Config::default() };
    let mm = Mm::new(Machine::fake(machine), config).unwrap();
    let [owner, other] = [(); 2].map(|()| Owner::attach(mm));
    let class = SizeClass::of(SIZE).unwrap();
    let groups = [owner, other].map(|it| it.heap().slab_word(class).raw() as u16);
    assert_eq!(groups[0], groups[1], "one group a node");
    let request = |size| Request { size, align: 8, zeroed: false, grows: false };
    let [foreign, _own] = [owner, other].map(|it| it.alloc_for(request(SIZE - 50)));
    let visitor = visit(other);
    // SAFETY: nobody uses it any more.
    unsafe { other.heap().free(foreign) }.unwrap();
    drop(visitor);
    // Until it refills, and opens what it put aside.
    for _ in 0..400 {
        assert_ne!(other.alloc_for(request(SIZE - 50)), foreign);
    }
    other.heap().enter().drain_owned(Deadline::NEVER);
    assert_eq!(other.heap().take_fault(), None);
}

/// A full bin leaves what comes to others, or sends it, and where it spills its own, the others leave with it.
#[test]
fn what_leaves_a_bin_goes_home() {
    const NR: usize = 20_000;
    let mm = fake_mm(1);
    let ([owner, other], block) = two(mm, SIZE);
    let foreign: Vec<_> = (0..NR).map(|_| owner.alloc(SIZE, 8)).collect();
    let own: Vec<_> = (0..NR).map(|_| other.alloc(SIZE, 8)).collect();
    foreign.into_iter().for_each(|p| other.free(p));
    let nr_sent = |owner: Owner| {
        owner.heap().enter().collect(owner.heap(), || false);
        owner.heap().enter().events.remote_free
    };
    let at_first = nr_sent(owner) as usize;
    let nr_left = mm.barn().nr_of(SizeClass::of(SIZE).unwrap());
    assert!(at_first + nr_cached(other, SIZE) + nr_left >= NR - nr_unsent(other));
    own.into_iter().chain([block]).for_each(|p| other.free(p));
    other.heap().enter().post_all(other.heap());
    assert!(nr_sent(owner) as usize > at_first);
    mm.validate(Some(other.0)).unwrap();
    end(mm, [owner, other]);
}

/// A heap that is emptied sends them all; an owner that ended meanwhile gives its slabs to others.
#[test]
fn they_find_their_slab_where_it_moved_to() {
    let mm = fake_mm(1);
    let ([owner, other], block) = two(mm, SIZE);
    let all: Vec<_> = (0..2000).map(|_| owner.alloc(SIZE, 8)).collect();
    let word = |p: NonNull<u8>| {
        let map = &mm.pages().map;
        map.word_at(map.pfn_of(p.addr().get()).unwrap())
    };
    all.iter().step_by(200).for_each(|&p| other.free(p));
    let (first, before) = (all[0], word(all[0]));
    all.into_iter().enumerate().filter(|(i, _)| i % 200 != 0).for_each(|(_, p)| owner.free(p));
    // As many heaps as stay whole, and one that becomes the commons.
    let enders: Vec<_> = (0..5).map(|_| Owner::attach(mm)).collect();
    let blocks: Vec<_> = enders.iter().map(|ender| ender.alloc(100, 8)).collect();
    // SAFETY: the threads end.
    enders.into_iter().chain([owner]).for_each(|ender| unsafe { mm.detach(ender.0) });
    assert_ne!(word(first), before, "of the commons by now");
    blocks.into_iter().chain([block]).for_each(|p| other.free(p));
    end(mm, [other]);
}

/// Told when it leaves the bin, or at the end of the process.
#[test]
fn a_second_free_by_the_owner_is_told() {
    for (is_at_end, slab_stays) in [(false, false), (false, true), (true, true)] {
        let mm = fake_mm(1);
        let ([owner, other], _) = two(mm, SIZE);
        let (twice, live) = (owner.alloc(SIZE, 8), owner.alloc(SIZE, 8));
        if !slab_stays {
            owner.free(live);
        }
        other.free(twice);
        owner.free(twice);
        if is_at_end {
            assert_eq!(
                mm.check_bins(Some(owner.0)),
                None,
                "the other one may be at work on its bins"
            );
            assert_eq!(mm.check_bins(Some(other.0)), bad_of(twice, BadKind::DoubleFree));
            continue;
        }
        owner.heap().enter().drain_owned(Deadline::NEVER);
        let pfn = mm.pages().map.pfn_of(twice.addr().get()).unwrap();
        let is_gone = mm.pages().map.word_at(pfn).as_slab().is_none();
        other.heap().enter().drain_owned(Deadline::NEVER);
        owner.heap().enter().collect(owner.heap(), || false);
        assert_eq!(is_gone, !slab_stays);
        let teller = if is_gone { other } else { owner };
        assert_eq!(teller.heap().take_fault(), bad_of(twice, BadKind::DoubleFree));
    }
}

/// With room in the bin, and without.
#[test]
fn a_second_free_in_a_row_is_told_at_once() {
    for is_full in [false, true] {
        let mm = fake_mm(1);
        let ([owner, other], block) = two(mm, SIZE);
        let class = SizeClass::of(SIZE).unwrap();
        // SAFETY: the test's thread owns the heap.
        let has_room = || unsafe { &(*other.heap().hot()).bins[class.index()] }.has_room();
        // Something that opens a message to the owner.
        other.free(owner.alloc(8, 8));
        let mut twice = owner.alloc(SIZE, 8);
        other.free(twice);
        while is_full && has_room() {
            twice = owner.alloc(SIZE, 8);
            other.free(twice);
        }
        // SAFETY: as above; a second free is what is told.
        let again = unsafe {
            let missed = HeapHot::try_push(other.heap().hot(), twice.as_ptr());
            assert!(matches!(missed, crate::Push::Unknown));
            assert!(!other.heap().free_to_open(twice));
            assert!(!other.heap().free_opening(twice));
            other.heap().free(twice)
        };
        assert_eq!(again.err(), bad_of(twice, BadKind::DoubleFree));
        other.free(block);
        end(mm, [owner, other]);
    }
}

/// In the place of a heap's number their words have a part of their length.
#[test]
fn large_blocks_are_no_objects() {
    const MIB: usize = 1 << 20;
    let mm = fake_mm(1);
    let owners: [_; 3] = [(); 3].map(|()| Owner::attach(mm));
    let [first, second, other] = owners;
    for owner in [first, second] {
        other.free(owner.alloc(8, 8));
    }
    for size in [4 * MIB, 8 * MIB, 8 * MIB + 4096, 12 * MIB] {
        for _ in 0..2 {
            let block = other.alloc(size, 8);
            // So that it knows of the page.
            other.heap().sync_hot();
            // SAFETY: the test's thread owns the heap.
            unsafe {
                assert!(!HeapHot::push(other.heap().hot(), block.as_ptr()));
                assert!(!other.heap().free_to_open(block), "{size}");
                assert!(!other.heap().free_opening(block), "{size}");
            }
            other.free(block);
        }
    }
    end(mm, owners);
}

/// Two threads that have heaps of one node share what is of half a line and more.
#[test]
fn heaps_of_one_node_share() {
    let mm = fake_mm(1);
    for (size, is_shared) in [(8, false), (16, false), (32, true), (SIZE, true)] {
        let [owner, other] = [(); 2].map(|()| Owner(mm.attach_on(NodeId::ZERO, false).unwrap()));
        let (foreign, block) = (owner.alloc(size, 8), other.alloc(size, 8));
        let before = nr_cached(other, size);
        other.free(foreign);
        let got = (nr_cached(other, size) - before, nr_unsent(other));
        assert_eq!(got, if is_shared { (1, 0) } else { (0, 1) }, "{size}");
        other.free(block);
        end(mm, [owner, other]);
    }
}

/// The thread may be at work: what it had in its bin a moment ago may have been handed on, freed and given back.
#[test]
fn what_a_visitor_finds_of_others_may_be_gone() {
    let mm = fake_mm(1);
    let ([owner, other], block) = two(mm, SIZE);
    let foreign = owner.alloc(SIZE, 8);
    owner.free(foreign);
    owner.heap().enter().drain_owned(Deadline::NEVER);
    // As a slot is that was read late.
    let class = SizeClass::of(SIZE).unwrap();
    let slot = other.heap().enter().classes[class.index()].array.wrapping_add(1);
    // SAFETY: a slot of a bin that holds more than one object, and whose owner is this thread.
    let before = unsafe { slot.replace(foreign.as_ptr()) };
    assert_eq!(mm.check_bins(Some(owner.0)), None);
    assert!(mm.check_bins(Some(other.0)).is_some(), "nobody is at work: it is there indeed");
    other.free(NonNull::new(before).unwrap());
    other.free(block);
    end(mm, [owner, other]);
}

#[test]
fn an_address_inside_one_is_told() {
    for is_at_end in [false, true] {
        let mm = fake_mm(1);
        let ([owner, other], _) = two(mm, SIZE);
        let p = owner.alloc(SIZE, 8);
        // SAFETY: inside the block.
        let inside = unsafe { p.add(16) };
        other.free(inside);
        if is_at_end {
            assert_eq!(mm.check_bins(Some(other.0)), bad_of(inside, BadKind::Interior));
            continue;
        }
        other.heap().enter().drain_owned(Deadline::NEVER);
        assert_eq!(other.heap().take_fault(), bad_of(inside, BadKind::Interior));
        assert_eq!(nr_unsent(other), 0);
    }
}

/// A child has what the bins of threads hold that are gone.
#[test]
fn they_come_home_in_a_forked_child() {
    for is_torn in [false, true] {
        let mm = fake_mm(1);
        let ([owner, other], block) = two(mm, SIZE);
        let foreign = owner.alloc(SIZE, 8);
        other.free(foreign);
        let child = Owner::attach(mm);
        mm.prefork(Some(child.0));
        owner.heap().set_torn(is_torn);
        mm.postfork_child(Some(child.0));
        child.free(block);
        mm.drain_all(Some(child.0));
        mm.validate(Some(child.0)).unwrap();
        if !is_torn {
            end(mm, [child]);
        }
    }
}

/// No object is in two hands, and none is lost.
#[test]
fn threads_free_what_others_allocated() {
    const SHARED: usize = 2048;
    let mm = fake_mm(1);
    let shared: Vec<Mutex<Option<Filled>>> = (0..SHARED).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for seed in [1, 2, 3] {
            let shared = &shared;
            scope.spawn(move || {
                let mut rng = Rng(seed);
                for _ in 0..4 {
                    let owner = Owner::attach(mm);
                    for i in 0..20_000 {
                        let r = rng.next() as usize;
                        let size = if r.is_multiple_of(1000) { r % (9 << 20) } else { r % 600 };
                        let new = Filled::new(owner, size, 8, i as u8);
                        let slot = &shared[rng.next() as usize % SHARED];
                        let old = slot.lock().unwrap().replace(new);
                        old.into_iter().for_each(|old| old.release(owner));
                        if seed == 3 && i % 2500 == 0 {
                            mm.drain_all(Some(owner.0));
                        }
                    }
                    // SAFETY: the thread is done with it.
                    unsafe { mm.detach(owner.0) };
                }
            });
        }
    });
    let last = Owner::attach(mm);
    shared.into_iter().filter_map(|slot| slot.into_inner().unwrap()).for_each(|f| f.release(last));
    assert_eq!(mm.check_bins(Some(last.0)), None);
    end(mm, [last]);
}
