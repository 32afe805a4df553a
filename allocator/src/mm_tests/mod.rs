//! The whole instance on the real machine.

mod ended;

use core::ptr::NonNull;
use std::sync::mpsc;
use std::vec::Vec;

use zonal_numa::{Machine, PAGE_SIZE};

use crate::purge::PurgeHow;
use crate::watermark::WatermarkLevel;
use crate::{Attempt, BadKind, Config, Heap, HeapHot, Mm, Request};

fn new_mm() -> &'static Mm {
    Mm::new(Machine::linux(), Config::default()).unwrap()
}

/// A thread's view: the hit path first, as ffi does it.
#[derive(Clone, Copy)]
struct Owner(NonNull<Heap>);

impl Owner {
    fn attach(mm: &'static Mm) -> Owner {
        Owner(mm.attach().unwrap())
    }

    fn heap(&self) -> &'static Heap {
        // SAFETY: heaps are never unmapped.
        unsafe { self.0.as_ref() }
    }

    fn alloc(&self, size: usize, align: usize) -> NonNull<u8> {
        if align <= 8 {
            // SAFETY: the test's thread owns the heap.
            let hit = unsafe { HeapHot::pop(self.heap().hot(), size) };
            if let Some(hit) = NonNull::new(hit) {
                return hit;
            }
        }
        let from = Attempt { node: self.heap().node(), level: WatermarkLevel::Low };
        // SAFETY: as above.
        unsafe { self.heap().alloc(Request { size, align, zeroed: false }, from) }.unwrap().start
    }

    fn free(&self, p: NonNull<u8>) {
        // SAFETY: as above; tests free what they allocated.
        unsafe {
            if !HeapHot::push(self.heap().hot(), p.as_ptr()) {
                self.heap().free(p).unwrap();
            }
        }
        assert_eq!(self.heap().take_fault(), None);
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly small, sometimes large, seldom huge.
    fn size(&mut self) -> usize {
        let r = self.next();
        match r % 1000 {
            0 => (r >> 10) as usize % (12 << 20),
            1..=20 => (r >> 10) as usize % (1 << 20),
            21..=200 => (r >> 10) as usize % (40 << 10),
            _ => (r >> 10) as usize % 600,
        }
    }
}

/// A block filled with a pattern of its own, so that an overlap shows.
struct Filled {
    p: NonNull<u8>,
    size: usize,
    seed: u8,
}

// SAFETY: the block belongs to the value.
unsafe impl Send for Filled {}

impl Filled {
    fn new(owner: Owner, size: usize, align: usize, seed: u8) -> Filled {
        let p = owner.alloc(size, align);
        assert_eq!(p.addr().get() % align, 0);
        // SAFETY: a fresh block of that size.
        unsafe { p.write_bytes(seed, size) };
        Filled { p, size, seed }
    }

    fn release(self, owner: Owner) {
        // SAFETY: live until `free`.
        let bytes = unsafe { core::slice::from_raw_parts(self.p.as_ptr(), self.size) };
        for at in [0, self.size / 2, self.size.saturating_sub(1)] {
            if at < self.size {
                assert_eq!(bytes[at], self.seed, "{} bytes at {:p}", self.size, self.p);
            }
        }
        owner.free(self.p);
    }
}

pub(crate) fn snapshot(mm: &Mm, own: Option<NonNull<Heap>>) -> Box<zonal_stats::Snapshot> {
    let mut snapshot = Box::<zonal_stats::Snapshot>::default();
    mm.snapshot(own, &mut snapshot);
    snapshot
}

fn churn(owner: Owner, rng: &mut Rng, steps: usize) {
    let mut live: Vec<Filled> = Vec::new();
    for step in 0..steps {
        if live.len() > 3000 || (rng.next() % 100 < 45 && !live.is_empty()) {
            let i = rng.next() as usize % live.len();
            live.swap_remove(i).release(owner);
        } else {
            let align = 1 << (rng.next() % 13).max(3);
            let align = if rng.next().is_multiple_of(20) { align } else { 8 };
            live.push(Filled::new(owner, rng.size(), align, step as u8));
        }
    }
    for block in live {
        block.release(owner);
    }
}

