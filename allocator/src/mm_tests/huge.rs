//! Blocks with mappings of their own.

use zonal_numa::fake::{Call, FakeBuilder};

use super::*;

/// Each is a little larger than any that was freed before: what is kept is extended, it does not pile up.
#[test]
fn huge_blocks_of_growing_sizes_do_not_pile_up() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    for round in 0..24_u8 {
        let size = (5 + 2 * usize::from(round)) << 20;
        Filled::new(owner, size, 8, round).release(owner);
        mm.validate(Some(owner.0)).unwrap();
        let kept = snapshot(mm, Some(owner.0)).memory().huge_cached_bytes;
        assert!(kept <= (size + size / 4) as u64, "{kept} bytes kept after one of {size}");
    }
    assert!(mm.drain_huge() > 0);
    mm.validate(Some(owner.0)).unwrap();
}

/// Its alignment alone makes a mapping of it: one of a page, whether that is new or cut from one that is kept.
#[test]
fn a_block_of_no_bytes_has_a_mapping_of_its_own() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    for _ in 0..2 {
        let empty = [(); 3].map(|()| owner.alloc(0, 8 << 20));
        for block in empty {
            assert_eq!(block.addr().get() % (8 << 20), 0);
            assert_eq!(mm.usable_size(block).unwrap(), PAGE_SIZE);
        }
        assert_eq!(snapshot(mm, Some(owner.0)).process.nr_huge_blocks, 3);
        empty.into_iter().for_each(|block| owner.free(block));
        owner.free(owner.alloc(5 << 20, 8 << 20));
        mm.validate(Some(owner.0)).unwrap();
    }
}

/// A huge block gets an eighth more than it asks for, which must not wrap to a small size.
#[test]
fn a_huge_block_is_not_resized_to_what_nothing_can_have() {
    let owner = Owner::attach(new_mm());
    let block = owner.alloc(8 << 20, 8);
    let mm = owner.heap().mm();
    let wraps = (0xe38e_38e3_8e38_0000_usize..).step_by(PAGE_SIZE).take(32);
    for size in wraps.chain([usize::MAX, usize::MAX - PAGE_SIZE, isize::MAX as usize + 1]) {
        assert_eq!(mm.resize(block, size), None, "{size:#x}");
        assert_eq!(mm.usable_size(block).unwrap(), 8 << 20);
    }
    owner.free(block);
}

/// More than there are addresses: refused by the kernel, after it was charged.
#[test]
fn what_cannot_be_mapped_leaves_no_faults() {
    const TOO_MUCH: usize = 1 << 47;
    let mm = new_mm();
    let owner = Owner::attach(mm);
    let block = owner.alloc(8 << 20, 8);
    let faults = || snapshot(mm, Some(owner.0)).zone_events().pgfault;
    let before = faults();
    let from = Attempt { node: owner.heap().node(), level: WatermarkLevel::Low };
    let request = Request { size: TOO_MUCH, align: 8, zeroed: false, grows: false };
    // SAFETY: this thread owns the heap.
    assert!(unsafe { owner.heap().alloc(request, from) }.is_err());
    assert_eq!(faults(), before);
    assert_eq!(mm.resize(block, TOO_MUCH), None);
    assert_eq!(faults(), before);
    owner.free(block);
    mm.validate(Some(owner.0)).unwrap();
}

#[test]
fn freed_huge_blocks_join_and_are_cut_again() {
    let mm = new_mm();
    let owner = Owner::attach(mm);
    for round in 0..20u8 {
        // The pieces of one round have to be the block of the next.
        let sizes: &[usize] = if round % 2 == 0 { &[40 << 20] } else { &[20 << 20, 19 << 20] };
        let blocks: Vec<Filled> =
            sizes.iter().map(|&size| Filled::new(owner, size, 8, round)).collect();
        mm.validate(Some(owner.0)).unwrap();
        for block in blocks {
            block.release(owner);
        }
    }
    let stats = snapshot(mm, Some(owner.0));
    assert_eq!((stats.process.nr_huge_blocks, stats.memory().used_huge_bytes), (0, 0));
    let cached = stats.memory().huge_cached_bytes;
    assert!(cached <= 40 << 20, "{cached}");
    assert_eq!(mm.drain_huge() as u64, cached);
    mm.validate(Some(owner.0)).unwrap();
}

/// Of a huge page that a mapping shares with its neighbours, or with what is left of it, the kernel keeps
/// all until it is split.
#[test]
fn where_little_is_left_mappings_are_split_from_their_neighbours() {
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let owner = Owner::attach(mm);
    // It cannot begin and end where a huge page does.
    let size = (9 << 20) + PAGE_SIZE;
    for is_tight in [false, true] {
        mm.pages().lookout().set_tight(is_tight);
        let nr_splits = || machine.calls(Call::Split) > 0;
        owner.free(owner.alloc(size, 8));
        assert!(mm.drain_huge() > 0);
        assert_eq!(nr_splits(), is_tight);
        let before = machine.calls(Call::Split);
        // In the middle of one, wherever it begins.
        let block = owner.alloc(size, 8);
        let rest = (8 << 20) - block.addr().get() % (2 << 20) - (1 << 20);
        let block = mm.resize(block, rest).unwrap();
        assert_eq!(machine.calls(Call::Split) > before, is_tight);
        owner.free(block);
        mm.drain_huge();
    }
    mm.validate(Some(owner.0)).unwrap();
}

/// Others enter theirs meanwhile, as many as the index has room for: it keeps that of the block.
#[test]
fn nobody_waits_while_the_system_moves_a_block() {
    const OTHER: usize = 5 << 20;
    let nr_slots = {
        let mm = new_mm();
        let owner = Owner::attach(mm);
        owner.alloc(OTHER, 8);
        let one = mm.huge().index_bytes();
        (1..).find(|_| (owner.alloc(OTHER, 8), mm.huge().index_bytes() > one).1).unwrap()
    };
    let machine = FakeBuilder::new().build();
    let mm = Mm::new(Machine::fake(machine), Config::default()).unwrap();
    let owner = Owner::attach(mm);
    let block = owner.alloc(8 << 20, 8);
    machine.during(Call::Remap, move || {
        assert!(!mm.huge().is_locked());
        let other = Owner::attach(mm);
        (0..nr_slots).for_each(|_| assert_eq!(other.alloc(OTHER, 8).addr().get() % PAGE_SIZE, 0));
    });
    let block = mm.resize(block, 32 << 20).unwrap();
    machine.during_no_more(Call::Remap);
    assert_eq!(mm.usable_size(block).unwrap(), 36 << 20);
    assert_eq!(snapshot(mm, Some(owner.0)).process.nr_huge_blocks, nr_slots + 1);
    owner.free(block);
    mm.validate(Some(owner.0)).unwrap();
    // One that was freed is extended likewise.
    machine.during(Call::Remap, move || assert!(!mm.huge().is_locked()));
    let before = machine.calls(Call::Remap);
    let block = owner.alloc(48 << 20, 8);
    machine.during_no_more(Call::Remap);
    assert_eq!(machine.calls(Call::Remap), before + 1);
    owner.free(block);
    mm.validate(Some(owner.0)).unwrap();
}
