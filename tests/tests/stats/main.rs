//! What zonal says about itself: that it is true, and that others can read it.
#![expect(clippy::unwrap_used, reason = "helpers of tests end a test as tests do")]

mod exposition;
mod live;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use zonal_tests::{Program, have, is_zonal, skipped};

use exposition::Exposition;

/// A file of the repository.
fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A report, what the kernel counts, and what the program asked for.
struct Told {
    report: Value,
    anonymous: f64,
    asked: f64,
}

fn told(how: &str, count: usize, size: usize) -> Told {
    let outcome = Program::c("stats.c")
        .args([how, &count.to_string(), &size.to_string()])
        .run()
        .success()
        .quiet();
    let mut lines = outcome.stdout.lines();
    let report = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut number = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    Told { report, anonymous: number("anonymous"), asked: number("asked") }
}

impl Told {
    fn memory(&self, figure: &str) -> f64 {
        self.report["memory"][figure].as_f64().unwrap_or_else(|| panic!("no {figure}"))
    }

    fn used(&self) -> f64 {
        ["used_small_bytes", "used_large_bytes", "used_huge_bytes"]
            .map(|f| self.memory(f))
            .iter()
            .sum()
    }

    fn resident(&self) -> f64 {
        let meta = self.report["process"]["meta_resident_bytes"].as_f64().unwrap();
        self.memory("resident_bytes") + meta
    }
}

/// Programs and how they use their memory.
const LOADS: [(&str, usize, usize); 10] = [
    ("touched", 2_000_000, 24),
    ("touched", 60_000, 1000),
    ("touched", 7000, 9000),
    ("touched", 700, 100_000),
    ("touched", 6, 10 << 20),
    ("untouched", 700, 100_000),
    ("untouched", 6, 10 << 20),
    ("sparse", 120_000, 500),
    ("freed", 60_000, 1000),
    ("threads", 80_000, 900),
];

/// What the figures add up to is what the kernel counts. The rest of the program takes some
/// hundred KiB.
#[test]
fn sums_agree_with_the_kernel() {
    if !is_zonal() {
        return;
    }
    for (how, count, size) in LOADS {
        let told = told(how, count, size);
        let (ours, theirs) = (told.resident(), told.anonymous);
        let apart = (ours - theirs).abs();
        assert!(
            apart < 0.02 * theirs.max(ours) + 400_000.0,
            "{how} {count} of {size}: zonal {ours}, the kernel {theirs}: {:#}",
            told.report["memory"]
        );
    }
}

/// All parts of a node's memory add up to what is resident, and the nodes to the whole.
#[test]
fn sums_agree_with_each_other() {
    if !is_zonal() {
        return;
    }
    for (how, count, size) in LOADS {
        let told = told(how, count, size);
        let nodes = told.report["nodes"].as_array().unwrap();
        assert!(!nodes.is_empty());
        for memory in nodes.iter().map(|node| &node["memory"]).chain([&told.report["memory"]]) {
            let figures = memory.as_object().unwrap();
            let of = |name: &str| figures[name].as_i64().unwrap();
            let off = ["holes_bytes", "untouched_bytes"].map(of).iter().sum::<i64>();
            let held: i64 = figures.values().map(|bytes| bytes.as_i64().unwrap()).sum();
            let held = held - of("resident_bytes") - 2 * off;
            let apart = (held - of("resident_bytes")).abs();
            assert!(apart <= of("resident_bytes") / 50, "{how} {count} of {size}: {memory:#}");
        }
        for figure in ["used_small_bytes", "resident_bytes", "untouched_bytes"] {
            let by_node = nodes.iter().map(|node| node["memory"][figure].as_f64().unwrap());
            assert_eq!(by_node.sum::<f64>(), told.memory(figure));
        }
        let zone =
            |figure: &str| nodes.iter().map(|n| n["zone"][figure].as_i64().unwrap()).sum::<i64>();
        let pages = zone("nr_free") + zone("nr_out") + zone("nr_isolated");
        assert_eq!(pages, zone("nr_managed"), "{how}: pages are free, out or isolated");
    }
}

