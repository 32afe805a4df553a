//! Objects that come back many at a time, in rows or not, beside the same ones put back singly.

use super::*;
use crate::class::{SizeClass, Slicing};

const BASE: usize = 1 << 20;

/// A slab of 256 objects of which none is free.
fn full_slab(class: SizeClass) -> Slab {
    Slab {
        next: ptr::null_mut(),
        prev: ptr::null_mut(),
        head: Pfn::new(0),
        class,
        listed: false,
        nr_used: class.objects() as u16,
        hint: u8::MAX,
        holing: 0,
        holes: 0,
        stamp: 0,
        nr_objects: class.objects() as u16,
        bitmap: Bitmap { inline: [0; INLINE_WORDS] },
    }
}

fn objects(class: SizeClass, indices: impl IntoIterator<Item = usize>) -> Vec<*mut u8> {
    indices.into_iter().map(|i| ptr::without_provenance_mut(BASE + i * class.size())).collect()
}

/// Puts all of them back in one call, and one by one into another slab; both must come out alike.
fn put(class: SizeClass, indices: impl IntoIterator<Item = usize>) -> (Slab, usize) {
    let objects = objects(class, indices);
    let slicing = Slicing::of(class);
    let (mut slab, mut singly) = (full_slab(class), full_slab(class));
    let nr = slab.put(slicing, BASE, &objects);
    let nr_singly = objects
        .iter()
        .take_while(|&&object| {
            slicing.is_same_slab(BASE, object.addr())
                && singly.put_one(slicing, object.addr() - BASE).is_ok()
        })
        .count();
    assert_eq!(nr, nr_singly);
    assert_eq!(slab.words(), singly.words());
    assert_eq!((slab.nr_used, slab.hint), (singly.nr_used, singly.hint));
    (slab, nr)
}

fn class() -> SizeClass {
    let class = SizeClass::of(128).unwrap();
    assert_eq!(class.objects(), INLINE_WORDS * BITS);
    class
}

#[test]
fn rows_of_any_length_and_place_come_back_whole() {
    for from in [0, 1, 7, 62, 63, 64, 100, 128] {
        for len in [1, 2, 3, 7, 8, 9, 17, 64, 65, 127, 128] {
            let (slab, nr) = put(class(), from..from + len);
            assert_eq!((nr, slab.nr_free()), (len, len));
            let (slab, nr) = put(class(), (from..from + len).rev());
            assert_eq!((nr, slab.nr_free()), (len, len));
        }
    }
    let (slab, _) = put(class(), 0..256);
    assert!(slab.is_empty());
}

#[test]
fn rows_may_follow_each_other_in_any_direction() {
    let rows = (40..90).chain((10..40).rev()).chain([200, 202, 204]).chain(90..92).chain(3..9);
    assert_eq!(put(class(), rows).1, 91);
}

#[test]
fn a_row_ends_where_the_slab_ends() {
    assert_eq!(put(class(), 250..270).1, 6);
    let class = SizeClass::of(176).unwrap();
    let nr = class.objects();
    assert_ne!(nr % BITS, 0);
    assert_eq!(put(class, nr - 20..nr + 1).1, 20);
    assert_eq!(put(class, (0..nr).rev()).1, nr);
}

#[test]
fn an_object_freed_twice_stops_a_row_where_it_lies() {
    assert_eq!(put(class(), (60..80).chain(70..75)).1, 20);
    assert_eq!(put(class(), [75].into_iter().chain(60..80)).1, 16);
    assert_eq!(put(class(), [75].into_iter().chain((60..80).rev())).1, 5);
    assert_eq!(put(class(), [5, 5, 5]).1, 1);
}

/// As lists with gaps and trees leave them.
#[test]
fn what_is_no_row_comes_back_whole() {
    for step in [3, 5, 77, 251] {
        let scattered = (0..256).map(|i| i * step % 256);
        assert_eq!(put(class(), scattered).1, 256);
    }
    // The first and the eighth lie as far apart as in a row.
    assert_eq!(put(class(), [10, 11, 12, 40, 14, 15, 16, 17, 18]).1, 9);
    assert_eq!(put(class(), [1, 3, 5, 7, 9, 11, 13, 15, 17, 3, 19]).1, 9);
}

/// The third and the eighth lie where they would, but not the second.
#[test]
fn what_only_looks_like_a_row_comes_back_singly() {
    for looks in [[10, 50, 12, 13, 14, 15, 16, 17], [30, 2, 28, 27, 26, 25, 24, 23]] {
        assert!(row::begins(&objects(class(), looks), Slicing::of(class())));
        assert_eq!(put(class(), looks).1, 8);
        let freed = looks[1];
        assert_eq!(put(class(), [freed, 99].into_iter().chain(looks)).1, 3);
    }
}

/// Whatever is free: all that is taken is, in whole lines, and no more is left than parts of lines, or than finds
/// room.
#[test]
fn whole_lines_leave_no_neighbour_behind() {
    const LINE: usize = 64;
    let base = ptr::without_provenance_mut::<u8>(BASE);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for size in [32, 48, 64, 80, 96, 112, 176, 240, 256, 288, 1024] {
        let class = SizeClass::of(size).unwrap();
        // As many as the bitmap in the header has room for.
        let nr_objects = class.objects().min(INLINE_WORDS * BITS);
        if class.objects() > nr_objects {
            continue;
        }
        for room in [1, 2, 4, 7, nr_objects] {
            let mut slab = full_slab(class);
            slab.hint = 0;
            for index in 0..nr_objects {
                random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                let is_free = random >> 62 != 0;
                slab.words_mut()[index / BITS] |= u64::from(is_free) << (index % BITS);
                slab.nr_used -= u16::from(is_free);
            }
            let before: Vec<_> = (0..nr_objects).map(|index| slab.has(index)).collect();
            let mut out = vec![ptr::null_mut(); room];
            let nr = slab.take_lines(base, &mut out);
            let (unused, taken) = out.split_at(room - nr);
            assert!(unused.iter().all(|object| object.is_null()));
            assert!(taken.is_sorted_by(|a, b| a > b));
            assert_eq!(before.iter().filter(|&&free| free).count(), slab.nr_free() + nr);
            let per = per_lines(class);
            assert_eq!((per * size % LINE, nr % per), (0, 0));
            let indices: Vec<_> = taken.iter().map(|o| (o.addr() - BASE) / size).collect();
            assert!(indices.iter().all(|&index| before[index] && !slab.has(index)));
            let is_whole = |row: usize| (row..row + per).all(|index| slab.has(index));
            let left = (0..=nr_objects - per).step_by(per).filter(|&row| is_whole(row)).count();
            assert!(left == 0 || room - nr < per, "{size}: {left} rows");
            for row in (0..nr_objects).step_by(per) {
                let nr = indices.iter().filter(|&index| index / per == row / per).count();
                assert!(nr == 0 || nr == per, "{size}: {nr} of a row of {per}");
            }
        }
    }
}
