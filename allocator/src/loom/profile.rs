//! The tables of the heap profile: a slot given up by one thread and taken by another carries the
//! newer object only; a dump beside the first sample of a stack sees its frames whole or not at all.
//!
//! Faults: `live_free_relaxed` (the next object is written while the last one is still read),
//! `live_insert_relaxed` (a profile that starts again reads an object that is still written),
//! `stacks_frames_relaxed` (a dump sees the place of the frames before the frames).

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

use super::{check, reached};
use crate::profile::Weight;
use crate::profile::live::{Live, Object, Slot};
use crate::profile::stacks::{Entry, Stacks};

/// One slot for all, so that they meet.
fn live() -> Arc<Live> {
    Arc::new(Live::new(Box::leak(Box::new([Slot::new()]))))
}

/// Samples an object and frees it.
fn round(live: &Live, addr: usize) -> bool {
    let object = Object { addr, size: addr * 3, stack: 0, weight: Weight::default() };
    let kept = live.insert(object);
    let found = live.remove(addr);
    assert_eq!(found.map(|object| object.size), kept.then_some(addr * 3));
    kept
}

#[test]
fn live_slots() {
    check("profile:live", &["both", "one-lost"], || {
        let live = live();
        let other = {
            let live = Arc::clone(&live);
            thread::spawn(move || round(&live, 64))
        };
        let kept = [round(&live, 128), other.join().unwrap()];
        assert!(kept[0] || kept[1], "each found the slot taken");
        reached(if kept[0] && kept[1] { "both" } else { "one-lost" });
        assert!(round(&live, 192), "the slot is free in the end");
    });
}

/// One thread starts the profile again while another samples.
#[test]
fn live_cleared() {
    check("profile:clear", &["cleared", "kept"], || {
        let live = live();
        let sampler = {
            let live = Arc::clone(&live);
            thread::spawn(move || {
                let object = Object { addr: 64, size: 192, stack: 0, weight: Weight::default() };
                assert!(live.insert(object));
            })
        };
        // Without this loom overlooks the executions in which the sampler comes first.
        thread::yield_now();
        live.clear();
        sampler.join().unwrap();
        reached(if live.remove(64).is_some() { "kept" } else { "cleared" });
    });
}

#[test]
fn stacks() {
    const FRAMES: [usize; 2] = [7, 11];
    check("profile:stacks", &["whole", "without-frames", "nothing", "shared"], || {
        let entries = Box::leak(Box::new([(); 4].map(|()| Entry::default())));
        let arena = Box::leak(Box::new([(); 8].map(|()| AtomicUsize::new(0))));
        let stacks = Arc::new(Stacks::new(entries, arena));
        let samplers = [(); 2].map(|()| {
            let stacks = Arc::clone(&stacks);
            thread::spawn(move || {
                let index = stacks.find_or_insert(&FRAMES);
                stacks.allocated(index, Weight::of(1 << 30, 1), 1);
                index
            })
        });
        let mut seen = "nothing";
        stacks.each(|_, frames| {
            assert!(frames.is_empty() || frames == FRAMES, "{frames:?}");
            seen = if frames.is_empty() { "without-frames" } else { "whole" };
        });
        reached(seen);
        let [a, b] = samplers.map(|thread| thread.join().unwrap());
        assert_eq!(a, b, "one stack, one entry");
        let mut total = 0;
        stacks.each(|figures, _| total += figures.total);
        assert_eq!(total, 2);
        reached("shared");
        let _ = arena[0].load(Relaxed);
    });
}
