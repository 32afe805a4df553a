//! Stacks that are filled while something else happens.

use zonal_numa::NodeId;
use zonal_numa::fake::FakeBuilder;

use super::*;

/// What lies on the stacks of `owner`, in bytes.
fn stacked(owner: Owner) -> usize {
    owner.heap().enter().reuse.bytes()
}

/// A thread that sleeps, one with objects of it on its stacks, what both have in use, and what was freed.
fn filled(mm: &'static Mm) -> ([Owner; 2], Vec<NonNull<u8>>, Vec<NonNull<u8>>) {
    let (asleep, mut blocks) = sleeper(mm, SIZE);
    let other = Owner::attach(mm);
    let freed = fill(asleep, other, &mut blocks);
    ([asleep, other], blocks, freed)
}

/// The same for a sleeper that allocated `blocks`.
fn fill(asleep: Owner, other: Owner, blocks: &mut Vec<NonNull<u8>>) -> Vec<NonNull<u8>> {
    assert!(asleep.heap().inbox.is_empty());
    send(other, blocks, SIZE, MUCH * 3 / 4);
    let mut freed = free_some(other, blocks);
    let again = other.alloc(SIZE, 8);
    freed.retain(|&block| block != again);
    assert_eq!((freed.len(), stacked(other)), (19, 19 * SIZE));
    blocks.push(again);
    freed
}

#[test]
fn stacks_are_bounded_for_each_class_and_in_all() {
    const OF_CLASS: usize = 256 << 10;
    for (nr_threads, most) in [(1, 2 << 20), (256, 256 << 10)] {
        let mm = new_mm();
        let (asleep, mut blocks) = sleeper(mm, SIZE);
        let other = Owner::attach(mm);
        let lines = SizeClass::all().map(SizeClass::size).filter(|it| it % 64 == 0 && *it != SIZE);
        let of_classes: Vec<(usize, Vec<_>)> = lines
            .map(|size| (size, (0..OF_CLASS / size).map(|_| asleep.alloc(size, 8)).collect()))
            .collect();
        fill(asleep, other, &mut blocks);
        mm.pages().set_threads(nr_threads);
        let mut before = stacked(other);
        for (size, of_class) in of_classes {
            // Others' objects are kept of classes that are in use here.
            blocks.push(other.alloc(size, 8));
            let nr = of_class.len() * size;
            of_class.into_iter().for_each(|block| other.send_home(block));
            let now = stacked(other);
            let has_room = before + most / 16 <= most && size <= most / 16;
            assert!(now <= before + most / 16 && now <= most, "{now} bytes with {nr} of {size}");
            assert!(!has_room || now > before, "some of {size} are kept");
            before = now;
        }
        assert!(before > most / 2, "{before} bytes");
        mm.validate(Some(other.0)).unwrap();
        blocks.into_iter().for_each(|block| other.free(block));
        end(mm, [asleep, other]);
    }
}

#[test]
fn they_serve_a_forked_child() {
    for is_lost in [false, true] {
        let mm = new_mm();
        let ([asleep, other], mut blocks, freed) = filled(mm);
        let lost = Owner::attach(mm);
        mm.prefork(Some(other.0));
        lost.heap().set_torn(is_lost);
        mm.postfork_child(Some(other.0));
        let again: Vec<_> = freed.iter().map(|_| other.alloc(SIZE, 8)).collect();
        assert!(again.iter().all(|block| freed.contains(block)));
        assert_eq!((stacked(other), nr_slabs(other, SIZE)), (0, 0));
        blocks.extend(again);
        blocks.into_iter().for_each(|block| other.free(block));
        // SAFETY: the child's only thread owns it and does not use it again; those of the others are dead.
        unsafe { mm.detach(other.0) };
        mm.drain_all(None);
        mm.validate(None).unwrap();
        assert_eq!(nr_slabs(asleep, SIZE), 0);
    }
}

