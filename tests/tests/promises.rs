//! The tests that `docs/PROMISES.md` names exist, and every promise names one.

use std::fs;
use std::path::Path;

/// Whether `text` has a test of that name.
fn has_test(text: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let at = text.find(&head);
    // Attributes and documentation stand between; `proptest!` and the like need `#[test]` too.
    at.is_some_and(|at| {
        let before = text[..at].rsplit("\n\n").next().unwrap_or_default();
        before.contains("#[test]")
    })
}

#[test]
fn every_promise_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/PROMISES.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.contains("| held by"));
    let rows: Vec<&str> = rows.filter(|line| !line.contains("| model |")).collect();
    assert!(rows.len() > 40, "only {} promises", rows.len());
    for row in rows {
        let names: Vec<&str> = row.split('`').filter(|part| part.contains(".rs::")).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            let (file, test) = name.split_once("::").unwrap();
            let text = fs::read_to_string(root.join(file));
            let text = text.unwrap_or_else(|e| panic!("{file}: {e}, in: {row}"));
            assert!(has_test(&text, test), "{file} has no test {test}, in: {row}");
        }
    }
}

/// The page is the list of them.
#[test]
fn every_model_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/PROMISES.md")).unwrap();
    let mut nr_models = 0;
    for file in fs::read_dir(root.join("allocator/src/loom")).unwrap() {
        let file = file.unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        for after in text.split("#[test]").skip(1) {
            let name = after.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap();
            let model = format!("loom/{}::{name}`", file.file_name().display());
            assert!(page.contains(&model), "no promise names {model}");
            nr_models += 1;
        }
    }
    assert!(nr_models > 40, "only {nr_models} models");
}

#[test]
fn a_missing_test_is_noticed() {
    let text = "/// Does.\n#[test]\nfn there() {\n}\n\nfn helper() {\n}\n";
    assert!(has_test(text, "there"));
    assert!(!has_test(text, "gone") && !has_test(text, "helper"));
}
