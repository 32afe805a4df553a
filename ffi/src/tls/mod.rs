//! The thread's state: two words of initial-exec thread-local storage.
//!
//! | word      | value       | meaning                                                          |
//! |-----------|-------------|------------------------------------------------------------------|
//! | `current` | a heap      | hits may use it, unless it is marked                             |
//! |           | its detour  | every hit misses: somebody watches ([`crate::detour`])           |
//! |           | `EMPTY`     | every hit misses: not attached yet, or after exit                |
//! | `home`    | null        | never attached                                                   |
//! |           | [`BUSY`]    | attaching or detaching right now                                 |
//! |           | [`DEAD`]    | the thread's exit hook has run                                   |
//! |           | a heap      | attached                                                         |
//!
//! Every entry marks the heap in `current` with the place of its stack frame, and takes the mark away
//! when it is done, so a signal handler that interrupts zonal on its own thread finds a marked heap and
//! does not touch it, half-changed as it may be. A hit so stores nothing here: to take `current` away and put
//! it back would be two stores. The mark of a thread that sleeps may say that its bins are closed: then hits
//! miss, and the call opens them inside the gate (`allocator/src/mark/`).
//!
//! `thread_local!` costs a call of `__tls_get_addr` in a shared library, and its destructors call
//! `calloc`. Here the variable is a symbol of our own, made and read in assembly: one load of its
//! offset, relaxed to a constant by the linker in an executable. `.tdata` starts with the address
//! of the static empty heap, so hits need no null check; the dynamic linker relocates that image
//! before it copies it for the first thread. The symbol is hidden, so each instance of zonal in a
//! process has its own, and versioned, so two versions link into one executable. Static TLS is
//! scarce for libraries opened late: these 16 bytes always fit.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use core::arch::global_asm;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Release;
use core::sync::atomic::compiler_fence;

use zonal_allocator::{Heap, HeapHot};

#[cfg(target_arch = "aarch64")]
pub(crate) use self::aarch64::{nothing, stack, try_mark, unmark};
#[cfg(target_arch = "x86_64")]
pub(crate) use self::x86_64::{nothing, stack, try_mark, unmark};

/// `home` while the thread attaches or detaches.
pub(crate) const BUSY: *mut Heap = core::ptr::without_provenance_mut(1);
/// `home` after the thread's exit hook.
pub(crate) const DEAD: *mut Heap = core::ptr::without_provenance_mut(2);

/// What `current` points to where there is no heap.
static EMPTY: HeapHot = HeapHot::EMPTY;

/// Address of the empty heap.
#[inline(always)]
pub(crate) fn empty() -> *mut HeapHot {
    (&raw const EMPTY).cast_mut()
}

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("zonal runs on Linux with glibc, on x86-64 and aarch64");

global_asm!(
    ".pushsection .tdata.zonal_tls, \"awT\", @progbits",
    ".balign 16",
    ".globl {block}",
    ".hidden {block}",
    ".type {block}, @object",
    ".size {block}, 16",
    "{block}:",
    ".quad {empty}",
    ".quad 0",
    ".popsection",
    block = sym ZONAL_THREAD_0_1_0,
    empty = sym EMPTY,
);

unsafe extern "C" {
    static ZONAL_THREAD_0_1_0: u8;
}

/// Where the calling thread's two words lie. Not to be kept across threads.
#[derive(Clone, Copy)]
pub(crate) struct Block(usize);

impl Block {
    /// The heap for hits, which may be taken.
    #[inline(always)]
    pub(crate) fn current(self) -> *mut HeapHot {
        core::ptr::with_exposed_provenance_mut(self.load::<0>())
    }

    /// Takes the heap for the duration of one operation, as hits do: the empty one if there is none, another
    /// call has it, or its bins are closed.
    #[inline(always)]
    pub(crate) fn try_take(self) -> *mut HeapHot {
        let heap = self.current();
        if try_mark(heap) { heap } else { empty() }
    }

    /// The same for who can do without the bins: the heap also where they are closed.
    pub(crate) fn take(self) -> *mut HeapHot {
        let heap = self.current();
        // SAFETY: the empty heap, or one of this thread's; they are never unmapped.
        if unsafe { &*heap }.try_take(stack()) { heap } else { empty() }
    }

    /// Gives the heap back: hits may use it again, or its detour, whichever is given. Not the empty
    /// one, which nobody took.
    #[inline(always)]
    pub(crate) fn put(self, heap: *mut HeapHot) {
        if heap != empty() {
            // First, while the mark keeps handlers out that take a heap: one of them may exchange it.
            self.store::<0>(heap.expose_provenance());
            compiler_fence(Release);
            // SAFETY: a heap of this thread.
            unsafe { Heap::release(heap) };
        }
    }

    /// There is nothing to take any more, until a heap is put here.
    pub(crate) fn vacate(self) {
        self.store::<0>(empty().expose_provenance());
    }

    /// Whether there is no heap to take: the thread never had one, or a call of it has taken it.
    pub(crate) fn is_taken(self) -> bool {
        // SAFETY: as in `take`.
        unsafe { &*self.current() }.is_taken()
    }

    /// The thread's heap or one of the marks.
    pub(crate) fn home(self) -> *mut Heap {
        core::ptr::with_exposed_provenance_mut(self.load::<8>())
    }

    /// The thread's heap, if it has one.
    pub(crate) fn heap(self) -> Option<NonNull<Heap>> {
        NonNull::new(self.home()).filter(|home| ![BUSY, DEAD].contains(&home.as_ptr()))
    }

    /// Sets what the thread is.
    pub(crate) fn set_home(self, home: *mut Heap) {
        self.store::<8>(home.expose_provenance());
    }
}

/// Gives the thread's variables their first values where that was not done yet: while the dynamic
/// linker relocates.
pub fn prepare_thread() {
    let block = Block::get();
    if block.load::<0>() == 0 {
        block.vacate();
    }
}
