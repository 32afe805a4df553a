//! Functions and lines of addresses, from the files that were mapped.
//!
//! Debugging information tells functions, also inlined ones, files and lines; where there is none,
//! the table of symbols tells the function, and where that was stripped, the exported names do.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

use super::dump::Mapping;

/// A function at a place, with its file and line if they are known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) function: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// The files behind the mappings of a process, opened when first asked for.
pub(super) struct Symbols<'a> {
    mappings: &'a [Mapping],
    root: &'a Path,
    modules: HashMap<&'a str, Option<Module>>,
    known: HashMap<u64, Vec<Place>>,
}

impl<'a> Symbols<'a> {
    /// For a process that sees `root` as `/`.
    pub(super) fn new(mappings: &'a [Mapping], root: &'a Path) -> Self {
        Self { mappings, root, modules: HashMap::new(), known: HashMap::new() }
    }

    /// The functions at `address`, the innermost inlined one first. Never empty: what is not known
    /// is named by its address.
    pub(super) fn places(&mut self, address: u64) -> &[Place] {
        if !self.known.contains_key(&address) {
            let found = self.look_up(address);
            self.known.insert(address, found);
        }
        self.known.get(&address).map_or(&[], Vec::as_slice)
    }

    fn look_up(&mut self, address: u64) -> Vec<Place> {
        let unknown = |name: String| vec![Place { function: name, file: None, line: None }];
        let Some(mapping) = self.mappings.iter().find(|map| map.contains(address)) else {
            return unknown(format!("{address:#x}"));
        };
        let in_file = address - mapping.start + mapping.offset;
        let root = self.root;
        let module = self
            .modules
            .entry(&mapping.path)
            .or_insert_with(|| Module::open(&inside(root, &mapping.path)));
        let places = module
            .as_ref()
            .map(|module| module.places(module.address_of(in_file).unwrap_or(in_file)));
        match places {
            Some(places) if !places.is_empty() => places,
            _ => {
                let name = mapping.path.rsplit('/').next().unwrap_or_default();
                unknown(format!("{name}+{in_file:#x}"))
            }
        }
    }
}

/// `path` as the process sees it, if it has a root of its own.
fn inside(root: &Path, path: &str) -> PathBuf {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    root.join(path.trim_start_matches('/'))
}

/// An entry of a table of symbols.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    start: u64,
    /// 0 for some that were written in assembly: nobody knows where they end.
    size: u64,
    name: String,
}

/// Functions behind each other that may overlap.
const NEIGHBOURS: usize = 8;

/// One file with code.
pub(super) struct Module {
    loader: Loader,
    /// Of loaded parts: offset in the file, size, address.
    segments: Vec<(u64, u64, u64)>,
    /// Functions of the tables of symbols, by address.
    functions: Vec<Function>,
}

impl Module {
    pub(super) fn open(path: &Path) -> Option<Self> {
        // A mapping may be named like a fifo, which would be waited for.
        let loader = fs::metadata(path).ok()?.is_file().then(|| Loader::new(path).ok())??;
        let bytes = fs::read(path).ok()?;
        let file = ElfFile64::<Endianness>::parse(bytes.as_slice()).ok()?;
        let endian = file.endian();
        let segments = file.elf_program_headers().iter();
        let segments = segments.filter(|part| part.p_type(endian) == object::elf::PT_LOAD);
        let segments = segments
            .map(|part| (part.p_offset(endian), part.p_filesz(endian), part.p_vaddr(endian)))
            .collect();
        let mut functions: Vec<_> = file
            .symbols()
            .chain(file.dynamic_symbols())
            .filter(|symbol| symbol.is_definition() && symbol.kind() == object::SymbolKind::Text)
            .filter_map(|symbol| {
                let name = symbol.name().ok()?.into();
                Some(Function { start: symbol.address(), size: symbol.size(), name })
            })
            .collect();
        functions.sort_unstable();
        Some(Self { loader, segments, functions })
    }

