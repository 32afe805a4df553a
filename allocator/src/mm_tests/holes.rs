//! Pages inside used slabs that went back.

use zonal_numa::Errno;
use zonal_numa::fake::{Call, FakeBuilder};

use super::*;
use crate::heap::Inner;
use crate::holes::BATCH;
use crate::visit::sweep::Sweep;

/// Makes a heap of 5,000 pages of small objects, of which one in fifty is left: about every sixth
/// page is in use.
fn sparse(owner: Owner) -> Vec<Filled> {
    let blocks: Vec<Filled> = (0..40_000).map(|i| Filled::new(owner, 512, 8, i as u8)).collect();
    let mut survivors = Vec::new();
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 50 == 0 { survivors.push(block) } else { block.release(owner) }
    }
    survivors
}

/// Makes one of which little is free: what was freed, and the rest.
fn dense(owner: Owner) -> (Vec<NonNull<u8>>, Vec<Filled>) {
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
    (freed, kept)
}

#[test]
fn holes_in_used_slabs_go_back_and_come_again() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let survivors = sparse(owner);
    let before = mm.pages().charged();
    mm.drain_all(Some(owner.0));
    let purged = mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX);
    mm.validate(Some(owner.0)).unwrap();
    assert!(purged > 3500, "{purged} pages");
    assert!(mm.pages().charged() < before);
    // The first pass may have holed a section after it passed over the denser slabs of it.
    assert!(mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX) < 64);
    assert_eq!(mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX), 0);
    let again: Vec<Filled> = (0..40_000).map(|i| Filled::new(owner, 512, 8, i as u8)).collect();
    mm.validate(Some(owner.0)).unwrap();
    for block in again.into_iter().chain(survivors) {
        block.release(owner);
    }
    mm.drain_own(owner.0, Patience::Wait, Deadline::NEVER);
    mm.validate(Some(owner.0)).unwrap();
    assert_eq!(snapshot(mm, Some(owner.0)).small_bytes(), 0);
}

/// The bound of a sweep holds for all heaps, and each has its turn.
#[test]
fn a_sweep_goes_as_far_as_it_may_in_all_heaps_together() {
    const STEP: usize = 128;
    let mm = new_mm();
    let owners = [Owner::attach(mm), Owner::attach(mm), Owner::attach(mm)];
    let survivors = owners.map(sparse);
    let sweep = |max_pages| {
        let sweep = Sweep { how: PurgeHow::ALL, idle_for: 0, step_pages: STEP, max_pages };
        mm.sweep(Some(owners[0].0), sweep)
    };
    // A slab is purged whole.
    let slack = 16;
    let first = sweep(STEP * 2).nr_pages;
    assert!((STEP..=STEP * 2 + 2 * slack).contains(&first), "{first} pages");
    assert_eq!(sweep(0).nr_pages, 0);
    let second = sweep(usize::MAX).nr_pages;
    assert!((STEP * 2..=(STEP + slack) * 3).contains(&second), "{second} pages");
    for (owner, blocks) in owners.into_iter().zip(survivors) {
        blocks.into_iter().for_each(|block| block.release(owner));
    }
    mm.validate(Some(owners[0].0)).unwrap();
}

/// While all that a walk left is young, rounds do not come by it again; they do as soon as something is cold.
#[test]
fn a_sweep_finds_holes_as_soon_as_they_are_cold() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let sweep = |border| {
        let how = PurgeHow { up_to: Some(border), ..PurgeHow::ALL };
        let sweep = Sweep { how, idle_for: 0, step_pages: usize::MAX, max_pages: usize::MAX };
        let nr_pages = mm.sweep(Some(owner.0), sweep).nr_pages;
        (nr_pages, owner.heap().enter().walk.may_find(Some(border)))
    };
    mm.pages().set_generation(1000);
    let survivors = sparse(owner);
    mm.drain_all(Some(owner.0));
    mm.pages().set_generation(1002);
    assert_eq!(sweep(999), (0, false));
    let (nr_pages, may_find) = sweep(1000);
    assert!(nr_pages > 3500, "{nr_pages} pages");
    // It holed a section on its way.
    assert!(may_find && sweep(1000).0 < 64);
    assert_eq!(sweep(1000), (0, false));
    // What is used later has its turn later.
    mm.pages().set_generation(1005);
    let mut kept = Vec::new();
    for (i, block) in survivors.into_iter().enumerate() {
        if i % 2 == 0 { kept.push(block) } else { block.release(owner) }
    }
    mm.drain_all(Some(owner.0));
    mm.pages().set_generation(1010);
    assert_eq!(sweep(1004), (0, false));
    assert!(sweep(1008).0 > 0);
    // Nothing was missed.
    assert_eq!(mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX), 0);
    kept.into_iter().for_each(|block| block.release(owner));
    mm.validate(Some(owner.0)).unwrap();
}

