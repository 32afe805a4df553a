//! `zonal symbolize`: names of functions in the place of `file+0xaddress`, as leak reports have it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::symbols::{Module, Place, is_allocator};

/// What `zonal symbolize` was asked for.
#[derive(Debug, Args)]
#[command(after_help = "Example: ZONAL_CONF=leaks:exit program 2>&1 | zonal symbolize")]
pub(crate) struct SymbolizeArgs {
    /// The text; standard input if there is none.
    file: Option<PathBuf>,

    /// Print the stacks of the reports as JSON, and none of the text around them.
    #[arg(long)]
    json: bool,
}

/// Copies text and puts names into the frames of leak reports.
pub(crate) fn run(args: &SymbolizeArgs, out: &mut impl Write) -> Result<()> {
    let name = args.file.as_ref().map_or_else(|| "input".into(), |path| path.display().to_string());
    let mut input: Box<dyn BufRead> = match &args.file {
        Some(path) => {
            Box::new(BufReader::new(File::open(path).with_context(|| path.display().to_string())?))
        }
        None => Box::new(BufReader::new(io::stdin())),
    };
    let mut modules = Modules::default();
    let mut stacks = Vec::new();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).with_context(|| name.clone())? > 0 {
        if args.json {
            modules.collect(&line, &mut stacks);
        } else {
            out.write_all(&modules.named(&line)).context("output")?;
        }
        line.clear();
    }
    if args.json {
        writeln!(out, "{:#}", json!({ "version": 1, "stacks": stacks })).context("output")?;
    }
    out.flush().context("output")
}

/// A frame of a report: `    #3 /usr/lib/x.so+0x1234`.
struct Frame<'a> {
    number: &'a str,
    place: &'a str,
}

impl<'a> Frame<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (number, place) = text.trim().strip_prefix('#')?.split_once(' ')?;
        Some(Self { number, place })
    }
}

/// The files that frames name, opened when first met.
#[derive(Default)]
struct Modules(HashMap<String, Option<Module>>);

impl Modules {
    /// The functions at the place of a frame, but for the allocator's own; none if they are not known.
    fn places(&mut self, frame: &Frame<'_>) -> Option<Vec<Place>> {
        let (path, address) = frame.place.rsplit_once("+0x")?;
        let address = u64::from_str_radix(address, 16).ok()?;
        let open = || Module::open(Path::new(path));
        let module = self.0.entry(path.to_owned()).or_insert_with(open).as_ref()?;
        let mut places = module.places(address);
        places.retain(|place| !is_allocator(&place.function));
        Some(places).filter(|places| !places.is_empty())
    }

    /// The line, with names if it is a frame.
    fn named(&mut self, line: &[u8]) -> Vec<u8> {
        let Some(frame) = Frame::parse(line) else { return line.to_vec() };
        let Some(places) = self.places(&frame) else { return line.to_vec() };
        places.iter().map(|place| text(frame.number, place)).collect::<String>().into_bytes()
    }

    /// Adds a stack if one begins with the line, or a frame to the last one.
    fn collect(&mut self, line: &[u8], stacks: &mut Vec<Value>) {
        if let Some((bytes, objects)) = head(line) {
            stacks.push(json!({ "live_bytes": bytes, "nr_live": objects, "frames": [] }));
        }
        let frames = stacks.last_mut().and_then(|stack| stack["frames"].as_array_mut());
        let (Some(frames), Some(frame)) = (frames, Frame::parse(line)) else { return };
        let function = |place: Place| json!({ "function": place.function, "file": place.file, "line": place.line });
        let functions: Vec<Value> =
            self.places(&frame).into_iter().flatten().map(function).collect();
        frames.push(json!({ "place": frame.place, "functions": functions }));
    }
}

/// Bytes and objects of a stack, from the line above its frames:
/// `zonal: about 4096 bytes in 2 objects from`.
fn head(line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    let rest = text.strip_prefix("zonal: about ")?.strip_suffix(" objects from")?;
    let (bytes, objects) = rest.split_once(" bytes in ")?;
    Some((bytes.parse().ok()?, objects.parse().ok()?))
}

fn text(number: &str, place: &Place) -> String {
    let mut text = format!("    #{number} {}", place.function);
    if let Some(file) = &place.file {
        text += &format!(" at {file}");
        if let Some(line) = place.line {
            text += &format!(":{line}");
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_of_known_files_are_changed() {
        let mut modules = Modules::default();
        for line in ["hello\n", "#1 2+0x3\n", "    #0 /no/such/file+0x10\n", "\u{e4} #1\n", "#\n"] {
            assert_eq!(modules.named(line.as_bytes()), line.as_bytes());
        }
        let odd = b"\xff #0 /bin/sh+0x10\n";
        assert_eq!(modules.named(odd), odd);
    }

    #[test]
    fn stacks_are_collected_out_of_the_text() {
        let mut modules = Modules::default();
        let mut stacks = Vec::new();
        let text = "hello\n    #0 /no/such/file+0x1\nzonal: about 4096 bytes in 2 objects from\n\
                    \x20   #0 /no/such/file+0x10\n    #1 0x7f00\nbye\n\
                    zonal: about 1 bytes in 1 objects from\n    stacks that are not known\n";
        text.lines().for_each(|line| modules.collect(line.as_bytes(), &mut stacks));
        let frame = |place: &str| json!({ "place": place, "functions": [] });
        let frames = [frame("/no/such/file+0x10"), frame("0x7f00")];
        assert_eq!(stacks[0], json!({ "live_bytes": 4096, "nr_live": 2, "frames": frames }));
        assert_eq!(stacks[1], json!({ "live_bytes": 1, "nr_live": 1, "frames": [] }));
        assert_eq!(stacks.len(), 2);
    }
}
