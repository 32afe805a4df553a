//! For how long the zone lock is held, by the processor's clock: for `benches/holds.py`, which builds with
//! `--cfg zonal_holds`, and nothing else.

use crate::sync::now_ns;

/// Holds by the power of two of their ticks. Under the lock itself.
#[derive(Debug)]
pub(crate) struct Holds {
    since: u64,
    /// The first hold, in ticks and nanoseconds: tells how long a tick is.
    first: (u64, u64),
    /// How many, and their ticks in all.
    buckets: [(u64, u64); u64::BITS as usize],
}

impl Holds {
    pub(crate) fn new() -> Holds {
        Holds { since: 0, first: (ticks(), now_ns()), buckets: [(0, 0); u64::BITS as usize] }
    }

    /// The lock was taken just now.
    pub(crate) fn begin(&mut self) {
        self.since = ticks();
    }

    /// It is let go now.
    pub(crate) fn end(&mut self) {
        let held = ticks().saturating_sub(self.since);
        let (nr, sum) = &mut self.buckets[held.max(1).ilog2() as usize];
        (*nr, *sum) = (*nr + 1, *sum + held);
    }

    /// Writes a line "hold FROM-NS NUMBER SUM-NS" for each bucket to the standard error.
    pub(crate) fn print(&self) {
        let nr_ticks = ticks().saturating_sub(self.first.0).max(1);
        let tick_ns = now_ns().saturating_sub(self.first.1) as f64 / nr_ticks as f64;
        for (bucket, (nr, sum)) in self.buckets.iter().enumerate().filter(|(_, (nr, _))| *nr > 0) {
            let mut line = [0u8; 128];
            let [from, sum] = [1 << bucket, *sum].map(|n: u64| n as f64 * tick_ns);
            let format = c"hold %.0f %lu %.0f\n".as_ptr();
            // SAFETY: the format takes a double, an unsigned long and a double; the line is as long as it says.
            let len =
                unsafe { libc::snprintf(line.as_mut_ptr().cast(), 128, format, from, *nr, sum) };
            // SAFETY: so many bytes of it were written.
            unsafe { libc::write(2, line.as_ptr().cast(), len.clamp(0, 127) as usize) };
        }
    }
}

fn ticks() -> u64 {
    // SAFETY: every x86-64 has this instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}
