//! Groups: which heaps put each other's objects into their bins.
//!
//! A free is a hit where the page's word names the group of the thread's heap, whoever owns the slab. To
//! its owner such an object is one that is still handed out: its bit stays clear, nobody is told, and the
//! thread hands it out again. Only when objects leave a bin for the bitmaps, its owner matters: those of
//! others go home in messages ([`crate::remote::outbox`]), as they do where a bin has no room.
//!
//! | group     | heaps                                  | objects                                     |
//! |-----------|----------------------------------------|---------------------------------------------|
//! | shared    | of threads, on a machine with one node | of half a cache line and more               |
//! | of a node | pinned to that node                    | the same; on several nodes all: their       |
//! |           |                                        | memory is of that node                      |
//! | by number | one, as far as there are such groups   | smaller ones; all of threads where there    |
//! |           |                                        | are several nodes, or where blocks are      |
//! |           |                                        | checked                                     |
//!
//! Of smaller objects several lie in a line. Where a thread hands out one whose neighbours are in the
//! hands of another thread, the line travels between their processors at every write; so those go home.
//! On several nodes all objects of threads do, since a heap may have memory of other nodes than its own.
//!
//! There are 95 groups by number, cut into as many parts as there are nodes. Heaps of threads of one node
//! whose numbers fall together in their part are one group: what one of them allocated and another one
//! frees does not go home then. On several nodes that may be memory of another node, which the first had
//! got when its own node was full. Checked blocks go home in any case ([`crate::refill`]).
//!
//! # Synchronisation
//!
//! There is no word for it but that of the page, which is Relaxed. Whoever frees an object got it from a
//! thread that saw the word, so it sees that one or a later one; later ones differ in the owner, as long as
//! the object is in use or in a bin, since its slab cannot be given up then, and only the commons change
//! owners ([`crate::commons`]). An owner that is out of date sends on what comes for another one: loom model
//! `inbox::changed_hands`.

use zonal_numa::{MAX_NODES, NodeId};

use crate::class::SizeClass;
use crate::heap::HeapId;

/// A group, as page words carry it: the second byte of a word is one of these, or tells what else the page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Group(u8);

/// With whom a heap shares objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// With nobody, on a machine whose nodes have numbers below this.
    Nobody(u8),
    /// With all threads' heaps.
    Threads,
    /// With others that are pinned to its node, on a machine with several or with one.
    OfNode { is_one_of_several: bool },
}

#[cfg(test)]
impl Sharing {
    /// With nobody, on a machine with one node.
    pub(crate) const NEW: Sharing = Sharing::Nobody(1);
}

impl Group {
    /// Objects of this size and more lie in a line with one neighbour at most.
    pub(crate) const SHARED_FROM: usize = 32;
    /// Words of pages that belong to no slab have less in that byte.
    pub(crate) const FIRST: u32 = 0x60;
    pub(crate) const SHARED: Group = Group(Self::FIRST as u8);
    const FIRST_OF_NODES: u8 = Self::SHARED.0 + 1;
    const FIRST_OF_NUMBERS: u8 = Self::FIRST_OF_NODES + MAX_NODES as u8;
    const NR_NUMBERS: usize = (u8::MAX - Self::FIRST_OF_NUMBERS) as usize + 1;

    /// That of a heap's slabs of `class`, and of its bin.
    pub(crate) fn of(sharing: Sharing, id: HeapId, node: NodeId, class: SizeClass) -> Group {
        let is_part_of_line = class.size() < Self::SHARED_FROM;
        match sharing {
            Sharing::Nobody(nr_nodes) => Self::of_number(id, node, usize::from(nr_nodes)),
            // A number may be that of a thread's heap, too, which has memory of other nodes.
            Sharing::OfNode { is_one_of_several } if is_one_of_several || !is_part_of_line => {
                Group(Self::FIRST_OF_NODES + node.index() as u8)
            }
            Sharing::Threads if !is_part_of_line => Self::SHARED,
            _ => Self::of_number(id, NodeId::ZERO, 1),
        }
    }

    /// One of the part of its node.
    fn of_number(id: HeapId, node: NodeId, nr_nodes: usize) -> Group {
        let nr_nodes = nr_nodes.clamp(1, MAX_NODES);
        let part = Self::NR_NUMBERS / nr_nodes;
        let first = node.index().min(nr_nodes - 1) * part;
        Group(Self::FIRST_OF_NUMBERS + (first + id.index() % part) as u8)
    }

    /// As a word has it.
    #[inline]
    pub(crate) const fn byte(self) -> u8 {
        self.0
    }
}

const _: () = assert!(Group::NR_NUMBERS >= MAX_NODES);

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn group(sharing: Sharing, id: u16, node: usize, size: usize) -> Group {
        let node = NodeId::from_index(node).unwrap();
        Group::of(sharing, HeapId::new(id).unwrap(), node, SizeClass::of(size).unwrap())
    }

    const PINNED: Sharing = Sharing::OfNode { is_one_of_several: false };
    const PINNED_TO_ONE_OF_SEVERAL: Sharing = Sharing::OfNode { is_one_of_several: true };

    #[test]
    fn they_share_whole_halves_of_lines() {
        for size in [8, 16] {
            for sharing in [Sharing::Threads, PINNED] {
                assert_ne!(group(sharing, 1, 0, size), group(sharing, 2, 0, size));
            }
        }
        for size in [32, 48, 64, 5000] {
            for sharing in [Sharing::Threads, PINNED] {
                assert_eq!(group(sharing, 1, 0, size), group(sharing, 2, 0, size));
            }
            assert_ne!(group(PINNED, 1, 0, size), group(PINNED, 1, 1, size));
            assert_ne!(group(PINNED, 1, 0, size), group(Sharing::Threads, 1, 0, size));
            assert_ne!(group(Sharing::NEW, 1, 0, size), group(Sharing::NEW, 2, 0, size));
        }
    }

    /// However many heaps there are, those of threads and those that are pinned.
    #[test]
    fn nothing_is_shared_among_nodes() {
        for (nr_nodes, size) in [2, 3, 8, MAX_NODES].into_iter().flat_map(|nr| [(nr, 8), (nr, 256)])
        {
            let of_node = |node: usize| -> Vec<Group> {
                let threads = Sharing::Nobody(nr_nodes as u8);
                let threads: Vec<_> = (1..500).map(|id| group(threads, id, node, size)).collect();
                let pinned = group(PINNED_TO_ONE_OF_SEVERAL, 1, node, size);
                assert_eq!(group(PINNED_TO_ONE_OF_SEVERAL, 2, node, size), pinned);
                assert!(!threads.contains(&pinned));
                threads.into_iter().chain([pinned]).collect()
            };
            let all: Vec<_> = (0..nr_nodes).map(of_node).collect();
            for (node, groups) in all.iter().enumerate() {
                let others = || all.iter().enumerate().filter(|(other, _)| *other != node);
                assert!(groups.iter().all(|group| u32::from(group.byte()) > Group::FIRST));
                assert!(groups.iter().all(|group| others().all(|(_, of)| !of.contains(group))));
            }
        }
    }
}
