//! fork: the child must find a heap that works, whatever the other threads were doing.
//!
//! Registered with the first call of the process, so that ours is the innermost handler: it stops
//! the core after all other handlers have run, and lets it go again before them. Between the two
//! the forking thread has its heap taken away; whatever calls malloc there (an older handler) is
//! served as if it had interrupted zonal, which needs no lock.
//!
//! A handler that interrupted zonal may fork, too, and then the core is not stopped. Nobody can tell in the
//! child which locks and visits are the interrupted frame's and which those of threads that are gone, so all
//! stay: a call that needs such a lock hangs there, and an owner whose heap was visited borrows other heaps
//! for good and keeps what it frees. What such a child can rely on is what POSIX lets it do: to execute
//! another program, or to end.
//!
//! vfork, `posix_spawn` and `_Fork` run no handlers. A vfork child borrows its parent's memory and
//! heap while the parent sleeps, which works as it is.

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicPtr, AtomicU64};

use zonal_allocator::{Mm, OwnHeap};

use crate::signal::{self, JUMPERS, this_thread};
use crate::tls::{BUSY, Block, empty};
use crate::{detour, init, jump};

/// The thread for which the core stands still, named by the address of its errno.
///
/// A signal handler may fork in the middle of an operation of ours. Then the interrupted frame may
/// hold the core's locks, so the core is left as it is, and this word tells the handlers after
/// the fork that there is nothing to let go. Only the thread itself asks whether it is the one.
static HOLDER: AtomicPtr<i32> = AtomicPtr::new(ptr::null_mut());
/// The holder's signal mask: no handler may jump out of a fork that holds all locks.
static MASK: AtomicU64 = AtomicU64::new(0);

pub(crate) fn register() {
    // SAFETY: functions of this library, which stays loaded. If there is no memory to register
    // them, a fork while other threads allocate is not safe, as without any handler.
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

/// Whether the calling thread is between the handlers before and after a fork.
pub(crate) fn is_under_way() -> bool {
    HOLDER.load(Relaxed) == this_thread()
}

unsafe extern "C" fn before() {
    let block = Block::get();
    let taken = block.take();
    let own = block.heap();
    // BUSY: a handler that interrupted the thread while it attaches or detaches.
    if taken == empty() && (own.is_some() || block.home() == BUSY) {
        return;
    }
    if let Some(mm) = init::mm() {
        let mask = signal::set_mask(JUMPERS);
        mm.prefork(own_of(block));
        MASK.store(mask, Relaxed);
        HOLDER.store(this_thread(), Relaxed);
    }
}

unsafe extern "C" fn in_parent() {
    after(Mm::postfork_parent);
}

unsafe extern "C" fn in_child() {
    crate::kswapd::after_fork();
    jump::after_fork();
    crate::profile::after_fork();
    let is_inside = !is_under_way();
    after(Mm::postfork_child);
    crate::live::after_fork(is_inside);
}

/// The heap of the thread that forks, which took it away, so that no call of it is under way.
fn own_of(block: Block) -> Option<OwnHeap> {
    // SAFETY: this thread's; as above.
    block.heap().map(|heap| unsafe { OwnHeap::new(heap) })
}

fn after(resume: fn(&'static Mm, Option<OwnHeap>)) {
    if !is_under_way() {
        return;
    }
    HOLDER.store(ptr::null_mut(), Relaxed);
    let mask = MASK.load(Relaxed);
    let block = Block::get();
    let own = block.heap();
    if let Some(mm) = init::mm() {
        resume(mm, own_of(block));
    }
    block.put(own.map_or(empty(), detour::resting));
    signal::set_mask(mask);
}
