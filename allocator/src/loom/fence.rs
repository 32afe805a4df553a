//! Fenced objects: a slot has one user at a time, of two frees of an object one counts, and who comes
//! with a pointer of his own finds what is true of the slot there.
//!
//! What is in the slots loom does not see: each has a cell beside it.
//!
//! Faults: `lock_release_relaxed` and `fence_free_relaxed` (two users), `fence_forgets_left` and
//! `fence_left_relaxed` (what was freed while somebody was at it is lost), `fence_frees_twice` (two frees
//! count), `fence_slots_relaxed` (a slot that nobody ever had seems to be in use).

use std::ptr::NonNull;
use std::sync::OnceLock;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use zonal_numa::{Machine, NodeId, PAGE_SIZE, Span};

use super::{check, reached};
use crate::class::SizeClass;
use crate::misuse::BadKind;
use crate::misuse::fence::Fence;

const KEY: u64 = 0x8123_4567_89ab_cdef | 0x8080_8080_8080_8080;

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(Machine::linux)
}

fn alloc(fence: &Fence, size: usize) -> Option<NonNull<u8>> {
    let class = SizeClass::of(size).unwrap();
    fence.alloc((machine(), NodeId::ZERO), class, size).unwrap()
}

/// The arena of a model has one page, between its guards.
fn unmap(fence: &Fence) {
    let start = fence.span().unwrap().addr();
    // SAFETY: mapped by `fence`, which nobody uses any more.
    let all = unsafe { Span::new(start - PAGE_SIZE, 3 * PAGE_SIZE) };
    machine().unmap(all).unwrap();
}

#[test]
fn users() {
    check("fence:users", &["all-had-it", "found-it-in-use"], || {
        // One page, and so one slot of this size.
        let shared = Arc::new((Fence::new(4, KEY), UnsafeCell::new(0_u32)));
        let once = |shared: &(Fence, UnsafeCell<u32>)| {
            let (fence, slot) = shared;
            let object = alloc(fence, 4000);
            if let Some(object) = object {
                // SAFETY: the object is this thread's.
                slot.with_mut(|n| unsafe { *n += 1 });
                fence.free(object.addr().get()).unwrap();
            }
            object.is_some()
        };
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || once(&shared))
        });
        let nr = others.map(|thread| thread.join().unwrap()).iter().filter(|&&had| had).count();
        reached(if nr == 2 { "all-had-it" } else { "found-it-in-use" });
        assert!(once(&shared), "a slot is lost");
        assert_eq!(shared.0.check(), None);
        unmap(&shared.0);
    });
}

/// Who takes in what one thread left finds what another one is about to leave.
#[test]
fn neighbours() {
    check("fence:neighbours", &["again", "none"], || {
        let shared = Arc::new((Fence::new(4, KEY), [(); 2].map(|()| UnsafeCell::new(0_u32))));
        let (fence, cells) = &*shared;
        let objects = [(); 2].map(|()| alloc(fence, 2000).unwrap().addr().get());
        let use_slot = |cell: &UnsafeCell<u32>| {
            // SAFETY: the object of the slot is this thread's.
            cell.with_mut(|n| unsafe { *n += 1 });
        };
        fence.raw_lock().acquire();
        let others = [0, 1].map(|i| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                use_slot(&shared.1[i]);
                shared.0.free(objects[i]).unwrap();
            })
        });
        fence.raw_lock().release();
        let again = alloc(fence, 2000).map(|object| object.addr().get());
        if let Some(i) = objects.iter().position(|&object| again == Some(object)) {
            use_slot(&cells[i]);
        }
        reached(if again.is_some() { "again" } else { "none" });
        others.into_iter().for_each(|thread| thread.join().unwrap());
        unmap(fence);
    });
}

#[test]
fn frees() {
    check("fence:frees", &["first", "second"], || {
        let fence = Arc::new(Fence::new(4, KEY));
        let addr = alloc(&fence, 4000).unwrap().addr().get();
        let other = {
            let fence = Arc::clone(&fence);
            thread::spawn(move || fence.free(addr).map_err(|bad| bad.kind))
        };
        let freed = [fence.free(addr).map_err(|bad| bad.kind), other.join().unwrap()];
        let second = Err(BadKind::DoubleFree);
        assert!(freed == [Ok(()), second] || freed == [second, Ok(())], "{freed:?}");
        reached(if freed[0].is_ok() { "first" } else { "second" });
        assert_eq!(fence.check(), None);
        unmap(&fence);
    });
}

#[test]
fn onlooker() {
    check("fence:onlooker", &["no-arena", "no-slots", "free"], || {
        let fence = Arc::new(Fence::new(4, KEY));
        let onlooker = {
            let fence = Arc::clone(&fence);
            // Into the second slot, which nobody ever gets.
            thread::spawn(move || match fence.span() {
                None => "no-arena",
                Some(arena) => match fence.size_of(arena.addr() + 1024) {
                    Err(bad) if bad.kind == BadKind::NotAllocated => "no-slots",
                    Err(bad) if bad.kind == BadKind::DoubleFree => "free",
                    other => panic!("{other:?}"),
                },
            })
        };
        let addr = alloc(&fence, 1000).unwrap().addr().get();
        reached(onlooker.join().unwrap());
        assert_eq!(fence.size_of(addr), Ok(1000));
        fence.free(addr).unwrap();
        unmap(&fence);
    });
}
