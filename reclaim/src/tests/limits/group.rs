//! What a control group has left: how it is read, and what a request does near its edge.

use zonal_allocator::{Cap, UNLIMITED};

use super::*;
use crate::pressure::{self, INTERVAL_NS, Pressure, Watch};
use crate::stall::Stall;

/// The bound of a group that is full by now.
fn full(mm: &Mm) -> Cap {
    let charged = mm.pages().charged();
    Cap { pages: charged, edge: charged, ..Cap::NONE }
}

fn allocstalls(mm: &Mm) -> u64 {
    mm.pages()
        .online()
        .iter()
        .filter_map(|node| mm.pages().zone_stats(node))
        .map(|zone| zone.events.allocstall)
        .sum()
}

#[test]
fn a_full_group_takes_what_is_not_cold_yet() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 100_000, 400, 400);
    let mut keeper = keeper(mm);
    keeper.round(mm, None);
    assert!(
        mm.pages().nr_free_resident() * PAGE_SIZE > 30 * MIB,
        "without pressure it is too young"
    );
    machine.set_group_room(Some(Room { total: 64 * MIB, available: 0 }));
    machine.advance_ns(10 * INTERVAL_NS);
    // Warm again, so that age alone takes nothing.
    leave_garbage(heap, 100_000, 400, 400);
    keeper.round(mm, None);
    let cap = mm.pages().cap();
    assert!(cap.marks.min < cap.marks.low && cap.marks.low < cap.marks.high, "{cap:?}");
    assert!(cap.pages - mm.pages().charged() >= cap.marks.high, "up to the high mark");
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn the_group_is_known_before_anything_is_charged_and_callers_look_again_near_its_edge() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 64 * MIB, available: 60 * MIB }));
    pressure::begin(mm);
    assert_eq!(mm.pages().cap().pages, 60 * MIB / PAGE_SIZE);
    let nr_calls = machine.calls(Call::Room);
    machine.advance_ns(INTERVAL_NS);
    let blocks: Vec<_> = (0..40).map(|_| take(heap, MIB).unwrap()).collect();
    assert_eq!(machine.calls(Call::Room), nr_calls, "far from the edge");
    // Others took 10 MiB meanwhile.
    machine.set_group_room(Some(Room { total: 64 * MIB, available: 10 * MIB }));
    take(heap, 14 * MIB).unwrap();
    assert!(machine.calls(Call::Room) > nr_calls);
    let cap = mm.pages().cap().pages * PAGE_SIZE;
    assert!((45 * MIB..=51 * MIB).contains(&cap), "{} MiB", cap / MIB);
    blocks.into_iter().for_each(|block| give(heap, block));
    mm.validate(Some(heap)).unwrap();
}

/// The descriptors may be used up, and a full group has no memory even to open a file.
#[test]
fn what_cannot_be_read_just_now_stays_as_it_was() {
    let machine = FakeBuilder::new().build();
    let (mm, _) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 64 * MIB, available: 60 * MIB }));
    let mut keeper = keeper(mm);
    keeper.round(mm, None);
    let cap = mm.pages().cap();
    assert!(cap.pages >= 60 * MIB / PAGE_SIZE && cap != Cap::NONE);
    let nr_calls = machine.calls(Call::Room);
    machine.fail_from(Call::Room, 1, Errno::EMFILE);
    machine.advance_ns(INTERVAL_NS);
    keeper.round(mm, None);
    assert!(machine.calls(Call::Room) > nr_calls);
    assert_eq!(mm.pages().cap(), cap);
    machine.fail_no_more();
    // Gone for good is no bound.
    machine.fail_from(Call::Room, 1, Errno::ENOENT);
    machine.advance_ns(INTERVAL_NS);
    keeper.round(mm, None);
    assert_eq!(mm.pages().cap(), Cap::NONE);
}