    /// The address that the file itself gives to a place in it.
    fn address_of(&self, in_file: u64) -> Option<u64> {
        self.segments.iter().find_map(|(offset, size, address)| {
            let into = in_file.checked_sub(*offset)?;
            (into < *size).then_some(address + into)
        })
    }

    /// The functions at an address of the file's own; empty if nobody knows.
    pub(super) fn places(&self, address: u64) -> Vec<Place> {
        let mut places = self.by_debug_information(address);
        // Debugging information may know the line and not the function.
        if places.last().is_none_or(|place| place.function.is_empty()) {
            let Some(function) = self.symbol(address) else {
                places.retain(|place| !place.function.is_empty());
                return places;
            };
            match places.last_mut() {
                Some(place) => place.function = function,
                None => places.push(Place { function, file: None, line: None }),
            }
        }
        places
    }

    fn by_debug_information(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(address) else { return places };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref();
            let name = name.and_then(|name| name.demangle().ok().map(|text| text.into_owned()));
            let location = frame.location.as_ref();
            places.push(Place {
                function: name.unwrap_or_default(),
                file: location.and_then(|location| location.file).map(str::to_owned),
                line: location.and_then(|location| location.line),
            });
        }
        places
    }

    /// The function that the address lies in, not one that merely stands before it: in a stripped
    /// file most that stand there have lost their names.
    fn symbol(&self, address: u64) -> Option<String> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let before = self.functions.get(..after)?;
        let mut near = before.iter().rev().take(NEIGHBOURS);
        let found = near.find(|function| address - function.start < function.size.max(1))?;
        Some(addr2line::demangle_auto(found.name.as_str().into(), None).into_owned())
    }
}

/// Whether a function is a part of the allocator, or of the way to it: of no interest at the inner
/// end of a stack.
pub(super) fn is_allocator(function: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        "zonal::",
        "<zonal::",
        "zonal_allocator::",
        "__rust",
        "__rustc",
        "alloc::alloc::",
        "<alloc::alloc::",
        "core::alloc::",
    ];
    PREFIXES.iter().any(|prefix| function.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_finds_itself() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let text = format!("heap profile: 0: 0 [0: 0] @ heapprofile\nMAPPED_LIBRARIES:\n{maps}");
        let dump = super::super::dump::Dump::parse(&text).unwrap();
        let mut symbols = Symbols::new(&dump.mappings, Path::new("/"));
        let own = this_test_finds_itself as fn() as usize as u64;
        let places = symbols.places(own + 1);
        assert!(
            places.iter().any(|place| place.function.contains("this_test_finds_itself")),
            "{places:?}"
        );
        assert!(places.iter().any(|place| place.line.is_some()), "{places:?}");
        // Debian's C library has exported names only.
        let places = symbols.places(libc::qsort as *const () as usize as u64 + 1);
        assert!(places[0].function.starts_with("qsort"), "{places:?}");
        assert_eq!(symbols.places(16)[0].function, "0x10");
    }

    #[test]
    fn what_lies_behind_a_function_is_not_in_it() {
        let own = fs::read_link("/proc/self/exe").unwrap();
        let mut module = Module::open(&own).unwrap();
        let function = |start, size, name: &str| Function { start, size, name: name.into() };
        module.functions =
            vec![function(16, 32, "outer"), function(24, 0, "label"), function(64, 8, "_ZN1a1bE")];
        let found = [15, 16, 24, 47, 48, 64, 71, 72].map(|address| module.symbol(address));
        let found = found.each_ref().map(|name| name.as_deref().unwrap_or("-"));
        assert_eq!(found, ["-", "outer", "label", "outer", "-", "a::b", "a::b", "-"]);
    }

    #[test]
    fn parts_of_the_allocator_are_known() {
        for name in ["zonal::hot::malloc", "__rust_alloc", "<alloc::alloc::Global as X>::allocate"]
        {
            assert!(is_allocator(name), "{name}");
        }
        for name in ["malloc_consolidate", "my::zonal::function", "main"] {
            assert!(!is_allocator(name), "{name}");
        }
    }
}
