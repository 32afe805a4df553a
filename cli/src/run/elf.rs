//! What an ELF file says about how it will be loaded.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind, ReadCache, ReadRef};

/// The part of a file's headers that decides whether a preload can work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Kind of processor, class and byte order: a library must have the same as its program.
    pub(crate) target: Target,
    /// The loader that the file asks for. A program without one is static.
    pub(crate) interpreter: Option<String>,
}

/// Kind of machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    machine: u16,
    is_64: bool,
    endianness: Endianness,
}

impl Head {
    /// Reads only what it needs; `None` if the file is not ELF.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let name = || path.display().to_string();
        let cache = ReadCache::new(File::open(path).with_context(name)?);
        match FileKind::parse(&cache) {
            Ok(FileKind::Elf32) => parse::<FileHeader32<Endianness>, _>(&cache).map(Some),
            Ok(FileKind::Elf64) => parse::<FileHeader64<Endianness>, _>(&cache).map(Some),
            Ok(_) | Err(_) => return Ok(None),
        }
        .with_context(name)
    }
}

fn parse<'data, H, R>(data: R) -> Result<Head>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = H::parse(data)?;
    let endianness = header.endian()?;
    let target =
        Target { machine: header.e_machine(endianness), is_64: header.is_class_64(), endianness };
    let mut interpreter = None;
    for segment in header.program_headers(endianness, data)? {
        if let Some(path) = segment.interpreter(endianness, data)? {
            interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    Ok(Head { target, interpreter })
}

/// The interpreter in the `#!` line of a script.
pub(crate) fn script_interpreter(path: &Path) -> io::Result<Option<String>> {
    use io::Read as _;
    let mut start = Vec::new();
    // The kernel reads no more than this of the line.
    File::open(path)?.take(256).read_to_end(&mut start)?;
    let Some(rest) = start.strip_prefix(b"#!") else { return Ok(None) };
    let line = rest.split(|&byte| byte == b'\n').next().unwrap_or(rest);
    Ok(String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned))
}
