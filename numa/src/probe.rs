//! Trace points for `perf`, `bpftrace` and SystemTap: USDT probes of the provider `zonal`.
//!
//! Each is one `nop`, and a note in the file that says where it is and in which registers its
//! arguments are. They stand on slow paths only, and cost nothing more until somebody attaches. The
//! names are those of the kernel's events of `kmem` and `vmscan` where it has one.
//!
//! | probe                             | arguments                                              |
//! |-----------------------------------|--------------------------------------------------------|
//! | `mm_page_alloc`                   | address, pages, node                                   |
//! | `mm_page_free`                    | address, pages, node                                   |
//! | `mm_page_alloc_extfrag`           | address, order of the block, old and new migratetype   |
//! | `mm_page_purge`                   | node, pages given back, mappings named                 |
//! | `mm_vmscan_direct_reclaim_begin`  | node, pages wanted                                     |
//! | `mm_vmscan_direct_reclaim_end`    | node, pages reclaimed                                  |
//! | `mm_vmscan_wakeup_kswapd`         | -                                                      |
//! | `mm_vmscan_kswapd_wake`           | -                                                      |
//! | `mm_vmscan_kswapd_sleep`          | nanoseconds                                            |
//! | `mm_watermark_low`                | pages missing to the high mark                         |
//! | `mm_watermark_high`               | pages reclaimed                                        |
//!
//! The form of the notes: sourceware.org/systemtap/wiki/UserSpaceProbeImplementation. There is no
//! semaphore, and no base symbol: nobody prelinks any more.
#![expect(unsafe_code, reason = "a nop with a note")]

use core::arch::asm;

/// Where the arguments of a probe are: `8@` and a register, each.
#[cfg(target_arch = "x86_64")]
macro_rules! operands {
    () => {
        ""
    };
    ($a:ident) => {
        "8@%{0}"
    };
    ($a:ident $b:ident) => {
        "8@%{0} 8@%{1}"
    };
    ($a:ident $b:ident $c:ident) => {
        "8@%{0} 8@%{1} 8@%{2}"
    };
    ($a:ident $b:ident $c:ident $d:ident) => {
        "8@%{0} 8@%{1} 8@%{2} 8@%{3}"
    };
}
/// As above.
#[cfg(target_arch = "aarch64")]
macro_rules! operands {
    () => {
        ""
    };
    ($a:ident) => {
        "8@{0}"
    };
    ($a:ident $b:ident) => {
        "8@{0} 8@{1}"
    };
    ($a:ident $b:ident $c:ident) => {
        "8@{0} 8@{1} 8@{2}"
    };
    ($a:ident $b:ident $c:ident $d:ident) => {
        "8@{0} 8@{1} 8@{2} 8@{3}"
    };
}

macro_rules! probe {
    ($(#[$doc:meta])* $name:ident($($arg:ident),*)) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name($($arg: usize),*) {
            // SAFETY: a nop; all else goes to a section that is not loaded.
            unsafe {
                asm!(
                    "990: nop",
                    ".pushsection .note.stapsdt, \"\", @note",
                    ".balign 4",
                    ".4byte 992f - 991f, 994f - 993f, 3",
                    "991: .asciz \"stapsdt\"",
                    "992: .balign 4",
                    "993: .8byte 990b, 0, 0",
                    ".asciz \"zonal\"",
                    concat!(".asciz \"", stringify!($name), "\""),
                    concat!(".asciz \"", operands!($($arg)*), "\""),
                    "994: .balign 4",
                    ".popsection",
                    $(in(reg) $arg,)*
                    options(nomem, nostack, preserves_flags),
                );
            }
        }
    };
}

probe! {
    /// The zone handed out a run of pages.
    mm_page_alloc(addr, nr_pages, node)
}
probe! {
    /// A run of pages came back to the zone.
    mm_page_free(addr, nr_pages, node)
}
probe! {
    /// A request was served from a pageblock of another migratetype.
    mm_page_alloc_extfrag(addr, order, from, to)
}
probe! {
    /// Free pages went back to the system.
    mm_page_purge(node, nr_pages, nr_spans)
}
probe! {
    /// A request found no memory and begins to reclaim.
    mm_vmscan_direct_reclaim_begin(node, nr_pages)
}
probe! {
    /// It ends, with the memory or without.
    mm_vmscan_direct_reclaim_end(node, nr_reclaimed)
}
probe! {
    /// Somebody found too little memory and does not want to wait for the next round.
    mm_vmscan_wakeup_kswapd()
}
probe! {
    /// kswapd begins a round.
    mm_vmscan_kswapd_wake()
}
probe! {
    /// kswapd sleeps.
    mm_vmscan_kswapd_sleep(ns)
}
probe! {
    /// The headroom fell below the low watermark: kswapd begins.
    mm_watermark_low(nr_missing)
}
probe! {
    /// It brought the headroom above the high watermark.
    mm_watermark_high(nr_reclaimed)
}
