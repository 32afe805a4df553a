//! The slow-path ladder as a pure function: which action follows which failure.
//!
//! The order is the kernel's `__alloc_pages_slowpath`: what is cheap and local first, what hurts
//! other threads later, giving up last. Every action is followed by one more attempt. A pass that
//! reclaimed something in vain is repeated, since others took it; a request that only a cap stands
//! in the way of, and whose time is over, goes on to the steps that cost nothing.

use zonal_allocator::watermark::WatermarkLevel;

use crate::scan;

/// Where a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    /// First attempt, at the low watermark.
    Low,
    /// Second attempt, at the min watermark.
    Min,
    /// The own thread's caches are back in the zone.
    OwnDrained,
    /// Free resident pages of the node were given back to the system.
    Purged,
    /// kswapd had time for a step.
    Waited,
    /// A round of kswapd that was under way is over.
    RoundOver,
    /// All threads' caches are back in the zones, cached huge mappings are unmapped.
    AllDrained,
    /// Purged again, now that everything free is in the zones.
    PurgedAll,
    /// The reserve for urgent requests was opened.
    Unreserved,
    /// The nodes after that many of the zonelist were tried.
    Node(u8),
    /// The last reserve was tried.
    Reserve,
}

/// What to do before the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing: the next attempt may go down to the min watermark.
    Dip,
    /// Give the own thread's caches back.
    DrainOwn,
    /// Purge free resident pages of the node.
    Purge,
    /// Wait for kswapd, for a bounded time.
    Throttle,
    /// Wait for the end of kswapd's round, for a bounded time.
    AwaitRound,
    /// Give back what every thread holds.
    DrainAll,
    /// Give the reserve for urgent requests to all.
    Unreserve,
    /// Try that entry of the zonelist.
    OtherNode(u8),
    /// Use what is kept for the last.
    UseReserve,
}

/// What the next step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Entries of the zonelist that may be tried.
    pub nr_nodes: u8,
    /// Something was reclaimed since the pass began.
    pub made_progress: bool,
    /// Passes so far.
    pub nr_loops: u32,
    /// Only a cap stands in the way, and the time for it is over.
    pub is_over: bool,
    /// kswapd may hold what is free, and what comes next is the kernel's killer.
    pub awaits_round: bool,
}

/// The step after a failed attempt on `rung`: what to do, where that leads, and the watermark of
/// the attempt. None: out of memory.
pub fn next(rung: Rung, context: Context) -> Option<(Action, Rung, WatermarkLevel)> {
    use WatermarkLevel::{Low, Min, Reserve};
    let nr_nodes = context.nr_nodes;
    Some(match rung {
        Rung::Low => (Action::Dip, Rung::Min, Min),
        Rung::Min => (Action::DrainOwn, Rung::OwnDrained, Min),
        Rung::OwnDrained => (Action::Purge, Rung::Purged, Min),
        Rung::Purged | Rung::Waited | Rung::AllDrained if context.is_over => {
            if context.awaits_round {
                (Action::AwaitRound, Rung::RoundOver, Min)
            } else {
                others(0, nr_nodes)
            }
        }
        Rung::Purged => (Action::Throttle, Rung::Waited, Min),
        Rung::Waited => (Action::DrainAll, Rung::AllDrained, Min),
        Rung::AllDrained => (Action::Purge, Rung::PurgedAll, Min),
        Rung::PurgedAll
            if !context.is_over && scan::should_retry(context.made_progress, context.nr_loops) =>
        {
            (Action::Purge, Rung::Purged, Min)
        }
        Rung::PurgedAll if context.awaits_round => (Action::AwaitRound, Rung::RoundOver, Min),
        Rung::RoundOver => (Action::DrainAll, Rung::AllDrained, Min),
        Rung::PurgedAll => (Action::Unreserve, Rung::Unreserved, Min),
        Rung::Unreserved => others(0, nr_nodes),
        Rung::Node(n) if n + 1 < nr_nodes => (Action::OtherNode(n + 1), Rung::Node(n + 1), Low),
        Rung::Node(_) => (Action::UseReserve, Rung::Reserve, Reserve),
        Rung::Reserve => return None,
    })
}

