//! The whole instance on the real machine.

mod asleep;
mod barn;
mod deep;
mod dense;
mod empties;
mod ended;
mod fresh;
mod holes;
mod huge;
mod kept;
mod left;
mod misuse;
mod moves;
mod orders;
mod reuse;
mod rows;
mod shared;
mod sparse;
mod usual;
mod visited;
mod visitors;
mod young;

use core::ptr::NonNull;
use std::sync::{Barrier, mpsc};
use std::vec::Vec;

use zonal_numa::fake::FakeBuilder;
use zonal_numa::{Machine, PAGE_SIZE};

use crate::heap::{Entered, Patience};
use crate::purge::PurgeHow;
use crate::watermark::WatermarkLevel;
use crate::{AllocError, Attempt, BadKind, Config, Deadline, Heap, HeapHot, Mm, OwnHeap, Request};

/// Somebody is in the heap of `owner`, who is not.
fn visit(owner: Owner) -> Entered<'static> {
    assert!(owner.heap().begin_visit());
    owner.heap().finish_visit(1).unwrap()
}

fn new_mm() -> &'static Mm {
    Mm::new(Machine::linux(), Config::default()).unwrap()
}

/// One on a machine of so many nodes.
fn fake_mm(nr_nodes: usize) -> &'static Mm {
    let machine = FakeBuilder::new().nodes(nr_nodes).build();
    Mm::new(Machine::fake(machine), Config::default()).unwrap()
}

/// Heaps of so many threads, of which each came when there was none but it: nobody made commons for them.
fn without_commons<const N: usize>(mm: &'static Mm) -> [Owner; N] {
    let owners = [(); N].map(|()| {
        mm.pages().set_threads(0);
        Owner::attach(mm)
    });
    mm.pages().set_threads(N);
    owners
}

/// Where threads of a test wait for each other, each so many times. One that panics comes there, too: its
/// panic is the failure, not the wait of the others.
struct Meeting<'a> {
    barrier: &'a Barrier,
    nr_left: u32,
}

impl Meeting<'_> {
    fn of(barrier: &Barrier, times: u32) -> Meeting<'_> {
        Meeting { barrier, nr_left: times }
    }

    fn wait(&mut self) {
        self.nr_left -= 1;
        self.barrier.wait();
    }
}

impl Drop for Meeting<'_> {
    fn drop(&mut self) {
        while self.nr_left > 0 {
            self.wait();
        }
    }
}

/// A thread's view: the hit path first, as ffi does it.
#[derive(Clone, Copy)]
struct Owner(OwnHeap);

impl Owner {
    fn attach(mm: &'static Mm) -> Owner {
        Owner(mm.attach().unwrap())
    }

    fn heap(&self) -> &'static Heap {
        self.0.heap()
    }

    fn alloc(&self, size: usize, align: usize) -> NonNull<u8> {
        if align <= 8 {
            // SAFETY: the test's thread owns the heap.
            let hit = unsafe { HeapHot::pop(self.heap().hot(), size) };
            if let Some(hit) = NonNull::new(hit) {
                return hit;
            }
            // SAFETY: as above.
            let again =
                unsafe { self.heap().try_left(size).or_else(|| self.heap().try_reuse(size)) };
            if let Some(again) = again {
                return again;
            }
        }
        if align <= PAGE_SIZE {
            // SAFETY: as above.
            if let Some(kept) = unsafe { self.heap().try_alloc_large(size) } {
                return kept;
            }
        }
        self.alloc_missed(size, align)
    }

    /// What a request comes to that misses.
    fn alloc_missed(&self, size: usize, align: usize) -> NonNull<u8> {
        self.alloc_for(Request { size, align, zeroed: false, grows: false })
    }

    fn alloc_zeroed(&self, size: usize) -> NonNull<u8> {
        self.alloc_for(Request { size, align: 8, zeroed: true, grows: false })
    }

    /// Where threads outnumber processors, others may have used up what the zone grew by for this one, each time
    /// that it may grow: then asks again.
    fn alloc_for(&self, request: Request) -> NonNull<u8> {
        let from = Attempt { node: self.heap().node(), level: WatermarkLevel::Low };
        let nr_tries = if self.heap().mm().pages().nr_threads() > 1 { 100 } else { 1 };
        (0..nr_tries)
            // SAFETY: the test's thread owns the heap.
            .find_map(|_| match unsafe { self.heap().alloc(request, from) } {
                Err(AllocError::Exhausted { .. }) => None,
                done => Some(done.unwrap().start),
            })
            .expect("memory")
    }

    fn free(&self, p: NonNull<u8>) {
        // SAFETY: as above; tests free what they allocated.
        unsafe {
            if !HeapHot::push(self.heap().hot(), p.as_ptr()) && !self.heap().try_free_large(p, None)
            {
                self.heap().free(p).unwrap();
            }
        }
        assert_eq!(self.heap().take_fault(), None);
    }

    /// As a thread between two calls, whose bins a visitor may close.
    fn rest(&self) {
        // SAFETY: the test's thread owns the heap, and no call is under way.
        unsafe { Heap::release(self.heap().hot()) };
    }
}

