//! What the program does wrong, and what is told of it.

mod large;

use super::*;
use crate::BadPointer;

#[test]
fn misuse_is_told_apart() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let kind = |p: NonNull<u8>| {
        // SAFETY: a wrong pointer must be refused.
        unsafe { owner.heap().free(p) }.unwrap_err().kind
    };
    let local = 0u64;
    assert_eq!(kind(NonNull::from(&local).cast()), BadKind::Foreign);
    for size in [100, 5000, 100_000, 9 << 20] {
        let p = owner.alloc(size, 8);
        // SAFETY: inside the block.
        assert_eq!(kind(unsafe { p.add(8) }), BadKind::Interior, "{size}");
        owner.free(p);
    }
    let p = owner.alloc(100_000, 8);
    owner.free(p);
    assert!(matches!(kind(p), BadKind::NotAllocated | BadKind::DoubleFree));
    let p = owner.alloc(9 << 20, 8);
    owner.free(p);
    assert!(matches!(kind(p), BadKind::DoubleFree | BadKind::NotAllocated));
}

/// What calls in signal handlers got goes back once, and a wrong free leaves the other blocks as they are.
#[test]
fn misuse_of_the_signal_arena_is_told_apart() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let bad = |p: NonNull<u8>, kind| {
        let bad = Err(BadPointer { addr: p.addr().get(), kind });
        assert_eq!(mm.deferred_free(p), bad);
        // SAFETY: a wrong pointer must be refused.
        assert_eq!(unsafe { owner.heap().free(p) }, bad);
        assert_eq!(mm.usable_size(p).err(), bad.err());
    };
    let [first, second] = [24, 100].map(|size| mm.deferred_alloc(size, 8).unwrap());
    assert_eq!(mm.usable_size(second), Ok(100));
    // SAFETY: all of the second block.
    unsafe { second.write_bytes(0xa5, 100) };
    for offset in [1, 8, 16, 32] {
        // SAFETY: inside the block.
        bad(unsafe { second.add(offset) }, BadKind::Interior);
    }
    mm.deferred_free(first).unwrap();
    bad(first, BadKind::DoubleFree);
    let third = mm.deferred_alloc(100, 8).unwrap();
    assert!(third > second, "the second block is in use");
    owner.free(third);
    bad(third, BadKind::DoubleFree);
    mm.deferred_free(second).unwrap();
    assert_eq!(mm.deferred_alloc(24, 8), Some(first), "nothing is in use any more");
}

/// Whatever a hit lets into a bin, and told once.
#[test]
fn what_lies_in_bins_is_checked() {
    for size in [8, 48, 100, 5000, 30_000] {
        let mm = new_mm();
        let owner = Owner::attach(mm);
        let push = |p: NonNull<u8>| {
            // SAFETY: the test's thread owns the heap, and never uses the object again.
            assert!(unsafe { HeapHot::push(owner.heap().hot(), p.as_ptr()) });
        };
        let take = || -> Vec<_> { (0..12).map(|_| owner.alloc(size, 8)).collect() };
        take().into_iter().for_each(push);
        assert_eq!(mm.check_bins(Some(owner.0)), None, "{size}");
        let blocks = take();
        push(blocks[0]);
        push(blocks[1]);
        push(blocks[0]);
        let bad = mm.check_bins(Some(owner.0)).unwrap();
        assert_eq!((bad.addr, bad.kind), (blocks[0].addr().get(), BadKind::DoubleFree));
        assert_eq!(mm.check_bins(Some(owner.0)), None, "{size}");
        // SAFETY: inside the block.
        let inside = unsafe { blocks[5].add(4) };
        push(inside);
        let bad = mm.check_bins(Some(owner.0)).unwrap();
        assert_eq!((bad.addr, bad.kind), (inside.addr().get(), BadKind::Interior));
    }
}

