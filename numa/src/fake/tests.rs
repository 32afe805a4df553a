//! The fake machine keeps its word: limits, failures, clock, places.

use std::thread;

use proptest::prelude::*;

use super::{Call, FakeBuilder};
use crate::{Errno, Machine, MemPolicy, NodeId, NodeMask, PAGE_SIZE, Span, ThpMode};

fn node(number: usize) -> NodeId {
    NodeId::from_index(number).unwrap()
}

/// A place of this many pages; another thread may take the hole first.
fn reserve(machine: &Machine, nr_pages: usize) -> Span {
    let mut tries = (0..100).map(|_| machine.probe_hole(nr_pages * PAGE_SIZE).unwrap());
    tries.find_map(|addr| machine.reserve_at(addr, nr_pages * PAGE_SIZE).ok()).unwrap()
}

#[test]
fn shapes_are_as_asked() {
    let builder = FakeBuilder::new().node_numbers(&[0, 2, 5]).memory_only(5).cpus_only(2);
    let fake = builder.distances(&[&[10, 30, 15], &[30, 10, 16], &[15, 16, 10]]).build();
    let machine = Machine::fake(fake);
    let topology = machine.topology();
    assert_eq!(topology.nodes_online(), NodeMask::from_bits(0b10_0101));
    assert_eq!(topology.distance(node(2), node(5)), 16);
    assert_eq!(topology.zonelist(node(2)), [node(0), node(5)]);
    assert_eq!(topology.node_of_cpu(crate::CpuId::new(3)), Some(node(2)));
    assert!(Machine::fake(FakeBuilder::new().build()).topology().is_one_node());
}

#[test]
fn threads_run_where_they_are_put() {
    let fake = FakeBuilder::new().nodes(3).build();
    let machine = Machine::fake(fake);
    fake.run_on(node(2));
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(machine.current_node(), node(0)));
    });
    assert_eq!(machine.current_node(), node(2));
    let span = machine.map(PAGE_SIZE, PAGE_SIZE).unwrap();
    assert_eq!(fake.node_of_addr(span.addr()), Some(node(2)), "first touch");
    machine.unmap(span).unwrap();
    assert_eq!(fake.node_of_addr(span.addr()), None);
}

#[test]
fn the_cpuset_is_asked_each_time() {
    let fake = FakeBuilder::new().nodes(3).cpus_only(2).build();
    let machine = Machine::fake(fake);
    let allowed = || machine.allowed_nodes().bits();
    assert_eq!(allowed(), 0b011);
    fake.allow(NodeMask::from_bits(0b110));
    assert_eq!(allowed(), 0b010);
    fake.allow(NodeMask::from_bits(0b100));
    assert_eq!(allowed(), 0b011, "a set without memory cannot be meant");
    fake.allow(NodeMask::from_bits(0b001));
    fake.fail(Call::AllowedNodes, 1, Errno::EPERM);
    assert_eq!((allowed(), allowed()), (0b011, 0b001));
}

#[test]
fn the_nth_call_fails() {
    let fake = FakeBuilder::new().build();
    let machine = Machine::fake(fake);
    let map = || machine.map(PAGE_SIZE, PAGE_SIZE).map(|span| machine.unmap(span).unwrap());
    fake.fail(Call::Map, 2, Errno::ENOMEM);
    fake.fail_from(Call::Map, 4, Errno::EAGAIN);
    let answers: Vec<_> = (0..6).map(|_| map().err()).collect();
    let expected = [None, Some(Errno::ENOMEM), None].into_iter().chain([Some(Errno::EAGAIN); 3]);
    assert_eq!(answers, expected.collect::<Vec<_>>());
    fake.fail_no_more();
    assert_eq!(map(), Ok(()));
    assert_eq!((fake.calls(Call::Map), fake.calls(Call::Unmap)), (7, 3));
    assert_eq!(fake.calls(Call::Commit), 0);
}

#[test]
fn every_kind_of_call_can_fail_and_then_changes_nothing() {
    let fake = FakeBuilder::new().nodes(2).build();
    let machine = Machine::fake(fake);
    let region = reserve(&machine, 8);
    let (span, beside) = region.split_at(4 * PAGE_SIZE);
    let policy = MemPolicy::preferred(node(1));
    let kinds: [(Call, &dyn Fn() -> Option<Errno>); 14] = [
        (Call::Reserve, &|| machine.reserve_at(beside.addr(), PAGE_SIZE).err()),
        (Call::MapAt, &|| machine.map_at(beside.addr(), PAGE_SIZE).err()),
        (Call::Map, &|| machine.map(PAGE_SIZE, 1).err()),
        (Call::ProbeHole, &|| machine.probe_hole(PAGE_SIZE).err()),
        (Call::Commit, &|| machine.commit(span).err()),
        (Call::ProtectNone, &|| machine.protect_none(span).err()),
        (Call::Unmap, &|| machine.unmap(span).err()),
        (Call::Remap, &|| machine.remap(span, 9 * PAGE_SIZE, true).err()),
        (Call::Purge, &|| machine.purge(&[span]).err().map(|(_, errno)| errno)),
        (Call::AdviseHuge, &|| machine.advise_huge(span, true).err()),
        (Call::Collapse, &|| machine.collapse(span).err()),
        (Call::Split, &|| machine.split(span).err()),
        (Call::Bind, &|| machine.bind(span, &policy).err()),
        (Call::Resident, &|| machine.resident(span, &mut [0; 4]).err()),
    ];
    for (call, run) in kinds {
        fake.fail(call, 1, Errno::EPERM);
        assert_eq!(run(), Some(Errno::EPERM), "{call:?}");
        assert_eq!(fake.pages_used(node(0)) + fake.pages_used(node(1)), 0, "{call:?}");
    }
    fake.fail_from(Call::Membarrier, 1, Errno::ENOSYS);
    assert!(!machine.register_membarrier() && !machine.membarrier());
    machine.commit(span).unwrap();
    assert_eq!(fake.pages_used(node(0)), 4, "the failed bind bound");
}

