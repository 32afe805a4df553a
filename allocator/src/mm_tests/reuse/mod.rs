//! Objects of other heaps that are handed out again while much is in flight.

mod filled;

use std::sync::Mutex;

use super::*;
use crate::class::SizeClass;
use crate::sync::atomic::Ordering::Relaxed;

const SIZE: usize = 1024;
/// More than may be in flight beside what these tests charge.
const MUCH: usize = 32 << 20;

/// An owner that does not run, and what it allocated.
fn sleeper(mm: &'static Mm, size: usize) -> (Owner, Vec<NonNull<u8>>) {
    let owner = Owner::attach(mm);
    (owner, (0..MUCH / size).map(|_| owner.alloc(size, 8)).collect())
}

/// `other` frees so many bytes of a sleeper's blocks, and all of that is sent.
fn send(other: Owner, blocks: &mut Vec<NonNull<u8>>, size: usize, bytes: usize) {
    blocks.drain(blocks.len() - bytes / size..).for_each(|block| other.send_home(block));
    other.heap().enter().post_all(other.heap());
}

/// A sleeper, another thread that sent most of its blocks home, and the rest of them: much is in flight.
fn crowd(mm: &'static Mm, size: usize) -> (Owner, Owner, Vec<NonNull<u8>>) {
    let (asleep, mut blocks) = sleeper(mm, size);
    let other = Owner::attach(mm);
    send(other, &mut blocks, size, MUCH * 3 / 4);
    (asleep, other, blocks)
}

/// What is not sent yet: less than fills a message.
fn free_some(other: Owner, blocks: &mut Vec<NonNull<u8>>) -> Vec<NonNull<u8>> {
    let some: Vec<_> = blocks.drain(blocks.len() - 20..).collect();
    some.iter().for_each(|&block| other.send_home(block));
    some
}

/// `other` frees blocks of the size of these until its bin has no room: what it frees then is sent.
fn fill_bin(other: Owner, blocks: &mut Vec<NonNull<u8>>, size: usize) {
    let class = SizeClass::of(size).unwrap();
    // SAFETY: the test's thread owns the heap.
    let has_room = || unsafe { &(*other.heap().hot()).bins[class.index()] }.has_room();
    while has_room() {
        other.free(blocks.pop().unwrap());
    }
}

fn nr_slabs(owner: Owner, size: usize) -> u32 {
    owner.heap().enter().classes[SizeClass::of(size).unwrap().index()].nr_slabs
}

fn nr_reused(owner: Owner) -> u64 {
    owner.heap().enter().events.remote_reuse
}

fn end(mm: &'static Mm, owners: [Owner; 2]) {
    // SAFETY: the test's thread owns both heaps and does not use them again.
    owners.into_iter().for_each(|owner| unsafe { mm.detach(owner.0) });
    assert_nothing_left(mm);
}

