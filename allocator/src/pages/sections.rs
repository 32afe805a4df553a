//! Sections are added: address space is claimed, placed on its node, and entered for growth.

use zonal_numa::{Errno, NodeId, PAGE_SIZE, Span};

use crate::lock::lock_unless;
use crate::order::Order;
use crate::pages::Pages;
use crate::section::SECTION_ALIGN;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::spin;
use crate::window::Window;

/// How often a thread looks whether who adds a section is done before it adds one: about 50 us, as long as
/// the system takes for that.
const PATIENCE: u32 = 1000;

impl Pages {
    /// Adds a section for a thread that found none with any pages left; none if another thread has grown the zone.
    /// The window is locked for the claim and for the entry, not while the system is asked: who comes meanwhile
    /// adds a short section of its own.
    pub(super) fn add_beside_others(
        &self,
        id: NodeId,
        huge: bool,
        has_grown: impl Fn() -> bool + Copy,
    ) -> Option<Result<(), Errno>> {
        let lock = || lock_unless(&self.window, has_grown).filter(|_| !has_grown());
        let mut window = lock()?;
        if window.growing(id.index(), huge).is_adding() {
            drop(window);
            for _ in 0..PATIENCE {
                if has_grown() {
                    return None;
                }
                spin();
            }
            window = lock()?;
        }
        if self.sections.is_full() {
            return Some(Err(Errno::ENOMEM));
        }
        let growing = window.growing(id.index(), huge);
        let is_first = growing.begin_adding();
        // Short ones shall not take the places of long ones.
        let is_long = is_first || self.sections.is_half_full();
        let len = if is_long { growing.next_len() } else { SECTION_ALIGN };
        let added = match window.claim(&self.machine, len) {
            None => self.add_section(&mut window, id, huge, (len, is_first)),
            Some(start) => {
                drop(window);
                let reserved = self.machine.reserve_at(start, len);
                reserved.iter().for_each(|&span| self.place_section(id, huge, span));
                window = self.window.lock();
                match reserved {
                    Ok(span) => self.enter_section(&mut window, id, huge, span, is_first),
                    Err(errno) => {
                        window.give_back(start, len);
                        // The place is taken, or so much is not to be had.
                        let len = if errno == Errno::EEXIST { len } else { len / 2 };
                        if len < SECTION_ALIGN {
                            Err(errno)
                        } else {
                            self.add_section(&mut window, id, huge, (len, is_first))
                        }
                    }
                }
            }
        };
        window.growing(id.index(), huge).end_adding();
        if added.is_ok() {
            // Who waits finds something to commit.
            self.nodes[id.index()].note_growth();
            self.window_lock().wake_all();
        }
        Some(added)
    }

    /// Adds a section under the window's lock, of which the next one is `longer`; where address space is short, a
    /// smaller one.
    pub(super) fn add_section(
        &self,
        window: &mut Window,
        id: NodeId,
        huge: bool,
        (mut len, longer): (usize, bool),
    ) -> Result<(), Errno> {
        if self.sections.is_full() {
            return Err(Errno::ENOMEM);
        }
        let span = loop {
            match window.extend(&self.machine, &self.map, len) {
                Ok(span) => break span,
                Err(errno) if len == SECTION_ALIGN => return Err(errno),
                Err(_) => len /= 2,
            }
        };
        self.place_section(id, huge, span);
        self.enter_section(window, id, huge, span, longer)
    }

    /// Placement and advice for a new section. They are wishes: memory that is elsewhere, or of small pages, is
    /// still memory.
    fn place_section(&self, id: NodeId, huge: bool, span: Span) {
        if self.bind(id, span).is_err() {
            self.nodes[id.index()].nr_bind_fail.fetch_add(1, Relaxed);
        }
        if self.os_page == Order::ZERO {
            let _ = self.machine.advise_huge(span, huge);
        }
    }

    /// Enters a reserved section, of which the next one is `longer`.
    fn enter_section(
        &self,
        window: &mut Window,
        id: NodeId,
        huge: bool,
        span: Span,
        longer: bool,
    ) -> Result<(), Errno> {
        if self.sections.is_full() {
            // Others added the last.
            let _ = self.machine.unmap(span);
            window.give_back(span.addr(), span.len());
            return Err(Errno::ENOMEM);
        }
        window.enter(&self.map, span);
        let start = self.map.pfn_of(span.addr()).ok_or(Errno::ENOMEM)?;
        self.sections.add(id, huge, start, span.len() / PAGE_SIZE);
        if longer {
            // Where every node has sections of its own, fewer and larger ones keep mappings few.
            let doublings = if self.online.count() > 1 { 2 } else { 1 };
            window.growing(id.index(), huge).advance(doublings);
        }
        Ok(())
    }
}
