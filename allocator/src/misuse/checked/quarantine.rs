//! The quarantine: freed small objects wait in it, and are looked at when they leave.

use core::ptr::{self, NonNull};

use super::seal::Extent;
use crate::heap::Heap;
use crate::misuse::{BadKind, BadPointer};

/// Freed objects that shall not be used again at once, oldest first.
#[derive(Debug)]
pub(crate) struct Quarantine {
    /// A ring of `SLOTS`, null while it was never used.
    ring: *mut *mut u8,
    first: usize,
    nr: usize,
    bytes: usize,
}

const SLOTS: usize = 256;
/// What may wait in one quarantine, in bytes.
const MAX_BYTES: usize = 256 << 10;

impl Quarantine {
    pub(crate) const EMPTY: Quarantine =
        Quarantine { ring: ptr::null_mut(), first: 0, nr: 0, bytes: 0 };

    /// False when there is no memory for the ring, or no place in it, as a visitor came before `pop`.
    fn push(&mut self, heap: &Heap, object: NonNull<u8>, bytes: usize) -> bool {
        if self.nr == SLOTS {
            return false;
        }
        if self.ring.is_null() {
            let mm = heap.mm();
            let Some(ring) = mm.meta().alloc(mm.machine(), SLOTS * size_of::<*mut u8>()) else {
                return false;
            };
            self.ring = ring.as_ptr().cast();
        }
        // SAFETY: inside the ring, which is not full.
        unsafe { self.ring.add((self.first + self.nr) % SLOTS).write(object.as_ptr()) };
        self.nr += 1;
        self.bytes += bytes;
        true
    }

    /// The oldest, if there is one too many.
    fn pop(&mut self, heap: &Heap) -> Option<NonNull<u8>> {
        if self.nr < SLOTS && self.bytes <= MAX_BYTES {
            return None;
        }
        // SAFETY: inside the ring.
        let object = NonNull::new(unsafe { self.ring.add(self.first).read() })?;
        self.first = (self.first + 1) % SLOTS;
        self.nr -= 1;
        self.bytes -= heap.mm().small_extent(object).map_or(0, |extent| extent.len);
        Some(object)
    }

    /// The first object that was written to since it was freed.
    pub(crate) fn check(&self, heap: &Heap) -> Option<BadPointer> {
        (0..self.nr).find_map(|i| {
            // SAFETY: inside the ring.
            let object = NonNull::new(unsafe { self.ring.add((self.first + i) % SLOTS).read() })?;
            let extent = heap.mm().small_extent(object)?;
            (!extent.is_clear()).then(|| extent.bad(BadKind::UsedAfterFree))
        })
    }
}

impl Heap {
    /// Puts a cleared object into quarantine, unless a visitor is there, and frees those that leave it.
    pub(super) fn hold_back(&self, extent: Extent) {
        let Some(mut inner) = self.try_enter() else { return self.let_go(extent.start) };
        let fits = inner.quarantine.push(self, extent.start, extent.len);
        drop(inner);
        if !fits {
            self.let_go(extent.start);
        }
        loop {
            let object = self.try_enter().and_then(|mut inner| inner.quarantine.pop(self));
            match object {
                Some(object) => self.let_go(object),
                None => return,
            }
        }
    }

    fn let_go(&self, object: NonNull<u8>) {
        let bad = match self.mm().small_extent(object) {
            Some(extent) if !extent.is_clear() => Some(extent.bad(BadKind::UsedAfterFree)),
            _ => self.free_plain(object).err(),
        };
        if let Some(bad) = bad {
            self.note_fault(bad);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use zonal_numa::Machine;

    use super::*;
    use crate::{Config, Mm};

    /// A visitor that comes between an object's way in and another's way out leaves it full.
    #[test]
    fn a_full_one_takes_no_more() {
        let config = Config { checked: true, ..Config::default() };
        let mm = Mm::new(Machine::linux(), config).unwrap();
        let heap = mm.attach().unwrap().heap();
        let mut words = [0_u64; SLOTS + 1];
        let objects: Vec<_> = words.iter_mut().map(NonNull::from).map(NonNull::cast).collect();
        let mut quarantine = Quarantine::EMPTY;
        assert!(objects[..SLOTS].iter().all(|&object| quarantine.push(heap, object, 0)));
        assert!(!quarantine.push(heap, objects[SLOTS], 0));
        assert_eq!(quarantine.pop(heap), Some(objects[0]));
        assert!(quarantine.push(heap, objects[SLOTS], 0));
        assert_eq!(quarantine.pop(heap), Some(objects[1]));
    }
}