impl Owner {
    /// As a free of another heap's object for which neither the bin nor the barn has room.
    fn send_home(&self, p: NonNull<u8>) {
        self.heap().enter().put_stray(self.heap(), p.as_ptr());
    }
}

/// All threads have ended, and freed what they allocated.
fn assert_nothing_left(mm: &'static Mm) {
    mm.drain_all(None);
    mm.validate(None).unwrap();
    assert_eq!(snapshot(mm, None).small_bytes(), 0);
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

pub(crate) fn snapshot(mm: &Mm, own: Option<OwnHeap>) -> Box<zonal_stats::Snapshot> {
    let mut snapshot = Box::<zonal_stats::Snapshot>::default();
    mm.snapshot(own, Patience::Wait, &mut snapshot);
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
    mm.drain_own(owner.0, Patience::Wait, Deadline::NEVER);
    mm.validate(Some(owner.0)).unwrap();
    let stats = snapshot(mm, Some(owner.0));
    assert_eq!(stats.small_bytes(), 0);
    assert_eq!(stats.classes().iter().map(|c| c.nr_slabs).sum::<u64>(), 0);
}

#[test]
fn objects_freed_by_other_threads_come_home() {
    let mm = new_mm();
    let (send, receive) = mpsc::channel::<Filled>();
    // So that neither takes over the heap that the other one left.
    let attached = Barrier::new(2);
    let attached = &attached;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut meeting = Meeting::of(attached, 1);
            let owner = Owner::attach(mm);
            meeting.wait();
            let mut rng = Rng(7);
            for i in 0..200_000 {
                let size = rng.size() % 3000;
                send.send(Filled::new(owner, size, 8, i as u8)).unwrap();
            }
            // SAFETY: the thread ends.
            unsafe { mm.detach(owner.0) };
        });
        scope.spawn(move || {
            let mut meeting = Meeting::of(attached, 1);
            let owner = Owner::attach(mm);
            meeting.wait();
            for block in receive {
                block.release(owner);
            }
            // SAFETY: the thread ends.
            unsafe { mm.detach(owner.0) };
        });
    });
    assert!(snapshot(mm, None).heap_events.remote_free > 100_000);
    assert_nothing_left(mm);
}

/// What was sent last is the warmest: it comes before what waits since the last miss.
#[test]
fn a_miss_opens_what_was_posted_last() {
    let mm = new_mm();
    let [own, other] = [(); 2].map(|()| Owner::attach(mm));
    let mut blocks: Vec<_> = (0..2000).map(|_| own.alloc(100, 8)).collect();
    let last = blocks.pop().unwrap();
    let send = |block| {
        other.send_home(block);
        other.heap().enter().post_all(other.heap());
    };
    let miss = || {
        // SAFETY: this thread owns both heaps.
        while !unsafe { HeapHot::pop(own.heap().hot(), 100) }.is_null() {}
        own.alloc_missed(100, 8)
    };
    blocks.into_iter().for_each(send);
    miss();
    assert!(!own.heap().enter().received.is_null(), "the rest is for later misses");
    send(last);
    assert_eq!(miss(), last);
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
    assert_nothing_left(mm);
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
