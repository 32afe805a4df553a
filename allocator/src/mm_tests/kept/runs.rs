//! Which run serves a request, and which ones stay.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::vec::Vec;

use zonal_numa::PAGE_SIZE;

use super::keeper;
use crate::Attempt;
use crate::large::kept_runs::KeptRuns;
use crate::lock::FutexLock;
use crate::mm_tests::Rng;
use crate::pfn::Pfn;
use crate::purge::PurgeHow;
use crate::run::PageRun;
use crate::watermark::WatermarkLevel;
use crate::word::PageWord;

/// By lengths as by age: the newest run that will do, whatever left before from wherever.
#[test]
fn the_newest_of_the_shortest_that_will_do_comes_first() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let size = |nr_pages: usize| nr_pages * PAGE_SIZE;
    // SAFETY: the test's thread owns the heap, and gives the block up.
    let keep = |p: NonNull<u8>| assert!(unsafe { heap.try_free_large(p, None) });
    // SAFETY: as above.
    let take = |nr_pages: usize| unsafe { heap.try_alloc_large(size(nr_pages)) };
    let [a, b, c] = [(); 3].map(|()| owner.alloc(size(20), 8));
    let longer = owner.alloc(size(24), 8);
    for p in [a, longer, b, c] {
        keep(p);
    }
    assert_eq!([take(20), take(20)], [Some(c), Some(b)]);
    keep(c);
    assert_eq!(take(18), Some(c), "a part longer");
    assert_eq!([take(20), take(20), take(20)], [Some(a), Some(longer), None]);
    [a, b, c, longer].into_iter().for_each(keep);
    heap.mm().validate(Some(owner.0)).unwrap();
}

#[test]
fn while_pages_are_owed_the_front_of_a_longer_run_serves() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let kept = || heap.enter().large().nr_pages();
    let alloc = |nr_pages| owner.alloc(nr_pages * PAGE_SIZE, 8);
    let (long, short, other) = (alloc(64), alloc(28), alloc(30));
    owner.free(long);
    // Nothing is owed: the first miss costs a run of the zone's.
    let first = alloc(20);
    assert_eq!(kept(), 64);
    let front = alloc(20);
    assert_eq!((front, kept()), (long, 44));
    let rest = alloc(44);
    assert_eq!(rest.addr().get(), long.addr().get() + 20 * PAGE_SIZE);
    // Too little would be left for a large block.
    owner.free(short);
    let second = alloc(20);
    assert_ne!(second, short);
    // Just enough is.
    owner.free(other);
    let third = alloc(10);
    assert_eq!(kept(), 30);
    assert_eq!((alloc(20), kept()), (other, 10));
    [first, front, rest, second, third, other].into_iter().for_each(|block| owner.free(block));
    heap.mm().validate(Some(owner.0)).unwrap();
}

#[test]
fn what_a_thread_had_at_a_time_stays_and_runs_of_other_lengths_do_not_add_to_it() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let kept = || heap.enter().large().nr_pages();

    // A few at a time, of all lengths.
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut most = 0;
    let mut live: Vec<_> = (0..8).map(|_| owner.alloc(40 << 10, 8)).collect();
    for turn in 0..4000 {
        let size = (33 << 10) + rng.next() as usize % (95 << 10);
        owner.free(core::mem::replace(&mut live[turn % 8], owner.alloc(size, 8)));
        most = most.max(kept());
    }
    // What is in use comes to 256 pages at most.
    assert!(most <= 256, "{most} pages kept");

    // Many at a time, of one length: all of them, but those that were there before.
    let blocks: Vec<_> = (0..32).map(|_| owner.alloc(64 << 10, 8)).collect();
    blocks.into_iter().for_each(|block| owner.free(block));
    assert!(kept() >= 32 * 16, "{} pages kept", kept());
    for block in live {
        owner.free(block);
    }
}

/// Batches of many lengths, of which no two are alike: what their thread keeps grows by what it takes for
/// nearly all to find a run.
#[test]
fn batches_of_varying_lengths_are_nearly_always_served() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let mut rng = Rng(1);
    let mut missed_in = |nr_batches: usize| {
        let mut missed = 0;
        for _ in 0..nr_batches {
            let blocks: Vec<_> = (0..40)
                .map(|_| {
                    let size = 36_000 + rng.next() as usize % 64_000;
                    // SAFETY: the test's thread owns the heap.
                    let kept = unsafe { heap.try_alloc_large(size) };
                    missed += usize::from(kept.is_none());
                    kept.unwrap_or_else(|| owner.alloc(size, 8))
                })
                .collect();
            blocks.into_iter().for_each(|block| owner.free(block));
        }
        missed
    };
    missed_in(200);
    let missed = missed_in(200);
    // Of 8,000.
    assert!(missed < 60, "{missed}");
    // A batch takes some 720 pages, at most 1,000.
    let kept = heap.enter().large().nr_pages();
    // What had to leave comes back by more than one at a time, and makes room for as much.
    assert!(kept < 1_300, "{kept}");
}

