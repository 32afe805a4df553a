//! What ended threads leave: whole heaps, empty ones, and slabs for all.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Mutex;
use std::vec::Vec;

use zonal_numa::fake::FakeBuilder;
use zonal_numa::{Machine, NodeId};

use super::{Filled, Owner, Rng, new_mm, without_commons};
use crate::purge::PurgeHow;
use crate::visit::sweep::Sweep;
use crate::{BadKind, Config, Deadline, Mm, Patience, SizeClass};

/// Pages handed out by the zone.
fn nr_out(mm: &Mm) -> u64 {
    mm.pages().zone_stats(NodeId::ZERO).unwrap().zone.nr_out
}

/// Of many threads that end, a few leave their heaps whole for the next ones; what the others held
/// goes back to the zone, and those that follow find it there.
#[test]
fn few_heaps_of_ended_threads_stay_whole() {
    let mm = new_mm();
    let owners: [_; 12] = without_commons(mm);
    for &owner in &owners {
        let blocks: Vec<_> = (1..200).map(|i| owner.alloc(i * 40, 8)).collect();
        blocks.into_iter().for_each(|p| owner.free(p));
    }
    let before = nr_out(mm);
    for &owner in &owners {
        // SAFETY: the heap is not used any more.
        unsafe { mm.detach(owner.0) };
    }
    assert_eq!(mm.registry.nr_dead(), 12);
    assert!(mm.registry.nr_whole() < 4, "{}", mm.registry.nr_whole());
    assert!(nr_out(mm) * 3 < before, "{} of {before} pages", nr_out(mm));
    let whole = Owner::attach(mm);
    let nr_slabs: u32 = whole.heap().enter().classes.iter().map(|class| class.nr_slabs).sum();
    assert!(nr_slabs > 0, "whole ones come first");
    mm.validate(Some(whole.0)).unwrap();
}

/// Empty slabs are for a few threads: among many each keeps next to none.
#[test]
fn many_threads_keep_no_empty_slabs() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let kept = |nr_threads| {
        mm.pages().set_threads(nr_threads);
        let blocks: Vec<_> = (1..400).map(|i| owner.alloc(i * 80, 8)).collect();
        blocks.into_iter().for_each(|p| owner.free(p));
        let mut inner = owner.heap().enter();
        SizeClass::all().for_each(|class| inner.flush_bin(owner.heap(), class));
        inner.empty_bytes
    };
    let (few, many) = (kept(1), kept(2000));
    assert!(few > 1 << 20 && many < 64 << 10, "{few} and {many} bytes");
    mm.validate(Some(owner.0)).unwrap();
}

/// As many heaps of ended threads as stay whole: those that end from here on are emptied.
fn fill_pool(mm: &'static Mm) {
    let owners: Vec<_> = (0..4).map(|_| Owner::attach(mm)).collect();
    for owner in owners {
        // SAFETY: the heap is not used any more.
        unsafe { mm.detach(owner.0) };
    }
}

/// What an ended thread's objects leave free in their slabs serves the other threads.
#[test]
fn slabs_of_ended_threads_serve_others() {
    let mm = new_mm();
    let (first, second, third) = (Owner::attach(mm), Owner::attach(mm), Owner::attach(mm));
    fill_pool(mm);
    let mut blocks: Vec<_> =
        (0..20_000).map(|i| Filled::new(first, 16 + i % 900, 8, i as u8)).collect();
    let mut nr = 0;
    let (kept, gone): (Vec<_>, Vec<_>) = blocks.drain(..).partition(|_| {
        nr += 1;
        nr % 16 == 0
    });
    gone.into_iter().for_each(|block| block.release(first));
    // Some are on their way to the first thread's heap when its slabs change hands.
    let (travelling, kept) = (kept.len() / 2, kept);
    let mut kept = kept.into_iter();
    kept.by_ref().take(travelling).for_each(|block| block.release(third));
    // SAFETY: the heap is not used any more.
    unsafe { mm.detach(first.0) };
    let before = nr_out(mm);
    let others: Vec<_> =
        (0..10_000).map(|i| Filled::new(second, 16 + i % 900, 8, i as u8)).collect();
    assert!(nr_out(mm) < before + before / 4, "{before} pages before, {} after", nr_out(mm));
    assert_eq!(mm.check_bins(Some(second.0)), None);
    mm.validate(Some(second.0)).unwrap();
    kept.for_each(|block| block.release(third));
    others.into_iter().for_each(|block| block.release(second));
    // Everything has found its slab, wherever that went.
    mm.drain_all(Some(second.0));
    mm.drain_all(Some(second.0));
    for owner in [second, third] {
        mm.drain_own(owner.0, Patience::Wait, Deadline::NEVER);
    }
    mm.drain_all(Some(second.0));
    assert_eq!(nr_out(mm), 0);
    mm.validate(Some(second.0)).unwrap();
}

/// The same for what comes back to it only after the thread has ended.
#[test]
fn what_comes_back_later_serves_others() {
    let mm = new_mm();
    let (commons, ended, other) = (Owner::attach(mm), Owner::attach(mm), Owner::attach(mm));
    fill_pool(mm);
    let blocks: Vec<_> = (0..2000).map(|_| ended.alloc(200, 8)).collect();
    for owner in [commons, ended] {
        // SAFETY: the heap is not used any more.
        unsafe { mm.detach(owner.0) };
    }
    blocks.iter().step_by(2).for_each(|&p| other.free(p));
    mm.drain_own(other.0, Patience::Wait, Deadline::NEVER);
    mm.drain_all(Some(other.0));
    let others: Vec<_> = (0..900).map(|_| other.alloc(200, 8)).collect();
    assert_eq!(other.heap().enter().events.slab_alloc, 0, "what came back serves");
    others.iter().chain(blocks.iter().skip(1).step_by(2)).for_each(|&p| other.free(p));
    mm.validate(Some(other.0)).unwrap();
}

