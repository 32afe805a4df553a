//! The page map: whoever finds an address covered finds the base and the words of its page, and of those who
//! free one large block at a time, each by its own way, one does.
//!
//! Faults: `pagemap_cover_relaxed` (coverage is seen before what it promises), `pagemap_claim_in_two_steps` (two
//! find the block live).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use loom::sync::Arc;
use loom::thread;
use zonal_numa::PAGE_SIZE;

use super::{check, reached};
use crate::pagemap::{Layout, PageMap};
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::PageWord;

const NR_PAGES: usize = 4;
const BASE: usize = 1 << 30;

/// The map, and room for words that come into being when they are covered, as if mapped then.
struct Rig {
    map: PageMap,
    words: UnsafeCell<[MaybeUninit<AtomicU32>; NR_PAGES]>,
}

// SAFETY: only `grow` writes to the room, once a word; all else goes through the map.
unsafe impl Sync for Rig {}

impl Rig {
    fn place(&self) {
        let pivot = self.words.get().expose_provenance();
        self.map.place(&Layout { base: BASE, span: NR_PAGES * PAGE_SIZE, pivot });
    }

    fn grow(&self, pages: std::ops::Range<usize>) {
        for page in pages.clone() {
            let word = self.words.get().cast::<AtomicU32>().wrapping_add(page);
            // SAFETY: inside the room, and not covered yet.
            unsafe { word.write(AtomicU32::new(page as u32)) };
        }
        // SAFETY: the words up to there exist; the model uses no chunks.
        unsafe { self.map.cover(pages.end * PAGE_SIZE) };
    }

    /// The page's word, if the page is covered.
    fn read(&self, page: usize) -> Option<u32> {
        let pfn = self.map.pfn_of(BASE + page * PAGE_SIZE + 8)?;
        assert_eq!(pfn.index(), page);
        assert_eq!(self.map.words().addr(), self.words.get().addr());
        assert_eq!(self.map.addr_of(pfn).addr(), BASE + page * PAGE_SIZE);
        Some(self.map.word(pfn).load(Relaxed))
    }
}

#[test]
fn coverage() {
    check("pagemap:cover", &["not-placed", "first-part", "all"], || {
        let words = UnsafeCell::new([const { MaybeUninit::uninit() }; NR_PAGES]);
        let rig = Arc::new(Rig { map: PageMap::unplaced(), words });
        let reader = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || {
                for page in [3, 0] {
                    match rig.read(page) {
                        Some(word) => assert_eq!(word, page as u32),
                        None if page < 2 => reached("not-placed"),
                        None => {}
                    }
                }
                let seen = [1, 3].map(|page| rig.read(page).is_some());
                match seen {
                    [true, false] => reached("first-part"),
                    [true, true] => reached("all"),
                    _ => {}
                }
                assert_eq!(rig.read(NR_PAGES), None);
            })
        };
        rig.place();
        rig.grow(0..2);
        rig.grow(2..NR_PAGES);
        reader.join().unwrap();
    });
}

/// It is live again once the one who kept it hands it out, but not before both have tried.
#[test]
fn claims() {
    check("pagemap:claims", &["kept", "freed"], || {
        let words = UnsafeCell::new([const { MaybeUninit::uninit() }; NR_PAGES]);
        let rig = Arc::new(Rig { map: PageMap::unplaced(), words });
        rig.place();
        rig.grow(0..NR_PAGES);
        let head = rig.map.pfn_of(BASE).unwrap();
        let live = PageWord::large(NR_PAGES as u32);
        rig.map.set_word(head, live);
        let other = {
            let rig = Arc::clone(&rig);
            thread::spawn(move || rig.map.claim(head, live, PageWord::NOTHING))
        };
        let is_kept = rig.map.claim(head, live, PageWord::pcp(NR_PAGES as u32));
        let is_freed = other.join().unwrap();
        assert_ne!(is_kept, is_freed, "of two one does it");
        let left = if is_kept { PageWord::pcp(NR_PAGES as u32) } else { PageWord::NOTHING };
        assert_eq!(rig.map.word_at(head), left);
        reached(if is_kept { "kept" } else { "freed" });
    });
}