/// All places are taken, left in any order and taken again.
#[test]
fn a_thread_keeps_as_many_runs_as_there_are_places() {
    const NR: usize = 127;
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let from = Attempt { node: heap.node(), level: WatermarkLevel::Low };
    // Short, so that places end before pages do. It comes from the heap's runs if there are any.
    // SAFETY: the test's thread owns the heap.
    let take = || unsafe { heap.mm().alloc_pages(heap, 2, from, false) }.unwrap().start;
    // SAFETY: as above; the block is given up, or is not free yet.
    let keep = |p: NonNull<u8>| unsafe { heap.try_free_large(p, None) };
    let nr_kept = || heap.enter().large().nr_pages() / 2;
    let mut out: Vec<_> = (0..NR + 9).map(|_| take()).collect();
    heap.enter().large().drain(heap.mm().pages());
    let spare = out.split_off(NR);
    // The newest last, as they come back.
    let mut kept: Vec<NonNull<u8>> = Vec::new();
    let mut rng = Rng(7);
    for _ in 0..4 {
        while let Some(p) = out.pop() {
            assert!(keep(p), "{}", nr_kept());
            kept.push(p);
        }
        assert_eq!(nr_kept(), NR);
        for _ in 0..1000 {
            let is_taken = !kept.is_empty() && rng.next().is_multiple_of(2);
            if is_taken {
                out.push(take());
                assert_eq!(out.last(), kept.pop().as_ref());
            } else if !out.is_empty() {
                let p = out.swap_remove(rng.next() as usize % out.len());
                assert!(keep(p));
                kept.push(p);
            }
            assert_eq!(nr_kept(), kept.len());
        }
    }
    while let Some(p) = out.pop() {
        assert!(keep(p));
        kept.push(p);
    }
    // From full, the next one is left for others.
    let shared = heap.mm().pages().node_cache(heap.node());
    owner.free(spare[0]);
    assert_eq!((nr_kept(), shared.nr_pages()), (NR, 2));
    // While somebody is at those, the older half leaves instead.
    shared.raw_locks().for_each(FutexLock::acquire);
    owner.free(spare[1]);
    shared.raw_locks().for_each(FutexLock::release);
    kept.push(spare[1]);
    let newest = kept.split_off(kept.len() - nr_kept());
    assert_eq!(newest.len(), NR / 2 + 1);
    let left: Vec<_> = newest.iter().map(|_| take()).collect();
    assert!(left.iter().rev().eq(&newest));
    left.iter().chain(&spare[2..]).for_each(|&p| owner.free(p));
    heap.mm().validate(Some(owner.0)).unwrap();
}

#[test]
fn a_few_misses_cost_nothing_of_much_that_is_kept() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let blocks: Vec<_> = (0..15).map(|_| owner.alloc(64 * PAGE_SIZE, 8)).collect();
    blocks.into_iter().for_each(|block| owner.free(block));
    let before = heap.enter().large().nr_pages();
    assert!(before >= 512, "{before}");
    let after = |nr_missed| {
        let mut inner = heap.enter();
        let mut large = inner.large();
        large.note_miss(heap.mm().pages(), nr_missed, false);
        large.nr_pages()
    };
    assert_eq!(after(before / 8 - 1), before);
    assert!(after(1) < before);
}

/// Nor where few requests miss, or little is kept beside what is charged.
#[test]
fn where_many_requests_miss_the_oldest_leave_before_the_zone_is_asked() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let pages = heap.mm().pages();
    let blocks: Vec<_> = (0..15).map(|_| owner.alloc(64 * PAGE_SIZE, 8)).collect();
    let oldest = blocks[0];
    blocks.into_iter().for_each(|block| owner.free(block));
    let before = heap.enter().large().nr_pages();
    let after = |nr_pages| {
        let mut inner = heap.enter();
        let mut large = inner.large();
        large.make_way(pages, nr_pages);
        large.nr_pages()
    };
    assert_eq!(after(40), before);
    let others: Vec<_> = (0..=8 * before / 1024).map(|_| owner.alloc(4 << 20, 8)).collect();
    (0..16).for_each(|_| heap.enter().large().note_miss(pages, 32, false));
    assert_eq!(after(40), before);
    others.into_iter().for_each(|block| owner.free(block));
    pages.purge(heap.node(), usize::MAX, PurgeHow::ALL);
    assert_eq!(after(40), before - 64);
    // The zone makes the next one of it.
    let block = owner.alloc(40 * PAGE_SIZE, 8);
    assert!((0..64 * PAGE_SIZE).contains(&block.addr().get().wrapping_sub(oldest.addr().get())));
    owner.free(block);
}