#[test]
fn one_thread_churns_and_everything_adds_up() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let mut rng = Rng(0x5eed);
    for _ in 0..5 {
        churn(owner, &mut rng, 40_000);
        mm.validate(Some(owner.0)).unwrap();
    }
    // SAFETY: this thread owns the heap.
    unsafe { mm.drain_own(owner.0) };
    mm.validate(Some(owner.0)).unwrap();
    let stats = snapshot(mm, Some(owner.0));
    assert_eq!(stats.small_bytes(), 0);
    assert_eq!(stats.classes().iter().map(|c| c.nr_slabs).sum::<u64>(), 0);
}

#[test]
fn objects_freed_by_other_threads_come_home() {
    let mm = new_mm();
    let (send, receive) = mpsc::channel::<Filled>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let owner = Owner::attach(mm);
            let mut rng = Rng(7);
            for i in 0..200_000 {
                let size = rng.size() % 3000;
                send.send(Filled::new(owner, size, 8, i as u8)).unwrap();
            }
            // SAFETY: the thread ends.
            unsafe { mm.detach(owner.0) };
        });
        scope.spawn(move || {
            let owner = Owner::attach(mm);
            for block in receive {
                block.release(owner);
            }
            // SAFETY: the thread ends.
            unsafe { mm.detach(owner.0) };
        });
    });
    assert!(snapshot(mm, None).heap_events.remote_free > 100_000);
    mm.drain_all(None);
    mm.validate(None).unwrap();
    assert_eq!(snapshot(mm, None).small_bytes(), 0);
}

#[test]
fn visitors_drain_while_owners_work() {
    let mm = new_mm();
    std::thread::scope(|scope| {
        for seed in 1..4 {
            scope.spawn(move || {
                let owner = Owner::attach(mm);
                churn(owner, &mut Rng(seed), 150_000);
                // SAFETY: the thread ends.
                unsafe { mm.detach(owner.0) };
            });
        }
        scope.spawn(|| {
            for _ in 0..300 {
                mm.drain_all(None);
                mm.validate(None).unwrap();
            }
        });
    });
    mm.drain_all(None);
    mm.validate(None).unwrap();
    assert_eq!(snapshot(mm, None).small_bytes(), 0);
}

#[test]
fn a_heap_is_inherited_whole() {
    let mm = new_mm();
    let first = Owner::attach(mm);
    let p = first.alloc(100, 8);
    // SAFETY: not used afterwards.
    unsafe { mm.detach(first.0) };
    let second = Owner::attach(mm);
    assert_eq!(first.0, second.0);
    second.free(p);
    assert_eq!(snapshot(mm, Some(second.0)).process.nr_heaps, 1);
}

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

