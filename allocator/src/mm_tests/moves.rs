//! Small objects that move from bin to bin.

use super::*;

const SMALL: usize = 64;
const WANTED: usize = 1000;

fn fill(object: NonNull<u8>, byte: u8, len: usize) {
    // SAFETY: an object of the test's, or one that nobody uses.
    unsafe { object.write_bytes(byte, len) };
}

fn is_filled(object: NonNull<u8>, byte: u8, len: usize) -> bool {
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts(object.as_ptr(), len) }.iter().all(|&b| b == byte)
}

/// What cannot go into a bin of its own heap is left to the long way before anything is copied: that
/// copies it again.
#[test]
fn a_move_that_misses_copies_nothing() {
    let mm = new_mm();
    let other = Owner::attach(mm);
    let owner = Owner::attach(mm);
    let hot = owner.heap().hot();
    let foreign = other.alloc(SMALL, 8);
    let mut own: Vec<_> = (0..10_000).map(|_| owner.alloc(SMALL, 8)).collect();
    // The next object of its size.
    let wanted = owner.alloc(WANTED, 8);
    fill(wanted, b'w', WANTED);
    owner.free(wanted);
    // SAFETY: the test's thread owns the heap, and gives the objects up that go into the bin.
    let full = own.iter().position(|p| !unsafe { HeapHot::push(hot, p.as_ptr()) }).unwrap();
    own.drain(..full);

    for object in [foreign, own[0]] {
        fill(object, b'o', SMALL);
        // SAFETY: the test's thread owns the heap; the objects are live.
        unsafe {
            assert!(HeapHot::size_of(hot, object.as_ptr()).is_some());
            assert!(HeapHot::try_move(hot, object.as_ptr(), WANTED).is_null());
        }
        assert!(is_filled(wanted, b'w', WANTED));
    }

    // With room for one it moves.
    // SAFETY: as above.
    own.extend(NonNull::new(unsafe { HeapHot::pop(hot, SMALL) }));
    // SAFETY: as above; the object is given up.
    let moved = unsafe { HeapHot::try_move(hot, own[0].as_ptr(), WANTED) };
    assert_eq!(moved, wanted.as_ptr());
    assert!(is_filled(wanted, b'o', SMALL));
    own[0] = wanted;
    own.into_iter().for_each(|object| owner.free(object));
    other.free(foreign);
    mm.validate(Some(owner.0)).unwrap();
}
