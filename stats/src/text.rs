//! The report in the shape of the kernel's `/proc` files.

use core::fmt::{self, Write};

use crate::class::Class;
use crate::figure::Figures;
use crate::node::{MIGRATETYPES, NR_ORDERS, Node, WARMTHS};
use crate::snapshot::Snapshot;

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    writeln!(out, "zonal {} pid {}", snapshot.version(), snapshot.pid)?;
    meminfo(out, snapshot)?;
    writeln!(out, "--- zoneinfo")?;
    for node in snapshot.nodes() {
        zone(out, node)?;
    }
    writeln!(out, "--- buddyinfo")?;
    for node in snapshot.nodes() {
        write!(out, "Node {}, zone   Normal", node.id)?;
        for order in 0..NR_ORDERS {
            write!(out, " {:6}", node.free_blocks(order))?;
        }
        writeln!(out)?;
    }
    pagetypeinfo(out, snapshot)?;
    writeln!(out, "--- extfrag_index")?;
    for node in snapshot.nodes() {
        write!(out, "Node {}, zone   Normal", node.id)?;
        for order in 0..NR_ORDERS {
            write!(out, " {}", Thousandths(node.extfrag_index(order)))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "--- process")?;
    plain(out, &snapshot.process)?;
    writeln!(out, "--- vmstat")?;
    plain(out, &snapshot.zone_events())?;
    plain(out, &snapshot.heap_events)?;
    plain(out, &snapshot.process_events)?;
    slabinfo(out, snapshot.classes())?;
    writeln!(out, "---")
}

/// Where the memory is, in the unit of `/proc/meminfo`.
fn meminfo<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    writeln!(out, "--- meminfo")?;
    let total = snapshot.memory();
    let own = [
        ("waste", snapshot.waste_bytes()),
        ("meta_resident", snapshot.process.meta_resident_bytes),
        ("fenced", snapshot.process.fenced_bytes),
        ("in_flight", snapshot.process.in_flight_bytes),
        ("total_resident", total.resident_bytes + snapshot.process.meta_resident_bytes),
    ];
    let sums = total.values().map(|(figure, bytes)| (stem(figure.name), bytes));
    for (name, bytes) in sums.chain(own) {
        writeln!(out, "{name:<18}{:>10} kB", bytes / 1024)?;
    }
    Ok(())
}

fn zone<W: Write>(out: &mut W, node: &Node) -> fmt::Result {
    writeln!(out, "Node {}, zone   Normal", node.id)?;
    for (figure, value) in node.zone.values() {
        writeln!(out, "        {:<16} {value}", figure.name)?;
    }
    writeln!(out, "  pagesets")?;
    for (figure, value) in node.pcp.values() {
        writeln!(out, "        {:<16} {value}", figure.name)?;
    }
    writeln!(out, "  memory")?;
    for (figure, value) in node.memory.values() {
        writeln!(out, "        {:<16} {} kB", stem(figure.name), value / 1024)?;
    }
    writeln!(out, "  vmstat")?;
    for (figure, value) in node.events.values() {
        writeln!(out, "        {:<16} {value}", figure.name)?;
    }
    writeln!(out, "  numastat")?;
    for (figure, value) in node.numastat.values() {
        writeln!(out, "        {:<16} {value}", figure.name)?;
    }
    Ok(())
}

fn pagetypeinfo<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    writeln!(out, "--- pagetypeinfo")?;
    for node in snapshot.nodes() {
        for (mt, name) in MIGRATETYPES.into_iter().enumerate() {
            for (warm, warmth) in WARMTHS.into_iter().enumerate() {
                write!(out, "Node {}, zone   Normal, type {name:>10} {warmth}", node.id)?;
                for blocks in &node.free_area {
                    write!(out, " {:6}", blocks[mt][warm])?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn plain<W: Write>(out: &mut W, figures: &impl Figures) -> fmt::Result {
    for (figure, value) in figures.values() {
        writeln!(out, "{} {value}", figure.name)?;
    }
    Ok(())
}

fn slabinfo<W: Write>(out: &mut W, classes: &[Class]) -> fmt::Result {
    writeln!(out, "--- slabinfo")?;
    writeln!(
        out,
        "# objsize pagesperslab    slabs  partial  objects   active   cached    waste_kB"
    )?;
    for class in classes.iter().filter(|class| class.nr_slabs > 0) {
        writeln!(
            out,
            "{:>9} {:>12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>11}",
            class.size,
            class.slab_pages,
            class.nr_slabs,
            class.nr_partial,
            class.nr_objects,
            class.nr_active(),
            class.nr_cached,
            class.waste_bytes() / 1024,
        )?;
    }
    Ok(())
}

/// The name of a figure in bytes without its unit, which the report writes behind the value.
fn stem(name: &str) -> &str {
    name.strip_suffix("_bytes").unwrap_or(name)
}

/// A number of thousandths, as `extfrag_index` of the kernel shows it.
pub(crate) struct Thousandths(pub(crate) i64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let value = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", value / 1000, value % 1000)
    }
}
