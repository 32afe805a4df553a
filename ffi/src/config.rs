//! From what the user asked for to the core's own configuration.

use zonal_allocator::pages::{PageConfig, Placement, UNLIMITED};
use zonal_allocator::{Config, Mm};
use zonal_numa::{Machine, PAGE_SIZE, PolicyMode};

use crate::env::Settings;

/// Builds the core; none when the system has no memory for it.
pub(crate) fn build(settings: &Settings) -> Option<&'static Mm> {
    let minimal = settings.minimal_syscalls;
    let machine = if minimal { Machine::linux_minimal() } else { Machine::linux() };
    Mm::new(machine, core(settings)).ok()
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
    pages.placement = match settings.policy.mode {
        _ if !settings.numa => Placement::Kernel,
        PolicyMode::BindStrict => Placement::Strict,
        _ => Placement::Prefer,
    };
    Config { pages, policy: settings.policy, minimal_syscalls: settings.minimal_syscalls }
}