/// A slab that goes back takes its holes with it: charged without memory, they would be memory that
/// nobody knows of when somebody touches them.
#[test]
fn holes_of_slabs_that_are_given_back_stay_without_charge() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let survivors = sparse(owner);
    mm.drain_all(Some(owner.0));
    let purged = mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX);
    assert!(purged > 3500, "{purged} pages");
    let charged = mm.pages().charged();
    survivors.into_iter().for_each(|block| block.release(owner));
    mm.drain_own(owner.0, Patience::Wait, Deadline::NEVER);
    mm.validate(Some(owner.0)).unwrap();
    assert_eq!(snapshot(mm, Some(owner.0)).small_bytes(), 0);
    assert!(mm.pages().charged() <= charged, "{} of {charged}", mm.pages().charged());
}

/// Once a section is whole again, the kernel may fill holes in its slabs; the accounts know nothing.
#[test]
fn holes_that_the_kernel_filled_go_back_again() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let (freed, kept) = dense(owner);
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
    let purged = mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX);
    let left = nr_resident();
    assert!(purged > 50 && left + 50 < before, "{purged} purged, {left} of {before} left");
    assert_eq!(mm.pages().unhole(owner.heap().node(), 0), 1);
    mm.validate(Some(owner.0)).unwrap();
    // SAFETY: free memory inside slabs, which nobody else touches.
    freed.iter().for_each(|p| unsafe { p.write_volatile(1) });
    assert!(nr_resident() > left + 50);
    assert_eq!(
        mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX),
        0,
        "by the accounts"
    );
    assert_eq!(nr_resident(), left);
    mm.validate(Some(owner.0)).unwrap();
    kept.into_iter().for_each(|block| block.release(owner));
}

/// The same, but now the system refuses to take them.
#[test]
fn holes_that_the_kernel_filled_and_keeps_count_again() {
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let owner = Owner::attach(mm);
    let (_, kept) = dense(owner);
    mm.drain_all(Some(owner.0));
    let purged = mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX);
    assert!(purged > 50);
    assert_eq!(mm.pages().unhole(owner.heap().node(), 0), 1);
    let charged = mm.pages().charged();
    [Call::Purge, Call::PurgeMany]
        .into_iter()
        .for_each(|call| machine.fail_from(call, 1, Errno::EPERM));
    assert_eq!(mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX), 0);
    assert_eq!(mm.pages().charged(), charged + purged);
    mm.validate(Some(owner.0)).unwrap();
    machine.fail_no_more();
    assert_eq!(mm.purge_holes(Some(owner.0), Patience::Wait, PurgeHow::ALL, usize::MAX), purged);
    assert_eq!(mm.pages().charged(), charged);
    mm.validate(Some(owner.0)).unwrap();
    kept.into_iter().for_each(|block| block.release(owner));
}

