//! The patterns, each a standard one of the field in our own code.
//!
//! A pattern takes a total number of operations and divides it among its threads, so that rows at
//! different thread counts do the same work. It returns what it leaves alive.

mod cross;
mod deep;
mod grow;
mod large;
mod memory;
mod mixed;
mod phases;
mod threads;

use crate::block::Block;

/// What a run is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Threads that allocate at one time.
    pub threads: usize,
    /// Operations of all threads together.
    pub operations: u64,
    /// One size instead of the pattern's own.
    pub size: Option<usize>,
    /// Blocks allocated before they are freed again (`pairs`).
    pub batch: usize,
}

impl Params {
    /// The share of one thread.
    fn share(&self) -> u64 {
        self.operations / self.threads as u64
    }
}

/// Blocks alive when the work is done: held while the process idles.
pub type Survivors = Vec<Block>;

/// One pattern.
#[derive(Debug)]
pub struct Pattern {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Default number of operations: a fraction of a second on one processor.
    pub operations: u64,
    /// The work.
    pub run: fn(&Params) -> Survivors,
}

const fn pattern(
    name: &'static str,
    operations: u64,
    run: fn(&Params) -> Survivors,
    about: &'static str,
) -> Pattern {
    Pattern { name, about, operations, run }
}

/// All of them.
pub const PATTERNS: &[Pattern] = &[
    pattern(
        "pairs",
        40_000_000,
        mixed::pairs,
        "small allocations, freed in order, by size; -b sets the batch",
    ),
    pattern(
        "random",
        20_000_000,
        mixed::random,
        "random sizes and lifetimes in a table of 4000 slots",
    ),
    pattern(
        "larson",
        20_000_000,
        threads::larson,
        "a server's threads hand their objects to their successors",
    ),
    pattern("prodcons", 16_000_000, cross::one_way, "producers allocate, consumers free"),
    pattern("exchange", 16_000_000, cross::two_way, "each thread frees what its partner allocated"),
    pattern("mstress", 10_000_000, threads::mstress, "objects migrate across threads that end"),
    pattern(
        "burst",
        4_000_000,
        phases::burst,
        "the heap grows and shrinks in phases of different sizes",
    ),
    pattern(
        "frag",
        3_000_000,
        phases::fragmentation,
        "nine of ten objects die at random, other sizes follow",
    ),
    pattern("realloc", 5_000_000, grow::realloc, "strings and vectors grow by realloc"),
    pattern("calloc", 3_000_000, mixed::calloc, "zeroed blocks of 16 B to 256 KiB"),
    pattern("aligned", 10_000_000, mixed::aligned, "alignments of 16 B to 4 KiB"),
    pattern("blocks", 15_000, large::blocks, "blocks of 64 KiB to 64 MiB, one byte a page touched"),
    pattern(
        "falseshare",
        400_000,
        cross::active_sharing,
        "threads write to small objects of their own",
    ),
    pattern(
        "passive",
        400_000,
        cross::passive_sharing,
        "as falseshare, after one thread handed out neighbours",
    ),
    pattern(
        "churn",
        10_000,
        threads::churn,
        "threads that live for 200 allocations; operations are threads",
    ),
    pattern(
        "touch",
        1_500_000,
        memory::touch,
        "objects read and written many times after allocation",
    ),
    pattern("onoff", 2_000_000, phases::on_off, "48 MB come and go, with pauses of 50 ms to 2 s"),
    pattern("stack", 20_000_000, deep::stack, "a deep stack of small objects grows and shrinks"),
    pattern("tree", 10_000_000, deep::tree, "binary trees are built and dropped"),
    pattern("json", 200, memory::json, "JSON documents are parsed, changed and printed"),
];

/// Runs `work(thread number)` on that many threads at once and gathers what they leave.
fn on_threads(threads: usize, work: impl Fn(usize) -> Survivors + Sync) -> Survivors {
    if threads == 1 {
        return work(0);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect();
        handles
            .into_iter()
            .flat_map(|h| h.join().unwrap_or_else(|_| panic!("a worker panicked")))
            .collect()
    })
}
