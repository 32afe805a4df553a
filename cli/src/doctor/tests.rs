//! Each bad setting, in a made-up `/proc` and `/sys`, gives its finding; good ones give none.

use std::fs;

use tempfile::TempDir;

use super::finding::Level;
use super::{Finding, examine, preload, render};
use crate::style::Style;
use crate::system::System;

/// A machine of files.
struct Fake {
    root: TempDir,
}

impl Fake {
    /// A machine on which all is well, and process 7 on it.
    fn healthy() -> Self {
        let fake = Self { root: TempDir::new().unwrap() };
        fake.file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        fake.file("/proc/sys/vm/overcommit_memory", "0\n");
        fake.file("/proc/sys/vm/max_map_count", "65530\n");
        fake.file("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
        fake.file("/proc/sys/kernel/numa_balancing", "0\n");
        fake.file("/sys/devices/system/node/online", "0\n");
        fake.file("/proc/meminfo", "CommitLimit: 1000 kB\nCommitted_AS: 990 kB\n");
        fake.file("/proc/7/comm", "server\n");
        fake.file("/proc/7/maps", "7f00-7f01 r-xp 00000000 08:01 42 /opt/libzonal.so\n");
        fake.file("/proc/7/status", "Name:\tserver\nSeccomp:\t0\nVmLck:\t0 kB\n");
        fake.file("/proc/7/limits", "Max address space         unlimited  unlimited  bytes\n");
        fake.file("/proc/7/cgroup", "0::/shop/server\n");
        fake.file("/proc/7/environ", "HOME=/\0LD_PRELOAD=/opt/libzonal.so\0ZONAL_CONF=limit:1G\0");
        fake
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        let system = System::below(self.root.path(), Some(7));
        examine(&system, preload::of_process(&system))
    }

    /// The one finding that is not fine.
    #[track_caller]
    fn complaint(&self) -> Finding {
        let findings = self.findings();
        let mut bad = findings.into_iter().filter(|finding| finding.level != Level::Fine);
        let first = bad.next().expect("no complaint");
        assert_eq!(bad.next(), None);
        first
    }
}

#[test]
fn settings_without_effect_are_told() {
    let fake = Fake::healthy();
    fake.file("/proc/7/environ", "ZONAL_CONF=thp:never,limit:2GB,\x1b[31m:1\0");
    let findings = fake.findings();
    let told: Vec<_> = findings.iter().filter(|finding| finding.check == "settings").collect();
    assert!(told.iter().all(|finding| finding.level == Level::Warning), "{told:?}");
    assert!(told[0].found.contains("'limit:2GB'; allowed: a size"), "{told:?}");
    assert!(told[1].found.contains("unknown key in '?[31m:1'"), "{told:?}");
    assert_eq!(told.len(), 2);
}

#[test]
fn a_healthy_process_has_no_complaint() {
    let findings = Fake::healthy().findings();
    assert!(findings.iter().all(|finding| finding.level == Level::Fine), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.found == "limit:1G"));
    let text = render::text("x", &findings, Style::of_stdout());
    assert!(text.contains("Nothing stands in the way"), "{text}");
}

#[test]
fn each_setting_of_the_kernel_has_its_finding() {
    let cases = [
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", "huge pages"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "huge pages"),
        ("/proc/sys/vm/overcommit_memory", "1\n", "overcommit"),
        ("/proc/sys/vm/overcommit_memory", "2\n", "overcommit"),
        ("/proc/sys/vm/max_map_count", "1\n", "mappings"),
        ("/proc/sys/kernel/osrelease", "4.19.0\n", "kernel"),
        ("/proc/7/status", "Seccomp:\t2\n", "seccomp"),
        ("/proc/7/status", "Seccomp:\t0\nTHP_enabled:\t0\n", "huge pages"),
        ("/proc/7/limits", "Max address space     8000000000   unlimited  bytes\n", "ulimit"),
        ("/proc/7/limits", "Max data size         8000000000   unlimited  bytes\n", "ulimit"),
    ];
    for (path, text, check) in cases {
        let fake = Fake::healthy();
        fake.file(path, text);
        let finding = fake.complaint();
        assert_eq!(finding.check, check, "{path}: {finding:?}");
        assert!(finding.means.is_some(), "{finding:?}");
    }
}

