//! Isolation: free blocks are taken off the lists while the system purges or fills their pages
//! without the zone lock, and put back after it.

use super::{Env, Zone};
use crate::buddy::BlockList;
use crate::order::Order;
use crate::pagemap::PageMap;
use crate::pfn::Pfn;
use crate::purge::{Isolated, refused_at};
use crate::word::{Migratetype, PageWord};

impl Zone {
    /// Takes a free block off the lists, for a purge outside the lock. Returns its pages and how
    /// many of them are resident.
    pub(crate) fn isolate(&mut self, map: &PageMap, pfn: Pfn) -> (usize, usize) {
        let (order, mt, _) = self.buddy.remove(map, pfn);
        map.set_word(pfn, PageWord::isolated(order, mt));
        self.isolated.push_back(map, pfn);
        let mut resident = 0;
        for (chunk, lo, hi) in map.pieces(pfn, order.nr_pages()) {
            let here = chunk.resident.count(lo, hi);
            chunk.adjust(-((hi - lo) as isize), -(here as isize));
            resident += here;
        }
        self.nr_isolated += order.nr_pages();
        self.nr_free -= order.nr_pages();
        self.nr_free_resident -= resident;
        (order.nr_pages(), resident)
    }

    /// Isolates a free block with pages that have no memory, if there is one.
    pub(crate) fn isolate_unfilled(&mut self, map: &PageMap) -> Option<(Pfn, Order)> {
        if self.nr_free == self.nr_free_resident {
            return None;
        }
        let lists = Order::ZERO.and_up().flat_map(|order| {
            let warmths = Migratetype::ALL.into_iter().flat_map(|mt| [(mt, false), (mt, true)]);
            warmths.map(move |(mt, warm)| (order, mt, warm))
        });
        for (order, mt, warm) in lists {
            let mut next = self.buddy.list(order, mt, warm).tail();
            while let Some(pfn) = next {
                next = BlockList::prev(map, pfn);
                let pieces = map.pieces(pfn, order.nr_pages());
                let resident: usize =
                    pieces.map(|(chunk, lo, hi)| chunk.resident.count(lo, hi)).sum();
                if resident < order.nr_pages() {
                    self.isolate(map, pfn);
                    return Some((pfn, order));
                }
            }
        }
        None
    }

    /// The pages of an isolated block that had no memory have got some.
    pub(crate) fn note_filled(&mut self, env: &Env<'_>, pfn: Pfn, order: Order) {
        let pieces = env.map.pieces(pfn, order.nr_pages());
        let fresh = pieces.map(|(chunk, lo, hi)| chunk.resident.set(lo, hi)).sum();
        env.levels.charge(fresh);
    }

    /// Puts an isolated block back. Returns how many of its pages are not resident any more, or, where
    /// it was not purged, how many are. Its pageblock may have been made whole meanwhile.
    pub(crate) fn putback(&mut self, env: &Env<'_>, pfn: Pfn, state: Isolated) -> usize {
        let isolated = env.map.word_at(pfn).as_isolated();
        debug_assert!(isolated.is_some(), "{pfn:?} is not isolated");
        let Some((order, _)) = isolated else { return 0 };
        self.isolated.unlink(env.map, pfn);
        env.map.set_word(pfn, PageWord::NOTHING);
        let (mut gone, mut resident) = (0, 0);
        for (chunk, lo, hi) in env.map.pieces(pfn, order.nr_pages()) {
            match state {
                Isolated::Purged(_) => gone += chunk.note_purged(lo, hi),
                Isolated::Refused => chunk.stamp(refused_at(env.generation)),
                Isolated::Kept => {}
            }
            let here = chunk.resident.count(lo, hi);
            chunk.adjust((hi - lo) as isize, here as isize);
            resident += here;
        }
        self.nr_free_resident += resident;
        self.nr_isolated -= order.nr_pages();
        self.nr_free += order.nr_pages();
        match state {
            Isolated::Purged(by) => {
                env.levels.uncharge(gone);
                self.note_steal(by, gone);
            }
            Isolated::Refused => self.events.purge_fail += resident as u64,
            Isolated::Kept => {}
        }
        self.buddy.free(env.map, pfn, order);
        if matches!(state, Isolated::Purged(_)) { gone } else { resident }
    }
}
