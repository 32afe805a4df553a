//! Kinds of misuse, and what becomes of each at each level of `ZONAL_CONF=harden`. The table in
//! SECURITY.md says the same.

use Found::{Fault, No, Report, Stop, Told};
use zonal_tests::{Outcome, Program, is_zonal};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// One line on stderr, then SIGABRT; at the misuse or at the latest when the process ends.
    Report,
    /// One line, and the statistics count; the program goes on.
    Told,
    /// The program faults by what it does itself: one line, then SIGSEGV.
    Fault,
    /// The same without a line.
    Stop,
    /// Nothing is noticed.
    No,
}

/// Kind, at level 1 for an object that is not fenced, for one that is, at level 2.
const KINDS: [(&str, Found, Found, Found); 57] = [
    ("double_small", Report, Report, Report),
    ("double_large", Report, Report, Report),
    ("double_huge", Report, Report, Report),
    ("double_8", Report, Report, Report),
    ("double_after_one", Report, Report, Report),
    ("double_after_many", Report, Report, Report),
    ("double_large_after_many", Report, Report, Report),
    ("double_elsewhere", Report, Report, Report),
    ("double_from_elsewhere", Report, Report, Report),
    ("double_both_elsewhere", Report, Report, Report),
    ("double_large_elsewhere", Report, Report, Report),
    ("double_while_others_work", Report, Report, Report),
    ("double_after_realloc", Report, Report, Report),
    ("double_after_realloc_0", Report, Report, Report),
    ("double_in_fork", Report, Report, Report),
    ("double_aligned", Report, Report, Report),
    ("double_operator", Report, Report, Report),
    ("interior_8", Report, Report, Report),
    ("interior_16", Report, Report, Report),
    ("interior_last", Report, Report, Report),
    ("interior_large", Report, Report, Report),
    ("interior_large_page", Report, Report, Report),
    ("interior_huge", Report, Report, Report),
    ("misaligned_1", Report, Report, Report),
    ("before_start", Report, Report, Report),
    ("interior_elsewhere", Report, Report, Report),
    ("free_stack", Report, Report, Report),
    ("free_data", Report, Report, Report),
    ("free_code", Report, Report, Report),
    ("free_low", Report, Report, Report),
    ("free_top", Report, Report, Report),
    ("free_non_canonical", Report, Report, Report),
    ("free_unmapped", Report, Report, Report),
    ("free_mapping", Report, Report, Report),
    ("free_never_handed_out", Report, Report, Report),
    ("realloc_freed", Report, Report, Report),
    ("realloc_freed_large", Report, Report, Report),
    ("realloc_interior", Report, Report, Report),
    ("realloc_foreign", Report, Report, Report),
    ("usable_size_interior", Report, Report, Report),
    ("usable_size_foreign", Report, Report, Report),
    ("align_not_a_power", Report, Report, Report),
    ("size_overflow", Report, Report, Report),
    ("free_sized_wrong", Told, Told, Report),
    ("free_sized_large_wrong", Told, Told, Report),
    ("delete_sized_wrong", Told, Told, Report),
    ("free_aligned_sized_wrong", Told, Told, Report),
    ("overflow_by_one", No, Report, Report),
    ("overflow_by_many", No, Report, Report),
    ("overflow_of_freed_neighbour", No, Report, Report),
    ("overflow_large_by_one", Report, Report, Report),
    ("overflow_large_far", Report, Report, Fault),
    ("overflow_small_far", No, Report, Fault),
    ("underflow", No, Report, Report),
    ("write_after_free", No, Report, Report),
    ("write_after_free_elsewhere", No, Report, Report),
    ("pointer_after_free", No, Stop, Fault),
];

fn run(kind: &str, settings: &str) -> Outcome {
    Program::c("misuse.c")
        .arg(format!("kind={kind}"))
        .env("ZONAL_CONF", format!("{settings},stats:exit"))
        .run()
}

fn found(kind: &str, settings: &str) -> Found {
    found_in(kind, settings, &run(kind, settings))
}

fn found_in(kind: &str, settings: &str, outcome: &Outcome) -> Found {
    let lines = |start: &str| outcome.stderr.lines().filter(|l| l.starts_with(start)).count();
    match outcome.signal() {
        Some(libc::SIGABRT) if lines("zonal: ") + lines("refused") == 1 => Report,
        Some(libc::SIGSEGV) if lines("zonal: fault at ") == 1 && lines("zonal: ") == 1 => Fault,
        Some(libc::SIGSEGV) if lines("zonal: ") == 0 => Stop,
        None if lines("zonal: free(") == 1
            && outcome.stderr.lines().any(|l| l.trim() == "size_mismatch 1") =>
        {
            Told
        }
        None if lines("zonal: ") == 0 => No,
        _ => outcome.fail(&format!("{kind} with {settings} ends as none of the table")),
    }
}

fn compare(settings: &str, expected: impl Fn(&(&str, Found, Found, Found)) -> Found) {
    let mut wrong = Vec::new();
    for kind in KINDS.iter().filter(|_| is_zonal()) {
        let (expected, found) = (expected(kind), found(kind.0, settings));
        if expected != found {
            wrong.push(format!("{}: {found:?}, not {expected:?}", kind.0));
        }
    }
    assert!(wrong.is_empty(), "with {settings}: {wrong:#?}");
}