/// What is in use is what the program asked for, and what it did not ask for is told as waste.
#[test]
fn used_is_what_was_asked_for() {
    if !is_zonal() {
        return;
    }
    for (how, count, size) in LOADS {
        let told = told(how, count, size);
        let waste = told.report["waste_bytes"].as_f64().unwrap();
        // Large blocks are whole pages, up to 128 KiB an even number of them.
        let unit = if size > 128 << 10 { 4096 } else { 8192 };
        let rounded = if size > 32 << 10 { size.next_multiple_of(unit) - size } else { 0 };
        let expected = told.asked + (rounded * count) as f64;
        let apart = (told.used() - waste - expected).abs();
        assert!(
            apart < 0.02 * expected + 300_000.0,
            "{how} {count} of {size}: used {}, waste {waste}, asked for {expected}",
            told.used()
        );
    }
    let wasteful = told("touched", 60_000, 1000);
    // 1000 bytes are served by objects of 1024.
    let waste = wasteful.report["waste_bytes"].as_f64().unwrap() / wasteful.asked;
    assert!((0.020..0.028).contains(&waste), "{waste}");
}

#[test]
fn untouched_memory_is_told_apart() {
    if !is_zonal() {
        return;
    }
    // Lengths without a page to spare, which nobody would touch.
    for (count, size) in [(700, 128 << 10), (6, 10 << 20)] {
        let untouched = told("untouched", count, size);
        assert!(untouched.memory("untouched_bytes") > 0.9 * untouched.asked);
        let touched = told("touched", count, size);
        assert!(touched.memory("untouched_bytes") < 0.02 * touched.asked);
    }
}

/// A report in that form, of a program with threads.
fn report(format: &str) -> String {
    let settings = format!("stats:exit,stats_format:{format}");
    let outcome = Program::c("stats.c")
        .args(["threads", "8000", "900"])
        .env("ZONAL_CONF", settings)
        .run()
        .success();
    outcome.stderr
}

/// The check, and that it can fail.
#[test]
fn json_matches_its_schema() {
    const VALIDATE: &str = "
import copy, json, sys
try:
    import jsonschema
except ImportError:
    print('absent')
    sys.exit()
schema, report = json.load(open(sys.argv[1])), json.load(sys.stdin)
validator = jsonschema.validators.validator_for(schema)
validator.check_schema(schema)
validator(schema).validate(report)
def broken(change):
    other = copy.deepcopy(report)
    change(other)
    return not validator(schema).is_valid(other)
assert broken(lambda r: r.pop('nodes'))
assert broken(lambda r: r['nodes'][0]['zone'].pop('nr_free'))
assert broken(lambda r: r['memory'].update(cached_bytes='many'))
assert broken(lambda r: r['nodes'][0]['free_area']['Slab']['warm'].pop())
";
    if !is_zonal() {
        return;
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/stats.schema.json");
    let outcome =
        Program::plain("python3").args(["-c", VALIDATE]).arg(schema).input(report("json")).run();
    if outcome.stdout == "absent\n" {
        return skipped("python3 has no jsonschema (package python3-jsonschema)");
    }
    outcome.success().quiet();
}

/// Every key of the report is described in the schema, and every figure in the document.
#[test]
fn every_figure_is_documented() {
    if !is_zonal() {
        return;
    }
    let schema: Value = serde_json::from_str(&file("docs/stats.schema.json")).unwrap();
    let report: Value = serde_json::from_str(&report("json")).unwrap();
    let document = file("docs/STATISTICS.md");
    let mut names = BTreeSet::new();
    described(&report, &schema, "", &mut names);
    assert!(names.len() > 80, "{names:?}");
    let missing: Vec<_> =
        names.iter().filter(|name| !document.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "not in docs/STATISTICS.md: {missing:?}");
}

/// Collects the names of all numbers, and demands that each has a place in the schema.
fn described(value: &Value, schema: &Value, at: &str, names: &mut BTreeSet<String>) {
    const NO_FIGURES: [&str; 7] =
        ["schema_version", "pid", "node", "taken_ns", "nr_active", "waste_bytes", "free_area"];
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let part = &schema["properties"][key];
                assert!(part.is_object(), "{at}.{key} is not in the schema");
                if value.is_u64() && !NO_FIGURES.contains(&key.as_str()) {
                    names.insert(key.clone());
                }
                described(value, part, &format!("{at}.{key}"), names);
            }
        }
        Value::Array(array) => {
            for value in array {
                described(value, &schema["items"], at, names);
            }
        }
        _ => {}
    }
}

