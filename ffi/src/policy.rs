//! Memory policies of threads: on which nodes a thread's memory is placed.
//!
//! ```
//! use zonal::policy::{self, MemPolicy, NodeId};
//!
//! // As `set_mempolicy(MPOL_PREFERRED)`, for what zonal takes for this thread.
//! let guard = policy::enter(MemPolicy::preferred(NodeId::ZERO))?;
//! let near_the_device = vec![0_u8; 1 << 20];
//! drop(guard);
//! # drop(near_the_device);
//! # Ok::<(), policy::PolicyError>(())
//! ```
//!
//! A policy counts for pages that are taken from then on: small objects follow at the pace of slabs.

use core::fmt;
use core::marker::PhantomData;

pub use zonal_numa::{MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::errno::SavedErrno;
use crate::thread::{Seat, SlowCall};
use crate::tls;

/// Why a policy was not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PolicyError {
    /// No node of it may be used, it names nodes where its mode takes none, or the other way round,
    /// or its mode is for whole processes only.
    Invalid,
    /// The calling thread cannot have one now: it is ending, or inside the allocator (a signal
    /// handler), or there is no memory for its heap.
    Unavailable,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyError::Invalid => "no such memory policy can be followed here",
            PolicyError::Unavailable => "the thread cannot have a memory policy now",
        })
    }
}

impl core::error::Error for PolicyError {}

/// Gives the calling thread a policy of its own; none leaves it to that of the process. Not to be
/// called in signal handlers.
///
/// # Errors
/// Nothing is changed then.
pub fn set(policy: Option<MemPolicy>) -> Result<(), PolicyError> {
    let _errno = SavedErrno::save();
    match SlowCall::begin(tls::Block::get().take()) {
        Some(mut call) => set_in(&mut call, policy),
        None => Err(PolicyError::Unavailable),
    }
}

fn set_in(call: &mut SlowCall, policy: Option<MemPolicy>) -> Result<(), PolicyError> {
    let Seat::Heap(own) = call.seat() else { return Err(PolicyError::Unavailable) };
    if call.is_borrowed() {
        return Err(PolicyError::Unavailable);
    }
    call.mm().set_policy(own, policy).map_err(|_| PolicyError::Invalid)?;
    call.follow_policy();
    Ok(())
}

/// The policy that the calling thread was given; none if it has none of its own.
pub fn get() -> Option<MemPolicy> {
    crate::slow::inspect(|_, own| own.and_then(|own| own.asked_policy()))?
}

/// Gives the calling thread a policy until the guard is dropped; then it has the one from before.
/// Not to be called in signal handlers.
///
/// # Errors
/// Nothing is changed then.
pub fn enter(policy: MemPolicy) -> Result<Guard, PolicyError> {
    let before = get();
    set(Some(policy))?;
    Ok(Guard { before, of_thread: PhantomData })
}

/// A policy for the time being: see [`enter`].
#[derive(Debug)]
#[must_use = "the policy ends with the guard"]
pub struct Guard {
    before: Option<MemPolicy>,
    /// Policies are a thread's.
    of_thread: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // What could be set before can be set again, unless its nodes are gone.
        if set(self.before).is_err() {
            let _ = set(None);
        }
    }
}
