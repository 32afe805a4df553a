//! One line a stack, `outer;inner bytes`: what flame graphs are made of.

use std::collections::BTreeMap;

use super::dump::{Dump, Stack};
use super::symbols::{Symbols, is_allocator};

pub(super) fn write(dump: &Dump, symbols: &mut Symbols<'_>, total: bool) -> Vec<u8> {
    // Stacks that differ in addresses only become one.
    let mut lines: BTreeMap<String, i64> = BTreeMap::new();
    for stack in &dump.stacks {
        let bytes = if total { stack.total_bytes } else { stack.live_bytes };
        if bytes > 0 {
            *lines.entry(names(stack, symbols).join(";")).or_default() += bytes;
        }
    }
    let text: String = lines.iter().map(|(stack, bytes)| format!("{stack} {bytes}\n")).collect();
    text.into_bytes()
}

/// Function names, the outermost first, without the allocator's own at the inner end.
fn names(stack: &Stack, symbols: &mut Symbols<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for frame in &stack.frames {
        for place in symbols.places(*frame) {
            if !(names.is_empty() && is_allocator(&place.function)) {
                // In the output these separate names and stacks.
                names.push(place.function.replace([';', '\n'], ":"));
            }
        }
    }
    if names.is_empty() {
        names.push("[unknown]".into());
    }
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn equal_names_are_summed_and_dead_stacks_left_out() {
        let text = "heap profile: 0: 0 [0: 0] @ heapprofile\n\
                    1: 10 [2: 30] @ 0x11 0x21\n1: 5 [1: 5] @ 0x11 0x21\n0: 0 [9: 900] @ 0x31\n\
                    1: 7 [1: 7] @\n";
        let dump = Dump::parse(text).unwrap();
        let folded = |total| {
            let mut symbols = Symbols::new(&dump.mappings, Path::new("/"));
            String::from_utf8(write(&dump, &mut symbols, total)).unwrap()
        };
        assert_eq!(folded(false), "0x20;0x10 15\n[unknown] 7\n");
        assert_eq!(folded(true), "0x20;0x10 35\n0x30 900\n[unknown] 7\n");
    }
}
