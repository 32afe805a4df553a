//! The same of large blocks: what lies behind their last byte, and what becomes of it as they are resized.

use core::hint::{black_box, spin_loop};
use core::ptr::null_mut;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicPtr, AtomicUsize};
use std::collections::HashSet;
use std::thread;

use zonal_numa::fake::{Call, FakeBuilder};

use super::*;

/// A string that grows by a page at a time is not copied each time; what is checked is as with any block.
#[test]
fn a_large_checked_block_grows_and_shrinks_with_its_seal_and_guard() {
    let mm = Mm::new(Machine::linux(), Config { checked: true, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let mut p = owner.alloc_missed(9 << 20, 8);
    // SAFETY: the block is that large.
    unsafe { p.add((9 << 20) - 1).write(7) };
    for size in [(9 << 20) + 1, (9 << 20) + 5 * PAGE_SIZE, 30 << 20, (9 << 20) + 1] {
        p = mm.resize(p, size).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { p.add((9 << 20) - 1).read() }, 7);
        assert_eq!(mm.usable_size(p), Ok(size));
        let end = p.addr().get() + mm.capacity(p).unwrap();
        assert_eq!(end, (p.addr().get() + size + 8).next_multiple_of(PAGE_SIZE) + PAGE_SIZE);
        assert!(mm.is_guard(end - 1) && !mm.is_guard(end - PAGE_SIZE - 1));
    }
    // Not to be had: all is as it was.
    assert_eq!(mm.resize(p, 1 << 47), None);
    assert_eq!(mm.usable_size(p), Ok((9 << 20) + 1));
    // SAFETY: behind the block, in its last page.
    let behind = unsafe { p.add((9 << 20) + 1) };
    // SAFETY: as above.
    let kept = unsafe { behind.replace(0) };
    assert_eq!(mm.resize(p, 10 << 20), None);
    // SAFETY: the test's thread owns the heap.
    let free = || unsafe { owner.heap().free(p) };
    assert_eq!(free().unwrap_err().kind, BadKind::Overrun);
    // SAFETY: as above.
    unsafe { behind.write(kept) };
    // The seal was broken by the free that found it.
    assert!(free().is_err());
    let mut p = owner.alloc_missed(100_000, 8);
    let moved = mm.resize(p, 60_000);
    assert_eq!(moved, Some(p), "what is left goes back");
    p = moved.unwrap();
    assert_eq!(mm.usable_size(p), Ok(60_000));
    assert_eq!(mm.resize(p, 100), None, "it becomes a small object");
    assert_eq!(mm.usable_size(p), Ok(60_000));
    // SAFETY: the test's thread owns the heap.
    unsafe { owner.heap().free(p) }.unwrap();
}

/// What `realloc` cuts off is freed memory, which reads as zeros, and is not seen again by who grows into it.
#[test]
fn what_a_large_checked_block_loses_is_cleared() {
    let mm = Mm::new(Machine::linux(), Config { checked: true, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let p = owner.alloc_missed(200_000, 8);
    let bytes = |from: usize, to: usize| {
        // SAFETY: memory of sections is readable but for guards.
        unsafe { std::slice::from_raw_parts(p.as_ptr().add(from), to - from) }
    };
    // SAFETY: the block has that many bytes.
    unsafe { p.write_bytes(b'S', 200_000) };
    assert_eq!(mm.resize(p, 60_000), Some(p));
    assert!(bytes(0, 60_000).iter().all(|&byte| byte == b'S'));
    let behind = mm.capacity(p).unwrap();
    assert!(bytes(behind, 200_000).iter().all(|&byte| byte == 0));
    // What another program wrote there, and no clearing of its own.
    // SAFETY: free pages of the test's own instance.
    unsafe { p.add(behind).write_bytes(b'T', 200_000 - behind) };
    assert_eq!(mm.resize(p, 150_000), Some(p));
    assert!(!bytes(60_000, 150_000).iter().any(|byte| b"ST".contains(byte)));
    // SAFETY: the test's thread owns the heap.
    unsafe { owner.heap().free(p) }.unwrap();
}

/// A block whose guard the system does not open stays as it was.
#[test]
fn a_checked_block_with_a_guard_that_stays_is_not_resized() {
    let machine = FakeBuilder::new().build();
    let mm =
        Mm::new(Machine::fake(machine), Config { checked: true, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let p = owner.alloc_missed(100_000, 8);
    machine.fail(Call::Commit, 1, zonal_numa::Errno::ENOMEM);
    assert_eq!(mm.resize(p, 60_000), None);
    assert_eq!(mm.usable_size(p), Ok(100_000));
    assert_eq!(mm.resize(p, 60_000), Some(p));
    // SAFETY: the test's thread owns the heap.
    unsafe { owner.heap().free(p) }.unwrap();
}

/// A free that interrupts zonal writes a link into the block, and a program all that it may use: neither
/// reaches the slack.
#[test]
fn a_link_of_a_deferred_free_is_no_overrun() {
    let config = Config { slack: true, ..Config::default() };
    let mm = Mm::new(Machine::linux(), config).unwrap();
    let owner = Owner::attach(mm);
    let use_all = |p: NonNull<u8>, size: usize| {
        let usable = mm.usable_size(p).unwrap();
        assert_eq!(usable, size.max(8));
        // SAFETY: the block has that many bytes.
        unsafe { p.write_bytes(0xff, usable) };
    };
    for (size, align) in (1..=9).map(|size| (size, 1 << 16)).chain([(40_001, 8), (1, 4 << 20)]) {
        let [first, second] = [owner.alloc(size, align), owner.alloc(size, align)];
        use_all(first, size);
        use_all(second, size);
        for p in [first, second] {
            mm.deferred_free(p).unwrap();
            assert_eq!(mm.usable_size(p), Ok(size.max(8)), "{size}");
        }
        mm.run_deferred(owner.heap());
        assert_eq!(owner.heap().take_fault(), None, "{size}");
    }
    // In place, shorter and longer again.
    let p = owner.alloc(200_001, 8);
    for size in [200_001, 100_003, 40_007, 40_010, 99_999] {
        if mm.resize(p, size).is_some() {
            use_all(p, size);
        }
    }
    mm.deferred_free(p).unwrap();
    mm.run_deferred(owner.heap());
    assert_eq!(owner.heap().take_fault(), None);
}

/// What a program writes up to the end of a block is its own, the next byte is not, wherever in its line the
/// block ends; a free that finds it says so, and the short one leaves it to that.
#[test]
fn the_first_byte_behind_a_large_block_is_looked_at() {
    let config = Config { slack: true, ..Config::default() };
    let mm = Mm::new(Machine::linux(), config).unwrap();
    let owner = Owner::attach(mm);
    for size in 40_001..40_001 + 130 {
        let p = owner.alloc(size, 8);
        // SAFETY: the block has that many bytes, and a page has some more.
        unsafe { p.write_bytes(0, size) };
        for at in [size, size | 63] {
            // SAFETY: as above.
            let byte = unsafe { p.add(at) };
            // SAFETY: as above.
            let kept = unsafe { byte.replace(b'x') };
            // SAFETY: the test's thread owns the heap; what is no whole block is left alone.
            assert!(!unsafe { owner.heap().try_free_large(p, None) }, "{size} {at}");
            assert_eq!(mm.usable_size(p).unwrap_err().kind, BadKind::Overrun, "{size} {at}");
            // SAFETY: as above.
            unsafe { byte.write(kept) };
        }
        assert_eq!(mm.usable_size(p), Ok(size));
        for wrong in [size - 1, size + 1] {
            // SAFETY: the test's thread owns the heap; of another size it is left alone.
            assert!(!unsafe { owner.heap().try_free_large(p, Some(wrong)) }, "{size}");
        }
        // SAFETY: the test's thread owns the heap, and gives the block up.
        let is_kept = unsafe { owner.heap().try_free_large(p, Some(size)) };
        assert!(is_kept || !mm.is_one_node(), "{size}");
        if !is_kept {
            owner.free(p);
        }
    }
}

/// It is the alignment that made it a run of pages; a block is a word long at least.
#[test]
fn a_large_block_of_a_few_bytes_is_kept_by_the_size_that_was_asked_for() {
    let mm = Mm::new(Machine::linux(), Config { slack: true, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let p = owner.alloc(5, 1 << 16);
    assert_eq!(mm.usable_size(p), Ok(8));
    // SAFETY: the test's thread owns the heap; of another size it is left alone.
    assert!(!unsafe { owner.heap().try_free_large(p, Some(9)) });
    // SAFETY: the test's thread owns the heap, and gives the block up.
    assert!(unsafe { owner.heap().try_free_large(p, Some(5)) });
}

/// Without slack nobody knows what was asked for: any size goes that the block can have.
#[test]
fn without_slack_a_large_block_is_of_any_size_that_it_holds() {
    let mm = Mm::new(Machine::linux(), Config { slack: false, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let p = owner.alloc(50_000, 8);
    let capacity = mm.capacity(p).unwrap();
    // SAFETY: the test's thread owns the heap; of another size it is left alone.
    assert!(!unsafe { owner.heap().try_free_large(p, Some(capacity + 1)) });
    // SAFETY: the test's thread owns the heap, and gives the block up.
    assert!(unsafe { owner.heap().try_free_large(p, Some(50_000)) });
}

/// The first free came from a signal handler and waits: the second must not be taken for it, since the
/// block would be handed out again, and then be freed by the one that waits.
#[test]
fn a_second_free_of_a_large_block_is_told_from_one_that_waits() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let [first, second] = [(); 2].map(|()| owner.alloc(40_000, 8));
    // SAFETY: the test's thread owns the heap; the block is live.
    assert!(unsafe { owner.heap().try_free_large(second, None) });
    mm.deferred_free(first).unwrap();
    // SAFETY: as above; what is no live block is left alone.
    unsafe {
        assert!(!owner.heap().try_free_large(first, None));
        assert_eq!(owner.heap().free(first).unwrap_err().kind, BadKind::NotAllocated);
    }
    assert_eq!(owner.heap().take_fault(), None);
    let blocks = [(); 3].map(|()| owner.alloc(40_000, 8));
    assert!(blocks.contains(&first) && blocks.contains(&second));
    blocks.into_iter().for_each(|block| owner.free(block));
    mm.validate(Some(owner.0)).unwrap();
}

/// Whichever way each of them goes: one frees it, the other is told, and it is handed out once from then on. (In
/// every order of the claims: `loom/pagemap.rs`.)
#[test]
fn of_two_threads_that_free_one_large_block_at_a_time_one_is_told() {
    const SIZE: usize = 50_000;
    const ROUNDS: u32 = 300;
    // Two threads keep as many.
    const NR: usize = 30;
    let mm = Mm::new(Machine::linux(), Config { slack: true, ..Config::default() }).unwrap();
    let blocks = [const { AtomicPtr::new(null_mut()) }; NR];
    let taken = [const { AtomicPtr::new(null_mut()) }; 2 * NR];
    let nr_freed = AtomicUsize::new(0);
    // How far each of them is.
    let at = [const { AtomicUsize::new(0) }; 2];
    let barrier = Barrier::new(2);
    let run = |me: usize| {
        let owner = Owner::attach(mm);
        let heap = owner.heap();
        let mut meeting = Meeting::of(&barrier, 3 * ROUNDS);
        let mut rng = Rng(me as u64 + 1);
        for round in 0..ROUNDS as usize {
            if me == 0 {
                let new = || owner.alloc(SIZE, 8).as_ptr();
                blocks.iter().for_each(|place| place.store(new(), SeqCst));
            }
            meeting.wait();
            for (i, place) in blocks.iter().enumerate() {
                let block = NonNull::new(place.load(SeqCst)).unwrap();
                // By a hit or by the long way, with a size or without.
                let is_hit = !(round + i).is_multiple_of(3 + me);
                let told = i.is_multiple_of(2).then_some(SIZE);
                at[me].store(round * NR + i, SeqCst);
                // As long as the other one has a processor, too.
                let _ = (0..1000).find(|_| {
                    spin_loop();
                    at[1 - me].load(SeqCst) >= round * NR + i
                });
                // One of them always sees the other late.
                (0..rng.next() % 64).for_each(|step| _ = black_box(step));
                // SAFETY: the test's thread owns the heap; what is freed already is refused.
                let is_freed = unsafe {
                    (is_hit && heap.try_free_large(block, told)) || heap.free(block).is_ok()
                };
                nr_freed.fetch_add(usize::from(is_freed), SeqCst);
            }
            meeting.wait();
            let mine: Vec<_> = (0..NR).map(|_| owner.alloc(SIZE, 8)).collect();
            let places = &taken[me * NR..][..NR];
            mine.iter().zip(places).for_each(|(block, place)| place.store(block.as_ptr(), SeqCst));
            meeting.wait();
            assert_eq!(nr_freed.load(SeqCst), (round + 1) * NR);
            let different: HashSet<_> = taken.iter().map(|place| place.load(SeqCst)).collect();
            assert_eq!(different.len(), 2 * NR);
            mine.into_iter().for_each(|block| owner.free(block));
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| run(1));
        run(0);
    });
    mm.validate(None).unwrap();
}
