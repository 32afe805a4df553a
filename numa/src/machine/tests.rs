//! The real machine, whatever it is, and the answers of its kernel.
#![expect(unsafe_code, reason = "tests touch the memory that they map, and fork")]

use std::ptr;

use super::{Hooks, Machine};
use crate::os::{self, Rseq};
use crate::policy::KernelPolicy;
use crate::topology::tests::Sysfs;
use crate::topology::{self, SYSFS_ROOT};
use crate::{Errno, MemPolicy, NodeId, NodeMask, PolicyMode, Span, ThpMode};

const MIB: usize = 1 << 20;

fn bytes<'a>(span: Span) -> &'a mut [u8] {
    let at = ptr::with_exposed_provenance_mut(span.addr());
    // SAFETY: the tests pass mapped spans of their own and keep one slice at a time.
    unsafe { std::slice::from_raw_parts_mut(at, span.len()) }
}

/// In the kernel's half, where no thread maps anything.
fn nobodys(len: usize) -> Span {
    Span::mapped(usize::MAX - 64 * MIB + 1, len)
}

fn resident_pages(machine: &Machine, span: Span) -> usize {
    let mut out = vec![0; span.len() / machine.page_size()];
    machine.resident(span, &mut out).unwrap();
    out.iter().filter(|&&page| page & 1 != 0).count()
}

#[test]
fn a_place_is_taken_once() {
    let machine = Machine::linux();
    // Another thread may take the hole first.
    let reserve = |addr| Some((addr, machine.reserve_at(addr, 4 * MIB).ok()?));
    let mut tries = (0..100).map(|_| machine.probe_hole(4 * MIB).unwrap());
    let (addr, span) = tries.find_map(reserve).unwrap();
    assert_eq!((span.addr(), span.len()), (addr, 4 * MIB));
    assert_eq!(machine.reserve_at(addr, MIB), Err(Errno::EEXIST));
    assert_eq!(machine.map_at(addr + 3 * MIB, 2 * MIB), Err(Errno::EEXIST));
    let part = span.part(MIB, MIB).unwrap();
    machine.commit(part).unwrap();
    bytes(part).fill(7);
    assert!(bytes(part).iter().all(|&byte| byte == 7));
    machine.unmap(span).unwrap();
}

#[test]
fn maps_are_aligned_and_whole() {
    let machine = Machine::linux();
    for shift in 0..=30 {
        let align = 1 << shift;
        let span = machine.map(3 * MIB + 1, align).unwrap();
        assert!(span.addr().is_multiple_of(align), "{span:?} at {align:#x}");
        assert_eq!(span.len(), (3 * MIB + 1).next_multiple_of(machine.page_size()));
        bytes(span)[3 * MIB] = 1;
        machine.unmap(span).unwrap();
    }
    assert_eq!(machine.map(usize::MAX, 1), Err(Errno::ENOMEM));
    assert_eq!(machine.map(1 << 62, 1 << 40), Err(Errno::ENOMEM));
    assert_eq!(machine.map(1, 3), Err(Errno::EINVAL));
    assert_eq!(machine.map(0, 1), Err(Errno::EINVAL));
}

#[test]
fn an_aligned_map_leaves_nothing_beside_it() {
    let machine = Machine::linux();
    // Takes the neighbourhood, so that luck does not align the next one.
    let spans: Vec<Span> = (0..8).map(|_| machine.map(MIB, 64 * MIB).unwrap()).collect();
    let mut nr_free = 0;
    for span in &spans {
        for beside in [span.addr() - MIB, span.end()] {
            // What other threads of the test run map there does not count.
            if let Ok(place) = machine.reserve_at(beside, MIB) {
                nr_free += 1;
                machine.unmap(place).unwrap();
            }
        }
        machine.unmap(*span).unwrap();
    }
    assert!(nr_free >= 8, "{nr_free} of 16 places are free");
}

/// One call for each range, and, if the system has that, one for many.
fn ways_to_purge(machine: &Machine) -> impl Iterator<Item = ()> {
    [false, true].into_iter().filter_map(|batched| {
        machine.allow_batching(batched);
        (!batched || machine.probe_batching()).then_some(())
    })
}

