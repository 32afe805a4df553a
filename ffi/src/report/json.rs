//! The report as one JSON object on one line. All names are fixed, so nothing needs escapes.

use core::fmt::{self, Write};

use zonal_allocator::Stats;

use super::figures::{Figure, events, pages, totals, zones};
use crate::fd::Out;

pub(super) fn write(out: &mut Out, stats: &Stats) -> fmt::Result {
    // SAFETY: getpid only asks.
    let pid = unsafe { libc::getpid() };
    write!(out, "{{\"version\":\"{}\",\"pid\":{pid},\"zones\":", crate::VERSION)?;
    list(out, zones(stats), |out, zone| {
        write!(out, "{{\"node\":{},\"pages\":", zone.node.index())?;
        object(out, pages(zone))?;
        for (warmth, name) in ["free_blocks_cold", "free_blocks_warm"].into_iter().enumerate() {
            write!(out, ",\"{name}\":")?;
            list(out, zone.nr_free_blocks, |out, blocks| write!(out, "{}", blocks[warmth]))?;
        }
        out.write_str("}")
    })?;
    out.write_str(",\"totals\":")?;
    object(out, totals(stats))?;
    out.write_str(",\"events\":")?;
    object(out, events(stats))?;
    out.write_str(",\"slabs\":")?;
    list(out, stats.classes.iter().filter(|class| class.nr_slabs > 0), |out, class| {
        object(
            out,
            [
                ("size", class.size as u64),
                ("slabs", class.nr_slabs as u64),
                ("objects", class.nr_objects as u64),
                ("free", class.nr_free as u64),
                ("cached", class.nr_cached as u64),
            ],
        )
    })?;
    out.write_str("}\n")
}

fn object<const N: usize>(out: &mut Out, figures: [Figure; N]) -> fmt::Result {
    for (i, (name, value)) in figures.into_iter().enumerate() {
        let before = if i == 0 { '{' } else { ',' };
        write!(out, "{before}\"{name}\":{value}")?;
    }
    out.write_str("}")
}

fn list<T>(
    out: &mut Out,
    items: impl IntoIterator<Item = T>,
    item: impl Fn(&mut Out, T) -> fmt::Result,
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
