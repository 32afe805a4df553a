//! What bounds the process: ulimits, its cgroup, and a system call filter.

use super::finding::Finding;
use crate::size::size;
use crate::system::System;

/// All bounds that are in force.
pub(super) fn check(system: &System) -> Vec<Finding> {
    let mut findings = ulimits(system);
    findings.extend(cgroup(system));
    findings.extend(seccomp(system));
    findings
}

/// The soft limits that count memory. One line says that there are none.
fn ulimits(system: &System) -> Vec<Finding> {
    const CHECK: &str = "ulimit";
    let Some(table) = system.of_process("limits") else { return Vec::new() };
    let soft = |name: &str| -> Option<u64> {
        let line = table.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let mut findings = Vec::new();
    if let Some(bytes) = soft("Max address space") {
        let finding = Finding::warning(CHECK, format!("address space {} (ulimit -v)", size(bytes)));
        findings.push(finding.means(
            "zonal maps up to twice the heap ahead of its use, and malloc answers NULL at the limit",
        ).change("ulimit -v unlimited, and ZONAL_CONF=limit:SIZE, which counts what is resident"));
    }
    if let Some(bytes) = soft("Max data size") {
        let finding = Finding::note(CHECK, format!("data {} (ulimit -d)", size(bytes)));
        findings.push(finding.means("counts memory that is committed, used or not"));
    }
    let locks = system.status("VmLck").is_some_and(|text| !text.starts_with('0'));
    if let Some(bytes) = soft("Max locked memory").filter(|_| locks) {
        let finding = Finding::warning(CHECK, format!("locked memory {} (ulimit -l)", size(bytes)));
        findings.push(finding.means(
            "the process locks its memory; after mlockall(MCL_FUTURE) each section that zonal adds \
             counts at once",
        ).change("ulimit -l unlimited"));
    }
    if findings.is_empty() {
        findings.push(Finding::fine(CHECK, "no limit on memory"));
    }
    findings
}

/// The tightest limit of the process's cgroup and those above it.
fn cgroup(system: &System) -> Option<Finding> {
    const CHECK: &str = "cgroup";
    let group = MemoryGroup::of(system)?;
    let Some((limit, used)) = group.tightest(system) else {
        return Some(Finding::fine(CHECK, "no limit on memory"));
    };
    let found = format!("{} of {} used", size(used), size(limit));
    let advice = format!(
        "ZONAL_CONF=limit:{}M, a quarter less, leaves room for what is not zonal's",
        (limit / 4 * 3) >> 20
    );
    Some(if used < limit / 10 * 9 {
        Finding::note(CHECK, found)
            .means("the kernel kills a process of the group when all of it is in use")
            .change(advice)
    } else {
        Finding::warning(CHECK, found)
            .means("near the limit the kernel reclaims in every page fault, then kills")
            .change(format!("a larger limit; or {advice}"))
    })
}

/// The folder of the process's group in one of the two layouts of control groups.
struct MemoryGroup {
    mount: &'static str,
    path: String,
    limit: &'static str,
    usage: &'static str,
}

impl MemoryGroup {
    fn of(system: &System) -> Option<Self> {
        let table = system.of_process("cgroup")?;
        let path_of = |controllers: &str| {
            table.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                let found = names.split(',').any(|name| name == controllers);
                found.then(|| path.to_owned())
            })
        };
        if let Some(path) = path_of("memory") {
            let (limit, usage) = ("memory.limit_in_bytes", "memory.usage_in_bytes");
            return Some(Self { mount: "/sys/fs/cgroup/memory", path, limit, usage });
        }
        let path = path_of("")?;
        Some(Self { mount: "/sys/fs/cgroup", path, limit: "memory.max", usage: "memory.current" })
    }

    /// Limit and use of the group that has least left. Inside a container the path may be that of
    /// the host, so the mount's own root counts too.
    fn tightest(&self, system: &System) -> Option<(u64, u64)> {
        // The first layout says "no limit" by a number larger than any memory.
        const NONE: u64 = 1 << 60;
        let mut path = self.path.as_str();
        let mut bounds = Vec::new();
        loop {
            let folder = format!("{}{}", self.mount, path.trim_end_matches('/'));
            let limit = system.number(&format!("{folder}/{}", self.limit));
            let usage = system.number(&format!("{folder}/{}", self.usage));
            bounds.extend(limit.filter(|&limit| limit < NONE).zip(usage));
            match path.rfind('/') {
                Some(end) if path.len() > 1 => path = &path[..end],
                _ => break,
            }
        }
        bounds.into_iter().min_by_key(|(limit, usage)| limit.saturating_sub(*usage))
    }
}

fn seccomp(system: &System) -> Option<Finding> {
    const CHECK: &str = "seccomp";
    Some(match system.status("Seccomp")?.as_str() {
        "0" => Finding::fine(CHECK, "no filter"),
        "1" => Finding::problem(CHECK, "strict mode")
            .means("only read, write and exit are allowed: malloc cannot get memory"),
        _ => Finding::note(CHECK, "a filter is in force")
            .means(
                "zonal needs mmap, munmap and mprotect and does without any other call that is \
                 refused; a filter that kills must allow those in LD_PRELOAD.md",
            )
            .change("ZONAL_CONF=syscalls:minimal under a filter that kills"),
    })
}
