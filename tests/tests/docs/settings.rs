//! The tables of settings against the library that reads them.

use std::collections::BTreeSet;
use std::fs;

use zonal_tests::{Program, is_zonal};

use crate::blocks::root;

/// The document with the tables.
const DOCUMENT: &str = "docs/CONFIGURATION.md";

/// A row: the key, and every value that it names literally.
struct Row {
    key: String,
    values: Vec<String>,
}

/// The rows of all tables whose head begins with `| key `.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap_or_default();
    let tables = text.split("\n| key ").skip(1);
    let rows: Vec<Row> = tables
        .flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|')))
        .map(row)
        .collect();
    assert!(!rows.is_empty(), "{DOCUMENT} has no table of settings");
    rows
}

fn row(line: &str) -> Row {
    let columns: Vec<&str> = line.split('|').collect();
    let literals = |column: &str| -> Vec<String> {
        column.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let key = literals(columns[1]).concat();
    let mut values = literals(columns[2]);
    // In capitals is what the user fills in.
    values.retain(|value| !value.split(['=', ':', '+']).any(is_placeholder));
    Row { key, values }
}

fn is_placeholder(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The keys that the library's source accepts, from the arms of its `set`.
fn accepted() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join("settings/src/lib.rs")).unwrap_or_default();
    let body = source.split("\nfn set<").nth(1).and_then(|rest| rest.split("\n}\n").next());
    let body = body.unwrap_or_else(|| panic!("settings/src/lib.rs has no function `set`"));
    let arms = body.lines().map(str::trim).filter(|line| line.starts_with("b\""));
    let heads = arms.filter_map(|line| line.split([' ', '=']).next());
    let keys: BTreeSet<String> =
        heads.flat_map(|head| head.split('"').nth(1)).map(str::to_owned).collect();
    assert!(keys.len() > 5, "{keys:?}");
    keys
}

#[test]
fn every_key_is_documented_and_no_other() {
    let rows: Vec<String> = rows().into_iter().map(|row| row.key).collect();
    let documented: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(documented.len(), rows.len(), "a key stands twice");
    assert_eq!(documented, accepted());
}

/// What the tables name as a value is understood; a value that cannot be is refused, by its key.
#[test]
fn every_value_of_the_table_is_understood() {
    if !is_zonal() {
        return;
    }
    // Some settings leave files behind.
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("temporary directory: {e}"));
    let told = |setting: &str| {
        let program = Program::c("true.c").env("ZONAL_CONF", setting).dir(folder.path());
        program.run().success().stderr.replace('\n', " ")
    };
    for Row { key, values } in rows() {
        for value in values {
            let setting = format!("{key}:{value}");
            let line = told(&setting);
            let refused = line.contains("ZONAL_CONF:");
            assert!(!refused, "{setting}: {line}");
        }
        let line = told(&format!("{key}:"));
        assert!(line.contains("bad value"), "{key}: {line}");
    }
}