/// What is kept of other lengths is not there beside what the zone gives.
#[test]
fn a_table_whose_lengths_and_number_change_takes_little_more_than_its_most() {
    let Some(owner) = keeper() else { return };
    let heap = owner.heap();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut live: [Option<NonNull<u8>>; 24] = [None; 24];
    let (mut most, mut most_live) = (0, 0);
    for _ in 0..8000 {
        let slot = rng.next() as usize % live.len();
        if let Some(block) = live[slot].take() {
            owner.free(block);
        }
        if rng.next().is_multiple_of(2) {
            let size = (33 << 10) << (rng.next() % 3);
            let size = size + rng.next() as usize % size;
            let size = size.min(256 << 10);
            // SAFETY: the test's thread owns the heap.
            let kept = unsafe { heap.try_alloc_large(size) };
            live[slot] = Some(kept.unwrap_or_else(|| owner.alloc(size, 8)));
        }
        let sizes = live.iter().flatten().map(|&block| heap.mm().capacity(block).unwrap());
        most_live = most_live.max(sizes.sum::<usize>() / PAGE_SIZE);
        most = most.max(heap.mm().pages().charged());
    }
    assert!(2 * most < 3 * most_live, "{most} pages, {most_live} in use");
    live.into_iter().flatten().for_each(|block| owner.free(block));
}

/// Whatever leaves from wherever.
#[test]
fn runs_are_found_as_in_a_plain_list() {
    let Some(owner) = keeper() else { return };
    let pages = owner.heap().mm().pages();
    // Only words behind its head are written.
    let block = owner.alloc(4 << 20, 8);
    let head = pages.map.pfn_of(block.addr().get()).unwrap();
    let mut place = MaybeUninit::uninit();
    // SAFETY: valid for it.
    unsafe { KeptRuns::init(place.as_mut_ptr()) };
    // SAFETY: what is not written by `init` may be anything.
    let runs: &mut KeptRuns<128> = unsafe { place.assume_init_mut() };
    // The oldest first.
    let mut list: Vec<(Pfn, usize)> = Vec::new();
    let mut spare: Vec<Pfn> = (1..512).map(|at| head.add(at)).collect();
    let mut rng = Rng(1);
    for _ in 0..20_000 {
        let [what, nr_pages, at] = [9, 8, 512].map(|below| rng.next() as usize % below);
        let nr_pages = nr_pages + 1;
        assert_eq!(runs.has_place(), list.len() < 127);
        if what < 4 && runs.has_place() {
            let head = spare.swap_remove(at % spare.len());
            runs.keep(pages, PageRun::new(head, nr_pages, false));
            list.push((head, nr_pages));
            continue;
        }
        let (start, end) = (head.add(at), head.add(at + 16));
        let newest = |length: usize| list.iter().rposition(|run| run.1 == length);
        let (run, at) = match what {
            5 => (runs.take_oldest(pages), (!list.is_empty()).then_some(0)),
            6 => (runs.take_any(pages), (1..=8).find_map(newest)),
            7 => {
                let newest_in = |length: usize| {
                    let is_in =
                        |run: &(Pfn, usize)| run.1 == length && (start..end).contains(&run.0);
                    list.iter().rposition(is_in)
                };
                (runs.take_from(pages, start, end), (1..=8).find_map(newest_in))
            }
            8 => (
                runs.take_exact(nr_pages).map(|head| PageRun::new(head, nr_pages, false)),
                newest(nr_pages),
            ),
            _ => (runs.take(nr_pages), (nr_pages..=nr_pages + nr_pages / 4).find_map(newest)),
        };
        let expected = at.map(|at| list.remove(at));
        assert_eq!(run.map(|run| (run.head(), run.nr_pages())), expected);
        if let Some((head, ..)) = expected {
            pages.map.set_word(head, PageWord::NOTHING);
            spare.push(head);
        }
        assert_eq!(runs.nr_pages(), list.iter().map(|run| run.1).sum::<usize>());
    }
    while runs.take_any(pages).is_some() {}
    owner.free(block);
}
