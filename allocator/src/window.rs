//! The window: where sections and their metadata are mapped.
//!
//! Nothing is mapped before the first section is needed. The base is a random address, because
//! a fixed one would collide with a second instance in the same process and would help an
//! attacker; below 85 TiB the window ends under the places where Linux puts executables and
//! libraries in a 47-bit space. Where that does not work (smaller address spaces), the kernel is
//! asked for a hole.
//!
//! Sections are claimed and entered under the window's lock, and reserved without it, so those of several threads may
//! be on their way. Their metadata is mapped when they are claimed, and they are covered when they are entered: with
//! those in front, whose metadata says "not ours" until they are in use.

use zonal_numa::{Errno, MAX_NODES, Machine, Span};

use crate::pagemap::{Layout, PageMap};
use crate::pages::growing::Growing;
use crate::section::{FIRST_SECTION, LARGEST_SECTION, SECTION_ALIGN};

const GIB: usize = 1 << 30;
const TIB: usize = 1 << 40;
/// 32-bit page numbers reach 16 TiB; the last of them stands for "none". Of a window as long as this the
/// arrays meet half a GiB beside the places where windows begin, that of another instance among them:
/// it would soon be in their way.
const SPAN: usize = 16 * TIB - TIB / 2;
const LOWEST_BASE: usize = 16 * TIB;
const HIGHEST_END: usize = 85 * TIB;
const PLACEMENTS: usize = 8;
/// Sizes of holes to ask for when no random place works.
const HOLES: [usize; 4] = [64 * GIB, 8 * GIB, GIB, GIB / 4];
/// How often growth steps over foreign mappings before it gives up.
const DETOURS: u32 = 48;

/// Metadata is mapped for so many more sections of the length that needed it: the two next ones, each twice as
/// long. A part in fifty of the section in address space, untouched but where a program locks all its memory:
const AHEAD: usize = 6;
/// therefore for no more than that.
const MOST_AHEAD: usize = GIB;