#[test]
fn a_failed_batch_becomes_single_calls() {
    let fake = FakeBuilder::new().build();
    let machine = Machine::fake(fake);
    let span = machine.map(4 * PAGE_SIZE, 1).unwrap();
    let spans: Vec<_> = (0..4).map(|i| span.part(i * PAGE_SIZE, PAGE_SIZE).unwrap()).collect();
    machine.purge(&spans).unwrap();
    assert_eq!((fake.calls(Call::PurgeMany), fake.calls(Call::Purge)), (0, 4), "nobody probed");
    assert_eq!(fake.pages_used(node(0)), 0);
    machine.allow_batching(true);
    if !machine.probe_batching() {
        return;
    }
    machine.purge(&spans).unwrap();
    assert_eq!((fake.calls(Call::PurgeMany), fake.calls(Call::Purge)), (2, 4));
    fake.fail(Call::PurgeMany, 1, Errno::EINVAL);
    machine.purge(&spans).unwrap();
    assert_eq!((fake.calls(Call::PurgeMany), fake.calls(Call::Purge)), (4, 5), "tried again");
    fake.fail(Call::PurgeMany, 1, Errno::ENOSYS);
    machine.purge(&spans).unwrap();
    machine.purge(&spans).unwrap();
    assert_eq!((fake.calls(Call::PurgeMany), fake.calls(Call::Purge)), (5, 13), "given up");
}

#[test]
fn the_clock_stands_until_moved() {
    let fake = FakeBuilder::new().thp(ThpMode::Always).build();
    let machine = Machine::fake(fake);
    assert_eq!(machine.now_ns(), machine.now_ns());
    fake.advance_ns(1_000_000);
    assert_eq!((machine.now_ns(), machine.process_time_ns()), (1_000_000, None));
    fake.work_ns(1000);
    assert_eq!((machine.now_ns(), machine.process_time_ns()), (1_000_000, Some(1000)));
    assert_eq!(machine.thp_mode(), ThpMode::Always);
}

#[test]
fn large_pages_count_whole() {
    let page = 16 * PAGE_SIZE;
    let fake = FakeBuilder::new().page_size(page).limit(0, 2).build();
    let machine = Machine::fake(fake);
    let span = machine.map(page + 1, 1).unwrap();
    assert_eq!((machine.page_size(), span.len(), fake.pages_used(node(0))), (page, 2 * page, 2));
    assert!(span.addr().is_multiple_of(page));
    assert_eq!(machine.map(1, 1), Err(Errno::ENOMEM));
    machine.unmap(span).unwrap();
    assert_eq!(machine.reserve_at(span.addr() + PAGE_SIZE, page), Err(Errno::EINVAL));
}

#[test]
fn a_moved_mapping_takes_its_pages_along() {
    let fake = FakeBuilder::new().nodes(2).limit(1, 6).build();
    let machine = Machine::fake(fake);
    fake.run_on(node(1));
    let span = machine.map(2 * PAGE_SIZE, 1).unwrap();
    fake.run_on(node(0));
    assert_eq!(machine.remap(span, 7 * PAGE_SIZE, true), Err(Errno::ENOMEM));
    let span = machine.remap(span, 6 * PAGE_SIZE, true).unwrap();
    assert_eq!((fake.pages_used(node(0)), fake.pages_used(node(1))), (0, 6));
    let span = machine.remap(span, PAGE_SIZE, true).unwrap();
    assert_eq!(fake.pages_used(node(1)), 1);
    machine.unmap(span).unwrap();
    assert_eq!(fake.pages_used(node(1)), 0);
}

#[test]
fn a_policy_for_absent_nodes_is_refused() {
    let fake = FakeBuilder::new().nodes(2).build();
    let machine = Machine::fake(fake);
    let span = machine.map(PAGE_SIZE, 1).unwrap();
    assert_eq!(machine.bind(span, &MemPolicy::preferred(node(2))), Err(Errno::EINVAL));
    machine.unmap(span).unwrap();
}