/// A filter that comes late lets nobody read, and does not lift what was known before it.
#[test]
fn a_late_filter_keeps_the_bound_that_was_read_last() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 64 * MIB, available: MIB }));
    let mut keeper = keeper(mm);
    keeper.round(mm, None);
    let cap = mm.pages().cap();
    assert!(cap != Cap::NONE);
    machine.confine();
    let nr_calls = machine.calls(Call::Room);
    machine.advance_ns(INTERVAL_NS);
    keeper.round(mm, None);
    take(heap, 4 * MIB).unwrap();
    assert_eq!((mm.pages().cap(), machine.calls(Call::Room)), (cap, nr_calls));
}

#[test]
fn a_bound_is_watched_although_the_filter_came_before_the_first_look() {
    let room = Room { total: 64 * MIB, available: 60 * MIB };
    for (soft_limit, in_group, watch) in [
        (UNLIMITED, false, Watch::No),
        (4 * MIB / PAGE_SIZE, false, Watch::Loose),
        (UNLIMITED, true, Watch::Loose),
    ] {
        let machine = FakeBuilder::new().build();
        let pages = PageConfig { soft_limit, ..PageConfig::default() };
        let (mm, _) = start(machine, Config { pages, ..Config::default() });
        machine.set_group_room(in_group.then_some(room));
        pressure::begin(mm);
        machine.confine();
        let mut pressure = Pressure::new(0);
        pressure.refresh(mm, mm.machine().now_ns());
        assert_eq!(pressure.watch(), watch, "{soft_limit} {in_group}");
    }
}

/// A bound that gave way is one again after the next look, also where that finds nothing out.
#[test]
fn grace_ends_where_nothing_can_be_read() {
    for soft_limit in [UNLIMITED, 4 * MIB / PAGE_SIZE] {
        let machine = FakeBuilder::new().build();
        let pages = PageConfig { soft_limit, ..PageConfig::default() };
        let (mm, heap) = start(machine, Config { pages, ..Config::default() });
        let is_group = soft_limit == UNLIMITED;
        if is_group {
            let room = Room { total: 64 * MIB, available: 0 };
            machine.set_group_room(Some(room));
            machine.set_node_room(node(0), room);
        }
        take(heap, 8 * MIB).unwrap();
        let mut keeper = keeper(mm);
        keeper.round(mm, None);
        let more = 64 * MIB / PAGE_SIZE;
        for is_confined in [false, true] {
            assert!(mm.pages().is_capped(node(0), more));
            mm.pages().yield_caps(node(0), more, 0, true);
            assert!(!mm.pages().is_capped(node(0), more));
            machine.fail_from(Call::Room, 1, Errno::EMFILE);
            if is_confined {
                machine.confine();
            }
            machine.advance_ns(INTERVAL_NS);
            keeper.round(mm, None);
        }
        assert!(mm.pages().is_capped(node(0), more));
        if is_group {
            // Of the node as of the group.
            mm.pages().set_cap(Cap::NONE);
            assert!(mm.pages().is_capped(node(0), more));
        }
    }
}

#[test]
fn what_nobody_can_have_touched_is_no_room() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    take(heap, MIB).unwrap();
    let charged = mm.pages().charged();
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 900 * MIB }));
    // SAFETY: the test's thread owns the heap.
    unsafe { alloc(heap, Request { size: 40 * MIB, align: 8, zeroed: false, grows: false }) }
        .unwrap();
    let mut keeper = keeper(mm);
    keeper.round(mm, None);
    assert_eq!(mm.pages().cap().pages, charged + 900 * MIB / PAGE_SIZE);
    // What is not touched in a second never is.
    for _ in 0..20 {
        machine.advance_ns(INTERVAL_NS);
        keeper.round(mm, None);
    }
    assert_eq!(mm.pages().cap().pages, mm.pages().charged() + 900 * MIB / PAGE_SIZE);
}