#[test]
fn purged_pages_read_as_zeroes() {
    let machine = Machine::linux();
    // Batches hold 64 spans: more than two of them, and every size from 0 on.
    for _ in ways_to_purge(&machine) {
        let page = machine.page_size();
        let region = machine.map(300 * page, page).unwrap();
        machine.advise_huge(region, false).ok();
        let spans: Vec<Span> =
            (0..150).map(|i| region.part(2 * i * page, page * (i % 2)).unwrap()).collect();
        bytes(region).fill(1);
        assert_eq!(resident_pages(&machine, region), 300);
        machine.purge(&spans).unwrap();
        assert_eq!(resident_pages(&machine, region), 300 - 75);
        assert!(spans.iter().all(|&span| bytes(span).iter().all(|&byte| byte == 0)));
        assert_eq!(bytes(region).iter().filter(|&&byte| byte == 1).count(), 225 * page);
        machine.unmap(region).unwrap();
    }
}

#[test]
fn purge_says_how_far_it_came() {
    let machine = Machine::linux();
    for _ in ways_to_purge(&machine) {
        let page = machine.page_size();
        let region = machine.map(400 * page, page).unwrap();
        bytes(region).fill(1);
        let mut spans: Vec<Span> =
            (0..200).map(|i| region.part(2 * i * page, page).unwrap()).collect();
        spans[100] = nobodys(page);
        let (done, errno) = machine.purge(&spans).unwrap_err();
        assert_eq!(done, 100);
        assert!(errno == Errno::ENOMEM || errno == Errno::EINVAL, "{errno}");
        assert_eq!(resident_pages(&machine, region), 300);
        machine.purge(&spans[101..]).unwrap();
        machine.unmap(region).unwrap();
    }
    assert_eq!(machine.purge(&[]), Ok(()));
}

#[test]
fn protection_keeps_the_content() {
    let machine = Machine::linux();
    let span = machine.map(MIB, MIB).unwrap();
    bytes(span).fill(9);
    machine.protect_none(span).unwrap();
    machine.commit(span).unwrap();
    assert!(bytes(span).iter().all(|&byte| byte == 9));
    machine.unmap(span).unwrap();
}

#[test]
fn remap_keeps_the_content() {
    let machine = Machine::linux();
    let span = machine.map(MIB, MIB).unwrap();
    bytes(span).fill(3);
    let wide = machine.remap(span, 64 * MIB, true).unwrap();
    assert_eq!(wide.len(), 64 * MIB);
    assert!(bytes(wide)[..MIB].iter().all(|&byte| byte == 3));
    let small = machine.remap(wide, MIB / 2, false).unwrap();
    assert_eq!((small.addr(), small.len()), (wide.addr(), MIB / 2));
    machine.unmap(small).unwrap();
    assert!(machine.remap(nobodys(MIB), 2 * MIB, true).is_err());
}

#[test]
fn resident_needs_room_for_its_answer() {
    let machine = Machine::linux();
    let span = machine.map(8 * machine.page_size(), 1).unwrap();
    assert_eq!(machine.resident(span, &mut [0; 7]), Err(Errno::EINVAL));
    assert_eq!(resident_pages(&machine, span), 0);
    machine.unmap(span).unwrap();
}

#[test]
fn bound_pages_are_on_their_node() {
    let machine = Machine::linux();
    for node in machine.topology().nodes_with_memory() {
        for policy in [MemPolicy::preferred(node), MemPolicy::bind(node.into())] {
            let span = machine.map(MIB, MIB).unwrap();
            machine.bind(span, &policy).unwrap();
            bytes(span).fill(1);
            assert_eq!(node_of(span.addr()), node, "{policy:?}");
            machine.unmap(span).unwrap();
        }
    }
    let span = machine.map(MIB, MIB).unwrap();
    let all = machine.topology().nodes_with_memory();
    for mode in [
        PolicyMode::Local,
        PolicyMode::PreferredMany,
        PolicyMode::Bind,
        PolicyMode::BindStrict,
        PolicyMode::Interleave,
        PolicyMode::WeightedInterleave,
    ] {
        assert_eq!(machine.bind(span, &MemPolicy { mode, nodes: all }), Ok(()), "{mode:?}");
    }
    machine.unmap(span).unwrap();
}

