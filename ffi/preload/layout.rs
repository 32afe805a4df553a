//! Where functions lie in the library: what every process runs side by side, what is seldom run at the end.
//!
//! The kernel maps the 64 KiB around each page of code that a process touches, so of what lies scattered all is
//! resident. `layout.txt` names functions in groups; the linker gets a script that puts the first group at the
//! beginning of `.text`, and so on. A name that fits nothing does no harm, and what no line names comes last.
//! The group `bss` names variables, which lie behind the others.

use core::fmt::Write;

/// The script for such a list, for `ld` and `lld`. After each group of functions stands a symbol, by which
/// `benches/layout.py` finds it.
pub(crate) fn script(list: &str) -> String {
    let (mut text, mut bss) = (String::new(), String::new());
    let mut group = "";
    for line in list.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            end(&mut text, group);
            group = name;
            continue;
        }
        let (out, section) = if group == "bss" { (&mut bss, ".bss") } else { (&mut text, ".text") };
        match line.split_once(' ') {
            Some((module, names)) => {
                names.split_whitespace().for_each(|name| add(out, section, module, name));
            }
            None if line.is_empty() => (),
            None => add(out, section, line, ""),
        }
    }
    end(&mut text, group);
    // The jumps to the C library beside the code, as `ld` has them anyway.
    format!(
        "SECTIONS {{\n  .plt : {{ *(.plt) *(.iplt) }}\n  .text : {{\n{text}    *(.text .text.*)\n  }}\n}} \
         INSERT AFTER .fini;\nSECTIONS {{\n  .bss.seldom : {{\n{bss}  }}\n}} INSERT AFTER .bss;\n"
    )
}

fn end(script: &mut String, group: &str) {
    if !matches!(group, "" | "bss") {
        let _ = writeln!(script, "    zonal_layout_{group} = .;");
    }
}

/// A function of a module, or all of them without a name. A compiler writes each part of a path behind its length,
/// but `crate..module..Type` for the type of a trait's function. What is between module and function, and behind
/// it, is not looked at: types, traits, closures, hashes.
fn add(script: &mut String, section: &str, module: &str, name: &str) {
    let counted = |part: &str| format!("{}{part}", part.len());
    let _ = match module {
        "C" => writeln!(script, "    *({section}.{name} {section}.unlikely.{name})"),
        "file" => writeln!(script, "    *{name}({section} {section}.*)"),
        _ => {
            let path: String = module.split("::").map(counted).collect();
            let dotted = module.replace("::", "..");
            let name = if name.is_empty() { String::new() } else { format!("*{}", counted(name)) };
            writeln!(script, "    *({section}.*{path}{name}* {section}.*${dotted}..{name}*)")
        }
    };
}
