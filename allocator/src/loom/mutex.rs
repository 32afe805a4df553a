//! `lock::Mutex` in a model: `lock_api` wants a constant for a free lock, which loom's atomics
//! cannot be, and loom has to see every access to the data.

use core::ops::{Deref, DerefMut};

use loom::cell::{MutPtr, UnsafeCell};

use crate::lock::FutexLock;

/// Data behind a [`FutexLock`].
#[derive(Debug)]
pub(crate) struct Mutex<T> {
    raw: FutexLock,
    data: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at the data at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: as for any owner of a `T`.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock around `data`.
    pub(crate) fn new(data: T) -> Mutex<T> {
        Mutex { raw: FutexLock::new(), data: UnsafeCell::new(data) }
    }

    /// Takes the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.acquire();
        MutexGuard { data: self.data.get_mut(), _held: Held(&self.raw) }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = self.raw.try_acquire();
        held.then(|| MutexGuard { data: self.data.get_mut(), _held: Held(&self.raw) })
    }

    /// The guard of the lock, which the caller took.
    ///
    /// # Safety
    /// As for `lock_api::Mutex::make_guard_unchecked`: the caller holds it, and nobody else releases it.
    pub(crate) unsafe fn make_guard_unchecked(&self) -> MutexGuard<'_, T> {
        MutexGuard { data: self.data.get_mut(), _held: Held(&self.raw) }
    }

    /// The lock without its data.
    ///
    /// # Safety
    /// As for `lock_api::Mutex::raw`: only the holder releases it.
    pub(crate) unsafe fn raw(&self) -> &FutexLock {
        &self.raw
    }
}

/// The guard of a [`Mutex`].
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    /// For loom the data is in use while this lives, so it comes before the lock: fields are
    /// dropped in this order.
    data: MutPtr<T>,
    _held: Held<'a>,
}

#[derive(Debug)]
struct Held<'a>(&'a FutexLock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { self.data.deref() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { self.data.deref() }
    }
}