fn node_of(addr: usize) -> NodeId {
    let mut node = -1_i32;
    let none = ptr::null_mut::<u64>();
    // MPOL_F_NODE | MPOL_F_ADDR: the node of the page at this address.
    let flags = 0b11_u64;
    // SAFETY: the kernel writes one int.
    let answer =
        unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut node, none, 0_u64, addr, flags) };
    assert_eq!(answer, 0);
    NodeId::from_index(usize::try_from(node).unwrap()).unwrap()
}

#[test]
fn the_nodes_of_the_cpuset_are_known() {
    let machine = Machine::linux();
    let allowed = machine.allowed_nodes();
    assert!(!allowed.is_empty());
    assert_eq!(allowed & machine.topology().nodes_with_memory(), allowed);
    let bits = os::mems_allowed().unwrap();
    assert_ne!(bits & allowed.bits(), 0);
    const _: () = {
        const fn shared<T: Sync + Send>() {}
        shared::<Machine>();
    };
}

#[test]
fn a_policy_speaks_the_kernels_words() {
    let nodes = NodeMask::from_bits(0b1010);
    let words = |mode| MemPolicy { mode, nodes }.to_kernel();
    let kernel = |mode, bits| KernelPolicy { mode, bits };
    assert_eq!(MemPolicy::LOCAL.to_kernel(), (kernel(1, 0), None));
    assert_eq!(words(PolicyMode::Preferred), (kernel(1, 0b10), None));
    assert_eq!(words(PolicyMode::PreferredMany), (kernel(5, 0b1010), Some(kernel(1, 0b10))));
    assert_eq!(words(PolicyMode::Bind), words(PolicyMode::PreferredMany));
    assert_eq!(words(PolicyMode::BindStrict), (kernel(2, 0b1010), None));
    assert_eq!(words(PolicyMode::Interleave), (kernel(3, 0b1010), None));
    assert_eq!(words(PolicyMode::WeightedInterleave), (kernel(6, 0b1010), Some(kernel(3, 0b1010))));
    let back = |mode| MemPolicy::from_kernel(mode, 0b1010).map(|policy| policy.mode);
    assert_eq!(back(2 | 1 << 15), Some(PolicyMode::Bind));
    assert_eq!(back(6), Some(PolicyMode::WeightedInterleave));
    assert_eq!((back(0), back(4), MemPolicy::from_kernel(1, 0)), (None, None, None));
    let one = NodeId::new(3).unwrap();
    assert_eq!(MemPolicy::bind(one.into()).to_kernel(), MemPolicy::preferred(one).to_kernel());
}

#[test]
fn a_thread_knows_its_processor_and_node() {
    let cpus = format!("0-{}\n", crate::MAX_CPUS - 1);
    let sysfs =
        Sysfs::new(&[("online", "0-1\n"), ("node0/cpulist", "\n"), ("node1/cpulist", &cpus)]);
    let machine = Machine::new(sysfs.read(), Hooks::default());
    assert_eq!(machine.current_node().index(), 1);
    // Without any known processor, the kernel is asked, and it names a real node.
    let sysfs = Sysfs::new(&[("online", "0-63\n")]);
    let machine = Machine::new(sysfs.read(), Hooks::default());
    let node = || u32::try_from(machine.current_node().index()).ok();
    // All readings agree, unless the thread moves in between each time.
    assert!((0..100).any(|_| node() == os::node_by_kernel()));
    if let Some(rseq) = Rseq::find() {
        assert!((0..100).any(|_| rseq.current_cpu() == os::current_cpu()));
    }
}

#[test]
fn membarrier_works_once_registered() {
    let machine = Machine::linux();
    if machine.register_membarrier() {
        assert!(machine.membarrier());
    }
}

