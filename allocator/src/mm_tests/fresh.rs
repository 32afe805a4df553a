//! The order in which fresh memory is handed out.

use super::*;

/// What a machine hands out that had nothing before: whether each object lies behind the one before it.
fn ascends(config: Config, size: usize) -> bool {
    let mm = Mm::new(Machine::fake(FakeBuilder::new().nodes(1).build()), config).unwrap();
    let owner = Owner::attach(mm);
    // Of some batches of slabs, all in one pageblock.
    let objects: Vec<_> = (0..(1 << 20) / size).map(|_| owner.alloc(size, 8)).collect();
    let ascends = objects.is_sorted();
    objects.into_iter().for_each(|object| owner.free(object));
    ascends
}

#[test]
fn fresh_objects_ascend() {
    for size in [16, 48, 512, 4096] {
        assert!(ascends(Config::default(), size), "{size}");
    }
}

#[test]
fn where_batches_are_turned_they_do_not() {
    let config = Config { shuffle: true, ..Config::default() };
    assert!(!ascends(config, 48));
}