/// Nobody waits for the visitor; who drains the dead sends them home.
#[test]
fn a_thread_may_end_with_them_beside_a_visitor() {
    let mm = new_mm();
    let ([asleep, other], blocks, _) = filled(mm);
    let third = Owner::attach(mm);
    let visitor = visit(other);
    // SAFETY: the thread ends.
    unsafe { mm.detach(other.0) };
    assert!(other.heap().reuses.load(Relaxed));
    drop(visitor);
    mm.drain_all(Some(third.0));
    assert!(!other.heap().reuses.load(Relaxed));
    blocks.into_iter().for_each(|block| third.free(block));
    end(mm, [asleep, third]);
}

/// They are as good as before for who has them, and go to the new owner of their slabs.
#[test]
fn their_slabs_may_move_to_the_commons() {
    for is_reused in [false, true] {
        let mm = new_mm();
        let ([asleep, other], mut blocks, freed) = filled(mm);
        // Only slabs that have something to give move.
        let nr_kept = blocks.len() / 2;
        blocks.drain(nr_kept..blocks.len() - 1).for_each(|block| asleep.free(block));
        // As many heaps as stay whole, and one that becomes the commons.
        let enders: Vec<_> = (0..5).map(|_| Owner::attach(mm)).collect();
        blocks.extend(enders.iter().map(|owner| owner.alloc(100, 8)));
        // SAFETY: the threads end.
        enders.into_iter().chain([asleep]).for_each(|owner| unsafe { mm.detach(owner.0) });
        let owner_now = |block: NonNull<u8>| {
            let map = &mm.pages().map;
            map.word_at(map.pfn_of(block.addr().get()).unwrap()).as_slab().unwrap().0
        };
        assert!(freed.iter().any(|&block| owner_now(block) != asleep.heap().id()));
        if is_reused {
            let again: Vec<_> = freed.iter().map(|_| other.alloc(SIZE, 8)).collect();
            assert!(again.iter().all(|block| freed.contains(block)));
            assert!(freed.iter().all(|block| again.contains(block)));
            blocks.extend(again);
        }
        mm.validate(Some(other.0)).unwrap();
        blocks.into_iter().for_each(|block| other.free(block));
        // SAFETY: this thread owns it and does not use it again.
        unsafe { mm.detach(other.0) };
        assert_nothing_left(mm);
    }
}

#[test]
fn what_is_asked_for_as_zero_is() {
    let mm = new_mm();
    let (owners, mut blocks, freed) = filled(mm);
    for &block in &freed {
        // SAFETY: freed, and nobody was given it since; its memory is zonal's.
        unsafe { block.write_bytes(0xa5, SIZE) };
    }
    let request = Request { size: SIZE, align: 8, zeroed: true, grows: false };
    let from = Attempt { node: owners[1].heap().node(), level: WatermarkLevel::Low };
    for _ in 0..freed.len() {
        // SAFETY: this thread owns the heap.
        let block = unsafe { owners[1].heap().alloc(request, from) }.unwrap();
        assert!(freed.contains(&block.start) && !block.known_zero);
        blocks.push(block.start);
    }
    blocks.into_iter().for_each(|block| owners[1].free(block));
    end(mm, owners);
}

/// Neither what is in flight nor what waits at a heap is the program's.
#[test]
fn the_figures_tell_them_apart() {
    let mm = new_mm();
    let ([asleep, other], mut blocks, _) = filled(mm);
    let waiting = |live: usize| {
        let mut figures = snapshot(mm, None);
        mm.survey(&mut figures, false);
        let memory = figures.memory();
        let live = (live * SIZE) as u64;
        assert_eq!(memory.used_small_bytes, live + figures.process.in_flight_bytes);
        (memory.cached_bytes - bytes_in_bins(&figures), figures.process.in_flight_bytes)
    };
    let posted = (MUCH * 3 / 4) as u64;
    assert_eq!(waiting(blocks.len()), (stacked(other) as u64, posted), "on stacks");
    fill_bin(other, &mut blocks, SIZE);
    free_some(other, &mut blocks);
    let unsent = ((19 + 20) * SIZE) as u64;
    assert_eq!(waiting(blocks.len()), (unsent, posted), "in open messages, too");
    // SAFETY: this thread owns the heap.
    let pop = || NonNull::new(unsafe { HeapHot::pop(asleep.heap().hot(), SIZE) });
    blocks.extend(core::iter::from_fn(pop));
    blocks.push(asleep.alloc_missed(SIZE, 8));
    assert!(!asleep.heap().enter().received.is_null());
    let (waits, in_flight) = waiting(blocks.len());
    assert_eq!(in_flight, 0);
    assert!(waits > unsent + (2 << 20), "{waits} bytes, unopened ones among them");
    mm.validate(None).unwrap();
    blocks.into_iter().for_each(|block| other.free(block));
    end(mm, [asleep, other]);
}

