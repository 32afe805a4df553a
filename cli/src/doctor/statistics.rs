//! What the process says of itself: whether its limits hurt it.

use zonal_stats::{PAGE_SIZE, Snapshot};

use super::finding::Finding;
use crate::live::Live;
use crate::size::size;

const CHECK: &str = "memory";
/// More in flight than so many bytes and this part of the charged memory is worth knowing, as it is to the
/// library.
const IN_FLIGHT_LEAST: u64 = 8 << 20;
const IN_FLIGHT_PART: u64 = 8;

/// What its live page tells, if it has one.
pub(super) fn of_process(pid: u32) -> Vec<Finding> {
    match Live::open(pid).and_then(|live| live.read()) {
        Ok(snapshot) => judge(&snapshot),
        Err(_) => vec![
            Finding::note("statistics", "not published: zonal stats, top and maps see nothing")
                .change("zonal run -- PROGRAM, or ZONAL_CONF=stats:live"),
        ],
    }
}

fn judge(snapshot: &Snapshot) -> Vec<Finding> {
    let (memory, process) = (snapshot.memory(), &snapshot.process);
    let resident = memory.resident_bytes + process.meta_resident_bytes;
    let free = memory.free_resident_bytes + memory.huge_cached_bytes;
    let mut found = format!("{} in memory, of which {} are free", size(resident), size(free));
    for (name, pages) in [("soft limit", process.soft_limit), ("limit", process.limit)] {
        if pages > 0 {
            found += &format!("; {name} {}", size(pages * PAGE_SIZE));
        }
    }
    let events = snapshot.zone_events();
    let finding = if process.soft_limit > 0 && process.nr_charged > process.soft_limit {
        Finding::warning(CHECK, found)
            .means("over the soft limit: requests reclaim for themselves before they take more")
            .change("a larger soft_limit, or find what grows: zonal top PID, docs/guide/grows.md")
    } else if events.allocstall > 0 {
        let means = format!(
            "{} requests reclaimed for themselves, {} ms in all with at least one that did",
            events.allocstall,
            snapshot.process_events.stall_some_ns / 1_000_000
        );
        Finding::note(CHECK, found)
            .means(means)
            .change("a larger limit, or a soft_limit well below it: docs/guide/latency.md")
    } else {
        Finding::fine(CHECK, found)
    };
    let mut findings = vec![finding];
    findings.extend(in_flight(snapshot));
    if events.purge_fail > 0 {
        let refused = size(events.purge_fail * PAGE_SIZE);
        findings.push(
            Finding::warning("purge", format!("the kernel refused to take back {refused}"))
                .means("free memory stays resident: locked memory (mlockall), or a seccomp filter"),
        );
    }
    findings
}

/// What threads freed that is not theirs waits for the threads that it belongs to. A little always does.
fn in_flight(snapshot: &Snapshot) -> Option<Finding> {
    let bytes = snapshot.process.in_flight_bytes;
    let of_charged = (snapshot.process.nr_charged / IN_FLIGHT_PART).saturating_mul(PAGE_SIZE);
    let much = IN_FLIGHT_LEAST.saturating_add(of_charged);
    (bytes > much).then(|| {
        Finding::note("in flight", format!("{} were freed by other threads", size(bytes)))
            .means("their owners have not taken them back: threads that wait for a processor, or sleep")
            .change("fewer threads that run, or free memory where it is allocated: docs/guide/grows.md")
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn limits_that_hurt_are_told() {
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.nr_nodes = 1;
        snapshot.nodes[0].memory.resident_bytes = 300 << 20;
        let level = |snapshot: &Snapshot| judge(snapshot)[0].level;
        assert_eq!(level(&snapshot), Level::Fine);
        snapshot.nodes[0].events.allocstall = 7;
        assert_eq!(level(&snapshot), Level::Note);
        (snapshot.process.soft_limit, snapshot.process.nr_charged) = (100, 101);
        let findings = judge(&snapshot);
        assert_eq!(findings[0].level, Level::Warning);
        assert!(findings[0].found.contains("300 MiB in memory"), "{findings:?}");
        assert!(findings[0].found.contains("soft limit 400 KiB"), "{findings:?}");
        snapshot.nodes[0].events.purge_fail = 3;
        assert_eq!(judge(&snapshot)[1].level, Level::Warning);
    }

    #[test]
    fn much_in_flight_is_told() {
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.process.nr_charged = (400 << 20) / PAGE_SIZE;
        snapshot.process.in_flight_bytes = 58 << 20;
        assert_eq!(judge(&snapshot).len(), 1);
        snapshot.process.in_flight_bytes += 1;
        let findings = judge(&snapshot);
        assert_eq!((findings[1].check, findings[1].level), ("in flight", Level::Note));
        assert!(findings[1].found.starts_with("58.0 MiB"), "{findings:?}");
        // A page may say anything.
        snapshot.process.nr_charged = u64::MAX;
        let _ = judge(&snapshot);
    }
}
