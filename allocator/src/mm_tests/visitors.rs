//! Heaps that others are in: visitors, forks, and calls that a signal interrupted.

use std::io::Write;

use zonal_numa::fake::{Call, FakeBuilder};

use super::*;
use crate::gate::Barrier;

/// A visitor in the heap of the thread that forks would leave it half-changed, and its gate shut.
#[test]
fn fork_waits_for_a_visitor_in_its_own_heap() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let heap = own.heap();
    assert!(heap.begin_visit());
    let forked = std::sync::atomic::AtomicBool::new(false);
    let is_forked = || forked.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: this thread plays the owner.
            let own = Some(unsafe { OwnHeap::new(NonNull::from(heap)) });
            mm.prefork(own);
            forked.store(true, std::sync::atomic::Ordering::Relaxed);
            mm.postfork_parent(own);
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!is_forked());
        heap.leave_open();
    });
    assert!(is_forked());
    own.alloc(100, 8);
}

/// So does one in the heap of an ended thread, which hears of it: a fork holds the pool meanwhile.
#[test]
fn who_is_in_a_heap_of_the_pool_makes_haste_for_a_fork() {
    let mm = new_mm();
    let [own, ended] = [(); 2].map(|()| Owner::attach(mm));
    let blocks: Vec<_> = (0..20_000).map(|_| ended.alloc(100, 8)).collect();
    // SAFETY: this thread owns both heaps.
    unsafe { mm.detach(ended.0) };
    blocks.into_iter().for_each(|block| own.free(block));
    own.heap().enter().post_all(own.heap());
    let mut visitor = mm.registry.visit_dead(ended.heap()).entered().unwrap();
    std::thread::scope(|scope| {
        let fork = scope.spawn(|| {
            mm.prefork(None);
            mm.postfork_parent(None);
        });
        while !visitor.heap().is_awaited() {
            std::thread::yield_now();
        }
        assert!(!visitor.drain(Deadline::NEVER).is_whole && !fork.is_finished());
        drop(visitor);
    });
    mm.drain_all(Some(own.0));
    mm.validate(Some(own.0)).unwrap();
}

/// A thread that waits for a visitor of its heap waits because of zonal.
#[test]
fn the_wait_for_a_visitor_is_counted() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let heap = own.heap();
    let visitor = visit(own);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(heap.enter()));
        while !visitor.is_wanted() {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(mm.vmstat().stats().throttled, 0, "it still waits");
        drop(visitor);
    });
    let stats = mm.vmstat().stats();
    assert_eq!(stats.throttled, 1);
    assert!(stats.longest_block_ns > 10_000_000, "{stats:?}");
    drop(heap.enter());
    assert_eq!(mm.vmstat().stats().throttled, 1, "nobody was there");
}

/// So is the wait of each who finds a lock held.
#[test]
fn the_wait_for_a_lock_is_counted() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let lock = mm.registry.raw_lock();
    std::thread::scope(|scope| {
        lock.acquire();
        scope.spawn(|| {
            lock.acquire();
            lock.release();
        });
        while !lock.is_awaited() {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        lock.release();
    });
    let events = snapshot(mm, Some(own.0)).process_events;
    assert_eq!(events.lock_waits, 1, "{events:?}");
    assert!(events.longest_lock_wait_ns > 10_000_000, "{events:?}");
    assert_eq!(events.lock_wait_ns, events.longest_lock_wait_ns);
    let _ = mm.registry.nr_dead();
    let nr_waits = snapshot(mm, Some(own.0)).process_events.lock_waits;
    assert_eq!(nr_waits, events.lock_waits, "nobody held it");
}

/// However much came back to a heap: a visitor goes as soon as the owner waits, and says what it left.
#[test]
fn a_drain_ends_when_the_owner_waits() {
    let mm = new_mm();
    let (own, other) = (Owner::attach(mm), Owner::attach(mm));
    let blocks: Vec<_> = (0..4000).map(|_| own.alloc(100, 8)).collect();
    blocks.into_iter().for_each(|block| other.free(block));
    other.heap().enter().post_all(other.heap());
    let heap = own.heap();
    let mut visitor = visit(own);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(heap.enter()));
        while !visitor.is_wanted() {
            std::thread::yield_now();
        }
        assert!(!visitor.drain(Deadline::NEVER).is_whole);
        drop(visitor);
    });
    assert!(!heap.enter().drain(Deadline::at(0)).is_whole, "so does the time");
    assert!(heap.enter().drain(Deadline::NEVER).is_whole);
    mm.validate(Some(own.0)).unwrap();
}

