//! The profile as text: the classic form of gperftools, which `pprof` still reads.
//!
//! ```text
//! heap profile:     3:  1572864 [   900: 471859200] @ heapprofile
//!      3:  1572864 [   900: 471859200] @ 0x55d0c0de1234 0x55d0c0de5678
//!
//! MAPPED_LIBRARIES:
//! 55d0c0de0000-55d0c0df0000 r-xp 00001000 fe:01 1234   /usr/bin/program
//! ```
//!
//! Live objects and bytes, then all so far; "heapprofile" says that nothing has to be scaled. The
//! frames are return addresses.

use core::fmt::{self, Write as _};

use zonal_allocator::profile::{Profile, StackFigures};

use crate::fd::{Out, write_all};

pub(super) fn write(fd: i32, profile: &Profile) -> fmt::Result {
    let mut sum = StackFigures::default();
    profile.each_stack(|figures, _| {
        sum.live += figures.live;
        sum.live_bytes += figures.live_bytes;
        sum.total += figures.total;
        sum.total_bytes += figures.total_bytes;
    });
    let mut out = Out::new(fd);
    out.write_str("heap profile: ")?;
    line(&mut out, &sum)?;
    out.write_str(" heapprofile\n")?;
    // SAFETY: getpid only asks.
    let pid = unsafe { libc::getpid() };
    let (rate, lost) = (profile.period(), profile.nr_lost());
    writeln!(out, "# zonal {} pid {pid} rate {rate} lost {lost}", crate::VERSION)?;
    let mut result = Ok(());
    profile.each_stack(|figures, frames| {
        if result.is_ok() {
            result = stack(&mut out, figures, frames);
        }
    });
    result?;
    out.write_str("\nMAPPED_LIBRARIES:\n")?;
    out.finish()?;
    maps(fd)
}

fn stack(out: &mut Out, figures: &StackFigures, frames: &[usize]) -> fmt::Result {
    line(out, figures)?;
    for frame in frames {
        write!(out, " {frame:#x}")?;
    }
    out.write_char('\n')
}

fn line(out: &mut Out, figures: &StackFigures) -> fmt::Result {
    let StackFigures { live, live_bytes, total, total_bytes } = figures;
    write!(out, "{live:6}: {live_bytes:8} [{total:6}: {total_bytes:8}] @")
}

/// The kernel's list. Where there is no `/proc` the addresses stand alone.
fn maps(fd: i32) -> fmt::Result {
    let path = c"/proc/self/maps";
    // SAFETY: a string that ends in null.
    let maps = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if maps < 0 {
        return Ok(());
    }
    let mut buffer = [0_u8; 1024];
    let result = loop {
        // SAFETY: the kernel writes to the buffer at most its length.
        let nr = unsafe { libc::read(maps, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(nr).ok().and_then(|nr| buffer.get(..nr)) {
            None | Some([]) => break Ok(()),
            Some(read) if write_all(fd, read) => {}
            Some(_) => break Err(fmt::Error),
        }
    };
    // SAFETY: opened above, and nobody else knows it.
    unsafe { libc::close(maps) };
    result
}
