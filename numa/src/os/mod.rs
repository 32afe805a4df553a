//! The calls to the kernel, one thin function each, and nothing that decides.
//!
//! `mem` mappings, `pagemap` what is in memory of long ones, `place` the nodes of pages, `file` whole small files,
//! `cpu` where a thread runs, `sched` when and where it may, `boxed` a value in a mapping of its own, `info` what the
//! process was started with.
#![expect(unsafe_code, reason = "system calls")]

mod boxed;
mod cpu;
mod file;
mod info;
mod mem;
mod pagemap;
mod place;
mod sched;

pub(crate) use boxed::{Mapped, ZeroValid};
pub(crate) use cpu::{Rseq, current_cpu, node_by_kernel};
pub(crate) use file::{find_in_lines, read_file, read_start};
pub use info::monotonic_ns;
pub(crate) use info::{
    Barrier, Confinement, confinement, entropy, has_only_node_zero, membarrier, page_size,
    process_time_ns, thread_time_ns,
};
pub(crate) use mem::{
    Access, advise, advise_many, can_advise_many, map_anywhere, map_at, mbind, mems_allowed,
    protect, remap, resident, set_home_node, thread_policy, unmap,
};
pub(crate) use pagemap::scan_resident;
pub(crate) use place::{BATCH, move_pages, touch};
pub(crate) use sched::run_as_main_thread;

use crate::Errno;

/// The reason why the last call of this thread failed.
fn last_errno() -> Errno {
    // SAFETY: the function has no preconditions.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: it points to this thread's errno.
    Errno::from_raw(unsafe { *location })
}

/// What a call that answers 0 on success says.
fn check(answer: i32) -> Result<(), Errno> {
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}
