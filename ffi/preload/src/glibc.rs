//! Memory that glibc's own allocator handed out.
//!
//! It reaches us from libraries in another namespace (dlmopen) or from a glibc that served calls
//! before this library was there. Such a block goes back to glibc's own functions; anything else
//! that is not ours is a mistake of the program. The two are told apart by the words in front of
//! the block, which are looked at only after the kernel has confirmed that they can be read:
//!
//! ```text
//!    chunk: | previous size | size + flags | object ...          size is a multiple of 16
//!    flags: 1 the chunk below is in use, 2 mapped by itself, 4 not of the main arena
//! ```

use core::ffi::{CStr, c_void};
use core::mem;

use zonal::abi::{self, Foreign};

use crate::loader;

const PREV_IN_USE: usize = 1;
const IS_MAPPED: usize = 2;
const NON_MAIN: usize = 4;
const FLAGS: usize = PREV_IN_USE | IS_MAPPED | NON_MAIN;

const WORD: usize = size_of::<usize>();
const HEADER: usize = 2 * WORD;
const MIN_CHUNK: usize = 4 * WORD;
const PAGE: usize = 4096;
/// Secondary arenas consist of heaps aligned to this.
const HEAP_ALIGN: usize = 64 << 20;

/// glibc as the neighbour that other pointers may belong to.
pub(crate) struct Glibc;

impl Foreign for Glibc {
    const SERVES_C_LIBRARY: bool = true;

    unsafe fn free(object: *mut u8) -> bool {
        let Some(free) = function(object, c"free") else {
            return false;
        };
        // SAFETY: libc's `free` has this type.
        let free: unsafe extern "C" fn(*mut c_void) = unsafe { mem::transmute(free) };
        // SAFETY: a block of glibc's, which the caller gives up.
        unsafe { free(object.cast()) };
        true
    }

    unsafe fn usable_size(object: *mut u8) -> Option<usize> {
        let size = function(object, c"malloc_usable_size")?;
        // SAFETY: libc's `malloc_usable_size` has this type.
        let size: unsafe extern "C" fn(*mut c_void) -> usize = unsafe { mem::transmute(size) };
        // SAFETY: a live block of glibc's.
        Some(unsafe { size(object.cast()) })
    }

    unsafe fn realloc(object: *mut u8, size: usize) -> Option<*mut u8> {
        let realloc = function(object, c"realloc")?;
        // SAFETY: libc's `realloc` has this type.
        let realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void =
            unsafe { mem::transmute(realloc) };
        // SAFETY: a live block of glibc's.
        Some(unsafe { realloc(object.cast(), size) }.cast())
    }
}

/// glibc's own function of that name, if the block is glibc's.
fn function(object: *mut u8, name: &CStr) -> Option<*mut c_void> {
    let errno = abi::errno();
    let function = is_chunk(object.addr()).then(|| loader::find_in(c"libc.so.6", name));
    abi::set_errno(errno);
    function.filter(|function| !function.is_null())
}

fn is_chunk(object: usize) -> bool {
    let Some(chunk) = object.checked_sub(HEADER).filter(|chunk| chunk % HEADER == 0) else {
        return false;
    };
    let (Some(prev), Some(word)) = (read(chunk), read(chunk + WORD)) else {
        return false;
    };
    let size = word & !FLAGS;
    if size < MIN_CHUNK || !size.is_multiple_of(HEADER) {
        return false;
    }
    let Some(end) = chunk.checked_add(size) else {
        return false;
    };
    match word & FLAGS {
        IS_MAPPED => {
            prev < size
                && chunk.wrapping_sub(prev) % PAGE == 0
                && size.wrapping_add(prev).is_multiple_of(PAGE)
        }
        flags if flags & IS_MAPPED != 0 => false,
        flags if flags & NON_MAIN != 0 => in_arena(chunk, end) && neighbour_agrees(end),
        _ => in_brk(chunk, end) && neighbour_agrees(end),
    }
}

/// The chunk above says that the one below it is in use, as for any block handed out.
fn neighbour_agrees(end: usize) -> bool {
    read(end + WORD).is_some_and(|word| word & PREV_IN_USE != 0)
}

/// The main arena: between the program and the break.
fn in_brk(chunk: usize, end: usize) -> bool {
    // SAFETY: getauxval reads a table that the kernel made; sbrk(0) only asks.
    let (program, top) = unsafe { (libc::getauxval(libc::AT_PHDR) as usize, libc::sbrk(0).addr()) };
    (program..top).contains(&chunk) && end < top
}

/// A secondary arena: its heap starts with {arena, previous heap, size}.
fn in_arena(chunk: usize, end: usize) -> bool {
    let heap = chunk & !(HEAP_ALIGN - 1);
    let (Some(arena), Some(size)) = (read(heap), read(heap + 2 * WORD)) else {
        return false;
    };
    arena % HEADER == 0
        && read(arena).is_some()
        && size % PAGE == 0
        && size <= HEAP_ALIGN
        && chunk >= heap + 3 * WORD
        && end < heap + size
}

/// The word at `address`, if there is memory that can be read.
fn read(address: usize) -> Option<usize> {
    const NO_SUCH_ACTION: usize = usize::MAX;
    // The kernel copies the mask before it looks at the action, which does not exist: EFAULT tells
    // that there is nothing to read, and nothing changes in either case. No seccomp filter can do
    // without this call.
    // SAFETY: the call reads one word through the kernel, which checks the address.
    let answer = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, NO_SUCH_ACTION, address, 0_usize, size_of::<u64>())
    };
    if answer == 0 || abi::errno() != libc::EINVAL {
        return None;
    }
    // SAFETY: readable just now.
    Some(unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() })
}