/// Whoever finds nothing for himself in the commons of his node hides those of no other, nor what comes
/// back to it later.
#[test]
fn each_node_has_its_commons() {
    let machine = FakeBuilder::new().nodes(2).build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let [here, there] = [0, 1].map(|index| NodeId::from_index(index).unwrap());
    let [(gone_here, here_too), (gone_there, there_too)] = [here, there].map(|node| {
        machine.run_on(node);
        (Owner::attach(mm), Owner::attach(mm))
    });
    fill_pool(mm);
    let has_common = |node| mm.registry.has_common(node, SizeClass::of(200).unwrap());
    let mut kept = Vec::new();
    for owner in [gone_here, gone_there] {
        let blocks: Vec<_> = (0..2000).map(|_| owner.alloc(200, 8)).collect();
        let (full, half) = blocks.split_at(1000);
        half.iter().step_by(2).for_each(|&p| owner.free(p));
        kept.extend_from_slice(full);
        // SAFETY: the heap is not used any more.
        unsafe { mm.detach(owner.0) };
    }
    assert!(has_common(here) && has_common(there));
    (0..2000).for_each(|_| _ = here_too.alloc(200, 8));
    assert!(!has_common(here) && has_common(there), "all of it was taken");
    there_too.alloc(200, 8);
    assert_eq!(there_too.heap().enter().events.slab_alloc, 0, "what lies there serves");
    kept.into_iter().step_by(2).for_each(|p| there_too.free(p));
    (0..3).for_each(|_| _ = mm.drain_all(Some(there_too.0)));
    mm.drain_own(there_too.0, Patience::Wait, Deadline::NEVER);
    mm.drain_all(Some(there_too.0));
    assert!(has_common(here), "objects came back");
    mm.validate(Some(here_too.0)).unwrap();
}

/// A double free is found although the slab has a new owner by the time that it arrives.
#[test]
fn a_double_free_follows_its_slab() {
    let mm = new_mm();
    let (first, other) = (Owner::attach(mm), Owner::attach(mm));
    fill_pool(mm);
    let blocks: Vec<_> = (0..100).map(|_| first.alloc(48, 8)).collect();
    let victim = blocks[50];
    // SAFETY: the test's thread owns the heap; that the second free is wrong is what is tested.
    let free = |p| unsafe { other.heap().free(p) };
    free(victim).unwrap();
    free(blocks[0]).unwrap();
    free(victim).unwrap();
    // SAFETY: the heap is not used any more.
    unsafe { mm.detach(first.0) };
    let bad = mm.check_bins(Some(other.0)).expect("a double free");
    assert_eq!((bad.addr, bad.kind), (victim.addr().get(), BadKind::DoubleFree));
}

/// Generations of threads that hand their objects on and end, while others drain and purge what
/// they leave: nothing is lost, nothing is handed out twice.
#[test]
fn objects_outlive_generations_of_threads() {
    const PARALLEL: u64 = 6;
    let mm = new_mm();
    let common: Mutex<Vec<Filled>> = Mutex::new(Vec::new());
    let is_over = AtomicBool::new(false);
    let live = |seed: u64| {
        let (owner, mut rng) = (Owner::attach(mm), Rng(seed));
        let mut own: Vec<Filled> = Vec::new();
        for i in 0..2000 {
            own.push(Filled::new(owner, 1 + rng.next() as usize % 1500, 8, i as u8));
            let at = rng.next() as usize % own.len();
            if i % 3 == 0 {
                own.swap_remove(at).release(owner);
            } else if i % 16 == 1 {
                let mut common = common.lock().unwrap();
                common.push(own.swap_remove(at));
                let at = rng.next() as usize % common.len();
                let other = common.swap_remove(at);
                drop(common);
                other.release(owner);
            }
        }
        common.lock().unwrap().append(&mut own);
        let mut common = common.lock().unwrap();
        let surplus = common.len().saturating_sub(10_000);
        let gone: Vec<_> = common.drain(..surplus).collect();
        drop(common);
        gone.into_iter().for_each(|block| block.release(owner));
        // SAFETY: the thread ends.
        unsafe { mm.detach(owner.0) };
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let how = PurgeHow::ALL;
            while !is_over.load(Relaxed) {
                mm.sweep(None, Sweep { how, idle_for: 0, step_pages: 256, max_pages: usize::MAX });
                mm.validate(None).unwrap();
                mm.drain_all(None);
            }
        });
        for generation in 1..25 {
            let threads = (0..PARALLEL).map(|n| scope.spawn(move || live(generation * 100 + n)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
        is_over.store(true, Relaxed);
    });
    let last = Owner::attach(mm);
    common.into_inner().unwrap().into_iter().for_each(|block| block.release(last));
    assert_eq!(mm.check_bins(Some(last.0)), None);
    for _ in 0..3 {
        mm.drain_own(last.0, Patience::Wait, Deadline::NEVER);
        mm.drain_all(Some(last.0));
    }
    assert_eq!(nr_out(mm), 0);
    mm.validate(Some(last.0)).unwrap();
}