/// Growth state, under the window lock.
#[derive(Debug)]
pub(crate) struct Window {
    layout: Option<Layout>,
    /// Offset of the first byte that was never part of a section or a hole.
    next: usize,
    /// Mapped bytes of the arrays (chunks, words).
    mapped: [usize; 2],
    /// Per node, for base and huge pages.
    growing: [[Growing; 2]; MAX_NODES],
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { layout: None, next: 0, mapped: [0; 2], growing: [[Growing::NEW; 2]; MAX_NODES] }
    }

    /// What is mapped for the arrays of the page map.
    pub(crate) fn arrays(&self) -> Span {
        let Some(layout) = self.layout else { return Span::EMPTY };
        let [chunks, words] = self.mapped;
        // SAFETY: `map_arrays` mapped this range.
        unsafe { Span::new(layout.pivot - chunks, chunks + words) }
    }

    pub(crate) fn growing(&mut self, node: usize, huge: bool) -> &mut Growing {
        &mut self.growing[node][usize::from(huge)]
    }

    /// In a forked child. What others claimed stays a hole.
    pub(crate) fn after_fork(&mut self) {
        self.growing.iter_mut().flatten().for_each(Growing::after_fork);
    }

    /// Takes the next `len` bytes for a section that the caller reserves without the lock. Their metadata is
    /// mapped by then, for some sections behind it, too, so that this is seldom to be done. None where
    /// the window is not placed yet, or that cannot be had.
    pub(crate) fn claim(&mut self, machine: &Machine, len: usize) -> Option<usize> {
        let layout = self.layout?;
        let at = self.next;
        let end = at + len;
        if end > layout.span {
            return None;
        }
        if self.lacks_arrays(machine, end) {
            let ahead = (end + (AHEAD * len).min(MOST_AHEAD)).min(layout.span);
            let has_some =
                [ahead, end].iter().any(|&end| self.map_arrays(machine, &layout, end).is_ok());
            if !has_some {
                return None;
            }
        }
        self.next = end;
        Some(layout.base + at)
    }

    /// A section that was claimed is reserved: from here on addresses in it are ours.
    pub(crate) fn enter(&self, map: &PageMap, section: Span) {
        let Some(layout) = self.layout else { return };
        let end = section.end() - layout.base;
        // SAFETY: `claim` mapped the arrays that far, zeroed by the kernel, those of claims in front of it, too.
        // Zeros are not ours, so it matters not whether those are reserved.
        unsafe { map.cover(end.max(map.covered())) };
    }

    /// Where a claim could not be reserved: if nothing was claimed behind it, it is as if it had not been.
    pub(crate) fn give_back(&mut self, start: usize, len: usize) {
        if self.layout.is_some_and(|layout| layout.base + self.next == start + len) {
            self.next -= len;
        }
    }

    /// Reserves a section of `len` bytes and maps its metadata; all or nothing.
    pub(crate) fn extend(
        &mut self,
        machine: &Machine,
        map: &PageMap,
        len: usize,
    ) -> Result<Span, Errno> {
        debug_assert!(len.is_multiple_of(SECTION_ALIGN) && len > 0);
        let Some(layout) = self.layout else { return self.place(machine, map, len) };
        let mut at = self.next;
        let mut detour = FIRST_SECTION;
        for _ in 0..DETOURS {
            if len > layout.span.saturating_sub(at) {
                return Err(Errno::ENOMEM);
            }
            match self.extend_at(machine, map, &layout, at, len) {
                // Somebody else's mapping lies there: zero words will cover it.
                Err(Errno::EEXIST) => {
                    at += detour;
                    detour = (detour * 2).min(LARGEST_SECTION * 16);
                }
                result => return result,
            }
        }
        Err(Errno::ENOMEM)
    }

    fn place(&mut self, machine: &Machine, map: &PageMap, len: usize) -> Result<Span, Errno> {
        let mut random = machine.random();
        for _ in 0..PLACEMENTS {
            let choices = (HIGHEST_END - SPAN - LOWEST_BASE) / GIB;
            let base = LOWEST_BASE + (random as usize % choices) * GIB;
            match self.place_at(machine, map, Layout::new(base, SPAN), len) {
                Err(Errno::EEXIST) => random = mix(random),
                // Out of memory, or the address space is smaller: a hole tells which.
                Err(_) => break,
                placed => return placed,
            }
        }
        for span in HOLES {
            let below = Layout::below(span) + SECTION_ALIGN;
            let Ok(hole) = machine.probe_hole(below + span) else { continue };
            let base = (hole + below) & !(SECTION_ALIGN - 1);
            if len <= span
                && let Ok(section) = self.place_at(machine, map, Layout::new(base, span), len)
            {
                return Ok(section);
            }
        }
        Err(Errno::ENOMEM)
    }

    fn place_at(
        &mut self,
        machine: &Machine,
        map: &PageMap,
        layout: Layout,
        len: usize,
    ) -> Result<Span, Errno> {
        map.place(&layout);
        let section = self.extend_at(machine, map, &layout, 0, len);
        if section.is_ok() {
            self.layout = Some(layout);
        } else {
            self.unmap_arrays(machine, &layout);
        }
        section
    }

    fn extend_at(
        &mut self,
        machine: &Machine,
        map: &PageMap,
        layout: &Layout,
        at: usize,
        len: usize,
    ) -> Result<Span, Errno> {
        let section = machine.reserve_at(layout.base + at, len)?;
        if let Err(errno) = self.map_arrays(machine, layout, at + len) {
            // The reservation is of no use; if even this fails, it stays reserved and unused.
            let _ = machine.unmap(section);
            // A foreign mapping in the way of the arrays cannot be stepped over.
            let placed = self.layout.is_some();
            return Err(if placed { Errno::ENOMEM } else { errno });
        }
        self.next = at + len;
        // SAFETY: the arrays are mapped that far, zeroed by the kernel, and never unmapped once
        // the window is placed.
        unsafe { map.cover(self.next.max(map.covered())) };
        Ok(section)
    }

    fn lacks_arrays(&self, machine: &Machine, covered: usize) -> bool {
        let lens = array_lens(machine, covered);
        lens.iter().zip(&self.mapped).any(|(len, mapped)| len > mapped)
    }

    /// Maps what the arrays lack for `covered` bytes of window. What is mapped when a later piece
    /// fails stays for the next try.
    fn map_arrays(
        &mut self,
        machine: &Machine,
        layout: &Layout,
        covered: usize,
    ) -> Result<(), Errno> {
        let pivot = layout.pivot;
        let [chunks, words] = array_lens(machine, covered);
        if self.mapped == [0, 0] {
            machine.map_at(pivot - chunks, chunks + words)?;
            self.mapped = [chunks, words];
        }
        let [mapped_chunks, mapped_words] = &mut self.mapped;
        if chunks > *mapped_chunks {
            machine.map_at(pivot - chunks, chunks - *mapped_chunks)?;
            *mapped_chunks = chunks;
        }
        if words > *mapped_words {
            machine.map_at(pivot + *mapped_words, words - *mapped_words)?;
            *mapped_words = words;
        }
        Ok(())
    }

    fn unmap_arrays(&mut self, machine: &Machine, layout: &Layout) {
        let [chunks, words] = self.mapped;
        if chunks + words > 0 {
            // SAFETY: `map_arrays` mapped this range and nothing points into it: the window is
            // not placed.
            let span = unsafe { Span::new(layout.pivot - chunks, chunks + words) };
            // What cannot be unmapped is lost address space, nothing more.
            let _ = machine.unmap(span);
            self.mapped = [0, 0];
        }
    }
}

/// Bytes of the arrays (chunks, words) for `covered` bytes of window, in whole pages.
fn array_lens(machine: &Machine, covered: usize) -> [usize; 2] {
    Layout::array_lens(covered).map(|len| len.next_multiple_of(machine.page_size()))
}

/// The finaliser of splitmix64: another number from one that is random.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