/// Whatever a hit lets into a bin; and the check leaves bins with nothing wrong as they were.
#[test]
fn bins_are_checked_and_left_as_they_were() {
    for size in [8, 48, 100, 5000, 30_000] {
        let mm = new_mm();
        let owner = Owner::attach(mm);
        let push = |p: NonNull<u8>| {
            // SAFETY: the test's thread owns the heap, and never uses the object again.
            assert!(unsafe { HeapHot::push(owner.heap().hot(), p.as_ptr()) });
        };
        let blocks: Vec<_> = (0..12).map(|_| owner.alloc(size, 8)).collect();
        blocks.iter().for_each(|&p| push(p));
        assert_eq!(mm.check_bins(Some(owner.0)), None, "{size}");
        let mut again: Vec<_> = (0..12).map(|_| owner.alloc(size, 8)).collect();
        again.reverse();
        assert_eq!(again, blocks, "{size}");
        push(blocks[0]);
        push(blocks[1]);
        push(blocks[0]);
        let bad = mm.check_bins(Some(owner.0)).unwrap();
        assert_eq!((bad.addr, bad.kind), (blocks[0].addr().get(), BadKind::DoubleFree));
        owner.alloc(size, 8);
        assert_eq!(mm.check_bins(Some(owner.0)), None, "the first check put the bits back");
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
        let request = Request { size, align: 8, zeroed: false };
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
    let from = Attempt { node: owner.heap().node(), level: WatermarkLevel::Low };
    let get = |size| {
        let request = Request { size, align: 8, zeroed: false };
        // SAFETY: the test's thread owns the heap.
        unsafe { owner.heap().alloc(request, from) }.unwrap().start
    };
    // SAFETY: as above.
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

#[test]
fn every_alignment_is_served() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    for shift in 3..=30 {
        let align = 1usize << shift;
        for size in [1, align / 2 + 1, align, align + 1] {
            if size < 64 << 20 {
                Filled::new(owner, size, align, 1).release(owner);
            }
        }
    }
}

#[test]
fn holes_in_used_slabs_go_back_and_come_again() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let blocks: Vec<Filled> = (0..40_000).map(|i| Filled::new(owner, 512, 8, i as u8)).collect();
    let mut survivors = Vec::new();
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 50 == 0 { survivors.push(block) } else { block.release(owner) }
    }
    let before = mm.pages().charged();
    mm.drain_all(Some(owner.0));
    let purged = mm.purge_holes(Some(owner.0), PurgeHow::ALL, usize::MAX);
    mm.validate(Some(owner.0)).unwrap();
    // 40,000 objects fill 5,000 pages; a survivor keeps one of about six.
    assert!(purged > 3500, "{purged} pages");
    assert!(mm.pages().charged() < before);
    // The first pass may have holed a section after it passed over the denser slabs of it.
    assert!(mm.purge_holes(Some(owner.0), PurgeHow::ALL, usize::MAX) < 64);
    assert_eq!(mm.purge_holes(Some(owner.0), PurgeHow::ALL, usize::MAX), 0);
    let again: Vec<Filled> = (0..40_000).map(|i| Filled::new(owner, 512, 8, i as u8)).collect();
    mm.validate(Some(owner.0)).unwrap();
    for block in again.into_iter().chain(survivors) {
        block.release(owner);
    }
    // SAFETY: this thread owns the heap.
    unsafe { mm.drain_own(owner.0) };
    mm.validate(Some(owner.0)).unwrap();
    assert_eq!(snapshot(mm, Some(owner.0)).small_bytes(), 0);
}

/// Each is a little larger than any that was freed before: what is kept is extended, it does not pile up.
#[test]
fn huge_blocks_of_growing_sizes_do_not_pile_up() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    for round in 0..24_u8 {
        let size = (5 + 2 * usize::from(round)) << 20;
        Filled::new(owner, size, 8, round).release(owner);
        mm.validate(Some(owner.0)).unwrap();
        let kept = snapshot(mm, Some(owner.0)).memory().huge_cached_bytes;
        assert!(kept <= (size + size / 4) as u64, "{kept} bytes kept after one of {size}");
    }
    assert!(mm.drain_huge() > 0);
    mm.validate(Some(owner.0)).unwrap();
}

/// A huge block gets an eighth more than it asks for, which must not wrap to a small size.
#[test]
fn a_huge_block_is_not_resized_to_what_nothing_can_have() {
    let owner = Owner::attach(new_mm());
    let block = owner.alloc(8 << 20, 8);
    let mm = owner.heap().mm();
    let wraps = (0xe38e_38e3_8e38_0000_usize..).step_by(PAGE_SIZE).take(32);
    for size in wraps.chain([usize::MAX, usize::MAX - PAGE_SIZE, isize::MAX as usize + 1]) {
        assert_eq!(mm.resize(block, size), None, "{size:#x}");
        assert_eq!(mm.usable_size(block).unwrap(), 8 << 20);
    }
    owner.free(block);
}

