//! Files of the source that documents and comments name.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::blocks::root;

/// All Rust files and documents below `folder`, but for what was built.
fn files(folder: PathBuf, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(path, found)?;
            }
        } else if name.ends_with(".rs") || (name.ends_with(".md") && name != "TRIED.md") {
            // What was tried once may have been done in a file that is gone.
            found.push(path);
        }
    }
    Ok(())
}

/// The Rust files and folders of the source that a line names between backticks.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let paths = quoted.map(|text| text.split_once("::").map_or(text, |(path, _)| path));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
    paths.filter(move |path| {
        let is_source = path.ends_with(".rs") || path.contains("/src/");
        is_source && path.len() > 3 && path.chars().all(is_plain)
    })
}

/// Whether there is such a file: beside `from` or below it, or from a folder above, as far as the root, or its `src`.
fn is_there(path: &str, from: &Path, root: &Path) -> bool {
    let mut above = from.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    let below = from.with_extension("").join(path);
    below.exists()
        || above.any(|folder| folder.join(path).exists() || folder.join("src").join(path).exists())
}

#[test]
fn every_file_that_is_named_is_there() {
    let root = root();
    let mut found = Vec::new();
    files(root.clone(), &mut found).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let (mut nr, mut missing) = (0, Vec::new());
    for file in found {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let is_source = file.extension().is_some_and(|extension| extension == "rs");
        for (number, line) in text.lines().enumerate() {
            let comment = line.find("//").map_or("", |at| &line[at..]);
            for path in named(if is_source { comment } else { line }) {
                nr += 1;
                if !is_there(path, &file, &root) {
                    missing.push(format!("{}:{}: {path}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
    assert!(nr > 200, "only {nr} names found");
}

#[test]
fn a_file_that_is_gone_is_noticed() {
    let line = "see `mm/gone.rs`, `Heap::take`, `src/lib.rs::tests` and `x = y`";
    assert_eq!(named(line).collect::<Vec<_>>(), ["mm/gone.rs", "src/lib.rs"]);
    let root = root();
    let from = root.join("tests/src/lib.rs");
    assert!(is_there("src/lib.rs", &from, &root) && !is_there("mm/gone.rs", &from, &root));
}
