//! Policies of threads and heaps of nodes, by the Rust interface.

use core::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Arc, Barrier};
use std::thread;

use zonal::policy::{self, MemPolicy, NodeId, NodeMask, PolicyError, PolicyMode};
use zonal_tests::Program;

#[global_allocator]
static ALLOCATOR: zonal::Zonal = zonal::Zonal;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn guards_nest_and_restore() {
    let node = NodeMask::of(NodeId::ZERO);
    assert_eq!(policy::get(), None);
    let outer = policy::enter(MemPolicy::bind(node)).unwrap_or_else(|e| panic!("{e}"));
    {
        let turns = MemPolicy { mode: PolicyMode::Interleave, nodes: node };
        let _inner = policy::enter(turns).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(policy::get(), Some(turns));
        let blocks: Vec<Vec<u8>> = (0..1000).map(|i| vec![1; i * 10]).collect();
        assert!(blocks.iter().flatten().all(|&byte| byte == 1));
    }
    assert_eq!(policy::get(), Some(MemPolicy::bind(node)));
    let of_other = thread::spawn(policy::get).join();
    assert_eq!(of_other.ok(), Some(None), "a policy is the thread's own");
    drop(outer);
    assert_eq!(policy::get(), None);
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let far = NodeMask::from_bits(1 << 63);
    let wrong = [
        MemPolicy::bind(NodeMask::EMPTY),
        MemPolicy::bind(far),
        MemPolicy { mode: PolicyMode::Local, nodes: NodeMask::of(NodeId::ZERO) },
        MemPolicy { mode: PolicyMode::BindStrict, nodes: NodeMask::of(NodeId::ZERO) },
        MemPolicy { mode: PolicyMode::Preferred, nodes: NodeMask::from_bits(3) },
    ];
    for policy in wrong {
        assert_eq!(policy::set(Some(policy)), Err(PolicyError::Invalid), "{policy:?}");
        assert_eq!(policy::get(), None);
    }
    assert!(NodeId::new(63).and_then(zonal::Heap::on_node).is_none());
}

#[test]
fn blocks_of_a_node_outlive_its_heap_and_are_freed_anywhere() {
    let Some(heap) = zonal::Heap::on_node(NodeId::ZERO) else { panic!("no heap") };
    assert_eq!(heap.node(), NodeId::ZERO);
    let sizes = [1, 100, 5000, 70_000, 9 << 20];
    let mut blocks: Vec<usize> = Vec::new();
    for round in 0..400 {
        let size = sizes[round % sizes.len()];
        let block = heap.alloc(layout(size)).unwrap_or_else(|| panic!("{size}"));
        // SAFETY: the block has that many bytes.
        unsafe { block.write_bytes(round as u8, size) };
        blocks.push(block.expose_provenance().get());
        if round % 20 >= 10 {
            let old = blocks.swap_remove(round % blocks.len());
            free(old);
        }
    }
    // A handle goes from thread to thread.
    let moved = thread::spawn(move || heap.alloc(layout(64)).map(|b| b.expose_provenance().get()));
    blocks.extend(moved.join().ok().flatten());
    let barrier = Arc::new(Barrier::new(2));
    let half = blocks.split_off(blocks.len() / 2);
    let threads = [blocks, half].map(|blocks| {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            barrier.wait();
            blocks.into_iter().for_each(free);
        })
    });
    for thread in threads {
        assert!(thread.join().is_ok());
    }
}

fn free(block: usize) {
    let block = NonNull::new(std::ptr::with_exposed_provenance_mut(block));
    // SAFETY: a live block, given up here.
    unsafe { zonal::Heap::free(block.unwrap_or_else(|| panic!("null"))) };
}

/// A fork buries the heaps of the parent's other threads; those of handles stay with their holder.
#[test]
fn a_heap_of_a_node_stays_with_its_holder_in_a_child() {
    let Some(heap) = zonal::Heap::on_node(NodeId::ZERO) else { panic!("no heap") };
    let first = heap.alloc(layout(100)).unwrap_or_else(|| panic!("no memory"));
    // SAFETY: the child calls nothing but zonal and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let others: Vec<_> = (0..4).filter_map(|_| zonal::Heap::on_node(NodeId::ZERO)).collect();
        let mine = heap.alloc(layout(100));
        let theirs: Vec<_> = others.iter().map(|heap| heap.alloc(layout(100))).collect();
        let distinct = theirs.iter().all(|block| block.is_some() && *block != mine);
        let good = mine.is_some_and(|block| block != first) && distinct && others.len() == 4;
        // SAFETY: ends the child without handlers of the test harness.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = -1;
    // SAFETY: our child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
}

#[test]
fn by_c() {
    Program::c("policy.c").run().success().quiet();
}

#[test]
fn a_policy_that_cannot_be_followed_costs_one_line() {
    for (conf, expected) in [
        ("policy:bind=63", "names no node that this process may use"),
        ("policy:interleave=0+63", "names nodes that this process may not use"),
        ("policy:bind=0,numa:off", "has no effect with numa:off"),
        ("policy:bind", "bad value"),
        ("policy:interleave=0*2", "bad value"),
        ("node_reclaim:8", "bad value"),
    ] {
        if !zonal_tests::is_zonal() {
            return;
        }
        let outcome = Program::c("true.c").env("ZONAL_CONF", conf).run().success();
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains(expected), "{conf}: {lines:?}");
    }
}
