//! What a control group has left: who reads it, when, and what is taken for granted.

use zonal_allocator::{Cap, UNLIMITED};

use super::*;
use crate::pressure::{self, INTERVAL_NS, Pressure, Watch};

#[test]
fn a_full_group_takes_what_is_not_cold_yet() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    leave_garbage(heap, 100_000, 400, 400);
    let mut kswapd = kswapd(mm);
    kswapd.round(mm, None);
    assert!(
        mm.pages().nr_free_resident() * PAGE_SIZE > 30 * MIB,
        "without pressure it is too young"
    );
    machine.set_group_room(Some(Room { total: 64 * MIB, available: 0 }));
    machine.advance_ns(10 * INTERVAL_NS);
    // Warm again, so that age alone takes nothing.
    leave_garbage(heap, 100_000, 400, 400);
    kswapd.round(mm, None);
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
    let mut kswapd = kswapd(mm);
    kswapd.round(mm, None);
    let cap = mm.pages().cap();
    assert!(cap.pages >= 60 * MIB / PAGE_SIZE && cap != Cap::NONE);
    let nr_calls = machine.calls(Call::Room);
    machine.fail_from(Call::Room, 1, Errno::EMFILE);
    machine.advance_ns(INTERVAL_NS);
    kswapd.round(mm, None);
    assert!(machine.calls(Call::Room) > nr_calls);
    assert_eq!(mm.pages().cap(), cap);
    machine.fail_no_more();
    // Gone for good is no bound.
    machine.fail_from(Call::Room, 1, Errno::ENOENT);
    machine.advance_ns(INTERVAL_NS);
    kswapd.round(mm, None);
    assert_eq!(mm.pages().cap(), Cap::NONE);
}

/// A filter that comes late lets nobody read, and does not lift what was known before it.
#[test]
fn a_late_filter_keeps_the_bound_that_was_read_last() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 64 * MIB, available: MIB }));
    let mut kswapd = kswapd(mm);
    kswapd.round(mm, None);
    let cap = mm.pages().cap();
    assert!(cap != Cap::NONE);
    machine.confine();
    let nr_calls = machine.calls(Call::Room);
    machine.advance_ns(INTERVAL_NS);
    kswapd.round(mm, None);
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
        let mut kswapd = kswapd(mm);
        kswapd.round(mm, None);
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
            kswapd.round(mm, None);
        }
        assert!(mm.pages().is_capped(node(0), more));
        if is_group {
            // Of the node as of the group.
            mm.pages().set_cap(Level::Process, Cap::NONE);
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
    alloc(heap, Request { size: 40 * MIB, align: 8, zeroed: false, grows: false }).unwrap();
    let mut kswapd = kswapd(mm);
    kswapd.round(mm, None);
    assert_eq!(mm.pages().cap().pages, charged + 900 * MIB / PAGE_SIZE);
    // What is not touched in a second never is.
    for _ in 0..20 {
        machine.advance_ns(INTERVAL_NS);
        kswapd.round(mm, None);
    }
    assert_eq!(mm.pages().cap().pages, mm.pages().charged() + 900 * MIB / PAGE_SIZE);
}

/// A block that was just taken is as large as the one before it: nobody has touched it yet.
#[test]
fn a_second_charge_of_a_size_is_a_new_one() {
    let machine = FakeBuilder::new().build();
    let (mm, heap) = start(machine, Config::default());
    machine.set_group_room(Some(Room { total: 1024 * MIB, available: 900 * MIB }));
    let mut kswapd = kswapd(mm);
    let mut before = mm.pages().charged();
    for nr_looks in [1, 2] {
        alloc(heap, Request { size: 40 * MIB, align: 8, zeroed: false, grows: false }).unwrap();
        for _ in 0..nr_looks {
            machine.advance_ns(INTERVAL_NS);
            kswapd.round(mm, None);
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
    mm.pages().set_cap(Level::Process, Cap { pages: mm.pages().charged(), ..mm.pages().cap() });
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
    let mut kswapd = kswapd(mm);
    let cap_after = |kswapd: &mut Kswapd, room, ns| {
        machine.set_group_room(room);
        machine.advance_ns(ns);
        kswapd.round(mm, Some(heap));
        mm.pages().cap().pages
    };
    let room = |available| Some(Room { total: 1024 * MIB, available });
    let charged = mm.pages().charged();
    assert_eq!(cap_after(&mut kswapd, room(MIB), 0), charged + 256);
    assert_eq!(cap_after(&mut kswapd, room(2 * MIB), INTERVAL_NS / 2), charged + 256, "too soon");
    assert_eq!(cap_after(&mut kswapd, room(2 * MIB), INTERVAL_NS / 2), charged + 512);
    assert_eq!(cap_after(&mut kswapd, None, INTERVAL_NS), UNLIMITED);
    let nr_calls = machine.calls(Call::Room);
    // Without a bound the next look may wait.
    assert_eq!(cap_after(&mut kswapd, room(0), INTERVAL_NS), UNLIMITED);
    assert_eq!(machine.calls(Call::Room), nr_calls);
}