#[test]
fn what_is_not_sent_serves_while_much_is_in_flight() {
    let mm = new_mm();
    let (asleep, other, mut blocks) = crowd(mm, SIZE);
    let unsent = free_some(other, &mut blocks);
    let again: Vec<_> = unsent.iter().map(|_| other.alloc(SIZE, 8)).collect();
    assert!(again.iter().all(|block| unsent.contains(block)), "each is used again");
    assert!(unsent.iter().all(|block| again.contains(block)), "once");
    assert_eq!((nr_slabs(other, SIZE), nr_reused(other)), (0, 20));
    blocks.push(other.alloc(SIZE, 8));
    assert_eq!(nr_slabs(other, SIZE), 1, "when there are none left, a slab is made");
    again.into_iter().chain(blocks).for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

#[test]
fn they_go_home_otherwise() {
    let mm = new_mm();
    let (asleep, mut blocks) = sleeper(mm, SIZE);
    let other = Owner::attach(mm);
    let unsent = free_some(other, &mut blocks);
    let own = other.alloc(SIZE, 8);
    assert!(!unsent.contains(&own), "next to nothing is in flight");
    assert_eq!((nr_slabs(other, SIZE), nr_reused(other)), (1, 0));
    blocks.push(own);
    blocks.into_iter().for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

/// What was put on the stacks is the owner's again as soon as it has taken in what is in flight.
#[test]
fn none_stays_once_its_owner_ran() {
    let mm = new_mm();
    let (asleep, other, mut blocks) = crowd(mm, SIZE);
    free_some(other, &mut blocks);
    blocks.push(other.alloc(SIZE, 8));
    assert!(other.heap().reuses.load(Relaxed), "19 are left");
    asleep.heap().enter().collect(asleep.heap(), || false);
    // A slab of another class is to be made.
    blocks.push(other.alloc(2 * SIZE, 8));
    assert!(!other.heap().reuses.load(Relaxed));
    other.heap().enter().post_all(other.heap());
    asleep.heap().enter().collect(asleep.heap(), || false);
    let free = asleep.heap().enter().events.remote_free;
    assert_eq!(free, (MUCH * 3 / 4 / SIZE + 19) as u64, "all but the one in use came home");
    blocks.into_iter().for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

/// A thread that sleeps keeps none, as it keeps no unsent messages.
#[test]
fn a_drained_heap_has_none() {
    let mm = new_mm();
    let (asleep, other, mut blocks) = crowd(mm, SIZE);
    free_some(other, &mut blocks);
    blocks.push(other.alloc(SIZE, 8));
    assert!(other.heap().reuses.load(Relaxed));
    mm.drain_all(None);
    assert!(!other.heap().reuses.load(Relaxed));
    blocks.into_iter().for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

/// Neighbours in one line would be in the hands of two threads.
#[test]
fn parts_of_lines_go_home() {
    for size in [32, 80, 240] {
        let mm = new_mm();
        let (asleep, other, mut blocks) = crowd(mm, size);
        let nr = (20 << 10) / size;
        blocks.drain(blocks.len() - nr..).for_each(|block| other.send_home(block));
        assert!(mm.is_crowded());
        blocks.push(other.alloc(size, 8));
        assert_eq!((nr_slabs(other, size), nr_reused(other)), (1, 0));
        blocks.into_iter().for_each(|block| other.free(block));
        end(mm, [asleep, other]);
    }
}

/// While the first one waits to be used again the second one is seen, also with another one in between.
#[test]
fn a_double_free_beside_others_is_not_handed_out_twice() {
    let mm = new_mm();
    let (asleep, other, mut blocks) = crowd(mm, SIZE);
    let twice = free_some(other, &mut blocks)[10];
    other.free(twice);
    let again: Vec<_> = (0..30).map(|_| other.alloc(SIZE, 8)).collect();
    let found = other.heap().take_fault().map(|bad| (bad.addr, bad.kind));
    assert_eq!(found, Some((twice.addr().get(), BadKind::DoubleFree)));
    assert_eq!(again.iter().filter(|&&block| block == twice).count(), 1);
    again.into_iter().chain(blocks).for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

/// Freed by its owner, too, whose slabs are gone: it goes home, where that is told.
#[test]
fn what_lies_in_no_slab_any_more_is_not_handed_out() {
    let mm = new_mm();
    let (asleep, mut blocks) = sleeper(mm, SIZE);
    let (other, third) = (Owner::attach(mm), Owner::attach(mm));
    let few: Vec<_> = (0..20).map(|_| third.alloc(2 * SIZE, 8)).collect();
    send(other, &mut blocks, SIZE, MUCH * 3 / 4);
    few.iter().for_each(|&block| other.free(block));
    few.iter().for_each(|&block| third.free(block));
    third.heap().enter().drain_owned(Deadline::NEVER);
    assert!(mm.is_crowded());
    let new = other.alloc(2 * SIZE, 8);
    assert_eq!((nr_slabs(other, 2 * SIZE), nr_reused(other)), (1, 0));
    mm.validate(None).unwrap();
    other.heap().enter().post_all(other.heap());
    mm.validate(None).unwrap();
    third.heap().enter().collect(third.heap(), || false);
    let found = third.heap().take_fault().map(|bad| bad.kind);
    assert_eq!(found, Some(BadKind::DoubleFree));
    blocks.into_iter().chain([new]).for_each(|block| other.free(block));
    // SAFETY: this thread owns it and does not use it again.
    unsafe { mm.detach(third.0) };
    end(mm, [asleep, other]);
}

/// Where its frees would be no hits for ever.
#[test]
fn with_a_few_a_slab_is_made_all_the_same() {
    for nr_nodes in [1, 2] {
        few_do_not_serve(nr_nodes, 64, 5, 1);
    }
    // A look takes as much of the outbox as would make the next one worth while.
    few_do_not_serve(2, 8192, 20, 1);
    few_do_not_serve(1, 8192, 20, 0);
}

fn few_do_not_serve(nr_nodes: usize, size: usize, nr: usize, nr_made: u32) {
    let mm = fake_mm(nr_nodes);
    let (asleep, mut blocks) = sleeper(mm, SIZE);
    let other = Owner::attach(mm);
    let few: Vec<_> = (0..nr).map(|_| asleep.alloc(size, 8)).collect();
    send(other, &mut blocks, SIZE, MUCH * 3 / 4);
    free_some(other, &mut blocks);
    few.into_iter().for_each(|block| other.send_home(block));
    let refills = || other.heap().enter().events.bin_refill;
    let before = refills();
    for _ in 0..1000 {
        other.free(other.alloc(size, 8));
    }
    assert!(refills() - before <= 3, "hits: {} refills", refills() - before);
    assert_eq!(nr_slabs(other, size), nr_made);
    mm.validate(Some(other.0)).unwrap();
    blocks.into_iter().for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

/// What heaps count by themselves is no more than a part of what may be in flight, and comes to the sum.
#[test]
fn nothing_is_in_flight_when_all_is_home() {
    let mm = new_mm();
    let freer = Owner::attach(mm);
    let owners: Vec<_> = (0..200).map(|_| Owner::attach(mm)).collect();
    for owner in &owners {
        let blocks: Vec<_> = (0..61).map(|_| owner.alloc(SIZE, 8)).collect();
        blocks.into_iter().for_each(|block| freer.free(block));
        freer.heap().enter().post_all(freer.heap());
    }
    assert!(mm.is_crowded());
    owners.iter().for_each(|o| assert!(o.heap().enter().collect(o.heap(), || false)));
    assert!(!mm.is_crowded());
    mm.drain_all(None);
    assert_eq!(mm.flight().sum(), 0);
    // SAFETY: this thread owns them and does not use them again.
    owners.into_iter().chain([freer]).for_each(|owner| unsafe { mm.detach(owner.0) });
    assert_nothing_left(mm);
}

/// What an owner has taken in is its own business, opened or not.
#[test]
fn what_a_running_owner_has_not_opened_is_not_in_flight() {
    let mm = new_mm();
    let other = Owner::attach(mm);
    let owners: Vec<_> = (0..8).map(|_| Owner::attach(mm)).collect();
    for owner in &owners {
        let blocks: Vec<_> = (0..1800).map(|_| owner.alloc(SIZE, 8)).collect();
        blocks.into_iter().for_each(|block| other.free(block));
    }
    other.heap().enter().post_all(other.heap());
    assert!(mm.is_crowded());
    for owner in &owners {
        // SAFETY: this thread owns the heap.
        let pop = || NonNull::new(unsafe { HeapHot::pop(owner.heap().hot(), SIZE) });
        let left: Vec<_> = core::iter::from_fn(pop).collect();
        owner.free(owner.alloc_missed(SIZE, 8));
        left.into_iter().for_each(|block| owner.free(block));
        assert!(owner.heap().inbox.is_empty() && !owner.heap().enter().received.is_null());
    }
    assert!(!mm.is_crowded());
    // SAFETY: this thread owns them and does not use them again.
    owners.into_iter().chain([other]).for_each(|owner| unsafe { mm.detach(owner.0) });
    assert_nothing_left(mm);
}

/// Threads that free each other's objects while somebody sleeps and others come and go: no object is in two
/// hands.
#[test]
fn threads_reuse_while_others_drain() {
    const SHARED: usize = 4096;
    // On one node fewer objects go home.
    let mm = fake_mm(2);
    let (asleep, mut blocks) = sleeper(mm, SIZE);
    let sender = Owner::attach(mm);
    send(sender, &mut blocks, SIZE, MUCH * 3 / 4);
    let shared: Vec<Mutex<Option<Filled>>> = (0..SHARED).map(|_| Mutex::new(None)).collect();
    // Its inbox is never opened: visitors pass by.
    let inside = asleep.heap().enter();
    let nr: u64 = std::thread::scope(|scope| {
        let threads = [1, 2, 3].map(|seed| {
            let shared = &shared;
            scope.spawn(move || {
                let (mut rng, mut reused) = (Rng(seed), 0);
                for _ in 0..4 {
                    let owner = Owner::attach(mm);
                    let before = nr_reused(owner);
                    for i in 0..10_000 {
                        let new = Filled::new(owner, 16 + rng.next() as usize % 3000, 8, i as u8);
                        let slot = &shared[rng.next() as usize % SHARED];
                        let old = slot.lock().unwrap().replace(new);
                        old.into_iter().for_each(|old| old.release(owner));
                        if seed == 3 && i % 2500 == 0 {
                            mm.drain_all(None);
                        }
                    }
                    reused += nr_reused(owner) - before;
                    // SAFETY: the thread is done with it.
                    unsafe { mm.detach(owner.0) };
                }
                reused
            })
        });
        threads.map(|thread| thread.join().unwrap()).into_iter().sum()
    });
    drop(inside);
    assert!(nr > 0);
    shared
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap())
        .for_each(|f| f.release(sender));
    blocks.into_iter().for_each(|block| sender.free(block));
    end(mm, [asleep, sender]);
}
