//! The nodes as boxes, their distances as a table, and in which order memory is looked for.

use std::fmt::Write as _;

use super::ranges::contains;
use super::{Node, View};
use crate::size::size;

/// Columns inside the frame of a box.
const INSIDE: usize = 24;
const GAP: &str = "  ";

/// Lines of at most `width` columns where that is possible at all.
pub(super) fn draw(view: &View, width: usize) -> String {
    let mut text = String::new();
    let boxes: Vec<Vec<String>> = view.nodes.iter().map(|node| draw_box(view, node)).collect();
    let in_a_row = ((width + GAP.len()) / (INSIDE + 4 + GAP.len())).max(1);
    for row in boxes.chunks(in_a_row) {
        for line in 0..row[0].len() {
            let parts: Vec<&str> = row.iter().map(|lines| lines[line].as_str()).collect();
            let _ = writeln!(text, "{}", parts.join(GAP));
        }
    }
    if view.nodes.len() > 1 {
        distances(&mut text, view);
        zonelists(&mut text, view);
    }
    process(&mut text, view);
    let _ = writeln!(text, "page size {} KiB", view.page_size >> 10);
    text
}

fn draw_box(view: &View, node: &Node) -> Vec<String> {
    let memory = match node.memory {
        _ if !node.has_memory => "none".into(),
        Some(memory) => size(memory.total as u64),
        None => "yes".into(),
    };
    let free = node.memory.filter(|_| node.has_memory).map(|memory| size(memory.free as u64));
    let allowed = contains(&view.process.nodes, node.id);
    let title = format!("node {}{}", node.id, if allowed { "" } else { " (not allowed)" });
    let mut lines = vec![
        ("processors", node.processors.clone()),
        ("memory", memory),
        ("free", free.unwrap_or_else(|| "-".into())),
    ];
    if view.process.pid.is_some() {
        let threads = view.process.threads.get(&node.id).copied().unwrap_or(0);
        let bytes = view.process.memory.get(&node.id).copied().unwrap_or(0);
        lines.extend([("threads", threads.to_string()), ("holds", size(bytes))]);
    }
    let mut drawn =
        vec![format!("+- {title} {:-<1$}+", "", (INSIDE - 1).saturating_sub(title.len()))];
    drawn.extend(lines.iter().map(|(name, value)| {
        let value: String = value.chars().take(INSIDE - 12).collect();
        format!("| {name:<12}{value:<0$} |", INSIDE - 12)
    }));
    drawn.push(format!("+{:-<1$}+", "", INSIDE + 2));
    drawn
}

fn distances(text: &mut String, view: &View) {
    let _ = write!(text, "\ndistance to");
    for node in &view.nodes {
        let _ = write!(text, "{:5}", node.id);
    }
    for node in &view.nodes {
        let _ = write!(text, "\n  from {:4}", node.id);
        for (_, far) in &node.distances {
            let _ = write!(text, "{far:5}");
        }
    }
    let _ = writeln!(text);
}

fn zonelists(text: &mut String, view: &View) {
    let _ = writeln!(text, "\nwhere a thread looks for memory");
    for node in &view.nodes {
        let steps = node.zonelist.iter().map(|(to, far)| format!("{to} ({far})"));
        let steps: Vec<String> = steps.collect();
        let _ = writeln!(text, "  on node {}: {}", node.id, steps.join(" -> "));
    }
}

fn process(text: &mut String, view: &View) {
    let process = &view.process;
    let who = match process.pid {
        Some(pid) => format!("{} ({pid})", process.name),
        None => "a program started here".into(),
    };
    let of = |one: &str, list: &str| {
        let plural = if list.contains(['-', ',']) { "s" } else { "" };
        format!("{one}{plural} {}", if list.is_empty() { "?" } else { list })
    };
    let (processors, nodes) = (of("processor", &process.processors), of("node", &process.nodes));
    let _ = writeln!(text, "\n{who} may use {processors} and memory of {nodes}");
}

#[cfg(test)]
mod tests {
    use zonal_numa::NodeMemory;

    use super::super::process::Process;
    use super::*;

    fn view(pid: Option<u32>) -> View {
        let node = |id, processors: &str, has_memory| Node {
            id,
            processors: processors.into(),
            has_memory,
            memory: has_memory.then_some(NodeMemory { total: 8 << 30, free: 3 << 29, files: 0 }),
            distances: vec![(0, if id == 0 { 10 } else { 21 }), (3, if id == 0 { 21 } else { 10 })],
            zonelist: vec![(0, if id == 0 { 10 } else { 21 })],
        };
        let process = Process {
            pid,
            name: "redis".into(),
            processors: "0-7".into(),
            nodes: "0".into(),
            threads: [(0, 4), (3, 1)].into(),
            memory: [(0, 5 << 20)].into(),
        };
        View { page_size: 4096, nodes: vec![node(0, "0-3", true), node(3, "4-7", false)], process }
    }

    #[test]
    fn two_nodes_side_by_side() {
        let expected = "\
+- node 0 -----------------+  +- node 3 (not allowed) ---+
| processors  0-3          |  | processors  4-7          |
| memory      8.0 GiB      |  | memory      none         |
| free        1.5 GiB      |  | free        -            |
| threads     4            |  | threads     1            |
| holds       5.0 MiB      |  | holds       0 B          |
+--------------------------+  +--------------------------+

distance to    0    3
  from    0   10   21
  from    3   21   10

where a thread looks for memory
  on node 0: 0 (10)
  on node 3: 0 (21)

redis (77) may use processors 0-7 and memory of node 0
page size 4 KiB
";
        assert_eq!(draw(&view(Some(77)), 100), expected);
    }

    #[test]
    fn one_below_the_other_where_it_is_narrow() {
        let text = draw(&view(None), 40);
        assert!(text.lines().take(10).all(|line| line.len() == INSIDE + 4), "{text}");
        assert!(!text.contains("threads") && text.contains("a program started here"), "{text}");
    }
}