/// A block that was just taken is as large as the one before it: nobody has touched it yet.
#[test]
fn a_second_charge_of_a_size_is_a_new_one() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 900 * MIB }));
    let mut keeper = keeper(mm);
    let mut before = mm.pages().charged();
    for nr_looks in [1, 2] {
        // SAFETY: the test's thread owns the heap.
        unsafe { alloc(heap, Request { size: 40 * MIB, align: 8, zeroed: false, grows: false }) }
            .unwrap();
        for _ in 0..nr_looks {
            machine.advance_ns(INTERVAL_NS);
            keeper.round(mm, None);
            assert_eq!(mm.pages().cap().pages, before + 900 * MIB / PAGE_SIZE);
        }
        before = mm.pages().charged();
    }
}

#[test]
fn what_others_leave_is_seen_by_a_caller_that_has_little() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 8 * MIB }));
    pressure::begin(mm);
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 900 * MIB }));
    machine.advance_ns(INTERVAL_NS);
    take(heap, 4 * MIB).unwrap();
    assert!(mm.pages().cap().pages >= 890 * MIB / PAGE_SIZE);
    // And by the rounds that callers do.
    mm.pages().set_cap(Cap { pages: mm.pages().charged(), ..mm.pages().cap() });
    machine.advance_ns(INTERVAL_NS);
    assert!(mm.doorbell().claim());
    let looks_from = mm.pages().lookout().callers_from();
    let config = KswapdConfig { looks_from, ..KswapdConfig::default() };
    Kswapd::new(mm, config, 0).round(mm, Some(heap));
    assert!(mm.pages().cap().pages >= 890 * MIB / PAGE_SIZE);
}

#[test]
fn a_change_of_the_groups_limit_is_followed() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut keeper = keeper(mm);
    let cap_after = |keeper: &mut Kswapd, room, ns| {
        machine.set_group_room(room);
        machine.advance_ns(ns);
        keeper.round(mm, Some(heap));
        mm.pages().cap().pages
    };
    let room = |available| Some(Room { total: 1024 * MIB, available });
    let charged = mm.pages().charged();
    assert_eq!(cap_after(&mut keeper, room(MIB), 0), charged + 256);
    assert_eq!(cap_after(&mut keeper, room(2 * MIB), INTERVAL_NS / 2), charged + 256, "too soon");
    assert_eq!(cap_after(&mut keeper, room(2 * MIB), INTERVAL_NS / 2), charged + 512);
    assert_eq!(cap_after(&mut keeper, None, INTERVAL_NS), UNLIMITED);
    let nr_calls = machine.calls(Call::Room);
    // Without a bound the next look may wait.
    assert_eq!(cap_after(&mut keeper, room(0), INTERVAL_NS), UNLIMITED);
    assert_eq!(machine.calls(Call::Room), nr_calls);
}

#[test]
fn pressure_is_never_out_of_memory_and_costs_little_where_nothing_helps() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 16 * MIB, available: 0 }));
    keeper(mm).round(mm, None);
    let before = allocstalls(mm);
    for _ in 0..2000 {
        take(heap, 30_000).unwrap();
    }
    let stalls = allocstalls(mm) - before;
    assert!(mm.pages().charged() * PAGE_SIZE > 56 * MIB);
    // One for each 4 MiB that pass, and not one for each slab.
    assert!((1..=40).contains(&stalls), "{stalls} stalls");
    mm.validate(Some(heap)).unwrap();
}

#[test]
fn a_request_under_pressure_reclaims_before_it_takes_more() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let mut keeper = keeper(mm);
    // In pieces: a whole row of it would be taken as it is.
    leave_garbage(heap, 100_000, 300, 100);
    // The keeper sees the pressure and sleeps; the garbage comes back afterwards.
    mm.pages().set_cap(full(mm));
    let charged = mm.pages().charged();
    take(heap, 20 * MIB).unwrap();
    let now = mm.pages().charged();
    assert!(now < charged + MIB / PAGE_SIZE, "{now} pages, {charged} before");
    assert!(allocstalls(mm) > 0);
    keeper.round(mm, None);
    mm.validate(Some(heap)).unwrap();
}

