//! What a hit leaves behind that goes no further, at whichever of its instructions: `[K1]`, `[K2]`.

use core::arch::asm;
use core::mem::{MaybeUninit, size_of};
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicPtr, AtomicUsize};
use std::vec::Vec;

use super::*;

type Runs = KeptRuns<8>;

/// What is stepped through, what it was at each step, and how many steps there were.
static STEPPED: AtomicPtr<Runs> = AtomicPtr::new(ptr::null_mut());
static SEEN: AtomicPtr<MaybeUninit<Runs>> = AtomicPtr::new(ptr::null_mut());
static NR_STEPS: AtomicUsize = AtomicUsize::new(0);
const MOST_STEPS: usize = 4096;
const TRAP_FLAG: u64 = 1 << 8;

/// After each instruction of who is stepped through.
extern "C" fn on_step(_signal: i32) {
    let step = NR_STEPS.fetch_add(1, Relaxed);
    if step < MOST_STEPS {
        // SAFETY: the thread that steps stands still meanwhile; there is room for so many.
        unsafe { SEEN.load(Relaxed).add(step).cast::<Runs>().copy_from(STEPPED.load(Relaxed), 1) };
    }
}

/// What `runs` was after each instruction of `change`.
fn step_through(runs: &mut Runs, change: impl FnOnce(&mut Runs)) -> Vec<MaybeUninit<Runs>> {
    let mut seen: Vec<MaybeUninit<Runs>> = Vec::with_capacity(MOST_STEPS);
    STEPPED.store(runs, Relaxed);
    SEEN.store(seen.as_mut_ptr(), Relaxed);
    NR_STEPS.store(0, Relaxed);
    // SAFETY: only the flag changes, by which the kernel signals after each instruction.
    unsafe { asm!("pushfq", "or qword ptr [rsp], {}", "popfq", const TRAP_FLAG) };
    change(runs);
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and qword ptr [rsp], {}", "popfq", const !TRAP_FLAG as i64) };
    let nr_steps = NR_STEPS.load(Relaxed);
    assert!(nr_steps < MOST_STEPS);
    // SAFETY: `on_step` wrote so many.
    unsafe { seen.set_len(nr_steps) };
    seen
}

impl Runs {
    /// Whether no run and no place is there twice, of those that are known by now, and one at most is missing.
    fn assert_bearable(&self) {
        let mut had = [false; 8];
        let mut note = |place: u8| {
            assert!(place <= self.opened, "a place that was not opened");
            assert!(!core::mem::replace(&mut had[usize::from(place)], true), "a place twice");
        };
        let mut nr_pages = 0;
        let mut heads = Vec::new();
        for length in 1..=MAX_PAGES {
            for place in self.stack(length) {
                note(place);
                nr_pages += length;
                heads.push(self.at(place).head);
            }
        }
        let mut left = self.left;
        while left != NONE {
            note(left);
            left = self.at(left).below;
        }
        let nr_missing = had[1..=usize::from(self.opened)].iter().filter(|had| !**had).count();
        assert!(nr_missing <= 1, "{nr_missing} places are missing");
        assert!(nr_pages <= self.nr_pages, "{nr_pages} pages are there, {} count", self.nr_pages);
        heads.sort_unstable();
        assert!(heads.is_sorted_by(|a, b| a < b), "a run twice");
    }
}

#[test]
fn what_is_left_in_the_middle_is_no_worse() {
    // SAFETY: a handler that only copies.
    unsafe { libc::signal(libc::SIGTRAP, on_step as *const () as usize) };
    let mut place = MaybeUninit::uninit();
    // SAFETY: valid for it; what is not written by `init` may be anything.
    let runs: &mut Runs = unsafe {
        KeptRuns::init(place.as_mut_ptr());
        place.assume_init_mut()
    };
    let mut nr_steps = 0;
    // Of two lengths; places are opened, left and taken again.
    for (number, what) in (1..).zip("aababbAABaBbaAAB".chars()) {
        let nr_pages = if what.eq_ignore_ascii_case(&'a') { 9 } else { 12 };
        let head = Pfn::new(number * 64);
        let seen = step_through(runs, |runs| {
            if what.is_lowercase() {
                runs.push(head, nr_pages);
            } else {
                runs.take_exact(nr_pages);
            }
        });
        nr_steps += seen.len();
        for runs in &seen {
            // SAFETY: as above, of one that was copied.
            unsafe { runs.assume_init_ref() }.assert_bearable();
        }
        runs.assert_bearable();
    }
    assert!(nr_steps > 100, "{nr_steps} steps");
}

const _: () = assert!(size_of::<Runs>() < 1024);
