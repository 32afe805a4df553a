//! The documents say what is true: their commands run, their settings are those of the library, and
//! their links lead somewhere.

mod blocks;
mod examples;
mod forms;
mod paths;
mod scratch;
mod settings;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use zonal_tests::{Outcome, is_zonal};

use blocks::{LANGUAGES, documents, root};
use scratch::Scratch;

/// Every `sh` block of every document, as it stands, up to the paths of an installation.
#[test]
fn every_command_runs() {
    if !is_zonal() {
        return;
    }
    let mut nr_run = 0;
    let mut failed = Vec::new();
    for document in documents() {
        let blocks = blocks::of(&document);
        let commands: Vec<_> = blocks.iter().filter(|block| block.language == "sh").collect();
        if commands.is_empty() {
            continue;
        }
        let scratch = Scratch::new();
        let server = scratch.server();
        for block in commands {
            let outcome = scratch.run(&block.text, Some(&server));
            nr_run += 1;
            if !outcome.is_success() {
                let place = format!("{}:{}", document.display(), block.line);
                failed.push(format!("{place}\n{}{}", block.text, last_lines(&outcome)));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {nr_run} blocks fail:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
    assert!(nr_run > 5, "only {nr_run} blocks found");
}

/// The end of what a block wrote: some write a lot.
fn last_lines(outcome: &Outcome) -> String {
    let last = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    };
    format!("stdout: {}\nstderr: {}", last(&outcome.stdout), last(&outcome.stderr))
}

/// A block without a known language would be run by nobody and missed by nobody.
#[test]
fn every_block_names_its_language() {
    for document in documents() {
        for block in blocks::of(&document) {
            let known = LANGUAGES.contains(&block.language.as_str());
            assert!(known, "{}:{}: {:?}", document.display(), block.line, block.language);
        }
    }
}

/// Links between the documents, those of the benches too, and from them to files of the repository; to a place
/// in a document, if they name one.
#[test]
fn every_link_leads_somewhere() {
    let benches = ["benches/README.md", "benches/TRIED.md"].map(|page| root().join(page));
    for document in documents().into_iter().chain(benches) {
        let text = fs::read_to_string(&document).unwrap_or_default();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap_or(Path::new("/")).join(path),
            };
            assert!(target.exists(), "{}: no file behind {link}", document.display());
            let is_there = place.is_empty() || anchors(&target).contains(place);
            assert!(is_there, "{}: no such heading: {link}", document.display());
        }
    }
}

/// The names that headings have in links: small letters, hyphens for blanks, no other signs.
fn anchors(document: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(document).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(name).collect()
}

/// The guide's index names every page.
#[test]
fn the_index_is_complete() {
    let folder = root().join("docs");
    let index = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let pages: BTreeSet<String> = documents()
        .iter()
        .filter_map(|page| Some(page.strip_prefix(&folder).ok()?.to_string_lossy().into_owned()))
        .filter(|page| page != "README.md")
        .collect();
    let missing: Vec<_> =
        pages.iter().filter(|page| !index.contains(&format!("({page}"))).collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}
