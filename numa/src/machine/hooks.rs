//! Where a fake machine listens in. In a plain build there is nobody: the answers
//! are constants and the calls vanish.

#[cfg(feature = "fake")]
use crate::fake::FakeMachine;
use crate::{Call, Errno, GroupRoom, MemPolicy, NodeId, NodeMask, NodeMemory, Room, Span, ThpMode};

/// The fake machine behind a [`crate::Machine`], if there is one.
#[derive(Default)]
pub(super) struct Hooks {
    #[cfg(feature = "fake")]
    fake: Option<&'static FakeMachine>,
}

#[cfg(feature = "fake")]
impl Hooks {
    pub(super) fn new(fake: &'static FakeMachine) -> Hooks {
        Hooks { fake: Some(fake) }
    }

    /// Counts a call, and may fail it.
    pub(super) fn before(&self, call: Call) -> Result<(), Errno> {
        self.fake.map_or(Ok(()), |fake| fake.before(call))
    }

    /// A mapping appeared; `backed` if its pages count at once.
    pub(super) fn mapped(&self, span: Span, backed: bool) -> Result<(), Errno> {
        self.fake.map_or(Ok(()), |fake| fake.mapped(span, backed))
    }

    pub(super) fn unmapped(&self, span: Span) {
        if let Some(fake) = self.fake {
            fake.unmapped(span);
        }
    }

    /// The pages of the span count from now on.
    pub(super) fn charge(&self, span: Span) -> Result<(), Errno> {
        self.fake.map_or(Ok(()), |fake| fake.charge(span))
    }

    /// The pages of the span are given back.
    pub(super) fn uncharge(&self, span: Span) {
        if let Some(fake) = self.fake {
            fake.uncharge(span);
        }
    }

    pub(super) fn remapped(&self, old: Span, new: Span) {
        if let Some(fake) = self.fake {
            fake.remapped(old, new);
        }
    }

    /// Whether there is room for a mapping of `old` to become `new_len` long.
    pub(super) fn may_grow(&self, old: Span, new_len: usize) -> Result<(), Errno> {
        self.fake.map_or(Ok(()), |fake| fake.may_grow(old, new_len))
    }

    /// Binds instead of the kernel, which does not have these nodes.
    pub(super) fn bind(&self, span: Span, policy: &MemPolicy) -> Option<Result<(), Errno>> {
        self.fake.map(|fake| fake.bind(span, policy))
    }

    pub(super) fn current_node(&self) -> Option<NodeId> {
        self.fake.map(FakeMachine::current_node)
    }

    pub(super) fn allowed_nodes(&self) -> Option<NodeMask> {
        self.fake.map(FakeMachine::allowed_nodes)
    }

    /// The memory of a node of the fake machine; the outer none on a real one.
    pub(super) fn memory(&self, node: NodeId) -> Option<Option<NodeMemory>> {
        self.fake.map(|fake| fake.memory(node))
    }

    /// Where a page is, after it was moved to a node if one is given.
    pub(super) fn node_of_addr(&self, addr: usize, to: Option<NodeId>) -> Option<NodeId> {
        let fake = self.fake?;
        if let Some(to) = to {
            fake.move_page(addr, to);
        }
        fake.node_of_addr(addr)
    }

    /// The page at `addr` gets memory if it has none.
    pub(super) fn touched(&self, addr: usize) {
        if let Some(fake) = self.fake {
            fake.touched(addr);
        }
    }

    pub(super) fn now_ns(&self) -> Option<u64> {
        self.fake.map(FakeMachine::now_ns)
    }

    pub(super) fn worked_ns(&self) -> Option<u64> {
        self.fake.map(FakeMachine::worked_ns)
    }

    pub(super) fn thp_mode(&self) -> Option<ThpMode> {
        self.fake.map(FakeMachine::thp_mode)
    }

    pub(super) fn group_room(&self) -> Option<GroupRoom> {
        self.fake.and_then(FakeMachine::group_room)
    }

    pub(super) fn node_room(&self, node: NodeId) -> Option<Room> {
        self.fake.and_then(|fake| fake.node_room(node))
    }

    pub(super) fn is_confined(&self) -> bool {
        self.fake.is_some_and(FakeMachine::is_confined)
    }

    pub(super) fn is_fake(&self) -> bool {
        self.fake.is_some()
    }
}

#[cfg(not(feature = "fake"))]
impl Hooks {
    pub(super) fn before(&self, _: Call) -> Result<(), Errno> {
        Ok(())
    }

    pub(super) fn mapped(&self, _: Span, _: bool) -> Result<(), Errno> {
        Ok(())
    }

    pub(super) fn unmapped(&self, _: Span) {}

    pub(super) fn charge(&self, _: Span) -> Result<(), Errno> {
        Ok(())
    }

    pub(super) fn uncharge(&self, _: Span) {}

    pub(super) fn remapped(&self, _: Span, _: Span) {}

    pub(super) fn may_grow(&self, _: Span, _: usize) -> Result<(), Errno> {
        Ok(())
    }

    pub(super) fn bind(&self, _: Span, _: &MemPolicy) -> Option<Result<(), Errno>> {
        None
    }

    pub(super) fn current_node(&self) -> Option<NodeId> {
        None
    }

    pub(super) fn allowed_nodes(&self) -> Option<NodeMask> {
        None
    }

    pub(super) fn memory(&self, _: NodeId) -> Option<Option<NodeMemory>> {
        None
    }

    pub(super) fn node_of_addr(&self, _: usize, _: Option<NodeId>) -> Option<NodeId> {
        None
    }

    pub(super) fn touched(&self, _: usize) {}

    pub(super) fn now_ns(&self) -> Option<u64> {
        None
    }

    pub(super) fn worked_ns(&self) -> Option<u64> {
        None
    }

    pub(super) fn thp_mode(&self) -> Option<ThpMode> {
        None
    }

    pub(super) fn group_room(&self) -> Option<GroupRoom> {
        None
    }

    pub(super) fn node_room(&self, _: NodeId) -> Option<Room> {
        None
    }

    pub(super) fn is_confined(&self) -> bool {
        false
    }

    pub(super) fn is_fake(&self) -> bool {
        false
    }
}