/// From the entry `n` of the zonelist to the one behind it, or to the last reserve.
fn others(n: u8, nr_nodes: u8) -> (Action, Rung, WatermarkLevel) {
    if n + 1 < nr_nodes {
        (Action::OtherNode(n + 1), Rung::Node(n + 1), WatermarkLevel::Low)
    } else {
        (Action::UseReserve, Rung::Reserve, WatermarkLevel::Reserve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(context: impl Fn(u32) -> Context) -> Vec<(Action, WatermarkLevel)> {
        let mut rung = Rung::Low;
        let mut nr_loops = 0;
        let mut steps = Vec::new();
        while let Some((action, after, level)) = next(rung, context(nr_loops)) {
            nr_loops += u32::from(rung == Rung::PurgedAll);
            steps.push((action, level));
            rung = after;
            assert!(steps.len() < 200, "the ladder ends");
        }
        steps
    }

    fn plain(nr_nodes: u8) -> Context {
        Context { nr_nodes, made_progress: false, nr_loops: 0, is_over: false, awaits_round: false }
    }

    #[test]
    fn one_node_is_the_table() {
        use WatermarkLevel::{Min, Reserve};
        let expected = [
            (Action::Dip, Min),
            (Action::DrainOwn, Min),
            (Action::Purge, Min),
            (Action::Throttle, Min),
            (Action::DrainAll, Min),
            (Action::Purge, Min),
            (Action::Unreserve, Min),
            (Action::UseReserve, Reserve),
        ];
        assert_eq!(walk(|_| plain(1)), expected);
    }

    #[test]
    fn a_cap_whose_time_is_over_costs_no_more() {
        use WatermarkLevel::{Low, Min, Reserve};
        let expected = [
            (Action::Dip, Min),
            (Action::DrainOwn, Min),
            (Action::Purge, Min),
            (Action::OtherNode(1), Low),
            (Action::UseReserve, Reserve),
        ];
        assert_eq!(walk(|_| Context { is_over: true, ..plain(2) }), expected);
    }

    #[test]
    fn what_others_took_is_reclaimed_again_a_bounded_number_of_times() {
        let steps = walk(|nr_loops| Context { made_progress: true, nr_loops, ..plain(1) });
        let count = |wanted| steps.iter().filter(|(action, _)| *action == wanted).count();
        assert_eq!(count(Action::DrainAll), 1 + scan::MAX_RECLAIM_RETRIES as usize);
        assert_eq!((count(Action::Unreserve), count(Action::UseReserve)), (1, 1));
    }

    #[test]
    fn after_a_round_under_way_all_is_tried_once_more() {
        // The time is over in the middle of a pass.
        let mut nr_waits = 0;
        let mut rung = Rung::Purged;
        while rung != Rung::Reserve {
            let context = Context { is_over: true, awaits_round: nr_waits < 3, ..plain(1) };
            let (action, after, _) = next(rung, context).unwrap();
            nr_waits += u32::from(action == Action::AwaitRound);
            rung = after;
        }
        assert_eq!(nr_waits, 3);
        let held = walk(|nr_loops| Context { nr_loops, awaits_round: nr_loops < 1, ..plain(1) });
        let held: Vec<Action> = held.into_iter().map(|(action, _)| action).collect();
        let at = held.iter().position(|&action| action == Action::AwaitRound).unwrap();
        assert_eq!(
            held[at + 1..],
            [Action::DrainAll, Action::Purge, Action::Unreserve, Action::UseReserve]
        );
    }

    #[test]
    fn every_other_node_is_tried_once_in_zonelist_order() {
        let nodes: Vec<u8> = walk(|_| plain(5))
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
        let steps: Vec<Action> = walk(|_| plain(2)).into_iter().map(|(action, _)| action).collect();
        let at = |wanted| steps.iter().position(|&a| a == wanted).unwrap();
        assert!(at(Action::DrainOwn) < at(Action::Purge));
        assert!(at(Action::Purge) < at(Action::DrainAll));
        assert!(at(Action::DrainAll) < at(Action::OtherNode(1)));
        assert!(at(Action::OtherNode(1)) < at(Action::UseReserve));
    }
}
