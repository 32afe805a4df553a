//! The one door to the operating system.
//!
//! `map` changes mappings, `purge` gives pages back, `place` tells where they are, `hooks` is where a fake
//! machine listens in: in a plain build it is empty and disappears.

mod hooks;
mod map;
mod place;
mod purge;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::os::{self, Rseq};
use crate::topology::{self, SYSFS_ROOT, WEIGHTS};
use crate::{Call, Errno, GroupRoom, MemPolicy, NodeId, NodeMask, Room, ThpMode, Topology, room};
use hooks::Hooks;
use purge::Batching;

/// A Linux machine as this process sees it, or a fake one.
///
/// Its calls only pass on what the kernel says: no call is repeated, and nothing
/// is remembered but what can be asked once. They may change `errno`.
///
/// # Synchronisation
/// The atomic words are caches and counters that stand alone, so every access is
/// relaxed: two threads that race both find out the same.
pub struct Machine {
    page_size: usize,
    topology: Topology,
    rseq: Option<Rseq>,
    /// A [`ThpMode`]; 0 before it is asked for.
    thp: AtomicU8,
    batching: Batching,
    /// Makes each random number another one.
    nr_draws: AtomicU64,
    hooks: Hooks,
    /// Refuses every call that memory can be had without.
    minimal: bool,
    /// How the process was confined when it was made; none for a fake or a minimal one.
    confinement: Option<os::Confinement>,
}

impl Machine {
    /// The machine that this process runs on.
    ///
    /// Makes one call on a machine that can have one node only. Others are looked up in small
    /// files, of which there are two for each node. What cannot be read counts as one node.
    pub fn linux() -> Machine {
        // To open a file takes ten times as long as all else here, and most processes are short.
        let topology = if os::has_only_node_zero() {
            Topology::one_node(NodeId::ZERO)
        } else {
            topology::read(SYSFS_ROOT)
        };
        let confinement = Some(os::confinement());
        Machine { confinement, ..Machine::new(topology, Hooks::default()) }
    }

    /// The machine of a process that may do little, as one node: nothing is read, and every
    /// call that memory can be had without fails with `ENOSYS` before it is made.
    pub fn linux_minimal() -> Machine {
        let topology = Topology::one_node(NodeId::ZERO);
        Machine { minimal: true, ..Machine::new(topology, Hooks::default()) }
    }

    /// A machine of the given shape, for tests: [`crate::fake`].
    #[cfg(feature = "fake")]
    pub fn fake(fake: &'static crate::fake::FakeMachine) -> Machine {
        let mut machine = Machine::new(fake.make_topology(), Hooks::new(fake));
        machine.page_size = fake.page_size();
        machine
    }

    fn new(topology: Topology, hooks: Hooks) -> Machine {
        Machine {
            page_size: os::page_size(),
            topology,
            rseq: Rseq::find(),
            thp: AtomicU8::new(0),
            batching: Batching::default(),
            nr_draws: AtomicU64::new(0),
            hooks,
            minimal: false,
            confinement: None,
        }
    }

    /// Whether a call may be made.
    fn before(&self, call: Call) -> Result<(), Errno> {
        if self.minimal && !call.is_needed() {
            return Err(Errno::ENOSYS);
        }
        self.hooks.before(call)
    }

    /// The OS page: a power of two, at least [`crate::PAGE_SIZE`].
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// Nodes, distances and zonelists.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The node on which the calling thread runs at this moment.
    ///
    /// No call on one node; else the thread's rseq area, then the vDSO, then a
    /// system call, then the first node.
    pub fn current_node(&self) -> NodeId {
        if self.topology.is_one_node() {
            return self.topology.first_node();
        }
        if let Some(node) = self.hooks.current_node() {
            return node;
        }
        let cpu = self.rseq.and_then(Rseq::current_cpu).or_else(os::current_cpu);
        let node = cpu.and_then(|cpu| self.topology.node_of_cpu(cpu));
        node.or_else(|| self.node_by_kernel()).unwrap_or(self.topology.first_node())
    }

    /// The nodes from which this thread may have memory at this moment: those of its
    /// cpuset that have some. All that have some, if nobody says.
    pub fn allowed_nodes(&self) -> NodeMask {
        let all = self.topology.nodes_with_memory();
        if self.topology.is_one_node() || self.before(Call::AllowedNodes).is_err() {
            return all;
        }
        let asked = self.hooks.allowed_nodes();
        let allowed = asked.or_else(|| os::mems_allowed().ok().map(NodeMask::from_bits));
        // Empty when the nodes changed since the topology was read.
        allowed.map(|nodes| nodes & all).filter(|nodes| !nodes.is_empty()).unwrap_or(all)
    }

    /// The memory policy that the program, or whoever started it, gave the calling thread; none if
    /// that is the system's default. No call on a machine with one node.
    pub fn thread_policy(&self) -> Option<MemPolicy> {
        if self.topology.is_one_node() || self.hooks.is_fake() || self.minimal {
            return None;
        }
        let (mode, bits) = os::thread_policy().ok()?;
        MemPolicy::from_kernel(mode, bits)
    }

