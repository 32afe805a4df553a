//! Slots and what is found in them, on a real arena.

use super::choice::{EASY_PAGES, nr_firsts};
use super::*;

const KEY: u64 = 0x8123_4567_89ab_cdef;

fn fence() -> (Fence, Machine) {
    (Fence::new(4, KEY), Machine::linux())
}

fn try_take(
    fence: &Fence,
    machine: &Machine,
    size: usize,
) -> Result<Option<NonNull<u8>>, BadPointer> {
    fence.alloc((machine, NodeId::ZERO), SizeClass::of(size).unwrap(), size)
}

fn take(fence: &Fence, machine: &Machine, size: usize) -> NonNull<u8> {
    try_take(fence, machine, size).unwrap().unwrap()
}

#[test]
fn objects_are_apart_and_know_their_size() {
    let (fence, machine) = fence();
    assert!(!fence.contains(0) && fence.check().is_none());
    let mut taken = Vec::new();
    for size in (0..=MAX_SIZE).step_by(61) {
        let object = take(&fence, &machine, size);
        let addr = object.addr().get();
        assert!(fence.contains(addr) && addr.is_multiple_of(16));
        assert_eq!(fence.size_of(addr), Ok(size.max(WORD)));
        // SAFETY: an object of that size.
        let bytes = unsafe { core::slice::from_raw_parts_mut(object.as_ptr(), size) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(0xa5);
        taken.push(addr..addr + size.max(WORD));
    }
    taken.sort_by_key(|range| range.start);
    assert!(taken.windows(2).all(|pair| pair[0].end + WORD <= pair[1].start));
    assert_eq!(fence.check(), None);
    for range in taken {
        assert_eq!(fence.free(range.start + 16).unwrap_err().kind, BadKind::Interior);
        assert_eq!(fence.free(range.start), Ok(()));
        assert_eq!(fence.free(range.start).unwrap_err().kind, BadKind::DoubleFree);
    }
    assert_eq!(fence.check(), None);
    assert!(try_take(&fence, &machine, MAX_SIZE + 1).unwrap().is_none());
}

#[test]
fn what_was_written_outside_is_found() {
    for (size, at) in [(100, 100), (100, 119), (100, 120), (1016, 1016), (8, 8)] {
        let (fence, machine) = fence();
        let object = take(&fence, &machine, size);
        // SAFETY: inside the arena.
        let byte = unsafe { object.add(at) };
        // SAFETY: as above.
        unsafe { byte.write(!byte.read()) };
        let bad = BadPointer::new(object.addr().get(), BadKind::Overrun);
        assert_eq!(fence.check(), Some(bad));
        assert_eq!(fence.free(bad.addr), Err(bad));
        // SAFETY: as above.
        unsafe { byte.write(!byte.read()) };
        assert_eq!(fence.free(bad.addr), Ok(()));
        // SAFETY: as above. A zero where an address could have been.
        unsafe { object.add(size / 2).write(0) };
        let bad = BadPointer { kind: BadKind::UsedAfterFree, ..bad };
        assert_eq!(fence.check(), Some(bad));
        let later = core::iter::from_fn(|| try_take(&fence, &machine, size).transpose());
        let found: Vec<_> = later.filter_map(Result::err).collect();
        assert_eq!(found, [bad], "{size} {at}");
    }
}

#[test]
fn the_first_of_each_class_are_wanted() {
    let (fence, machine) = fence();
    for class in SizeClass::all() {
        let firsts = core::iter::from_fn(|| {
            fence.wants(class).then(|| match class.size() - WORD {
                size @ ..=MAX_SIZE => {
                    let place = (&machine, NodeId::ZERO);
                    assert!(fence.alloc(place, class, size).unwrap().is_some());
                }
                _ => assert!(fence.take_turn(class)),
            })
        });
        assert_eq!(firsts.count(), usize::from(nr_firsts(class)), "{class:?}");
    }
    assert!(fence.nr_pages.load(Relaxed) <= EASY_PAGES, "and leave room for others");
    assert_eq!(fence.period(), 4);
    assert!(SizeClass::all().all(|class| !Fence::new(0, KEY).wants(class)));
}

#[test]
fn a_slot_is_used_again_late_and_the_arena_ends() {
    let (fence, machine) = fence();
    let first = take(&fence, &machine, 1000);
    assert_eq!(fence.live_bytes(), 1024);
    fence.free(first.addr().get()).unwrap();
    assert_eq!(fence.live_bytes(), 0);
    let others = (0..NR_RESTING).map(|_| {
        let object = take(&fence, &machine, 1000);
        fence.free(object.addr().get()).unwrap();
        object
    });
    assert!(others.into_iter().all(|object| object != first));
    assert_eq!(take(&fence, &machine, 1000), first);
    assert_eq!(fence.period(), 4);

    let mut nr = 1;
    while try_take(&fence, &machine, 1000).unwrap().is_some() {
        nr += 1;
    }
    assert_eq!(nr, NR_PAGES * PAGE_SIZE / 1024);
    assert!(fence.period() >= 4 << 3);
    assert!(try_take(&fence, &machine, 10).unwrap().is_none());
    fence.free(first.addr().get()).unwrap();
    assert_eq!(take(&fence, &machine, 1000), first);
}

#[test]
fn a_freed_slot_rests_whatever_else_is_in_use() {
    for (nr_live, size) in [(0, 1000), (3, 1000), (31, 1000), (100, 1000), (63, 8), (31, 100)] {
        let (fence, machine) = fence();
        for _ in 0..nr_live {
            take(&fence, &machine, size);
        }
        let earlier = [(); 5].map(|()| take(&fence, &machine, size));
        let first = take(&fence, &machine, size);
        fence.free(first.addr().get()).unwrap();
        // As many freed after it, some of them in use since before.
        for i in 0..NR_RESTING {
            let (other, live) = (take(&fence, &machine, size), take(&fence, &machine, size));
            assert!(other != first && live != first, "{i} after it, {nr_live} of {size}");
            fence.free(earlier.get(i).unwrap_or(&other).addr().get()).unwrap();
        }
        let mut later = core::iter::from_fn(|| try_take(&fence, &machine, size).unwrap());
        assert!(later.any(|object| object == first));
    }
}

/// Where there are no more pages, what rested longest comes first.
#[test]
fn a_full_arena_uses_what_rests() {
    let (fence, machine) = fence();
    let mut all: Vec<_> =
        core::iter::from_fn(|| try_take(&fence, &machine, 500).unwrap()).collect();
    assert_eq!(all.len(), NR_PAGES * PAGE_SIZE / 512);
    for nr in [1, 5, NR_RESTING] {
        let freed = all.split_off(all.len() - nr);
        freed.iter().for_each(|object| fence.free(object.addr().get()).unwrap());
        all.extend((0..nr).map(|_| take(&fence, &machine, 500)));
        assert!(all.ends_with(&freed));
        assert_eq!(try_take(&fence, &machine, 500), Ok(None));
    }
}

/// What one thread frees another one takes in, and nobody takes the one for the other.
#[test]
fn frees_beside_others_are_no_second_ones() {
    let (fence, machine) = fence();
    let nr_had: usize = std::thread::scope(|scope| {
        let users = [(); 4].map(|()| {
            scope.spawn(|| {
                let objects = (0..30_000).filter_map(|_| try_take(&fence, &machine, 56).unwrap());
                objects.map(|object| fence.free(object.addr().get()).unwrap()).count()
            })
        });
        users.into_iter().map(|user| user.join().unwrap()).sum()
    });
    assert!(nr_had > 0);
    assert_eq!(fence.check(), None);
}