/// An owner that comes in all the time: each visit is a short turn, which is used, and no hole is left.
#[test]
fn holes_go_back_in_turns_beside_an_owner_at_work() {
    const PURGE_NS: u64 = 1000;
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let owner = Owner::attach(mm);
    let survivors = sparse(owner);
    let heap = owner.heap();
    machine.slow(Call::Purge, PURGE_NS);
    machine.during(Call::Purge, move || {
        // SAFETY: the thread that owns the heap, between two of its operations, or so it is to the visitor.
        let owner = Owner(unsafe { OwnHeap::new(NonNull::from(heap)) });
        owner.free(owner.alloc_missed(3000, 8));
    });
    let calls_before = machine.calls(Call::Purge);
    let how = PurgeHow { up_to: Some(mm.pages().generation()), ..PurgeHow::ALL };
    let sweep = Sweep { how, idle_for: 0, step_pages: usize::MAX, max_pages: usize::MAX };
    let mut swept = mm.sweep(None, sweep);
    let (mut nr_pages, mut nr_turns) = (swept.nr_pages, 1);
    while swept.is_cut {
        let since = mm.machine().now_ns();
        swept = mm.sweep_on(sweep);
        let took = mm.machine().now_ns() - since;
        // What is collected at its end is one call's, and that of one slab another's.
        assert!(took <= how.turn_ns + 2 * BATCH as u64 * PURGE_NS, "{took} ns");
        (nr_pages, nr_turns) = (nr_pages + swept.nr_pages, nr_turns + 1);
        assert!(nr_turns < 1000, "it comes to an end");
    }
    let nr_calls = machine.calls(Call::Purge) - calls_before;
    assert!(nr_turns > 1 && nr_turns <= 2 + nr_calls * PURGE_NS / how.turn_ns, "{nr_turns} turns");
    assert!(nr_pages > 3500, "{nr_pages} pages");
    machine.during_no_more(Call::Purge);
    mm.validate(Some(owner.0)).unwrap();
    survivors.into_iter().for_each(|block| block.release(owner));
}

/// Nobody who sleeps until the visitor has left sleeps for a turn.
#[test]
fn a_look_for_holes_ends_for_a_fork() {
    let mm = fake_mm(1);
    let owner = Owner::attach(mm);
    let survivors = sparse(owner);
    let mut visitor = visit(owner);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            mm.prefork(None);
            mm.postfork_parent(None);
        });
        while !visitor.is_awaited() {
            std::thread::yield_now();
        }
        let holes = visitor.purge_holes(PurgeHow::ALL, usize::MAX);
        assert!(holes.is_cut && holes.is_partial && holes.nr_pages <= 16, "{holes:?}");
        drop(visitor);
    });
    survivors.into_iter().for_each(|block| block.release(owner));
    mm.validate(Some(owner.0)).unwrap();
}

/// It may leave its list just when the walk is there.
#[test]
fn a_walk_comes_by_each_slab_once() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let survivors = sparse(owner);
    let mut inner = owner.heap().enter();
    let walk = |inner: &mut Inner| -> Vec<_> { core::iter::from_fn(|| inner.walk_on()).collect() };
    let all = walk(&mut inner);
    inner.walk.end(0, false);
    assert!(all.len() > 500);
    let (mut seen, mut gone) = (Vec::new(), Vec::new());
    while let Some(slab) = inner.walk_on() {
        seen.push(slab);
        if seen.len().is_multiple_of(3)
            && let Some((next, class)) = inner.walk.place()
        {
            // SAFETY: it is on that list, and nobody else is here.
            unsafe {
                inner.unlist(next.as_ptr());
                inner.classes[class].partial.push(next.as_ptr());
            }
            gone.push(next);
        }
    }
    assert!(gone.len() > 100);
    let expected: Vec<_> = all.into_iter().filter(|slab| !gone.contains(slab)).collect();
    assert_eq!(seen, expected, "what came to the front meanwhile is for the next walk");
    inner.walk.end(0, false);
    assert_eq!(walk(&mut inner).len(), seen.len() + gone.len());
    inner.walk.end(0, false);
    drop(inner);
    mm.validate(Some(owner.0)).unwrap();
    survivors.into_iter().for_each(|block| block.release(owner));
}

/// A round by a caller has no turn beside another owner: the program waits for it.
#[test]
fn a_look_for_holes_without_a_turn_ends_when_the_owner_comes() {
    let mm = fake_mm(1);
    let owner = Owner::attach(mm);
    let survivors = sparse(owner);
    let look = |turn_ns| {
        let mut visitor = visit(owner);
        owner.free(owner.alloc_missed(3000, 8));
        assert!(visitor.is_wanted());
        visitor.purge_holes(PurgeHow { turn_ns, ..PurgeHow::ALL }, usize::MAX)
    };
    let holes = look(0);
    assert!(holes.is_cut && holes.nr_pages <= 16, "{holes:?}");
    // The clock stands still.
    let holes = look(1);
    assert!(!holes.is_cut && holes.nr_pages > 3000, "{holes:?}");
    survivors.into_iter().for_each(|block| block.release(owner));
    mm.validate(Some(owner.0)).unwrap();
}
