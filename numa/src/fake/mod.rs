//! A machine of any shape, for tests: several nodes, limited memory, a clock that
//! stands still until it is moved, and calls that fail when told to.
//!
//! The memory is real, so that an allocator can run on it. What is simulated:
//! - **Nodes**: the page of a committed span is on the node to which the span was
//!   bound, else on that of the thread that commits it ([`FakeMachine::run_on`]).
//! - **Limits**: `commit`, `map` and a growing `remap` take pages off their node
//!   and fail with `ENOMEM` when it has no more; `purge` and `unmap` put them
//!   back. A purged page that is touched again does not count again before the
//!   next `commit`, or [`crate::Machine::fill`]. Metadata (`map_at`) does not count.
//! - **Failures**: [`FakeMachine::fail`] makes calls of one kind fail.
//! - **Waits**: [`FakeMachine::hold`] keeps a thread in a call until it is let go.
//! - **Others**: [`FakeMachine::during`] says what happens while a call is under way.
//!
//! ```
//! use zonal_numa::{Errno, Machine, NodeId, fake::{Call, FakeBuilder}};
//!
//! let fake = FakeBuilder::new().nodes(2).limit(0, 8).build();
//! let machine = Machine::fake(fake);
//! fake.fail(Call::Map, 2, Errno::ENOMEM);
//! let span = machine.map(4096, 4096)?;
//! assert_eq!(machine.map(4096, 4096), Err(Errno::ENOMEM));
//! assert_eq!(fake.pages_used(NodeId::ZERO), 1);
//! machine.unmap(span)?;
//! # Ok::<(), Errno>(())
//! ```

mod answers;
mod builder;
mod ledger;
mod plan;
#[cfg(test)]
mod tests;

pub use crate::Call;
pub use builder::FakeBuilder;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::{Errno, GroupRoom, NodeId, NodeMask, Room, os};
use builder::Shape;
use ledger::Ledger;
use plan::{Hook, Plan};

/// The machine behind [`crate::Machine::fake`]; made by a [`FakeBuilder`].
#[derive(Debug)]
pub struct FakeMachine {
    shape: Shape,
    clock_ns: AtomicU64,
    /// Processor time of the process.
    worked_ns: AtomicU64,
    /// What it takes to give a page back.
    page_ns: AtomicU64,
    state: Mutex<State>,
    /// A call that was held comes back.
    went_on: Condvar,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    plan: Plan,
    places: HashMap<ThreadId, NodeId>,
    allowed: NodeMask,
    /// What is left in the control group, and in nodes.
    group_room: Option<GroupRoom>,
    node_rooms: HashMap<NodeId, Room>,
    confined: bool,
}

impl FakeMachine {
    fn new(shape: Shape) -> FakeMachine {
        let ledger = Ledger::new(shape.page_size, shape.limits);
        let allowed = shape.online();
        let state = State {
            ledger,
            plan: Plan::default(),
            places: HashMap::new(),
            allowed,
            group_room: None,
            node_rooms: HashMap::new(),
            confined: false,
        };
        FakeMachine {
            shape,
            clock_ns: AtomicU64::new(0),
            worked_ns: AtomicU64::new(0),
            page_ns: AtomicU64::new(0),
            state: Mutex::new(state),
            went_on: Condvar::new(),
        }
    }

    /// Unmaps all that stands on the machine, which is the end of whatever was made of it. The end of the
    /// thread that built the machine does the same: what tests leave behind would fill a small machine.
    pub fn tear_down(&self) {
        for span in self.state().ledger.take_all() {
            // What stays costs the test process memory, nothing more.
            let _ = os::unmap(span);
        }
    }

    /// A test that panics elsewhere leaves the state as good as it was.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, the calling thread runs on this node.
    pub fn run_on(&self, node: NodeId) {
        self.state().places.insert(thread::current().id(), node);
    }

    /// Changes the cpuset.
    pub fn allow(&self, nodes: NodeMask) {
        self.state().allowed = nodes;
    }

    /// Moves the clock.
    pub fn advance_ns(&self, ns: u64) {
        // Relaxed: the clock carries nothing.
        self.clock_ns.fetch_add(ns, Relaxed);
    }

