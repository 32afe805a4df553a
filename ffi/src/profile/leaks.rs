//! What is still alive when the process ends, by the stacks that allocated it.
//!
//! Frames are written as a file and an address in it, the form that every symbolizer takes;
//! `zonal symbolize` puts the names of functions in their place.

use core::fmt::{self, Write as _};
use core::sync::atomic::AtomicI32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use zonal_allocator::profile::{Profile, StackFigures};

use crate::fd::Out;
use crate::report;
use crate::unwind::Module;

/// Stacks shown, the largest first.
const SHOWN: usize = 20;

static FD: AtomicI32 = AtomicI32::new(-1);
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

/// Keeps a copy of stderr for the end; programs close theirs.
pub(super) fn prepare() -> bool {
    let fd = report::away(libc::STDERR_FILENO);
    let Some((device, inode)) = report::identity(fd) else { return false };
    DEVICE.store(device, Relaxed);
    INODE.store(inode, Relaxed);
    FD.store(fd, Relaxed);
    true
}

pub(super) fn report(profile: &Profile) {
    let fd = FD.load(Relaxed);
    if report::identity(fd) == Some((DEVICE.load(Relaxed), INODE.load(Relaxed))) {
        let mut out = Out::new(fd);
        // A reader that has gone misses it.
        let _ = write(&mut out, profile).and_then(|()| out.finish());
    }
}

fn write(out: &mut Out, profile: &Profile) -> fmt::Result {
    let (mut bytes, mut objects, mut stacks) = (0, 0, 0);
    profile.each_stack(|figures, _| {
        bytes += figures.live_bytes;
        objects += figures.live;
        stacks += usize::from(figures.live_bytes > 0);
    });
    // SAFETY: getpid only asks.
    let pid = unsafe { libc::getpid() };
    let rate = profile.period();
    if stacks == 0 {
        return writeln!(
            out,
            "zonal: pid {pid}: nothing that was sampled is alive at exit (one sample in {rate} bytes)"
        );
    }
    let plural = if stacks == 1 { "" } else { "s" };
    writeln!(
        out,
        "zonal: pid {pid}: about {bytes} bytes in {objects} objects are alive at exit, from \
         {stacks} stack{plural} (sampled once in {rate} bytes)"
    )?;
    // No memory to sort in: each round looks for the next smaller one.
    let mut last = (u64::MAX, usize::MAX);
    for _ in 0..SHOWN.min(stacks) {
        let mut best = (0, 0);
        let mut index = 0;
        profile.each_stack(|figures, _| {
            index += 1;
            let rank = (figures.live_bytes, index);
            if rank < last && rank > best {
                best = rank;
            }
        });
        if best.0 == 0 {
            break;
        }
        last = best;
        index = 0;
        let mut result = Ok(());
        profile.each_stack(|figures, frames| {
            index += 1;
            if index == best.1 {
                result = stack(out, figures, frames);
            }
        });
        result?;
    }
    if stacks > SHOWN {
        writeln!(out, "zonal: and {} smaller stacks", stacks - SHOWN)?;
    }
    Ok(())
}

fn stack(out: &mut Out, figures: &StackFigures, frames: &[usize]) -> fmt::Result {
    let StackFigures { live, live_bytes, .. } = figures;
    writeln!(out, "zonal: about {live_bytes} bytes in {live} objects from")?;
    if frames.is_empty() {
        writeln!(out, "    stacks that are not known")?;
    }
    for (depth, frame) in frames.iter().enumerate() {
        // Into the call: the frames are return addresses.
        let place = frame - 1;
        write!(out, "    #{depth} ")?;
        match Module::of(place) {
            Some(module) => {
                for chunk in module.name().utf8_chunks() {
                    out.write_str(chunk.valid())?;
                }
                writeln!(out, "+{:#x}", place.wrapping_sub(module.bias))?;
            }
            None => writeln!(out, "{place:#x}")?,
        }
    }
    Ok(())
}
