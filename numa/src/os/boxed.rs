//! A value in a mapping of its own: for tables too large to move about, on
//! machines that need them.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr;

use super::{Access, map_anywhere, unmap};
use crate::Span;

/// Types for which all bytes zero are a value.
///
/// # Safety
/// They must be, and the type must not need more than page alignment.
pub(crate) unsafe trait ZeroValid {}

/// Owns a zeroed `T` in fresh pages.
pub(crate) struct Mapped<T: ZeroValid> {
    span: Span,
    value: PhantomData<T>,
}

impl<T: ZeroValid> Mapped<T> {
    /// All zeroes; none if the kernel has no memory.
    pub(crate) fn zeroed() -> Option<Mapped<T>> {
        let span = map_anywhere(size_of::<T>(), Access::ReadWrite).ok()?;
        Some(Mapped { span, value: PhantomData })
    }
}

impl<T: ZeroValid> Deref for Mapped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let at: *const T = ptr::with_exposed_provenance(self.span.addr());
        // SAFETY: the mapping is ours, large enough and was all zeroes at first.
        unsafe { &*at }
    }
}

impl<T: ZeroValid> DerefMut for Mapped<T> {
    fn deref_mut(&mut self) -> &mut T {
        let at: *mut T = ptr::with_exposed_provenance_mut(self.span.addr());
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { &mut *at }
    }
}

impl<T: ZeroValid> Drop for Mapped<T> {
    fn drop(&mut self) {
        // Nothing can be done about a failure: the pages stay mapped.
        let _ = unmap(self.span);
    }
}

impl<T: ZeroValid + fmt::Debug> fmt::Debug for Mapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
