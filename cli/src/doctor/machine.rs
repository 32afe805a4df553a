//! Settings of the kernel that matter to an allocator.

use super::finding::Finding;
use crate::size::size;
use crate::system::System;

const CHECKS: [fn(&System) -> Option<Finding>; 5] =
    [huge_pages, overcommit, map_count, nodes, kernel];

/// All of them; what this kernel does not tell is left out.
pub(super) fn check(system: &System) -> Vec<Finding> {
    CHECKS.iter().filter_map(|check| check(system)).collect()
}

fn huge_pages(system: &System) -> Option<Finding> {
    const CHECK: &str = "huge pages";
    let text = system.machine("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let mode = text.split('[').nth(1)?.split(']').next()?;
    if system.status("THP_enabled").as_deref() == Some("0") {
        let finding = Finding::note(CHECK, "off for this process (prctl PR_SET_THP_DISABLE)");
        return Some(finding.means("large heaps take more page faults and TLB misses"));
    }
    let finding = match mode {
        "madvise" => Finding::fine(CHECK, "madvise: zonal asks for them where the heap is dense"),
        "always" => Finding::note(CHECK, "always")
            .means(
                "the kernel gives huge pages to everything; zonal keeps its sparse sections out, \
                 but khugepaged may fill holes in the program's other memory",
            )
            .change("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        "never" => Finding::note(CHECK, "never")
            .means(
                "the setting `thp` has no effect; large heaps take more page faults and TLB misses",
            )
            .change("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
        other => Finding::note(CHECK, other),
    };
    Some(finding)
}

fn overcommit(system: &System) -> Option<Finding> {
    const CHECK: &str = "overcommit";
    Some(match system.number("/proc/sys/vm/overcommit_memory")? {
        0 => Finding::fine(CHECK, "0 (heuristic)"),
        1 => Finding::note(CHECK, "1 (always)")
            .means(
                "no request fails for want of memory: when it runs out, the kernel kills a process",
            )
            .change("ZONAL_CONF=limit:SIZE makes malloc fail before that"),
        mode => strict_overcommit(system, mode),
    })
}

/// Mode 2: what is committed counts, used or not.
fn strict_overcommit(system: &System, mode: u64) -> Finding {
    let limit = system.meminfo("CommitLimit").unwrap_or(0);
    let free = limit.saturating_sub(system.meminfo("Committed_AS").unwrap_or(0));
    let found = format!("{mode} (strict): {} of {} left to commit", size(free), size(limit));
    let means = "zonal commits memory in steps of 2 MiB and more, so malloc answers NULL when this \
                 is used up";
    if free > limit / 10 {
        Finding::note("overcommit", found).means(means)
    } else {
        Finding::warning("overcommit", found)
            .means(means)
            .change("more swap, or a larger vm.overcommit_ratio")
    }
}

fn map_count(system: &System) -> Option<Finding> {
    const CHECK: &str = "mappings";
    let limit = system.number("/proc/sys/vm/max_map_count")?;
    let used = system.of_process("maps")?.lines().count() as u64;
    let found = format!("{used} of vm.max_map_count {limit}");
    Some(if used < limit / 5 * 4 {
        Finding::fine(CHECK, found)
    } else {
        Finding::warning(CHECK, found)
            .means("mmap, mprotect and madvise fail at the limit; zonal itself needs few mappings")
            .change(format!("sysctl vm.max_map_count={}", limit * 4))
    })
}

fn nodes(system: &System) -> Option<Finding> {
    const CHECK: &str = "nodes";
    let online = system.machine("/sys/devices/system/node/online").unwrap_or_else(|| "0".into());
    let online = online.trim();
    if online == "0" {
        return Some(Finding::fine(CHECK, "one: nothing to place"));
    }
    let balancing = system.number("/proc/sys/kernel/numa_balancing").unwrap_or(0);
    let allowed = system.status("Mems_allowed_list").unwrap_or_else(|| online.into());
    let found = format!("{online}, of which {allowed} allowed; NUMA balancing {balancing}");
    Some(if balancing == 0 {
        Finding::fine(CHECK, found)
    } else {
        Finding::note(CHECK, found)
            .means(
                "the kernel moves pages to where they are used; memory that zonal places on a node \
                 by mbind is exempt, the rest of the program is not",
            )
            .change("ZONAL_CONF=numa:off leaves zonal's memory to the kernel as well")
    })
}

/// By its version: to try the calls themselves would tell about this command, not about the process.
fn kernel(system: &System) -> Option<Finding> {
    const CHECK: &str = "kernel";
    let release = system.machine("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?);
    Some(if version >= (5, 10) {
        Finding::fine(CHECK, release)
    } else {
        Finding::note(CHECK, release)
            .means("process_madvise came with 5.10 and membarrier with 4.14: zonal does without")
    })
}
