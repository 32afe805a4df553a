//! `zonal.h`.

use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};

use zonal::policy::{self, MemPolicy, NodeMask, PolicyError, PolicyMode};
use zonal::{Format, Spill, abi, heap_profile};

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_stats_print(fd: c_int, format: c_int) -> c_int {
    let format = match format {
        0 => Format::Text,
        1 => Format::Json,
        2 => Format::Prometheus,
        _ => {
            abi::set_errno(libc::EINVAL);
            return -1;
        }
    };
    if zonal::print(fd, format) { 0 } else { -1 }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_reclaim(bytes: usize) -> usize {
    zonal::reclaim(bytes)
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_profile_start(rate: usize) -> c_int {
    if heap_profile::start(rate) { 0 } else { -1 }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_profile_stop() -> c_int {
    if heap_profile::stop() { 0 } else { -1 }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_profile_dump(fd: c_int) -> c_int {
    if heap_profile::dump(fd) { 0 } else { -1 }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_validate() -> c_int {
    match zonal::validate() {
        Ok(()) => 0,
        Err(mismatch) => {
            abi::warn(format_args!("{mismatch:?}"));
            -1
        }
    }
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_version() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    const VERSION: &CStr = match CStr::from_bytes_with_nul(TEXT.as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version holds no null"),
    };
    VERSION.as_ptr()
}

/// The modes of `zonal.h`, which are the kernel's.
const MODES: [(c_int, PolicyMode); 6] = [
    (1, PolicyMode::Preferred),
    (2, PolicyMode::Bind),
    (3, PolicyMode::Interleave),
    (4, PolicyMode::Local),
    (5, PolicyMode::PreferredMany),
    (6, PolicyMode::WeightedInterleave),
];
const DEFAULT: c_int = 0;

fn failed(number: c_int) -> c_int {
    abi::set_errno(number);
    -1
}

/// Bits of one word of a node mask.
const WORD: c_ulong = c_ulong::BITS as c_ulong;

/// The mask of `nr_bits` bits at `mask`; none if it names nodes that there cannot be.
///
/// # Safety
/// `mask` is null, or has that many bits.
unsafe fn read_mask(mask: *const c_ulong, nr_bits: c_ulong) -> Option<NodeMask> {
    if mask.is_null() {
        return Some(NodeMask::EMPTY);
    }
    let mut nodes = NodeMask::EMPTY;
    for bit in 0..nr_bits {
        // SAFETY: the caller's promise.
        let word = unsafe { mask.add((bit / WORD) as usize).read() };
        if word >> (bit % WORD) & 1 != 0 {
            nodes.set(policy::NodeId::from_index(bit as usize)?);
        }
    }
    Some(nodes)
}

/// # Safety
/// As in `zonal.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_set_policy(
    mode: c_int,
    mask: *const c_ulong,
    nr_bits: c_ulong,
) -> c_int {
    // SAFETY: the caller's promise.
    let Some(nodes) = (unsafe { read_mask(mask, nr_bits) }) else { return failed(libc::EINVAL) };
    let policy = match MODES.iter().find(|(number, _)| *number == mode) {
        Some(&(_, mode)) => Some(MemPolicy { mode, nodes }),
        None if mode == DEFAULT && nodes.is_empty() => None,
        None => return failed(libc::EINVAL),
    };
    match policy::set(policy) {
        Ok(()) => 0,
        Err(PolicyError::Invalid) => failed(libc::EINVAL),
        Err(_) => failed(libc::EAGAIN),
    }
}

/// # Safety
/// As in `zonal.h`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_get_policy(
    mode: *mut c_int,
    mask: *mut c_ulong,
    nr_bits: c_ulong,
) -> c_int {
    let policy = policy::get();
    let nodes = policy.map_or(NodeMask::EMPTY, |policy| policy.nodes);
    if !mask.is_null() {
        if nodes.iter().any(|node| node.index() as c_ulong >= nr_bits) {
            return failed(libc::EINVAL);
        }
        for word in 0..nr_bits.div_ceil(WORD) {
            let first = (word * WORD) as usize;
            let bits = nodes.iter().filter(|node| node.index() / WORD as usize == word as usize);
            let bits = bits.fold(0, |bits, node| bits | 1 << (node.index() - first));
            // SAFETY: the caller's promise.
            unsafe { mask.add(word as usize).write(bits) };
        }
    }
    if !mode.is_null() {
        let number = MODES.iter().find(|(_, m)| policy.is_some_and(|policy| policy.mode == *m));
        // SAFETY: the caller's promise.
        unsafe { mode.write(number.map_or(DEFAULT, |(number, _)| *number)) };
    }
    0
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_alloc_onnode(size: usize, node: c_int) -> *mut c_void {
    alloc_on(size, node, Spill::Nearest)
}

/// # Safety
/// None in Rust's sense.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn zonal_alloc_thisnode(size: usize, node: c_int) -> *mut c_void {
    alloc_on(size, node, Spill::ThisNode)
}

fn alloc_on(size: usize, node: c_int, spill: Spill) -> *mut c_void {
    abi::alloc_on_node(size, usize::try_from(node).unwrap_or(usize::MAX), spill).cast()
}
