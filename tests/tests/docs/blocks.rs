//! The fenced blocks of the documents.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Languages that a fence may name. Commands in `sh` run as they stand; everything else is text.
pub(crate) const LANGUAGES: [&str; 12] = [
    "sh",
    "console",
    "text",
    "ini",
    "dockerfile",
    "yaml",
    "rust",
    "c",
    "python",
    "json",
    "toml",
    "promql",
];

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// Line of its first line in the document, from 1.
    pub(crate) line: usize,
}

/// The blocks of a document.
pub(crate) fn of(document: &Path) -> Vec<Block> {
    let text =
        fs::read_to_string(document).unwrap_or_else(|e| panic!("{}: {e}", document.display()));
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let language = language.trim().to_owned();
                open = Some(Block { language, text: String::new(), line: number + 2 });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block without end", document.display());
    blocks
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// The documents in the root of the repository, and everything below docs/.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["README.md", "LD_PRELOAD.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|name| root().join(name))
        .into();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
