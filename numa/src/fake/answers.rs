//! What the fake machine answers where the real one would ask the system.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use super::plan::Hook;
use super::{FakeMachine, State};
use crate::{
    Call, Errno, GroupRoom, MemPolicy, NodeId, NodeMask, NodeMemory, Room, Span, ThpMode, Topology,
};

impl FakeMachine {
    /// None while the node is without limit.
    pub(crate) fn memory(&self, node: NodeId) -> Option<NodeMemory> {
        let (total, free, files) = self.state().ledger.memory(node)?;
        let bytes = |pages: usize| pages.saturating_mul(self.shape.page_size);
        Some(NodeMemory { total: bytes(total), free: bytes(free), files: bytes(files) })
    }

    pub(crate) fn move_page(&self, addr: usize, to: NodeId) {
        self.state().ledger.move_page(addr, to);
    }

    /// Counts the page at `addr` again, if it was purged. A node without room gives none.
    pub(crate) fn touched(&self, addr: usize) {
        let home = self.home();
        let page = Span::mapped(addr & !(self.shape.page_size - 1), self.shape.page_size);
        let _ = self.state().ledger.charge(page, home);
    }

    pub(crate) fn make_topology(&self) -> Topology {
        self.shape.topology()
    }

    pub(crate) fn page_size(&self) -> usize {
        self.shape.page_size
    }

    pub(crate) fn current_node(&self) -> NodeId {
        let place = self.state().places.get(&thread::current().id()).copied();
        place.unwrap_or(self.shape.first_cpu_node())
    }

    pub(crate) fn allowed_nodes(&self) -> NodeMask {
        self.state().allowed
    }

    pub(crate) fn group_room(&self) -> Option<GroupRoom> {
        self.state().group_room
    }

    pub(crate) fn node_room(&self, node: NodeId) -> Option<Room> {
        self.state().node_rooms.get(&node).copied()
    }

    pub(crate) fn is_confined(&self) -> bool {
        self.state().confined
    }

    pub(crate) fn now_ns(&self) -> u64 {
        // Relaxed: the clock carries nothing.
        self.clock_ns.load(Relaxed)
    }

    pub(crate) fn worked_ns(&self) -> u64 {
        // Relaxed, as the clock.
        self.worked_ns.load(Relaxed)
    }

    pub(crate) fn thp_mode(&self) -> ThpMode {
        self.shape.thp
    }

    pub(crate) fn before(&self, call: Call) -> Result<(), Errno> {
        let mut state = self.state();
        self.advance_ns(state.plan.ns(call));
        let answer = state.plan.before(call);
        let hook = state.plan.hook(call);
        if state.plan.begin_hold(call) {
            let is_held = |state: &mut State| state.plan.is_holding(call);
            let waited = self.went_on.wait_while(state, is_held);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        } else {
            drop(state);
        }
        if let Some(Hook(happens)) = hook {
            happens();
        }
        answer
    }

    pub(crate) fn mapped(&self, span: Span, backed: bool) -> Result<(), Errno> {
        let home = self.home();
        let mut state = self.state();
        // The real pages may be smaller than those of this machine.
        if !(span.addr() | span.len()).is_multiple_of(self.shape.page_size) {
            return Err(Errno::EINVAL);
        }
        state.ledger.add(span)?;
        if !backed {
            return Ok(());
        }
        let answer = state.ledger.charge(span, home);
        if answer.is_err() {
            state.ledger.remove(span);
        }
        answer
    }

    pub(crate) fn unmapped(&self, span: Span) {
        self.state().ledger.remove(span);
    }

    pub(crate) fn charge(&self, span: Span) -> Result<(), Errno> {
        let home = self.home();
        self.state().ledger.charge(span, home)
    }

    pub(crate) fn uncharge(&self, span: Span) {
        let nr_pages = span.len() / self.shape.page_size;
        // Relaxed, as the clock.
        self.advance_ns(nr_pages as u64 * self.page_ns.load(Relaxed));
        self.state().ledger.uncharge(span);
    }

    pub(crate) fn may_grow(&self, old: Span, new_len: usize) -> Result<(), Errno> {
        let more = new_len.saturating_sub(old.len());
        self.state().ledger.may_grow(old, more)
    }

    pub(crate) fn remapped(&self, old: Span, new: Span) {
        self.state().ledger.relocate(old, new);
    }

    pub(crate) fn bind(&self, span: Span, policy: &MemPolicy) -> Result<(), Errno> {
        if policy.nodes & self.shape.online() != policy.nodes {
            return Err(Errno::EINVAL);
        }
        self.state().ledger.bind(span, policy.nodes.first());
        Ok(())
    }

    /// The node that memory first touched by this thread comes from: its own, or
    /// the nearest that has some.
    fn home(&self) -> NodeId {
        let here = self.current_node();
        self.shape.topology().zonelist(here)[0]
    }
}
