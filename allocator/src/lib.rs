//! zonal's mechanism.
#![cfg_attr(not(test), no_std)]
#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod sync;
pub mod lock;