/// On a busy machine the time for it passes while others run.
#[test]
fn a_request_under_pressure_goes_on_while_it_gains() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 100_000, 300, 100);
    mm.pages().set_cap(full(mm));
    let charged = mm.pages().charged();
    [Call::Purge, Call::PurgeMany].iter().for_each(|&call| machine.slow(call, INTERVAL_NS));
    take(heap, 20 * MIB).unwrap();
    let now = mm.pages().charged();
    assert!(now < charged + MIB / PAGE_SIZE, "{now} pages, {charged} before");
    // What gains nothing ends soon.
    let nr_calls = machine.calls(Call::Purge) + machine.calls(Call::PurgeMany);
    take(heap, 40 * MIB).unwrap();
    assert!(machine.calls(Call::Purge) + machine.calls(Call::PurgeMany) < nr_calls + 50);
    mm.validate(Some(heap)).unwrap();
}

/// Beyond `memory.high` the kernel slows the program down: nobody does that for it, before.
#[test]
fn where_nobody_is_killed_a_request_ends_after_one_bounded_pass() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 100_000, 300, 100);
    let nearest = Room { total: 64 * MIB, available: 0 };
    machine.set_group_room(Some(GroupRoom { nearest, until_killed: usize::MAX }));
    pressure::begin(mm);
    assert!(mm.pages().is_capped(node(0), 1) && !mm.pages().is_at_edge(node(0), 1));
    PURGES.iter().for_each(|&call| machine.slow(call, INTERVAL_NS));
    let before = mm.machine().now_ns();
    take(heap, 20 * MIB).unwrap();
    assert!(allocstalls(mm) > 0);
    let elapsed = mm.machine().now_ns() - before;
    assert!(elapsed <= 3 * INTERVAL_NS, "{elapsed} ns");
    mm.validate(Some(heap)).unwrap();
}

/// A soft limit just below what the group allows does not hide its edge.
#[test]
fn the_edge_of_a_group_counts_beside_a_soft_limit() {
    let machine = FakeBuilder::new().build();
    let pages = PageConfig { soft_limit: 16 * MIB / PAGE_SIZE, ..PageConfig::default() };
    let (mm, _) = start(machine, Config { pages, ..Config::default() });
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 512 * MIB }));
    pressure::begin(mm);
    assert_eq!(mm.pages().cap().pages, mm.pages().soft_cap().pages);
    let [below, beyond] = [256, 768].map(|mib| mib * MIB / PAGE_SIZE);
    assert!(mm.pages().is_capped(node(0), below) && !mm.pages().is_at_edge(node(0), below));
    assert!(mm.pages().is_at_edge(node(0), beyond));
}

/// In a small group the pages that pass at once would be all that is left before its edge.
#[test]
fn at_the_edge_of_a_small_group_reclaim_is_tried_again_before_it_is_full() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    // Of it a MiB is the lowest mark.
    machine.set_group_room(Some(Room { total: 64 * MIB, available: 2 * MIB }));
    keeper(mm).round(mm, None);
    let full = mm.pages().cap().pages;
    while mm.pages().charged() < full {
        take(heap, 30_000).unwrap();
    }
    let stalls = allocstalls(mm);
    assert!((4..=8).contains(&stalls), "{stalls} stalls");
}