#[test]
fn freed_huge_blocks_join_and_are_cut_again() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    for round in 0..20u8 {
        // The pieces of one round have to be the block of the next.
        let sizes: &[usize] = if round % 2 == 0 { &[40 << 20] } else { &[20 << 20, 19 << 20] };
        let blocks: Vec<Filled> =
            sizes.iter().map(|&size| Filled::new(owner, size, 8, round)).collect();
        mm.validate(Some(owner.0)).unwrap();
        for block in blocks {
            block.release(owner);
        }
    }
    let stats = snapshot(mm, Some(owner.0));
    assert_eq!((stats.process.nr_huge_blocks, stats.memory().used_huge_bytes), (0, 0));
    let cached = stats.memory().huge_cached_bytes;
    assert!(cached <= 40 << 20, "{cached}");
    assert_eq!(mm.drain_huge() as u64, cached);
    mm.validate(Some(owner.0)).unwrap();
}

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
            mm.prefork(Some(NonNull::from(heap)));
            forked.store(true, std::sync::atomic::Ordering::Relaxed);
            mm.postfork_parent(Some(NonNull::from(heap)));
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!is_forked());
        heap.leave_open();
    });
    assert!(is_forked());
    own.alloc(100, 8);
}

/// A thread that waits for a visitor of its heap waits because of zonal.
#[test]
fn the_wait_for_a_visitor_is_counted() {
    let mm = new_mm();
    let own = Owner::attach(mm);
    let heap = own.heap();
    assert!(heap.begin_visit());
    std::thread::scope(|scope| {
        scope.spawn(|| drop(heap.enter()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(mm.vmstat().stats().throttled, 0, "it still waits");
        heap.leave_open();
    });
    let stats = mm.vmstat().stats();
    assert_eq!(stats.throttled, 1);
    assert!(stats.longest_block_ns > 10_000_000, "{stats:?}");
    drop(heap.enter());
    assert_eq!(mm.vmstat().stats().throttled, 1, "nobody was there");
}

/// Once a section is whole again, the kernel may fill holes in its slabs; the accounts know nothing.
#[test]
fn holes_that_the_kernel_filled_go_back_again() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let blocks: Vec<Filled> = (0..40_000).map(|i| Filled::new(owner, 512, 8, i as u8)).collect();
    let (mut freed, mut kept) = (Vec::new(), Vec::new());
    for (i, block) in blocks.into_iter().enumerate() {
        if (36_000..37_000).contains(&i) && i % 50 != 0 {
            freed.push(block.p);
            block.release(owner);
        } else {
            kept.push(block);
        }
    }
    mm.drain_all(Some(owner.0));
    let nr_resident = || {
        let page = |p: &NonNull<u8>| p.addr().get() & !(PAGE_SIZE - 1);
        let pages: std::collections::BTreeSet<usize> = freed.iter().map(page).collect();
        let is_resident = |addr: &usize| {
            let mut out = [0];
            // SAFETY: a page of the heap.
            let span = unsafe { zonal_numa::Span::new(*addr, PAGE_SIZE) };
            mm.machine().resident(span, &mut out).unwrap();
            out[0] & 1 != 0
        };
        pages.iter().filter(|addr| is_resident(addr)).count()
    };
    let before = nr_resident();
    let purged = mm.purge_holes(Some(owner.0), PurgeHow::ALL, usize::MAX);
    let left = nr_resident();
    assert!(purged > 50 && left + 50 < before, "{purged} purged, {left} of {before} left");
    assert_eq!(mm.pages().unhole(owner.heap().node(), 0), 1);
    mm.validate(Some(owner.0)).unwrap();
    // SAFETY: free memory inside slabs, which nobody else touches.
    freed.iter().for_each(|p| unsafe { p.write_volatile(1) });
    assert!(nr_resident() > left + 50);
    assert_eq!(mm.purge_holes(Some(owner.0), PurgeHow::ALL, usize::MAX), 0, "by the accounts");
    assert_eq!(nr_resident(), left);
    mm.validate(Some(owner.0)).unwrap();
    kept.into_iter().for_each(|block| block.release(owner));
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
