//! A piece of the table of heaps.

use core::ptr;

use zonal_numa::Machine;
#[cfg(not(zonal_loom))]
use zonal_numa::{PAGE_SIZE, Span};

use super::SHELF;
use crate::heap::Heap;
use crate::sync::atomic::AtomicPtr;

/// A shelf of null pointers.
pub(super) struct Shelf(pub(super) *mut AtomicPtr<Heap>);

#[cfg(not(zonal_loom))]
impl Shelf {
    const BYTES: usize = SHELF * size_of::<AtomicPtr<Heap>>();

    pub(super) fn map(machine: &Machine) -> Option<Shelf> {
        let span = machine.map(Self::BYTES, PAGE_SIZE).ok()?;
        // Fresh memory is zero.
        Some(Shelf(ptr::with_exposed_provenance_mut(span.addr())))
    }

    pub(super) fn unmap(self, machine: &Machine) {
        // SAFETY: `map` mapped it, and nobody saw it.
        let span = unsafe { Span::new(self.0.addr(), Self::BYTES) };
        // What cannot be unmapped is a page lost.
        let _ = machine.unmap(span);
    }
}

/// Zeros are not an atomic of loom.
#[cfg(zonal_loom)]
impl Shelf {
    pub(super) fn map(_: &Machine) -> Option<Shelf> {
        let shelf = [(); SHELF].map(|()| AtomicPtr::<Heap>::new(ptr::null_mut()));
        Some(Shelf(Box::into_raw(Box::new(shelf)).cast()))
    }

    pub(super) fn unmap(self, _: &Machine) {
        // SAFETY: `map` made it, and nobody saw it.
        drop(unsafe { Box::from_raw(self.0.cast::<[AtomicPtr<Heap>; SHELF]>()) });
    }
}
