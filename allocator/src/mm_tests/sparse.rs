//! Long mappings of which little was touched.

use zonal_numa::fake::{Call, FakeBuilder};

use super::*;

/// Where the kernel has no way to say which parts it has of them, it is asked about none of the longest.
#[test]
fn who_asks_what_is_in_memory_does_not_look_at_each_page_of_a_sparse_block() {
    const SIZE: usize = 8 << 40;
    const STEP: usize = SIZE / 8;
    let machine = FakeBuilder::new().nodes(1).build();
    let owner = Owner::attach(Mm::new(Machine::fake(machine), Config::default()).unwrap());
    let mm = owner.heap().mm();
    let block = owner.alloc(SIZE, 8);
    for at in 0..8 {
        // SAFETY: in the block.
        unsafe { block.add(at * STEP).write(1) };
    }
    let mut snapshot = snapshot(mm, Some(owner.0));
    let before = machine.calls(Call::Resident);
    mm.survey(&mut snapshot, true);
    let nr_calls = machine.calls(Call::Resident) - before;
    assert!(nr_calls < 10_000, "{nr_calls} calls");
    let sections = &snapshot.sections[..snapshot.nr_sections as usize];
    let found = sections.iter().find(|section| section.start == block.addr().get() as u64).unwrap();
    if snapshot.asked_kernel != 0 {
        // Touched by huge pages at most.
        assert!((8..=8 * 512).contains(&found.nr_resident), "{} pages", found.nr_resident);
    }
    owner.free(block);
}
