//! A small fuzzer for stable Rust: a corpus of inputs that is kept, and random changes of them.
//!
//! A target is a test that calls [`fuzz`] with a function that takes any bytes and panics when
//! something is wrong. First every file of `corpus/NAME` is tried, then changes of them for
//! `ZONAL_FUZZ_SECONDS` (2 in an ordinary test run; `tests/fuzz.sh` takes 60, `make fuzz` an hour).
//! An input that fails is written into the corpus, where it is tried first from then on; one that
//! kills the process is left in the file that the first line of output names.
//!
//! It does not watch which code ran, so the corpus has to bring each shape of input with it.

#![expect(clippy::print_stdout, reason = "for the reader of a failed test")]
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

mod mutate;

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use mutate::Random;

/// Tries the corpus of `name` and changes of it on `run`.
///
/// # Panics
/// When `run` does, after saving the input.
pub fn fuzz(name: &str, run: impl Fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let corpus = read_corpus(&dir);
    assert!(!corpus.is_empty(), "no corpus in {}", dir.display());
    let path = std::env::temp_dir().join(format!("zonal-fuzz-{name}-{}", std::process::id()));
    let last = File::create(&path).expect("a file for the last input");
    let seed = number("ZONAL_FUZZ_SEED").unwrap_or_else(now);
    println!("fuzz {name}: seed {seed}, last input in {}", path.display());
    for input in &corpus {
        attempt(input, &dir, &last, &run);
    }
    let seconds = number("ZONAL_FUZZ_SECONDS").unwrap_or(2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = Random::new(seed);
    let mut nr = corpus.len();
    while Instant::now() < end {
        let input = mutate::mutate(&mut random, &corpus);
        attempt(&input, &dir, &last, &run);
        nr += 1;
    }
    println!("fuzz {name}: {nr} inputs, {} from the corpus", corpus.len());
    fs::remove_file(path).unwrap_or_default();
}

fn attempt(input: &[u8], dir: &Path, last: &File, run: &impl Fn(&[u8])) {
    last.set_len(input.len() as u64).unwrap_or_default();
    last.write_all_at(input, 0).unwrap_or_default();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = dir.join(format!("found-{:016x}", hasher.finish()));
        fs::write(&path, input).unwrap_or_default();
        println!("fuzz: failed on {:?}, kept in {}", input.escape_ascii(), path.display());
        resume_unwind(panic);
    }
}

fn read_corpus(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a folder for the corpus");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a file of the corpus")).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fuzzer that finds nothing proves nothing: it has to come upon a fault three changes deep.
    #[test]
    fn a_hidden_fault_is_found() {
        let mut random = Random::new(11);
        let corpus = [b"limit:4K,thp:auto".to_vec(), b"nodes=0-3".to_vec()];
        let found = (0..200_000).any(|_| {
            let input = mutate::mutate(&mut random, &corpus);
            input.starts_with(b"limit:") && input.contains(&b'=') && input.contains(&0xff)
        });
        assert!(found);
    }
}