#[test]
fn strict_overcommit_warns_when_little_is_left() {
    let fake = Fake::healthy();
    fake.file("/proc/sys/vm/overcommit_memory", "2\n");
    assert_eq!(fake.complaint().level, Level::Warning);
    fake.file("/proc/meminfo", "CommitLimit: 1000 kB\nCommitted_AS: 90 kB\n");
    assert_eq!(fake.complaint().level, Level::Note);
}

#[test]
fn balancing_matters_on_several_nodes_only() {
    let fake = Fake::healthy();
    fake.file("/proc/sys/kernel/numa_balancing", "1\n");
    assert!(fake.findings().iter().all(|finding| finding.level == Level::Fine));
    fake.file("/sys/devices/system/node/online", "0-1\n");
    assert_eq!(fake.complaint().check, "nodes");
}

#[test]
fn the_tightest_group_counts_in_both_layouts() {
    let fake = Fake::healthy();
    let above = "/sys/fs/cgroup/shop";
    fake.file(&format!("{above}/memory.max"), "1073741824\n");
    fake.file(&format!("{above}/memory.current"), "1063741824\n");
    fake.file(&format!("{above}/server/memory.max"), "max\n");
    fake.file(&format!("{above}/server/memory.current"), "4096\n");
    let finding = fake.complaint();
    assert_eq!((finding.check, finding.level), ("cgroup", Level::Warning));
    assert!(finding.change.unwrap().contains("limit:768M"));

    let fake = Fake::healthy();
    fake.file("/proc/7/cgroup", "4:memory:/shop\n0::/\n");
    fake.file("/sys/fs/cgroup/memory/shop/memory.limit_in_bytes", "1073741824\n");
    fake.file("/sys/fs/cgroup/memory/shop/memory.usage_in_bytes", "4096\n");
    let finding = fake.complaint();
    assert_eq!((finding.check, finding.level), ("cgroup", Level::Note));
}

#[test]
fn a_missing_library_has_a_reason() {
    let fake = Fake::healthy();
    fake.file("/proc/7/maps", "7f00-7f01 r-xp 00000000 08:01 42 /bin/server\n");
    let finding = fake.complaint();
    assert_eq!((finding.check, finding.level), ("preload", Level::Problem));
    assert!(finding.means.unwrap().contains("LD_PRELOAD asks for it"));

    fake.file("/proc/7/environ", "HOME=/\0");
    assert!(fake.complaint().means.unwrap().contains("started without it"));

    fake.file("/proc/7/maps", "7f00-7f01 r-xp 0 08:01 42 /opt/libzonal.so (deleted)\n");
    assert!(fake.complaint().found.contains("replaced"));
}

#[test]
fn another_allocator_counts_by_its_place() {
    let fake = Fake::healthy();
    let maps = "7f00-7f01 r-xp 0 08:01 42 /opt/libzonal.so\n\
                7f02-7f03 r-xp 0 08:01 43 /usr/lib/libjemalloc.so.2\n";
    fake.file("/proc/7/maps", maps);
    assert_eq!(fake.complaint().level, Level::Note);
    fake.file("/proc/7/environ", "LD_PRELOAD=libjemalloc.so.2:/opt/libzonal.so\0");
    assert_eq!(fake.complaint().level, Level::Problem);
}

/// Of oneTBB's two libraries only one takes malloc over.
#[test]
fn a_proxy_is_another_allocator_and_what_stands_behind_it_is_none() {
    let fake = Fake::healthy();
    let maps = |library: &str| {
        format!(
            "7f00-7f01 r-xp 0 08:01 42 /opt/libzonal.so\n7f02-7f03 r-xp 0 08:01 43 /usr/lib/{library}\n"
        )
    };
    fake.file("/proc/7/maps", &maps("libtbbmalloc.so.2"));
    assert!(fake.findings().iter().all(|finding| finding.level == Level::Fine));
    fake.file("/proc/7/maps", &maps("libtbbmalloc_proxy.so.2"));
    assert_eq!(fake.complaint().level, Level::Note);
}

#[test]
fn python_keeps_a_pool_unless_told_otherwise() {
    let fake = Fake::healthy();
    fake.file("/proc/7/comm", "python3.11\n");
    assert!(fake.complaint().change.unwrap().contains("PYTHONMALLOC=malloc"));
    fake.file("/proc/7/environ", "LD_PRELOAD=/opt/libzonal.so\0PYTHONMALLOC=malloc\0");
    assert!(fake.findings().iter().all(|finding| finding.level == Level::Fine));
}
