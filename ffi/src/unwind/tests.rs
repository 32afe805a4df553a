//! Walks of stacks whose callers are known.

use super::*;
use core::hint::black_box;
use std::boxed::Box;
use std::vec::Vec;

fn stack() -> Vec<usize> {
    let mut frames = [0; MAX_DEPTH];
    let nr = walk(&mut frames, (0, 0));
    frames[..nr].to_vec()
}

/// Whether `pc` lies in the function that starts at `function`, none of which here is long.
fn inside(pc: usize, function: *const ()) -> bool {
    pc.wrapping_sub(function.addr()) < 4096
}

#[inline(never)]
fn recurse(depth: usize) -> Vec<usize> {
    let frames = if depth == 0 { stack() } else { recurse(depth - 1) };
    black_box(frames)
}

#[test]
fn callers_come_in_order() {
    forget();
    for _ in 0..2 {
        // The second time from the cache.
        let frames = recurse(9);
        let own = recurse as *const ();
        let first = frames.iter().position(|pc| inside(*pc, own)).unwrap();
        let run = frames[first..].iter().take_while(|pc| inside(**pc, own)).count();
        assert_eq!(run, 10, "{frames:x?}");
        assert!(frames.len() > first + 12, "the test harness and the thread's start: {frames:x?}");
    }
}

#[test]
fn the_nearest_frames_of_a_deep_stack_are_kept() {
    let frames = recurse(500);
    assert_eq!(frames.len(), MAX_DEPTH);
    assert!(frames[8..].iter().all(|pc| inside(*pc, recurse as *const ())));
}

#[test]
fn leading_frames_inside_the_own_file_are_left_out() {
    let own = Module::of((recurse as *const ()).addr()).unwrap();
    let mut frames = [0; MAX_DEPTH];
    let nr = walk(&mut frames, (own.start, own.end));
    assert!(frames[..nr].iter().all(|pc| !own.contains(*pc)), "{frames:x?}");
}

// Calls back with a frame that has a pointer and nothing else: as code made at run time does.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".text",
    ".type zonal_test_no_cfi, @function",
    "zonal_test_no_cfi:",
    "push rbp",
    "mov rbp, rsp",
    "sub rsp, 64",
    "call rdi",
    "leave",
    "ret",
    ".size zonal_test_no_cfi, . - zonal_test_no_cfi",
);

#[cfg(target_arch = "x86_64")]
#[test]
fn code_without_any_information_is_walked_by_the_frame_pointer() {
    unsafe extern "C" {
        fn zonal_test_no_cfi(call: extern "C" fn() -> *mut ()) -> *mut ();
    }
    extern "C" fn inner() -> *mut () {
        Box::into_raw(Box::new(stack())).cast()
    }
    // SAFETY: calls its argument and returns what that returns.
    let frames = unsafe { Box::from_raw(zonal_test_no_cfi(inner).cast::<Vec<usize>>()) };
    let middle = frames.iter().position(|pc| inside(*pc, zonal_test_no_cfi as *const ()));
    let here = code_without_any_information_is_walked_by_the_frame_pointer as fn();
    let middle = middle.unwrap_or_else(|| panic!("{frames:x?}"));
    assert!(inside(frames[middle + 1], here as *const ()), "{frames:x?}");
}

#[test]
fn a_signal_handler_sees_what_it_interrupted() {
    use core::sync::atomic::AtomicUsize;
    use core::sync::atomic::Ordering::Relaxed;
    static FOUND: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: i32) {
        let mut frames = [0; MAX_DEPTH];
        let nr = walk(&mut frames, (0, 0));
        let own = recurse as *const ();
        FOUND.store(frames[..nr].iter().filter(|pc| inside(**pc, own)).count(), Relaxed);
    }
    #[inline(never)]
    fn recurse(depth: usize) {
        if depth == 0 {
            // SAFETY: the handler is installed below.
            unsafe { libc::raise(libc::SIGUSR1) };
        } else {
            recurse(depth - 1);
        }
        black_box(depth);
    }
    let handler: extern "C" fn(i32) = handler;
    // SAFETY: a handler that only walks.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as usize) };
    recurse(5);
    assert_eq!(FOUND.load(Relaxed), 6);
}

#[test]
fn no_stack_of_garbage_is_a_fault() {
    let mut seed = 7_u64;
    let mut garbage: Vec<usize> = Vec::new();
    for _ in 0..4096 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        garbage.push(match seed >> 62 {
            0 => (recurse as *const ()).addr() + (seed >> 50) as usize,
            1 => garbage.as_ptr().addr() + (seed >> 48) as usize,
            2 => (libc::qsort as *const ()).addr() + (seed >> 50) as usize,
            _ => seed as usize,
        });
    }
    for start in 0..2000 {
        let sp = garbage.as_ptr().addr() + start * 8;
        let mut now =
            Registers { pc: garbage[start] & !(0xffff << 48), sp, fp: garbage[start + 1] };
        let mut memory = Readable::around(sp);
        for _ in 0..MAX_WALK {
            let Some((caller, _)) = step(now, true, &mut memory) else { break };
            if caller.pc < LOWEST {
                break;
            }
            now = caller;
        }
    }
}