    /// The process takes so much processor time, apart from the clock. Until then that cannot be told.
    pub fn work_ns(&self, ns: u64) {
        // Relaxed, as the clock.
        self.worked_ns.fetch_add(ns, Relaxed);
    }

    /// The `nth` call of this kind from now on, 1 being the next, fails once.
    pub fn fail(&self, call: Call, nth: u64, errno: Errno) {
        self.state().plan.fail(call, nth, Some(1), errno);
    }

    /// The `nth` call of this kind and every later one fails.
    pub fn fail_from(&self, call: Call, nth: u64, errno: Errno) {
        self.state().plan.fail(call, nth, None, errno);
    }

    /// From now on each call of this kind takes so long, by the clock of the machine.
    pub fn slow(&self, call: Call, ns: u64) {
        self.state().plan.slow(call, ns);
    }

    /// From now on each page that is given back takes so long.
    pub fn slow_pages(&self, ns: u64) {
        // Relaxed, as the clock.
        self.page_ns.store(ns, Relaxed);
    }

    /// From now on this happens during each call of the kind, on the thread that makes it, but not within itself.
    pub fn during(&self, call: Call, happens: impl Fn() + Send + Sync + 'static) {
        let is_within = AtomicBool::new(false);
        let hook = move || {
            // Relaxed: of one thread, or of several of which any may do it.
            if !is_within.swap(true, Relaxed) {
                happens();
                is_within.store(false, Relaxed);
            }
        };
        self.state().plan.set_hook(call, Some(Hook(Arc::new(hook))));
    }

    /// No more.
    pub fn during_no_more(&self, call: Call) {
        self.state().plan.set_hook(call, None);
    }

    /// The next call of this kind does not come back before [`FakeMachine::let_go`].
    pub fn hold(&self, call: Call) {
        self.state().plan.hold(call);
    }

    /// Whether that call was made and has not come back.
    pub fn is_holding(&self, call: Call) -> bool {
        self.state().plan.is_holding(call)
    }

    /// Lets it come back.
    pub fn let_go(&self, call: Call) {
        self.state().plan.let_go(call);
        self.went_on.notify_all();
    }

    /// Forgets all failures that are still to come.
    pub fn fail_no_more(&self) {
        self.state().plan.clear();
    }

    /// How many calls of this kind there were, failed ones included.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().plan.calls(call)
    }

    /// Changes how many pages a node has. A node may hold more than that already.
    pub fn set_limit(&self, node: NodeId, pages: usize) {
        self.state().ledger.set_limit(node, pages);
    }

    /// Puts the process into a control group with that room, or into none: a [`GroupRoom`], or a [`Room`]
    /// beyond which the kernel kills.
    pub fn set_group_room(&self, room: Option<impl Into<GroupRoom>>) {
        self.state().group_room = room.map(Into::into);
    }

    /// From now on a node says that it has that room.
    pub fn set_node_room(&self, node: NodeId, room: Room) {
        self.state().node_rooms.insert(node, room);
    }

    /// From now on there is a seccomp filter.
    pub fn confine(&self) {
        self.state().confined = true;
    }

    /// Fills `pages` of the node with what files hold: no room before they are dropped.
    pub fn set_files(&self, node: NodeId, pages: usize) {
        self.state().ledger.set_files(node, pages);
    }

    /// From now on pages for which a node has no room come from others, as in the kernel, instead
    /// of failing.
    pub fn spill(&self) {
        self.state().ledger.spill();
    }

    /// From now on pages that shall be on `from` come from `to`, as when others take what was
    /// free there; to be undone by naming the same node twice.
    pub fn divert(&self, from: NodeId, to: NodeId) {
        self.state().ledger.divert(from, to);
    }

    /// How many pages of a node count as used.
    pub fn pages_used(&self, node: NodeId) -> usize {
        self.state().ledger.used(node)
    }

    /// The node on which the page at `addr` counts as used, if it does.
    pub fn node_of_addr(&self, addr: usize) -> Option<NodeId> {
        self.state().ledger.node_of(addr)
    }
}