#[test]
fn the_table_names_every_kind() {
    let listed = Program::c("misuse.c").run().success().stdout;
    assert_eq!(listed.lines().collect::<Vec<_>>(), KINDS.map(|(kind, ..)| kind));
}

/// At the settings that everybody has: what a small program does is found always.
#[test]
fn level_1() {
    compare("harden:1", |&(_, _, found, _)| found);
    let nr_told = KINDS.iter().filter(|kind| matches!(kind.2, Report | Told)).count();
    assert!(nr_told * 50 >= KINDS.len() * 47, "{nr_told} of {}", KINDS.len());
}

/// The same at other sizes, and when the C library has allocated before as it does for many programs.
#[test]
fn level_1_at_many_sizes() {
    let mut wrong = Vec::new();
    let kinds = KINDS.iter().filter(|kind| kind.1 != kind.2 && is_zonal());
    for &(kind, _, expected, _) in kinds {
        for (size, busy) in SIZES {
            let program =
                Program::c("misuse.c").args([format!("kind={kind}"), format!("size={size}")]);
            let outcome = program.arg(format!("busy={}", u8::from(busy))).run();
            let found = found_in(kind, "its defaults", &outcome);
            if found != expected && !is_beyond(kind, size) {
                wrong.push(format!("{kind} of {size}, {busy}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sizes of objects, and whether the C library was busy before.
const SIZES: [(usize, bool); 18] = [
    (8, true),
    (9, false),
    (24, true),
    (40, true),
    (57, true),
    (64, false),
    (64, true),
    (100, true),
    (200, true),
    (256, false),
    (400, true),
    (512, true),
    (700, true),
    (1016, true),
    (1500, true),
    (4000, false),
    (4096, false),
    (20_000, true),
];

/// What is not seen in the first objects of that size: larger ones fill the pages of their neighbours, and those
/// above 4088 bytes have slack behind them, but are not looked at once they are free.
fn is_beyond(kind: &str, size: usize) -> bool {
    let by_overflow = kind.starts_with("overflow") && kind != "overflow_small_far";
    kind == "underflow" && size > 2040 || size > 4088 && !by_overflow
}

/// Of the objects that are not fenced.
#[test]
fn level_1_without_fenced_objects() {
    compare("harden:1,fence:0", |&(_, found, ..)| found);
}

#[test]
fn level_1_where_every_object_is_checked() {
    compare("harden:1,fence:1", |&(_, _, found, _)| found);
}

/// One in so many is checked, so what a program does again and again is found.
#[test]
fn level_1_in_the_long_run() {
    for kind in ["overflow_again", "write_after_free_again"].iter().filter(|_| is_zonal()) {
        assert_eq!(found(kind, "harden:1"), Report, "{kind}");
        assert_eq!(found(kind, "harden:1,fence:0"), No, "{kind}");
    }
}

#[test]
fn level_2() {
    compare("harden:2", |&(.., found)| found);
}

/// A line that cannot be written leaves errno as it was.
#[test]
fn a_wrong_size_that_nobody_reads_of() {
    if is_zonal() {
        let program = Program::c("misuse.c").arg("kind=free_sized_wrong").arg("mute=1");
        assert_eq!(program.run().code(), Some(3));
    }
}

/// What the processor notices first belongs to the program, if it wants to know.
#[test]
fn faults_go_to_the_program_first() {
    for (kind, ..) in KINDS.iter().filter(|kind| kind.3 == Fault && is_zonal()) {
        let program = Program::c("misuse.c").arg(format!("kind={kind}")).arg("own=1");
        let outcome = program.env("ZONAL_CONF", "harden:2").run().quiet();
        assert_eq!(outcome.code(), Some(4), "{kind}");
    }
}

/// What no level gives up.
#[test]
fn level_0() {
    let kinds = KINDS.iter().map(|kind| kind.0).filter(|kind| {
        kind.starts_with("free_") && !kind.contains("sized")
            || kind.starts_with("double_large")
            || kind.starts_with("interior_large")
            || kind.ends_with("_foreign")
            || kind.ends_with("huge")
    });
    for kind in kinds.filter(|_| is_zonal()) {
        assert_eq!(found(kind, "harden:0"), Report, "{kind}");
    }
}

/// Ordinary programs run on checked blocks as on others, be it all or some.
#[test]
fn checked_blocks_do_no_harm() {
    let programs: [(&str, &[&str]); 7] = [
        ("workload.c", &["mib=8"]),
        ("size.c", &[]),
        ("align.c", &[]),
        ("handoff.c", &["rounds=300"]),
        ("new.cpp", &[]),
        ("fork.c", &["count=200", "every=10", "zonal=1"]),
        ("storm.c", &["seconds=1", "jump=0"]),
    ];
    for (program, arguments) in programs.into_iter().filter(|_| is_zonal()) {
        for settings in ["harden:2", "harden:1,fence:1"] {
            let run = Program::c(program).args(arguments).env("ZONAL_CONF", settings);
            run.run().success().quiet();
        }
    }
}