/// Whoever comes to a heap that another visitor has looks again a few times, and disturbs no processor
/// for that.
#[test]
fn a_round_that_claims_nothing_makes_no_barrier() {
    let fake = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(fake), Config::default()).unwrap();
    let [own, other] = [(); 2].map(|()| Owner::attach(mm));
    let nr_barriers = || {
        let before = fake.calls(Call::Membarrier);
        mm.drain_all(Some(own.0));
        fake.calls(Call::Membarrier) - before
    };
    let once_a_round = if mm.barrier() == Barrier::Asymmetric { 2 } else { 0 };
    assert_eq!(nr_barriers(), once_a_round);
    assert!(other.heap().begin_visit());
    assert_eq!((nr_barriers(), mm.vmstat().stats().drain_skipped), (0, 2));
    other.heap().leave_open();
    assert_eq!(nr_barriers(), once_a_round);
}

/// What a fork left torn stays so when the child forks again.
#[test]
fn a_torn_heap_is_never_used_again() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let lost = Owner::attach(mm);
    mm.prefork(Some(own.0));
    lost.heap().set_torn(true);
    // As in the child: the other heap has no thread any more.
    mm.postfork_child(Some(own.0));
    mm.prefork(Some(own.0));
    mm.postfork_parent(Some(own.0));
    assert_ne!(mm.attach().unwrap(), lost.0);
}

/// A signal handler may have interrupted the holder of the lock that it would wait for.
#[test]
fn an_interrupted_thread_waits_for_no_lock() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let [small, huge] = [100, 16 << 20].map(|size| own.alloc(size, 8));
    mm.huge().raw_lock().acquire();
    assert!(mm.usable_size_interrupted(small).unwrap().is_ok());
    assert!(mm.usable_size_interrupted(huge).is_none());
    mm.huge().raw_lock().release();
    assert_eq!(mm.usable_size_interrupted(huge), Some(Ok(16 << 20)));
}

/// A filter that came later may refuse the barrier: an owner may be inside its heap unseen.
#[test]
fn without_the_barrier_nobody_visits_a_heap_that_has_an_owner() {
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    if mm.barrier() == Barrier::Symmetric {
        // The test runner hides what a passing test prints; not this line.
        let _ = writeln!(std::io::stderr(), "skipped: no membarrier here");
        return;
    }
    let [own, other] = [(); 2].map(|()| Owner::attach(mm));
    let others: Vec<_> = (0..20).map(|_| Owner::attach(mm)).collect();
    let blocks: Vec<_> = (0..20_000).map(|_| other.alloc(100, 8)).collect();
    let kept = other.alloc(100, 8);
    blocks.into_iter().for_each(|block| other.free(block));
    others.iter().for_each(|owner| owner.free(owner.alloc(100, 8)));
    let nr_skipped = || mm.vmstat().stats().drain_skipped;
    let (before, nr_barriers) = (nr_skipped(), machine.calls(Call::Membarrier));
    machine.fail_from(Call::Membarrier, 1, zonal_numa::Errno::EPERM);
    assert_eq!(mm.drain_all(Some(own.0)), 0);
    assert!(nr_skipped() - before >= 21 && !other.heap().is_visited());
    // Refused once is refused for all of a round.
    let nr_barriers = machine.calls(Call::Membarrier) - nr_barriers;
    assert!(nr_barriers <= 4, "{nr_barriers} barriers");
    // Nor is it for a forked child.
    mm.prefork(Some(own.0));
    assert!(other.heap().is_torn());
    mm.postfork_parent(Some(own.0));
    assert!(!other.heap().is_torn());
    machine.fail_no_more();
    assert!(mm.drain_all(Some(own.0)) > 0);
    mm.validate(Some(own.0)).unwrap();
    // The child takes none of the heaps that nobody could look into, and frees what lies in them.
    machine.fail_from(Call::Membarrier, 1, zonal_numa::Errno::EPERM);
    mm.prefork(Some(own.0));
    mm.postfork_child(Some(own.0));
    assert!(other.heap().is_torn());
    own.free(kept);
    own.free(own.alloc(100, 8));
    let new = Owner::attach(mm);
    assert!(new.0 != other.0 && others.iter().all(|owner| owner.0 != new.0));
    new.free(new.alloc(100, 8));
}
