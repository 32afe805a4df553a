//! From what the user asked for to the core's own configuration.

use zonal_allocator::pages::{PageConfig, Placement, UNLIMITED};
use zonal_allocator::{Config, Mm};
use zonal_numa::{Machine, MemPolicy, NodeId, NodeMask, PAGE_SIZE, PolicyMode};

use crate::env::Settings;
use crate::fd::Line;
use crate::harden::Level;

/// Builds the core; none when the system has no memory for it.
pub(crate) fn build(settings: &Settings) -> Option<&'static Mm> {
    let minimal = settings.minimal_syscalls;
    let machine = if minimal { Machine::linux_minimal() } else { Machine::linux() };
    let allowed = machine.allowed_nodes();
    warn_of_policy(settings, allowed);
    warn_of_node_limits(settings, allowed);
    Mm::new(machine, core(settings)).ok()
}

/// One line if the policy cannot be followed as it was given.
fn warn_of_policy(settings: &Settings, allowed: NodeMask) {
    let Some(policy) = settings.policy.filter(|policy| !policy.nodes.is_empty()) else { return };
    let usable = policy.nodes.and(allowed);
    let what = if !settings.numa {
        "has no effect with numa:off"
    } else if usable.is_empty() {
        "names no node that this process may use: memory is local"
    } else if usable != policy.nodes {
        "names nodes that this process may not use: they are left out"
    } else {
        return;
    };
    Line::stderr(format_args!("ZONAL_CONF: policy {what}"));
}

/// One line if a node has a limit and no memory for this process.
fn warn_of_node_limits(settings: &Settings, allowed: NodeMask) {
    let limits = settings.node_limits.iter().enumerate();
    let mut limited = limits.filter(|(_, limit)| limit.is_some()).map(|(node, _)| node);
    if let Some(node) =
        limited.find(|&node| !NodeId::from_index(node).is_some_and(|node| allowed.contains(node)))
    {
        let what = "which this process may not use: that limit has no effect";
        Line::stderr(format_args!("ZONAL_CONF: node_limit names node {node}, {what}"));
    }
}

fn core(settings: &Settings) -> Config {
    let mut pages = PageConfig { thp: settings.thp, ..PageConfig::default() };
    if let Some(bytes) = settings.limit {
        pages.limit = bytes / PAGE_SIZE;
    }
    if let Some(bytes) = settings.soft_limit {
        pages.soft_limit = bytes / PAGE_SIZE;
    }
    for (limit, bytes) in pages.node_limits.iter_mut().zip(settings.node_limits) {
        *limit = bytes.map_or(UNLIMITED, |bytes| bytes / PAGE_SIZE);
    }
    pages.watermarks = settings.watermarks;
    pages.node_reclaim = settings.node_reclaim;
    pages.placement = match settings.policy {
        _ if !settings.numa => Placement::Kernel,
        Some(MemPolicy { mode: PolicyMode::BindStrict, nodes }) => Placement::Strict(nodes),
        _ => Placement::Prefer,
    };
    Config {
        pages,
        policy: settings.policy,
        weights: settings.weights,
        minimal_syscalls: settings.minimal_syscalls,
        shuffle: settings.harden == Level::Full,
        fence: if settings.harden >= Level::Usual { settings.fence } else { 0 },
        slack: settings.harden >= Level::Usual,
        checked: settings.harden == Level::Full,
    }
}