    /// The room of the process's control group; none where it has no limit or nobody says. Opens
    /// files: not where [`Machine::is_confined_since_start`] says so.
    ///
    /// # Errors
    /// What [`Errno::is_passing`]: the files could not be opened or read just now.
    pub fn group_room(&self) -> Result<Option<GroupRoom>, Errno> {
        self.read_room(|| self.hooks.group_room(), room::read_group)
    }

    /// The room of a node.
    ///
    /// # Errors
    /// As above.
    pub fn node_room(&self, node: NodeId) -> Result<Option<Room>, Errno> {
        self.read_room(|| self.hooks.node_room(node), || room::read_node(node.index()))
    }

    fn read_room<R>(
        &self,
        fake: impl FnOnce() -> Option<R>,
        read: impl FnOnce() -> Result<Option<R>, Errno>,
    ) -> Result<Option<R>, Errno> {
        match self.before(Call::Room) {
            Ok(()) if self.hooks.is_fake() => Ok(fake()),
            Ok(()) => read(),
            Err(errno) if errno.is_passing() => Err(errno),
            Err(_) => Ok(None),
        }
    }

    /// Whether the calling thread is under a seccomp filter that was not there when the machine was
    /// made: one that may kill who opens a file. A filter from before let the loader open files.
    pub fn is_confined_since_start(&self) -> bool {
        self.hooks.is_confined()
            || self.confinement.is_some_and(|before| before != os::confinement())
    }

    /// Whether the calling thread is under any seccomp filter: one that may kill who makes a call that the program
    /// itself never makes.
    pub fn is_filtered(&self) -> bool {
        let now = || os::confinement().is_filtered();
        self.hooks.is_confined() || self.confinement.is_some_and(|then| then.is_filtered() || now())
    }

    /// Gives the calling thread, which may have been started by any other one, the main thread's rights to
    /// processors besides its own, but no realtime class. Calls that memory does not need: made under no seccomp
    /// filter, which may kill for them. What cannot be changed stays.
    pub fn run_as_main_thread(&self) {
        let is_filtered = || os::confinement().is_filtered();
        if !self.minimal && !self.hooks.is_fake() && !is_filtered() {
            os::run_as_main_thread();
        }
    }

    /// The weight that the administrator gave the node for weighted interleaving; none where the
    /// kernel knows no weights. Opens a file.
    pub fn interleave_weight(&self, node: NodeId) -> Option<u8> {
        if self.hooks.is_fake() || self.minimal {
            return None;
        }
        topology::read_weight(WEIGHTS, node)
    }

    /// For processors that came later or are beyond the table.
    #[cold]
    fn node_by_kernel(&self) -> Option<NodeId> {
        let node = NodeId::from_index(os::node_by_kernel()? as usize)?;
        self.topology.nodes_online().contains(node).then_some(node)
    }

    /// Registers the process for [`Machine::membarrier`]: to be called once. False
    /// means that the kernel does not have it or a filter forbids it.
    pub fn register_membarrier(&self) -> bool {
        self.before(Call::Membarrier).is_ok() && os::membarrier(os::Barrier::Register)
    }

    /// A memory barrier on every running thread of this process.
    pub fn membarrier(&self) -> bool {
        self.before(Call::Membarrier).is_ok() && os::membarrier(os::Barrier::Expedited)
    }

    /// Nanoseconds of a clock that never goes back.
    pub fn now_ns(&self) -> u64 {
        self.hooks.now_ns().unwrap_or_else(os::monotonic_ns)
    }

    /// Nanoseconds of processor time that the calling thread took so far. A call of the system.
    pub fn thread_time_ns(&self) -> u64 {
        self.hooks.now_ns().unwrap_or_else(os::thread_time_ns)
    }

    /// Nanoseconds of processor time that all threads of the process took so far. A call of the system,
    /// which looks at each of them; None where it cannot be told.
    pub fn process_time_ns(&self) -> Option<u64> {
        let ns = self.hooks.worked_ns().unwrap_or_else(os::process_time_ns);
        (ns > 0).then_some(ns)
    }

    /// A number that the outside cannot guess; another one each time. Not for keys.
    pub fn random(&self) -> u64 {
        let draw = self.nr_draws.fetch_add(1, Relaxed) + 1;
        // The address keeps two allocators in one process apart. Not the clock, whose page a small
        // process would touch for this alone.
        let mut x = os::entropy() ^ (ptr::from_ref(self).addr() as u64).rotate_left(32);
        x = x.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // The finisher of splitmix64.
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// The system's setting for huge pages, read once.
    pub fn thp_mode(&self) -> ThpMode {
        if let Some(mode) = self.hooks.thp_mode() {
            return mode;
        }
        if let Some(mode) = ThpMode::from_u8(self.thp.load(Relaxed)) {
            return mode;
        }
        if self.minimal {
            return ThpMode::Unknown;
        }
        let mut buf = [0; 128];
        let text = os::read_file(ThpMode::PATH, &mut buf);
        let mode = text.map_or(ThpMode::Unknown, ThpMode::parse);
        self.thp.store(mode as u8, Relaxed);
        mode
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("page_size", &self.page_size)
            .field("nodes", &self.topology.nodes_online())
            .field("rseq", &self.rseq)
            .finish_non_exhaustive()
    }
}
