//! `zonal topology` against what the kernel shows.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::process::Command;

#[test]
fn lists_the_nodes_of_the_kernel() {
    let output = Command::new(env!("CARGO_BIN_EXE_zonal")).arg("topology").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let titles = text.lines().flat_map(|line| line.split("+- node ").skip(1));
    let shown: Vec<&str> = titles.filter_map(|title| title.split(' ').next()).collect();
    assert_eq!(shown, kernel_nodes(), "{text}");
    if cfg!(feature = "hwloc") {
        assert_eq!(text.lines().last(), Some("hwloc agrees"), "{text}");
    }
}

/// The numbers in `/sys/devices/system/node`; a kernel without NUMA has node 0 alone.
fn kernel_nodes() -> Vec<String> {
    let Ok(folder) = fs::read_dir("/sys/devices/system/node") else { return vec!["0".into()] };
    let mut nodes: Vec<u32> = folder
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .collect();
    nodes.sort_unstable();
    nodes.iter().map(ToString::to_string).collect()
}

#[test]
fn json_has_the_same_nodes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
    let output = command.args(["topology", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = report["nodes"].as_array().unwrap();
    let shown: Vec<String> = nodes.iter().map(|node| node["node"].to_string()).collect();
    assert_eq!(shown, kernel_nodes());
    assert!(nodes.iter().all(|node| node["zonelist"][0]["distance"] == 10), "{report}");
}

#[test]
fn a_process_has_its_threads_and_memory_somewhere() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
    let own = std::process::id().to_string();
    let output = command.args(["topology", "--json", &own]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let threads = report["process"]["threads"].as_object().unwrap();
    let nr_threads: u64 = threads.values().filter_map(serde_json::Value::as_u64).sum();
    // The test's own and the one that waits for it.
    assert!(nr_threads >= 2, "{report}");
    assert!(!report["process"]["nodes"].as_str().unwrap().is_empty(), "{report}");
}

#[test]
fn no_such_process_is_an_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
    let output = command.args(["topology", "4194305"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such process"));
}