#[test]
fn prometheus_reads_the_exposition() {
    if !is_zonal() {
        return;
    }
    let text = report("prometheus");
    let exposition = Exposition::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert!(exposition.families.len() > 80, "{}", exposition.families.len());
    for (name, family) in &exposition.families {
        assert!(name.starts_with("zonal_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        assert!(!family.help.is_empty() && !family.samples.is_empty(), "{name}");
        // Each text stands by itself, and names the unit of its samples.
        assert!(!family.help.starts_with("Of these"), "{name}: {}", family.help);
        let is_in_pages = family.help.starts_with("Pages") && !family.help.ends_with("In bytes.");
        assert!(!is_in_pages || !name.contains("_bytes"), "{name}: {}", family.help);
    }
    let value = |name: &str| exposition.families[name].samples.values().sum::<f64>();
    assert!(value("zonal_memory_used_small_bytes") > 8000.0 * 900.0);
    assert_eq!(value("zonal_zone_managed_bytes") % 4096.0, 0.0);
    assert_eq!(exposition.families["zonal_free_blocks"].samples.len() % (11 * 3 * 2), 0);
    // And Prometheus's own word, where it is.
    if have("promtool", "prometheus") {
        let checked = Program::plain("promtool").args(["check", "metrics"]).input(text).run();
        checked.success().quiet();
    }
}

/// No name is so long that its value runs into it.
#[test]
fn names_and_values_are_apart_in_text() {
    if is_zonal() {
        let text = report("text");
        assert!(text.lines().any(|line| line.trim() == "zone_reclaim_success 0"), "{text}");
    }
}

/// The parser is strict: each of these is wrong in one way.
#[test]
fn the_parser_refuses_what_prometheus_refuses() {
    let good = "# HELP a_total Help.\n# TYPE a_total counter\na_total{l=\"x\\\\\\\"y\\n\"} 1\n";
    assert!(Exposition::parse(good).is_ok());
    for bad in [
        good.trim_end(),
        "a_total 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\nb_total 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total{l=\"x} 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total{l=\"\\x\"} 1\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total 1\na_total 2\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total one\n",
        "# HELP a_total Help.\n# TYPE a_total counter\na_total -1\n",
        "# HELP a-b Help.\n# TYPE a-b gauge\na-b 1\n",
        "# HELP a Help.\n# TYPE a number\na 1\n",
        "# HELP a \\q\n# TYPE a gauge\na 1\n",
        &format!("{good}# HELP b Help.\n# TYPE b gauge\nb 1\n{good}"),
    ] {
        assert!(Exposition::parse(bad).is_err(), "{bad:?}");
    }
}

/// A report on a signal, from a program that sleeps; a program with a handler of its own keeps it.
#[test]
fn a_signal_brings_a_report() {
    const SLEEPER: &str = "
import os, signal, sys
kept = [bytes(1000) for _ in range(20_000)]
if sys.argv[1] == 'own':
    signal.signal(signal.SIGUSR2, lambda *_: print('mine', flush=True))
os.kill(os.getpid(), signal.SIGUSR2)
os.kill(os.getpid(), signal.SIGUSR2)
print('alive')
";
    if !is_zonal() {
        return;
    }
    let run = |whose: &str| {
        Program::new("python3")
            .args(["-c", SLEEPER, whose])
            .env("ZONAL_CONF", "stats_signal:SIGUSR2,stats_format:json")
            .run()
            .success()
            .stdout_has("alive")
    };
    let outcome = run("zonal");
    let reports: Vec<Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!reports.is_empty() && reports.iter().all(|r| r["schema_version"] == 1));
    let outcome = run("own");
    assert_eq!(outcome.stdout.matches("mine").count(), 2);
    assert_eq!(outcome.stderr, "");
}
