//! Groups: which heaps put each other's objects into their bins.
//!
//! A free is a hit where the page's word names the group of the thread's heap, whoever owns the slab. To
//! its owner such an object is one that is still handed out: its bit stays clear, nobody is told, and the
//! thread hands it out again. Only when objects leave a bin for the bitmaps, its owner matters: those of
//! others go home in messages ([`crate::outbox`]), as they do where a bin has no room.
//!
//! | group     | heaps                                  | objects                                        |
//! |-----------|----------------------------------------|------------------------------------------------|
//! | shared    | of threads, on a machine with one node | of half a cache line and more                  |
//! | of a node | pinned to that node                    | all: their memory is of that node, and stays   |
//! | by number | one, as far as there are such groups   | smaller ones; all, where there are several     |
//! |           |                                        | nodes or blocks are checked                    |
//!
//! Of smaller objects several lie in a line. Where a thread hands out one whose neighbours are in the hands of
//! another thread, the line travels between their processors at every write; so those go home. On several
//! nodes all do, since a heap may have memory of other nodes than its own. Heaps with numbers that fall
//! together share a group, which costs a little of what it is for, and nothing else.

use zonal_numa::{MAX_NODES, NodeId};

use crate::heap::HeapId;

/// A group, as page words carry it: the second byte of a word is one of these, or tells what else the page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Group(u8);

impl Group {
    /// Objects of this size and more lie in a line with one neighbour at most.
    pub(crate) const SHARED_FROM: usize = 32;
    /// Words of pages that belong to no slab have less in that byte.
    pub(crate) const FIRST: u32 = 0x50;
    pub(crate) const SHARED: Group = Group(Self::FIRST as u8);
    const FIRST_OF_NODES: u8 = Self::SHARED.0 + 1;
    const FIRST_OF_NUMBERS: u8 = Self::FIRST_OF_NODES + MAX_NODES as u8;
    const NR_NUMBERS: usize = (u8::MAX - Self::FIRST_OF_NUMBERS) as usize + 1;

    /// That of heaps that are pinned to a node.
    pub(crate) const fn of_node(node: NodeId) -> Group {
        Group(Self::FIRST_OF_NODES + node.index() as u8)
    }

    /// That of a heap by itself.
    pub(crate) fn of_number(id: HeapId) -> Group {
        Group(Self::FIRST_OF_NUMBERS + (id.index() % Self::NR_NUMBERS) as u8)
    }

    /// As a word has it.
    #[inline]
    pub(crate) const fn byte(self) -> u8 {
        self.0
    }
}

const _: () = assert!((Group::FIRST as usize) + 1 + MAX_NODES < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_nodes_and_of_few_heaps_are_their_own() {
        let nodes = (0..MAX_NODES).filter_map(NodeId::from_index).map(Group::of_node);
        let numbers = (1..=Group::NR_NUMBERS as u16).filter_map(HeapId::new).map(Group::of_number);
        let mut seen = [false; 1 << u8::BITS];
        for group in nodes.chain(numbers).chain([Group::SHARED]) {
            assert!(u32::from(group.byte()) >= Group::FIRST);
            assert!(!core::mem::replace(&mut seen[usize::from(group.byte())], true));
        }
    }
}