/// The short way and the files tell the same about the machine that the tests run on.
#[test]
fn only_node_zero_is_what_the_files_say() {
    let read = topology::read(SYSFS_ROOT);
    if os::has_only_node_zero() {
        assert!(read.is_one_node());
        assert_eq!(read.first_node(), NodeId::ZERO);
    }
    assert_eq!(Machine::linux().topology().nodes_online(), read.nodes_online());
}

#[test]
fn numbers_are_random_and_time_goes_on() {
    let (one, other) = (Machine::linux(), Machine::linux());
    let mut draws: Vec<u64> = (0..500).flat_map(|_| [one.random(), other.random()]).collect();
    draws.sort_unstable();
    draws.dedup();
    assert_eq!(draws.len(), 1000);
    // Each bit is set about half of the time: 500 +- 7 sigma.
    for bit in 0..64 {
        let ones = draws.iter().filter(|&draw| draw >> bit & 1 != 0).count();
        assert!((390..=610).contains(&ones), "bit {bit}: {ones}");
    }
    let before = one.now_ns();
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert!(one.now_ns() - before >= 2_000_000);
}

#[test]
fn the_switch_for_huge_pages() {
    assert_eq!(ThpMode::parse(b"always [madvise] never\n"), ThpMode::Madvise);
    assert_eq!(ThpMode::parse(b"[always] madvise never\n"), ThpMode::Always);
    assert_eq!(ThpMode::parse(b"always madvise [never]\n"), ThpMode::Never);
    for odd in [&b""[..], b"[", b"always", b"[other]", b"\xff[]"] {
        assert_eq!(ThpMode::parse(odd), ThpMode::Unknown, "{odd:?}");
    }
    let machine = Machine::linux();
    assert_eq!(machine.thp_mode(), machine.thp_mode());
}

/// Runs in a child with nothing but this thread, which may not allocate.
fn holds_in_child(test: fn() -> bool) {
    // SAFETY: the child makes system calls only.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let holds = test();
        // SAFETY: ends the child without exit handlers.
        unsafe { libc::_exit(i32::from(!holds)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child above.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(status, 0);
}

fn works(machine: &Machine) -> bool {
    let known = machine.topology().nodes_online().contains(machine.current_node());
    known && machine.map(MIB, MIB).and_then(|span| machine.unmap(span)).is_ok()
}

#[test]
fn starts_with_a_full_descriptor_table() {
    holds_in_child(|| {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: lowers the child's own limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) };
        let machine = Machine::linux();
        machine.topology().is_one_node()
            && machine.thp_mode() == ThpMode::Unknown
            && works(&machine)
    });
}

#[test]
fn starts_with_closed_descriptors_and_leaves_none() {
    holds_in_child(|| {
        // SAFETY: closes the child's own descriptors.
        (0..1024).for_each(|fd| unsafe { _ = libc::close(fd) });
        let machine = Machine::linux();
        machine.thp_mode();
        machine.probe_batching();
        machine.allow_batching(true);
        // SAFETY: asks for flags only.
        let open = (0..1024).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0).count();
        open == 0 && works(&machine)
    });
}

#[test]
fn a_minimal_machine_maps_and_refuses_the_rest() {
    let machine = Machine::linux_minimal();
    assert!(machine.topology().is_one_node());
    assert_eq!(machine.thp_mode(), ThpMode::Unknown);
    assert!(!machine.register_membarrier() && !machine.membarrier() && !machine.probe_batching());
    let span = machine.map(MIB, MIB).unwrap();
    bytes(span).fill(1);
    assert_eq!(machine.purge(&[span]), Err((0, Errno::ENOSYS)));
    assert_eq!(machine.advise_huge(span, true), Err(Errno::ENOSYS));
    assert_eq!(machine.remap(span, 2 * MIB, true), Err(Errno::ENOSYS));
    assert_eq!(bytes(span)[MIB - 1], 1);
    machine.unmap(span).unwrap();
}
