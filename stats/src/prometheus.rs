//! The report as Prometheus text exposition, format 0.0.4.
//!
//! Names follow the conventions: `zonal_` and the group, base units (bytes, seconds), counters in
//! `_total`. All samples of one name stand together, below its HELP and TYPE.

use core::fmt::{self, Display, Write};

use crate::figure::{Figure, Figures, Kind, Unit};
use crate::node::{MIGRATETYPES, NR_ORDERS, WARMTHS};
use crate::snapshot::Snapshot;
use crate::text::Thousandths;
use crate::{PAGE_SIZE, class::Class};

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    head(out, &"zonal_info", Kind::Gauge, &"The library and the process; always 1.")?;
    let version = Escaped(snapshot.version());
    writeln!(out, "zonal_info{{version=\"{version}\",pid=\"{}\"}} 1", snapshot.pid)?;
    let alone = |_: &Snapshot| "";
    let whole = || core::iter::once(snapshot);
    group(out, "process", whole(), |s| &s.process, alone)?;
    group(out, "vmstat", whole(), |s| &s.heap_events, alone)?;
    group(out, "vmstat", whole(), |s| &s.process_events, alone)?;
    let nodes = || snapshot.nodes().iter();
    let by_node = |node: &crate::Node| Label("node", node.id);
    group(out, "zone", nodes(), |node| &node.zone, by_node)?;
    group(out, "pcp", nodes(), |node| &node.pcp, by_node)?;
    group(out, "memory", nodes(), |node| &node.memory, by_node)?;
    group(out, "vmstat", nodes(), |node| &node.events, by_node)?;
    group(out, "numastat", nodes(), |node| &node.numastat, by_node)?;
    free_area(out, snapshot)?;
    let classes = || snapshot.classes().iter().filter(|class| class.nr_slabs > 0);
    // The size is the label.
    group(out, "slab", classes(), |class| class, |class: &Class| Label("class", class.size))?;
    let name = "zonal_slab_waste_bytes";
    head(out, &name, Kind::Gauge, &"Bytes in live objects that nobody asked for, estimated.")?;
    for class in classes() {
        writeln!(out, "{name}{{class=\"{}\"}} {}", class.size, class.waste_bytes())?;
    }
    Ok(())
}

/// All figures of one kind of item: one family of samples for each figure.
fn group<'a, W: Write, T: 'a, F: Figures + 'a, L: Display>(
    out: &mut W,
    group: &str,
    items: impl Iterator<Item = &'a T> + Clone,
    part: impl Fn(&'a T) -> &'a F,
    labels: impl Fn(&T) -> L,
) -> fmt::Result {
    for (i, figure) in F::table().enumerate() {
        let name = Name { group, figure };
        let is_in_pages = figure.unit == Unit::Pages;
        let unit = if is_in_pages { " In bytes." } else { "" };
        head(out, &name, figure.kind, &format_args!("{}{unit}", figure.help.trim_ascii()))?;
        for item in items.clone() {
            let value = part(item).values().nth(i).map_or(0, |(_, value)| value);
            writeln!(out, "{name}{} {}", labels(item), Value(figure, value))?;
        }
    }
    Ok(())
}

fn free_area<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    let name = "zonal_free_blocks";
    head(out, &name, Kind::Gauge, &"Free blocks of 2^order pages.")?;
    for node in snapshot.nodes() {
        for (order, area) in node.free_area.iter().enumerate() {
            for (mt, migratetype) in MIGRATETYPES.into_iter().enumerate() {
                for (warm, warmth) in WARMTHS.into_iter().enumerate() {
                    write!(out, "{name}{{node=\"{}\",order=\"{order}\",", node.id)?;
                    write!(out, "migratetype=\"{migratetype}\",warmth=\"{warmth}\"}}")?;
                    writeln!(out, " {}", area[mt][warm])?;
                }
            }
        }
    }
    let name = "zonal_extfrag_index";
    let help = "How much a failed request of that order would be due to fragmentation; \
                -1 when it would not fail.";
    head(out, &name, Kind::Gauge, &help)?;
    for node in snapshot.nodes() {
        for order in 0..NR_ORDERS {
            let index = Thousandths(node.extfrag_index(order));
            writeln!(out, "{name}{{node=\"{}\",order=\"{order}\"}} {index}", node.id)?;
        }
    }
    Ok(())
}

fn head<W: Write>(out: &mut W, name: &dyn Display, kind: Kind, help: &dyn Display) -> fmt::Result {
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
    };
    // No help text has anything to be escaped: a test holds it.
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} {kind}")
}

/// The name of a figure by the conventions.
struct Name<'a> {
    group: &'a str,
    figure: Figure,
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { name, kind, unit, .. } = self.figure;
        let name = name.strip_prefix("nr_").unwrap_or(name);
        let name = name.strip_suffix("_bytes").or(name.strip_suffix("_ns")).unwrap_or(name);
        let unit = match unit {
            Unit::Count => "",
            Unit::Bytes | Unit::Pages => "_bytes",
            Unit::Nanoseconds => "_seconds",
        };
        let total = if kind == Kind::Counter { "_total" } else { "" };
        write!(f, "zonal_{}_{name}{unit}{total}", self.group)
    }
}

/// A value in the base unit.
struct Value(Figure, u64);

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.unit {
            Unit::Pages => write!(f, "{}", self.1.saturating_mul(PAGE_SIZE)),
            Unit::Nanoseconds => {
                write!(f, "{}.{:09}", self.1 / 1_000_000_000, self.1 % 1_000_000_000)
            }
            Unit::Count | Unit::Bytes => write!(f, "{}", self.1),
        }
    }
}

/// The only label of a sample.
struct Label(&'static str, u64);

impl Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}=\"{}\"}}", self.0, self.1)
    }
}

/// Text of a label or of HELP with the escapes of the format.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' => f.write_str("\\\"")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