/// What an instance with checked blocks tells, one kind of misuse an instance.
#[test]
fn checked_blocks_tell_what_was_done_to_them() {
    let checked = || {
        let mm = Mm::new(Machine::linux(), Config { checked: true, ..Config::default() }).unwrap();
        Owner::attach(mm)
    };
    let get = |owner: Owner, size| {
        let from = Attempt { node: owner.heap().node(), level: WatermarkLevel::Low };
        let request = Request { size, align: 8, zeroed: false, grows: false };
        // SAFETY: the test's thread owns the heap.
        let block = unsafe { owner.heap().alloc(request, from) }.unwrap();
        assert!(block.known_zero);
        assert_eq!(owner.heap().mm().usable_size(block.start), Ok(size));
        block.start
    };
    // SAFETY: as above.
    let free = |owner: Owner, p| unsafe { owner.heap().free(p) };
    for size in [1, 8, 100, 5000, 32_760, 100_000, 9 << 20] {
        let owner = checked();
        // Round after round through the quarantine.
        for _ in 0..600.min((64 << 20) / size) {
            let p = get(owner, size);
            // SAFETY: the block has that many bytes.
            unsafe { p.write_bytes(0xff, size) };
            free(owner, p).unwrap();
        }
        assert_eq!(owner.heap().take_fault(), None, "{size}");
        assert_eq!(owner.heap().mm().check_bins(Some(owner.0)), None, "{size}");
        let p = get(owner, size);
        free(owner, p).unwrap();
        let again = free(owner, p).unwrap_err();
        assert!(matches!(again.kind, BadKind::DoubleFree | BadKind::NotAllocated), "{again:?}");
        let p = get(owner, size);
        // SAFETY: the byte behind the block is ours, of its seal or before it.
        unsafe { p.add(size).write(0) };
        let over = free(owner, p).unwrap_err();
        assert_eq!((over.addr, over.kind), (p.addr().get(), BadKind::Overrun));
    }
    let owner = checked();
    let p = get(owner, 100);
    free(owner, p).unwrap();
    // SAFETY: memory of a slab.
    unsafe { p.add(50).write(1) };
    let late = owner.heap().mm().check_bins(Some(owner.0)).unwrap();
    assert_eq!((late.addr, late.kind), (p.addr().get(), BadKind::UsedAfterFree));
    // Pages asked for as such are blocks like others.
    let owner = checked();
    let from = Attempt { node: owner.heap().node(), level: WatermarkLevel::Low };
    for nr_pages in [1, 3, 100, 1500] {
        // SAFETY: as above.
        let pages = unsafe { owner.heap().mm().alloc_pages(owner.heap(), nr_pages, from, false) };
        let start = pages.unwrap().start;
        assert!(start.addr().get().is_multiple_of(PAGE_SIZE));
        free(owner, start).unwrap();
        assert!(free(owner, start).is_err());
    }
}

/// Every slab and every large block of a checked instance ends in a page that is closed, as long as the
/// program keeps most of the ranges that the kernel gives a process.
#[test]
fn guards_stand_behind_slabs_and_large_blocks() {
    let mm = Mm::new(Machine::linux(), Config { checked: true, ..Config::default() }).unwrap();
    let owner = Owner::attach(mm);
    let get = |size| owner.alloc_missed(size, 8);
    // SAFETY: the test's thread owns the heap.
    let free = |p| unsafe { owner.heap().free(p) };
    for class in crate::SizeClass::all().skip(1) {
        let p = get(class.size() - 8);
        let slab = class.slab_order().nr_pages() * PAGE_SIZE;
        let last = (p.addr().get() & !(slab - 1)) + slab - PAGE_SIZE;
        assert!(p.addr().get() + class.size() <= last, "{class:?}");
        assert!(mm.is_guard(last) && mm.is_guard(last + PAGE_SIZE - 1), "{class:?}");
        assert!(!mm.is_guard(last - 1) && !mm.is_guard(p.addr().get()), "{class:?}");
        // An object would begin there, without the guard.
        let behind = (last - (p.addr().get() & !(slab - 1))).next_multiple_of(class.size());
        if behind + class.size() <= slab {
            let behind =
                NonNull::new(p.as_ptr().with_addr((p.addr().get() & !(slab - 1)) + behind))
                    .unwrap();
            assert!(free(behind).is_err(), "{class:?}");
        }
        free(p).unwrap();
    }
    for size in [40_000, 1 << 20, 9 << 20] {
        let p = get(size);
        let end = p.addr().get() + mm.capacity(p).unwrap();
        assert!(mm.is_guard(end - 1) && mm.is_guard(end - PAGE_SIZE));
        assert!(!mm.is_guard(end - PAGE_SIZE - 1));
        free(p).unwrap();
        assert!(!mm.is_guard(end - 1), "of no live block");
    }
    let nr_ranges = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = nr_ranges();
    let many: Vec<_> = (0..14_000).map(|_| get(33_000)).collect();
    let with_guards = nr_ranges() - before;
    // Two for each guard; 28,000 if they all had one. Other tests have some, too.
    assert!((22_000..27_000).contains(&with_guards), "{with_guards} ranges");
    many.into_iter().for_each(|p| free(p).unwrap());
    assert_eq!(owner.heap().take_fault(), None);
    mm.drain_all(Some(owner.0));
    mm.validate(Some(owner.0)).unwrap();
    let left = nr_ranges() - before.min(nr_ranges());
    assert!(left < 3000, "{left} ranges stay");
}
