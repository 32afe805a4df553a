//! Where functions lie in the library: what every process runs side by side, what is seldom run at the end.
//!
//! The kernel maps the 64 KiB around each page of code that a process touches, so of what lies scattered all is
//! resident. `layout.txt` names functions in groups; the linker gets a script that puts the first group at the
//! beginning of `.text`, and so on. A name that fits nothing does no harm, and what no line names comes last.

use core::fmt::Write;

/// The script for such a list, for `ld` and `lld`. After each group stands a symbol, by which `benches/layout.py`
/// finds it.
pub(crate) fn script(list: &str) -> String {
    // The jumps to the C library beside the code, as `ld` has them anyway.
    let mut script = "SECTIONS {\n  .plt : { *(.plt) *(.iplt) }\n  .text : {\n".to_string();
    let mut group = None;
    for line in list.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            end(&mut script, group.replace(name));
            continue;
        }
        match line.split_once(' ') {
            Some((module, names)) => {
                names.split_whitespace().for_each(|name| add(&mut script, module, name));
            }
            None if line.is_empty() => (),
            None => add(&mut script, line, ""),
        }
    }
    end(&mut script, group);
    script + "    *(.text .text.*)\n  }\n} INSERT AFTER .fini;\n"
}

fn end(script: &mut String, group: Option<&str>) {
    if let Some(group) = group {
        let _ = writeln!(script, "    zonal_layout_{group} = .;");
    }
}

/// A function of a module, or all of them without a name. A compiler writes each part of a path behind its length,
/// but `crate..module..Type` for the type of a trait's function. What is between module and function, and behind
/// it, is not looked at: types, traits, closures, hashes.
fn add(script: &mut String, module: &str, name: &str) {
    let counted = |part: &str| format!("{}{part}", part.len());
    let _ = match module {
        "C" => writeln!(script, "    *(.text.{name} .text.unlikely.{name})"),
        "file" => writeln!(script, "    *{name}(.text .text.*)"),
        _ => {
            let path: String = module.split("::").map(counted).collect();
            let dotted = module.replace("::", "..");
            let name = if name.is_empty() { String::new() } else { format!("*{}", counted(name)) };
            writeln!(script, "    *(.text.*{path}{name}* .text.*${dotted}..{name}*)")
        }
    };
}
