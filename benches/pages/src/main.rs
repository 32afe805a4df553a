//! `pages`: what the page layer takes without faults: nothing of the memory is touched.
//!
//! * *page, hit*: one page from the thread's cache and back;
//! * *page, batch*: runs of 512 pages allocated one by one and freed, refills and spills included;
//! * *zone, bulk*: 8 pages under one zone lock and back: what a refill and a spill cost a page;
//! * *2 MiB*: a pageblock from the zone and back.
//!
//! CPU time of all threads over the operations of all: flat when threads do not disturb each other.

use std::hint::black_box;
use std::ptr::NonNull;
use std::thread;

use zonal_allocator::OwnHeap;
use zonal_allocator::mm::{Attempt, Config, Mm};
use zonal_allocator::order::Order;
use zonal_allocator::run::PageRun;
use zonal_allocator::watermark::WatermarkLevel;
use zonal_allocator::word::Migratetype;
use zonal_numa::{Machine, NodeId};

const ROUNDS: usize = 200_000;
const THREADS: [usize; 4] = [1, 2, 4, 8];

struct Bench {
    mm: &'static Mm,
    heap: OwnHeap,
    from: Attempt,
}

impl Bench {
    fn alloc(&self, nr_pages: usize) -> NonNull<u8> {
        let block = self.heap.alloc_pages(nr_pages, self.from, false);
        block.unwrap_or_else(|error| panic!("{nr_pages} pages: {error:?}")).start
    }

    fn free(&self, pages: NonNull<u8>) {
        // SAFETY: the pages were allocated here and are given up.
        unsafe { self.heap.free(pages) }.unwrap_or_else(|bad| panic!("free: {bad:?}"));
    }

    /// One page from the cache and back.
    fn hit(&self) -> usize {
        for _ in 0..ROUNDS {
            self.free(black_box(self.alloc(1)));
        }
        ROUNDS
    }

    /// More pages than the cache holds.
    fn batch(&self) -> usize {
        let mut held = Vec::with_capacity(512);
        for _ in 0..ROUNDS / 512 {
            held.extend((0..512).map(|_| self.alloc(1)));
            held.drain(..).for_each(|page| self.free(page));
        }
        ROUNDS / 512 * 512
    }

    fn bulk(&self) -> usize {
        let mut runs: [Option<PageRun>; 8] = [const { None }; 8];
        let Attempt { node, level, .. } = self.from;
        for _ in 0..ROUNDS / 8 {
            let pages = self.mm.pages();
            let got = pages.alloc_bulk(node, Order::ZERO, Migratetype::Slab, level, &mut runs);
            assert_eq!(got, 8);
            pages.free_bulk(runs.iter_mut().filter_map(Option::take));
        }
        ROUNDS
    }

    /// A pageblock and back.
    fn pageblock(&self) -> usize {
        for _ in 0..ROUNDS {
            self.free(black_box(self.alloc(512)));
        }
        ROUNDS
    }
}

type Load = fn(&Bench) -> usize;

fn main() {
    let mm = Mm::new(Machine::linux(), Config::default())
        .unwrap_or_else(|errno| panic!("no instance: {errno:?}"));
    let loads: [(&str, Load); 4] = [
        ("page, hit", Bench::hit),
        ("page, batch", Bench::batch),
        ("zone, bulk", Bench::bulk),
        ("2 MiB", Bench::pageblock),
    ];
    println!("ns of CPU time for an allocation and a free, the best of five\n");
    println!("| | {} |", THREADS.map(|n| format!("{n} threads")).join(" | "));
    println!("|---|{}", "---|".repeat(THREADS.len()));
    for (name, load) in loads {
        let figures = THREADS.map(|threads| {
            let best = (0..5).map(|_| measure(mm, threads, load)).min_by(f64::total_cmp);
            format!("{:.1}", best.unwrap_or(f64::NAN))
        });
        println!("| {name} | {} |", figures.join(" | "));
    }
}

/// CPU nanoseconds an operation.
fn measure(mm: &'static Mm, threads: usize, load: Load) -> f64 {
    let work = || {
        let heap = mm.attach().unwrap_or_else(|error| panic!("no heap: {error:?}"));
        let from = Attempt { node: NodeId::ZERO, level: WatermarkLevel::Low };
        let bench = Bench { mm, heap, from };
        load(&bench);
        let before = thread_ns();
        let done = load(&bench);
        let spent = thread_ns() - before;
        // SAFETY: this thread's heap, not used any more.
        unsafe { mm.detach(heap) };
        (spent, done)
    };
    let all: Vec<(u64, usize)> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let (spent, done) = all.iter().fold((0, 0), |(ns, n), one| (ns + one.0, n + one.1));
    spent as f64 / done as f64
}

/// CPU time of the calling thread.
fn thread_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
