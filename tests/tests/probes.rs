//! Trace points: what tools find in the files, by the notes that they read.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use zonal_tests::{have, is_zonal, library};

/// A note: where the probe is, and its arguments.
struct Probe {
    location: usize,
    arguments: Vec<String>,
}

fn readelf(option: &str, file: &Path) -> String {
    let output = Command::new("readelf").args([option, "-W"]).arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Probes of the provider `zonal` by name; one inlined twice is there twice.
fn probes(file: &Path) -> BTreeMap<String, Vec<Probe>> {
    let mut probes: BTreeMap<String, Vec<Probe>> = BTreeMap::new();
    let text = readelf("-n", file);
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if !line.ends_with("Provider: zonal") {
            continue;
        }
        let name = lines.next().and_then(|line| line.strip_prefix("Name: ")).unwrap();
        let places = lines.next().unwrap();
        let location = places.strip_prefix("Location: 0x").unwrap().split(',').next().unwrap();
        let arguments = lines.next().and_then(|line| line.strip_prefix("Arguments:")).unwrap();
        probes.entry(name.to_owned()).or_default().push(Probe {
            location: usize::from_str_radix(location, 16).unwrap(),
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        });
    }
    probes
}

/// Names and numbers of arguments in the document.
fn documented() -> BTreeMap<String, usize> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROFILING.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| probe ")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let arguments = columns[3].split(',').filter(|argument| *argument != "-").count();
        (columns[1].trim_matches('`').to_owned(), arguments)
    });
    rows.collect()
}

/// The section `.text`: address, place in the file, size.
fn text_section(file: &Path) -> (usize, usize, usize) {
    let sections = readelf("-S", file);
    let line = sections.lines().find(|line| line.contains(" .text ")).unwrap();
    let fields: Vec<&str> = line.split(" .text ").nth(1).unwrap().split_whitespace().collect();
    let hex = |at: usize| usize::from_str_radix(fields[at], 16).unwrap();
    (hex(1), hex(2), hex(3))
}

fn check(file: &Path) {
    let probes = probes(file);
    let documented = documented();
    assert!(documented.len() >= 10, "{:?}", documented.keys());
    let names = |map: BTreeSet<&String>| map.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(probes.keys().collect()), names(documented.keys().collect()));
    let (address, offset, size) = text_section(file);
    let bytes = fs::read(file).unwrap();
    let register = if cfg!(target_arch = "x86_64") { "8@%r" } else { "8@x" };
    let nop: &[u8] = if cfg!(target_arch = "x86_64") { &[0x90] } else { &[0x1f, 0x20, 0x03, 0xd5] };
    for (name, places) in &probes {
        // The linker leaves the note of a copy that it dropped; its place counts from zero then.
        let mut live = places.iter().filter(|place| place.location >= address).peekable();
        assert!(live.peek().is_some(), "{name} is nowhere");
        for place in live {
            assert_eq!(place.arguments.len(), documented[name], "{name}: {:?}", place.arguments);
            let in_registers =
                place.arguments.iter().all(|argument| argument.starts_with(register));
            assert!(in_registers, "{name}: {:?}", place.arguments);
            let into = place.location.checked_sub(address).filter(|into| *into < size);
            let at = offset + into.unwrap_or_else(|| panic!("{name} is not in the code"));
            assert!(bytes[at..].starts_with(nop), "{name}: {:x?}", &bytes[at..at + 4]);
        }
    }
}

#[test]
fn the_library_has_the_probes_of_the_document() {
    if is_zonal() && have("readelf", "binutils") {
        check(&library().unwrap());
    }
}

/// A Rust program with zonal inside has them too: this one.
#[test]
fn a_rust_program_has_them() {
    #[global_allocator]
    static ALLOCATOR: zonal::Zonal = zonal::Zonal;

    if have("readelf", "binutils") {
        check(&std::env::current_exe().unwrap());
    }
}