/// The background reclaimer may lose its processor with all that is free in its hands.
#[test]
fn a_request_at_the_edge_of_a_group_waits_for_a_round_under_way() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let full = full(mm);
    let _keeper = keeper(mm);
    let stall = |cap| {
        mm.pages().set_cap(cap);
        let mut stall = Stall::new(mm, node(0), 1);
        stall.begin();
        stall
    };
    assert!(!stall(full).awaits_round());
    mm.doorbell().begin_round();
    let mut waiting = stall(full);
    assert!(waiting.awaits_round());
    // Where the kernel does not kill nobody waits, nor where another node may serve.
    assert!(!stall(Cap::NONE).awaits_round());
    mm.pages().set_node_cap(node(0), full);
    assert!(!stall(Cap::NONE).awaits_round());
    mm.pages().set_node_cap(node(0), Cap::NONE);
    // Not for ever.
    mm.pages().set_cap(full);
    let nr_waits = (0..100)
        .take_while(|_| waiting.awaits_round().then(|| waiting.await_round()).is_some())
        .count();
    assert_eq!(nr_waits, 4);
    // Nor for rounds that bring nothing.
    (0..16).for_each(|_| mm.doorbell().note_gain(0));
    assert!(!stall(full).awaits_round());
    mm.doorbell().note_gain(1);
    let late = stall(full);
    assert!(late.awaits_round());
    // Nor beyond the time that a request may take in all.
    machine.advance_ns(10 * INTERVAL_NS);
    assert!(!late.awaits_round());
    mm.doorbell().end_round();
    assert!(!stall(full).awaits_round());
    mm.validate(Some(heap)).unwrap();
}

/// Lets held calls go on, also where an assertion fails.
struct LetGo(&'static FakeMachine);

const PURGES: [Call; 2] = [Call::Purge, Call::PurgeMany];

impl Drop for LetGo {
    fn drop(&mut self) {
        PURGES.iter().for_each(|&call| self.0.let_go(call));
    }
}

/// While the background thread is kept from going on, in the middle of a purge, its round is under way.
#[test]
fn a_round_that_is_held_up_is_under_way() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 1000, 4000, 16);
    let mut keeper = keeper(mm);
    PURGES.iter().for_each(|&call| machine.hold(call));
    std::thread::scope(|scope| {
        let held = LetGo(machine);
        let rounds = scope.spawn(move || {
            for _ in 0..100 {
                machine.advance_ns(20_000_000);
                keeper.round(mm, None);
            }
        });
        while !PURGES.iter().any(|&call| machine.is_holding(call)) {
            assert!(!rounds.is_finished(), "nothing was purged");
            std::thread::yield_now();
        }
        assert!(mm.doorbell().is_in_round());
        drop(held);
        rounds.join().unwrap();
        assert!(!mm.doorbell().is_in_round());
    });
}

/// What was gained may go to others each time.
#[test]
fn a_request_under_pressure_ends_although_it_gains() {
    const SECOND_NS: u64 = 1_000_000_000;
    let machine = FakeBuilder::new().build();
    let (mm, _) = start(machine, Config::default());
    mm.pages().set_cap(Cap { pages: 0, edge: 0, ..Cap::NONE });
    for (pass_ns, most_ns) in [(SECOND_NS / 4, SECOND_NS * 3 / 2), (3 * SECOND_NS, 4 * SECOND_NS)] {
        let before = mm.machine().now_ns();
        let mut stall = Stall::new(mm, node(0), 1);
        stall.begin();
        // One pass over all is due to it.
        machine.advance_ns(pass_ns);
        assert!(!stall.is_over());
        stall.nr_loops = 1;
        while !stall.is_over() {
            machine.advance_ns(10_000_000);
            stall.note(1);
            assert!(mm.machine().now_ns() - before < most_ns);
        }
        assert!(mm.machine().now_ns() - before >= SECOND_NS);
    }
}

#[test]
fn a_sparse_block_larger_than_the_group_is_served() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 900 * MIB }));
    keeper(mm).round(mm, None);
    // SAFETY: the test's thread owns the heap.
    unsafe { alloc(heap, Request { size: 2048 * MIB, align: 8, zeroed: false, grows: false }) }
        .unwrap();
    take(heap, 100_000).unwrap();
}
