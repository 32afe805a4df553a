//! The report as one JSON object on one line: `docs/stats.schema.json`.

use core::fmt::{self, Write};

use crate::figure::Figures;
use crate::node::{MIGRATETYPES, NR_ORDERS, Node, WARMTHS};
use crate::snapshot::{SCHEMA_VERSION, Snapshot};

/// Writes the report without its sections.
///
/// # Errors
/// Those of `out`.
pub fn write<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    write!(out, "{{\"schema_version\":{SCHEMA_VERSION},\"version\":\"{}\"", snapshot.version())?;
    write!(out, ",\"pid\":{},\"taken_ns\":{}", snapshot.pid, snapshot.taken_ns)?;
    write!(out, ",\"asked_kernel\":{}", snapshot.asked_kernel != 0)?;
    out.write_str(",\"process\":")?;
    object(out, &snapshot.process)?;
    out.write_str(",\"memory\":")?;
    object(out, &snapshot.memory())?;
    write!(out, ",\"waste_bytes\":{}", snapshot.waste_bytes())?;
    out.write_str(",\"nodes\":")?;
    list(out, snapshot.nodes(), node)?;
    out.write_str(",\"vmstat\":{")?;
    fields(out, &snapshot.zone_events(), true)?;
    fields(out, &snapshot.heap_events, false)?;
    fields(out, &snapshot.process_events, false)?;
    out.write_str("},\"slabs\":")?;
    list(out, snapshot.classes().iter().filter(|class| class.nr_slabs > 0), |out, class| {
        out.write_str("{")?;
        fields(out, class, true)?;
        write!(out, ",\"nr_active\":{},", class.nr_active())?;
        write!(out, "\"waste_bytes\":{}}}", class.waste_bytes())
    })?;
    out.write_str("}\n")
}

/// Writes what the sections hold, as one object on one line: a list of them, each with its
/// pageblocks.
///
/// # Errors
/// Those of `out`.
pub fn write_sections<W: Write>(out: &mut W, snapshot: &Snapshot) -> fmt::Result {
    write!(out, "{{\"schema_version\":{SCHEMA_VERSION},\"pid\":{}", snapshot.pid)?;
    write!(out, ",\"left_out\":{},\"sections\":", snapshot.nr_sections_left_out)?;
    list(out, snapshot.sections(), |out, section| {
        write!(out, "{{\"start\":{},\"nr_pages\":{}", section.start, section.nr_pages)?;
        write!(out, ",\"nr_committed\":{}", section.nr_committed)?;
        write!(out, ",\"nr_resident\":{},\"node\":{}", section.nr_resident, section.node)?;
        write!(out, ",\"kind\":\"{}\",\"pageblocks\":", section.kind().name())?;
        list(out, snapshot.pageblocks(section), |out, block| {
            write!(out, "{{\"slab\":{},\"large\":{}", block.slab, block.large)?;
            write!(out, ",\"pcp\":{},\"free\":{}", block.pcp, block.free)?;
            write!(out, ",\"free_resident\":{}", block.free_resident)?;
            let migratetype = usize::from(block.migratetype).min(MIGRATETYPES.len() - 1);
            write!(out, ",\"resident\":{}", block.resident)?;
            write!(out, ",\"migratetype\":\"{}\"}}", MIGRATETYPES[migratetype])
        })?;
        out.write_str("}")
    })?;
    out.write_str("}\n")
}

fn node<W: Write>(out: &mut W, node: &Node) -> fmt::Result {
    write!(out, "{{\"node\":{},\"zone\":", node.id)?;
    object(out, &node.zone)?;
    out.write_str(",\"pcp\":")?;
    object(out, &node.pcp)?;
    out.write_str(",\"memory\":")?;
    object(out, &node.memory)?;
    out.write_str(",\"vmstat\":")?;
    object(out, &node.events)?;
    out.write_str(",\"numastat\":")?;
    object(out, &node.numastat)?;
    out.write_str(",\"free_area\":{")?;
    for (mt, name) in MIGRATETYPES.into_iter().enumerate() {
        let comma = if mt == 0 { "" } else { "," };
        write!(out, "{comma}\"{name}\":{{")?;
        for (warm, warmth) in WARMTHS.into_iter().enumerate() {
            let comma = if warm == 0 { "" } else { "," };
            write!(out, "{comma}\"{warmth}\":")?;
            list(out, &node.free_area, |out, blocks| write!(out, "{}", blocks[mt][warm]))?;
        }
        out.write_str("}")?;
    }
    out.write_str("},\"extfrag_index\":")?;
    list(out, 0..NR_ORDERS, |out, order| {
        write!(out, "{}", crate::text::Thousandths(node.extfrag_index(order)))
    })?;
    out.write_str("}")
}

fn object<W: Write>(out: &mut W, figures: &impl Figures) -> fmt::Result {
    out.write_str("{")?;
    fields(out, figures, true)?;
    out.write_str("}")
}

fn fields<W: Write>(out: &mut W, figures: &impl Figures, first: bool) -> fmt::Result {
    for (i, (figure, value)) in figures.values().enumerate() {
        let comma = if first && i == 0 { "" } else { "," };
        write!(out, "{comma}\"{}\":{value}", figure.name)?;
    }
    Ok(())
}

fn list<W: Write, T>(
    out: &mut W,
    items: impl IntoIterator<Item = T>,
    item: impl Fn(&mut W, T) -> fmt::Result,
) -> fmt::Result {
    out.write_str("[")?;
    for (i, one) in items.into_iter().enumerate() {
        if i > 0 {
            out.write_str(",")?;
        }
        item(out, one)?;
    }
    out.write_str("]")
}
