//! `zonal symbolize`: names of functions in the place of `file+0xaddress`, as leak reports have it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::symbols::{Module, Place, is_allocator};

/// What `zonal symbolize` was asked for.
#[derive(Debug, Args)]
#[command(after_help = "Example: ZONAL_CONF=leaks:exit program 2>&1 | zonal symbolize")]
pub(crate) struct SymbolizeArgs {
    /// The text; standard input if there is none.
    file: Option<PathBuf>,
}

/// Copies text and puts names into the frames of leak reports.
pub(crate) fn run(args: &SymbolizeArgs, out: &mut impl Write) -> Result<()> {
    let mut input: Box<dyn BufRead> = match &args.file {
        Some(path) => {
            Box::new(BufReader::new(File::open(path).with_context(|| path.display().to_string())?))
        }
        None => Box::new(BufReader::new(io::stdin())),
    };
    let mut modules = HashMap::new();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).context("input")? > 0 {
        out.write_all(&named(&line, &mut modules)).context("output")?;
        line.clear();
    }
    out.flush().context("output")
}

/// The line, with names if it is a frame: `    #3 /usr/lib/x.so+0x1234`.
fn named(line: &[u8], modules: &mut HashMap<String, Option<Module>>) -> Vec<u8> {
    let places = || {
        let text = std::str::from_utf8(line).ok()?;
        let (number, place) = text.trim().strip_prefix('#')?.split_once(' ')?;
        let (path, address) = place.rsplit_once("+0x")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let module =
            modules.entry(path.to_owned()).or_insert_with(|| Module::open(Path::new(path)));
        let places = module.as_ref()?.places(address);
        Some(frames(number, &places)).filter(|text| !text.is_empty())
    };
    let mut places = places;
    places().map_or_else(|| line.to_vec(), String::into_bytes)
}

fn frames(number: &str, places: &[Place]) -> String {
    let mut text = String::new();
    let inner = places.iter().filter(|place| !is_allocator(&place.function));
    for place in inner {
        text += &format!("    #{number} {}", place.function);
        if let Some(file) = &place.file {
            text += &format!(" at {file}");
            if let Some(line) = place.line {
                text += &format!(":{line}");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_of_known_files_are_changed() {
        let mut modules = HashMap::new();
        for line in ["hello\n", "#1 2+0x3\n", "    #0 /no/such/file+0x10\n", "\u{e4} #1\n", "#\n"] {
            assert_eq!(named(line.as_bytes(), &mut modules), line.as_bytes());
        }
        let odd = b"\xff #0 /bin/sh+0x10\n";
        assert_eq!(named(odd, &mut modules), odd);
    }
}
