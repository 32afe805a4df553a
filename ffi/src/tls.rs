//! The thread's state: two words of initial-exec thread-local storage.
//!
//! | word      | value       | meaning                                                          |
//! |-----------|-------------|------------------------------------------------------------------|
//! | `current` | a heap      | hits may use it                                                  |
//! |           | its detour  | every hit misses: somebody watches ([`crate::detour`])           |
//! |           | `EMPTY`     | every hit misses: not attached yet, after exit, or inside zonal  |
//! | `home`    | null        | never attached                                                   |
//! |           | [`BUSY`]    | attaching or detaching right now                                 |
//! |           | [`DEAD`]    | the thread's exit hook has run                                   |
//! |           | a heap      | attached                                                         |
//!
//! Every entry takes `current` away and puts it back when it is done, so a signal handler that
//! interrupts zonal on its own thread finds `EMPTY` and cannot touch a half-changed heap.
//!
//! `thread_local!` costs a call of `__tls_get_addr` in a shared library, and its destructors call
//! `calloc`. Here the variable is a symbol of our own, made and read in assembly: one load of its
//! offset, relaxed to a constant by the linker in an executable. `.tdata` starts with the address
//! of the static empty heap, so hits need no null check; the dynamic linker relocates that image
//! before it copies it for the first thread. The symbol is hidden, so each instance of zonal in a
//! process has its own, and versioned, so two versions link into one executable. Static TLS is
//! scarce for libraries opened late: these 16 bytes always fit.

use core::arch::{asm, global_asm};
use core::ptr::NonNull;

use zonal_allocator::{Heap, HeapHot};

/// `home` while the thread attaches or detaches.
pub(crate) const BUSY: *mut Heap = core::ptr::without_provenance_mut(1);
/// `home` after the thread's exit hook.
pub(crate) const DEAD: *mut Heap = core::ptr::without_provenance_mut(2);

/// What `current` points to when hits must miss. Whoever takes it marks it as any other heap, so
/// it lies in writable memory; nothing else of it changes, and nobody reads that mark.
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

#[cfg(target_arch = "x86_64")]
impl Block {
    /// The calling thread's block, as an offset from the thread pointer.
    #[inline(always)]
    pub(crate) fn get() -> Block {
        let offset;
        // SAFETY: loads a constant that the dynamic linker wrote before any code of ours ran.
        unsafe {
            asm!(
                "mov {offset}, qword ptr [rip + {block}@GOTTPOFF]",
                offset = out(reg) offset,
                block = sym ZONAL_THREAD_0_1_0,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Block(offset)
    }

    #[inline(always)]
    fn load<const AT: usize>(self) -> usize {
        let value;
        // SAFETY: the block is 16 bytes, `AT` is 0 or 8, and only this thread writes to it.
        unsafe {
            asm!(
                "mov {value}, qword ptr fs:[{offset} + {at}]",
                value = out(reg) value,
                offset = in(reg) self.0,
                at = const AT,
                options(readonly, nostack, preserves_flags),
            );
        }
        value
    }

    #[inline(always)]
    fn store<const AT: usize>(self, value: usize) {
        // SAFETY: as for `load`.
        unsafe {
            asm!(
                "mov qword ptr fs:[{offset} + {at}], {value}",
                value = in(reg) value,
                offset = in(reg) self.0,
                at = const AT,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Block {
    /// The calling thread's block, as an address.
    #[inline(always)]
    pub(crate) fn get() -> Block {
        let address;
        // SAFETY: loads a constant that the dynamic linker wrote before any code of ours ran, and
        // the thread pointer.
        unsafe {
            asm!(
                "adrp {offset}, :gottprel:{block}",
                "ldr {offset}, [{offset}, :gottprel_lo12:{block}]",
                "mrs {address}, tpidr_el0",
                "add {address}, {address}, {offset}",
                offset = out(reg) _,
                address = out(reg) address,
                block = sym ZONAL_THREAD_0_1_0,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Block(address)
    }

    #[inline(always)]
    fn load<const AT: usize>(self) -> usize {
        let value;
        // SAFETY: the block is 16 bytes, `AT` is 0 or 8, and only this thread writes to it.
        unsafe {
            asm!(
                "ldr {value}, [{address}, #{at}]",
                value = out(reg) value,
                address = in(reg) self.0,
                at = const AT,
                options(readonly, nostack, preserves_flags),
            );
        }
        value
    }

    #[inline(always)]
    fn store<const AT: usize>(self, value: usize) {
        // SAFETY: as for `load`.
        unsafe {
            asm!(
                "str {value}, [{address}, #{at}]",
                value = in(reg) value,
                address = in(reg) self.0,
                at = const AT,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl Block {
    /// Takes the heap for the duration of one operation: from here on a signal handler on this
    /// thread finds the empty heap. (The assembly orders it before the operation: it is a barrier
    /// for the compiler, and a thread sees its own stores in order.)
    ///
    /// Then marks it with the place on the stack. In this order: whoever interrupts between the
    /// two sees an old mark, and may believe that nobody uses the heap, which is still true. When
    /// he is done he puts the heap back, though; a second signal in the few instructions that are
    /// left of the same call would find it there. To close that takes one more store in each call, for
    /// a signal at one instruction followed by another within nanoseconds.
    #[inline(always)]
    pub(crate) fn take(self) -> *mut HeapHot {
        let heap = core::ptr::with_exposed_provenance_mut(self.load::<0>());
        self.store::<0>(empty().expose_provenance());
        mark(heap);
        heap
    }

    /// Gives the heap back: hits may use it again.
    #[inline(always)]
    pub(crate) fn put(self, heap: *mut HeapHot) {
        self.store::<0>(heap.expose_provenance());
    }

    /// Whether there is no heap to take: the thread never had one, or a call of it has taken it.
    pub(crate) fn is_taken(self) -> bool {
        self.load::<0>() == empty().addr()
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
        block.put(empty());
    }
}

/// Notes in `heap` where the stack stands.
#[inline(always)]
pub(crate) fn mark(heap: *mut HeapHot) {
    // SAFETY: writes the one field that is there for it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov dword ptr [{heap} + {at}], esp",
            heap = in(reg) heap,
            at = const HeapHot::FRAME,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "mov {sp}, sp",
            "str {sp:w}, [{heap}, #{at}]",
            sp = out(reg) _,
            heap = in(reg) heap,
            at = const HeapHot::FRAME,
            options(nostack, preserves_flags),
        );
    }
}

/// The low half of the stack pointer, to be compared with [`HeapHot::frame`].
#[inline(always)]
pub(crate) fn stack() -> u32 {
    let sp: usize;
    // SAFETY: reads a register.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp as u32
}