const NR_PAGES: usize = 24;
const NR_NODES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Commit,
    Purge,
    Bind(usize),
    Local,
    RunOn(usize),
    Unmap,
    Limit(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<(Step, usize, usize)>> {
    let step = prop_oneof![
        4 => Just(Step::Commit),
        3 => Just(Step::Purge),
        2 => (0..NR_NODES).prop_map(Step::Bind),
        1 => Just(Step::Local),
        2 => (0..NR_NODES).prop_map(Step::RunOn),
        1 => Just(Step::Unmap),
        1 => (0..NR_NODES, 0..NR_PAGES).prop_map(|(node, pages)| Step::Limit(node, pages)),
    ];
    prop::collection::vec((step, 0..NR_PAGES, 1..=NR_PAGES), 1..60)
}

/// A page as the simplest possible model sees it.
#[derive(Clone, Copy, Default)]
struct Page {
    gone: bool,
    bound: Option<usize>,
    on: Option<usize>,
}

#[derive(Default)]
struct Model {
    pages: [Page; NR_PAGES],
    limits: [usize; NR_NODES],
    here: usize,
}

impl Model {
    fn used(&self, node: usize) -> usize {
        self.pages.iter().filter(|page| page.on == Some(node)).count()
    }

    /// Whether the pages fit.
    fn commit(&mut self, first: usize, end: usize) -> bool {
        let before = self.pages;
        for page in &mut self.pages[first..end] {
            page.on = page.on.or(page.bound).or(Some(self.here));
        }
        let grown =
            |node| before.iter().filter(|page| page.on == Some(node)).count() < self.used(node);
        let fits = (0..NR_NODES).all(|node| !grown(node) || self.used(node) <= self.limits[node]);
        if !fits {
            self.pages = before;
        }
        fits
    }
}

proptest! {
    #[test]
    fn limits_hold_page_by_page(steps in steps()) {
        let fake = FakeBuilder::new().nodes(NR_NODES).build();
        let machine = Machine::fake(fake);
        let region = reserve(&machine, NR_PAGES);
        let mut model = Model { limits: [usize::MAX; NR_NODES], ..Model::default() };
        for (step, first, len) in steps {
            let end = NR_PAGES.min(first + len);
            let span = region.part(first * PAGE_SIZE, (end - first) * PAGE_SIZE).unwrap();
            let holed = model.pages[first..end].iter().any(|page| page.gone);
            match step {
                Step::Commit if holed => continue,
                Step::Commit => {
                    let fits = model.commit(first, end);
                    let expected = if fits { Ok(()) } else { Err(Errno::ENOMEM) };
                    prop_assert_eq!(machine.commit(span), expected);
                }
                Step::Purge if holed => continue,
                Step::Purge => {
                    machine.purge(&[span]).unwrap();
                    model.pages[first..end].iter_mut().for_each(|page| page.on = None);
                }
                Step::Bind(to) => {
                    machine.bind(span, &MemPolicy::preferred(node(to))).unwrap();
                    for page in model.pages[first..end].iter_mut().filter(|page| page.on.is_none()) {
                        page.bound = Some(to);
                    }
                }
                Step::Local => {
                    machine.bind(span, &MemPolicy::LOCAL).unwrap();
                    for page in model.pages[first..end].iter_mut().filter(|page| page.on.is_none()) {
                        page.bound = None;
                    }
                }
                Step::RunOn(there) => {
                    fake.run_on(node(there));
                    model.here = there;
                }
                Step::Unmap if holed => continue,
                Step::Unmap => {
                    machine.unmap(span).unwrap();
                    let gone = Page { gone: true, ..Page::default() };
                    model.pages[first..end].fill(gone);
                }
                Step::Limit(on, pages) => {
                    fake.set_limit(node(on), pages);
                    model.limits[on] = pages;
                }
            }
            for on in 0..NR_NODES {
                prop_assert_eq!(fake.pages_used(node(on)), model.used(on), "node {}", on);
            }
            for (i, page) in model.pages.iter().enumerate() {
                let on = fake.node_of_addr(region.addr() + i * PAGE_SIZE);
                prop_assert_eq!(on, page.on.map(node), "page {}", i);
            }
        }
        // Another thread may have mapped something in a hole.
        for i in (0..NR_PAGES).filter(|&i| !model.pages[i].gone) {
            machine.unmap(region.part(i * PAGE_SIZE, PAGE_SIZE).unwrap()).unwrap();
        }
        prop_assert!((0..NR_NODES).all(|on| fake.pages_used(node(on)) == 0));
    }
}

#[test]
fn a_call_is_held_until_it_is_let_go() {
    let fake = FakeBuilder::new().build();
    let machine = Machine::fake(fake);
    fake.hold(Call::Map);
    thread::scope(|scope| {
        let held = scope.spawn(|| machine.map(4096, 4096).map(|span| machine.unmap(span)));
        while !fake.is_holding(Call::Map) {
            thread::yield_now();
        }
        // Only that one.
        let span = machine.map(4096, 4096).unwrap();
        machine.unmap(span).unwrap();
        assert!(!held.is_finished());
        fake.let_go(Call::Map);
        assert!(held.join().unwrap().is_ok());
    });
    assert!(!fake.is_holding(Call::Map));
}
