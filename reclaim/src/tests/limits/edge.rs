//! What a request does where a group or node has little left.

use zonal_allocator::{Cap, Edge};

use super::*;
use crate::pressure::{self, INTERVAL_NS};
use crate::stall::Stall;

/// The bound of a group that is full by now.
fn full(mm: &Mm) -> Cap {
    let charged = mm.pages().charged();
    Cap { pages: charged, edge: Edge { from: charged, killed_from: charged }, ..Cap::NONE }
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
fn pressure_is_never_out_of_memory_and_costs_little_where_nothing_helps() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 16 * MIB, available: 0 }));
    kswapd(mm).round(mm, None);
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
    let mut kswapd = kswapd(mm);
    // In pieces: a whole row of it would be taken as it is.
    leave_garbage(heap, 100_000, 300, 100);
    // kswapd sees the pressure and sleeps; the garbage comes back afterwards.
    mm.pages().set_cap(Level::Process, full(mm));
    let charged = mm.pages().charged();
    take(heap, 20 * MIB).unwrap();
    let now = mm.pages().charged();
    assert!(now < charged + MIB / PAGE_SIZE, "{now} pages, {charged} before");
    assert!(allocstalls(mm) > 0);
    kswapd.round(mm, None);
    mm.validate(Some(heap)).unwrap();
}

/// On a busy machine the time for it passes while others run.
#[test]
fn a_request_under_pressure_goes_on_while_it_gains() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 100_000, 300, 100);
    mm.pages().set_cap(Level::Process, full(mm));
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
    machine.set_group_room(Some(GroupRoom { nearest, killer: None }));
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
    kswapd(mm).round(mm, None);
    let full = mm.pages().cap().pages;
    while mm.pages().charged() < full {
        take(heap, 30_000).unwrap();
    }
    let stalls = allocstalls(mm);
    assert!((4..=8).contains(&stalls), "{stalls} stalls");
}

/// kswapd may lose its processor with all that is free in its hands.
#[test]
fn a_request_at_the_edge_of_a_group_waits_for_a_round_under_way() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    let full = full(mm);
    let _kswapd = kswapd(mm);
    let stall = |cap| {
        mm.pages().set_cap(Level::Process, cap);
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
    mm.pages().set_cap(Level::Node(node(0)), full);
    assert!(!stall(Cap::NONE).awaits_round());
    mm.pages().set_cap(Level::Node(node(0)), Cap::NONE);
    // Not for ever.
    mm.pages().set_cap(Level::Process, full);
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

/// While kswapd is kept from going on, in the middle of a purge, its round is under way.
#[test]
fn a_round_that_is_held_up_is_under_way() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 1000, 4000, 16);
    let mut kswapd = kswapd(mm);
    PURGES.iter().for_each(|&call| machine.hold(call));
    std::thread::scope(|scope| {
        let held = LetGo(machine);
        let rounds = scope.spawn(move || {
            for _ in 0..100 {
                machine.advance_ns(20_000_000);
                kswapd.round(mm, None);
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
    mm.pages().set_cap(
        Level::Process,
        Cap { pages: 0, edge: Edge { from: 0, killed_from: 0 }, ..Cap::NONE },
    );
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
    kswapd(mm).round(mm, None);
    alloc(heap, Request { size: 2048 * MIB, align: 8, zeroed: false, grows: false }).unwrap();
    take(heap, 100_000).unwrap();
}