/// Where an object lies, not where it was freed.
#[test]
fn unsent_objects_count_where_they_lie() {
    let machine = FakeBuilder::new().nodes(2).build();
    let mm: &'static Mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let first = Owner::attach(mm);
    let blocks: Vec<_> = (0..20).map(|_| first.alloc(SIZE, 8)).collect();
    machine.run_on(NodeId::from_index(1).unwrap());
    let second = Owner::attach(mm);
    assert_ne!(first.heap().node(), second.heap().node());
    blocks.into_iter().for_each(|block| second.free(block));
    let figures = snapshot(mm, None);
    let cached = [0, 1].map(|node| figures.nodes[node].memory.cached_bytes);
    assert_eq!(cached, [bytes_in_bins(&figures) + 20 * SIZE as u64, 0]);
    end(mm, [first, second]);
}

/// A child does not take for gone what lies in heaps that it can use, nor for there what lies in others.
#[test]
fn a_forked_child_counts_what_is_in_flight_anew() {
    let mm = new_mm();
    let ([_, other], mut blocks, _) = filled(mm);
    let lost = Owner::attach(mm);
    let of_lost: Vec<_> = (0..1000).map(|_| lost.alloc(SIZE, 8)).collect();
    let (early, late) = of_lost.split_at(500);
    mm.drain_all(None);
    fill_bin(other, &mut blocks, SIZE);
    send(other, &mut blocks, SIZE, 4 << 20);
    early.iter().for_each(|&block| other.send_home(block));
    other.heap().enter().post_all(other.heap());
    other.heap().enter().settle_flight(other.heap());
    assert_eq!(mm.flight().bytes(), (4 << 20) + 500 * SIZE);
    mm.prefork(Some(other.0));
    lost.heap().set_torn(true);
    mm.postfork_child(Some(other.0));
    assert_eq!(mm.flight().bytes(), 4 << 20);
    late.iter().for_each(|&block| other.send_home(block));
    other.heap().enter().post_all(other.heap());
    other.heap().enter().settle_flight(other.heap());
    assert_eq!(mm.flight().bytes(), 4 << 20);
    mm.drain_all(None);
    assert_eq!(mm.flight().sum(), 0);
    blocks.into_iter().for_each(|block| other.free(block));
    mm.validate(Some(other.0)).unwrap();
}

/// A heap that cannot be looked into while its process forks takes in what came meanwhile.
#[test]
fn a_fork_of_others_leaves_the_count_as_it_is() {
    let mm = new_mm();
    let [owner, other] = [(); 2].map(|()| Owner::attach(mm));
    let blocks: Vec<_> = (0..500).map(|_| owner.alloc(SIZE, 8)).collect();
    owner.heap().set_torn(true);
    blocks.into_iter().for_each(|block| other.free(block));
    other.heap().enter().post_all(other.heap());
    owner.heap().set_torn(false);
    assert!(owner.heap().enter().collect(owner.heap(), || false));
    mm.drain_all(None);
    assert_eq!(mm.flight().sum(), 0);
    end(mm, [owner, other]);
}

/// Bytes in bins.
fn bytes_in_bins(figures: &zonal_stats::Snapshot) -> u64 {
    figures.classes().iter().map(|class| class.nr_cached * class.size).sum()
}
