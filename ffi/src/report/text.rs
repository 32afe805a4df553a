//! The report in the shape of the kernel's `/proc` files.

use core::fmt::{self, Write};

use zonal_allocator::Stats;

use super::figures::{events, pages, totals, zones};
use crate::fd::Out;

pub(super) fn write(out: &mut Out, stats: &Stats) -> fmt::Result {
    // SAFETY: getpid only asks.
    let pid = unsafe { libc::getpid() };
    writeln!(out, "zonal {} pid {pid}", crate::VERSION)?;
    writeln!(out, "--- zoneinfo")?;
    for zone in zones(stats) {
        writeln!(out, "Node {}, zone   Normal", zone.node.index())?;
        for (name, value) in pages(zone) {
            writeln!(out, "        {name:<17}{value}")?;
        }
    }
    buddyinfo(out, stats)?;
    writeln!(out, "--- vmstat")?;
    for (name, value) in totals(stats).into_iter().chain(events(stats)) {
        writeln!(out, "{name} {value}")?;
    }
    slabinfo(out, stats)?;
    writeln!(out, "---")
}

/// Free blocks by order.
fn buddyinfo(out: &mut Out, stats: &Stats) -> fmt::Result {
    for (warmth, name) in ["cold", "warm"].into_iter().enumerate() {
        writeln!(out, "--- buddyinfo {name}")?;
        for zone in zones(stats) {
            write!(out, "Node {}, zone   Normal", zone.node.index())?;
            for blocks in &zone.nr_free_blocks {
                write!(out, " {:6}", blocks[warmth])?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn slabinfo(out: &mut Out, stats: &Stats) -> fmt::Result {
    writeln!(out, "--- slabinfo")?;
    writeln!(out, "# objsize    slabs  objects   active   cached")?;
    for class in stats.classes.iter().filter(|class| class.nr_slabs > 0) {
        let active = class.nr_objects.saturating_sub(class.nr_free + class.nr_cached);
        writeln!(
            out,
            "{:>9} {:>8} {:>8} {active:>8} {:>8}",
            class.size, class.nr_slabs, class.nr_objects, class.nr_cached
        )?;
    }
    Ok(())
}
