//! The slow-path ladder as a pure function: which action follows which failure.
//!
//! The order is the kernel's `__alloc_pages_slowpath`: what is cheap and local first, what hurts
//! other threads later, giving up last. Every action is followed by one more attempt.

use zonal_allocator::watermark::WatermarkLevel;

/// Where a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// First attempt, at the low watermark.
    Low,
    /// Dipped to min.
    Min,
    /// The own thread's caches are back in the zone.
    OwnDrained,
    /// Free resident pages of the node were given back to the system.
    Purged,
    /// All threads' caches are back in the zones, cached huge mappings are unmapped.
    AllDrained,
    /// Purged again, now that everything free is in the zones.
    PurgedAll,
    /// The nodes after that many of the zonelist were tried.
    Node(u8),
    /// The last reserve was tried.
    Reserve,
}

/// What to do before the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing: only look deeper.
    Dip,
    /// Give the own thread's caches back.
    DrainOwn,
    /// Purge free resident pages of the node.
    Purge,
    /// Give back what every thread holds.
    DrainAll,
    /// Try that entry of the zonelist.
    OtherNode(u8),
    /// Use what is kept for the last.
    UseReserve,
}

/// The step after a failed attempt on `rung`, on a machine whose zonelist has `nr_nodes` entries:
/// what to do, where that leads, and the watermark of the attempt. None: out of memory.
pub fn next(rung: Rung, nr_nodes: u8) -> Option<(Action, Rung, WatermarkLevel)> {
    use WatermarkLevel::{Low, Min};
    Some(match rung {
        Rung::Low => (Action::Dip, Rung::Min, Min),
        Rung::Min => (Action::DrainOwn, Rung::OwnDrained, Min),
        Rung::OwnDrained => (Action::Purge, Rung::Purged, Min),
        Rung::Purged => (Action::DrainAll, Rung::AllDrained, Min),
        Rung::AllDrained => (Action::Purge, Rung::PurgedAll, Min),
        Rung::PurgedAll if nr_nodes > 1 => (Action::OtherNode(1), Rung::Node(1), Low),
        Rung::Node(n) if n + 1 < nr_nodes => (Action::OtherNode(n + 1), Rung::Node(n + 1), Low),
        Rung::PurgedAll | Rung::Node(_) => {
            (Action::UseReserve, Rung::Reserve, WatermarkLevel::Reserve)
        }
        Rung::Reserve => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(nr_nodes: u8) -> Vec<(Action, WatermarkLevel)> {
        let mut rung = Rung::Low;
        let mut steps = Vec::new();
        while let Some((action, after, level)) = next(rung, nr_nodes) {
            steps.push((action, level));
            rung = after;
            assert!(steps.len() < 100, "the ladder ends");
        }
        steps
    }

    #[test]
    fn one_node_is_the_table() {
        use WatermarkLevel::{Min, Reserve};
        let expected = [
            (Action::Dip, Min),
            (Action::DrainOwn, Min),
            (Action::Purge, Min),
            (Action::DrainAll, Min),
            (Action::Purge, Min),
            (Action::UseReserve, Reserve),
        ];
        assert_eq!(walk(1), expected);
    }

    #[test]
    fn every_other_node_is_tried_once_in_zonelist_order() {
        let nodes: Vec<u8> = walk(5)
            .into_iter()
            .filter_map(|(action, _)| match action {
                Action::OtherNode(n) => Some(n),
                _ => None,
            })
            .collect();
        assert_eq!(nodes, [1, 2, 3, 4]);
    }

    #[test]
    fn memory_of_others_is_taken_only_after_the_own() {
        let steps: Vec<Action> = walk(2).into_iter().map(|(action, _)| action).collect();
        let at = |wanted| steps.iter().position(|&a| a == wanted).unwrap();
        assert!(at(Action::DrainOwn) < at(Action::Purge));
        assert!(at(Action::Purge) < at(Action::DrainAll));
        assert!(at(Action::DrainAll) < at(Action::OtherNode(1)));
        assert!(at(Action::OtherNode(1)) < at(Action::UseReserve));
    }
}
