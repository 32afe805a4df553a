//! Objects that one thread allocates and another frees, and objects that share cache lines.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// Objects handed over at once.
const BATCH: usize = 256;
/// Batches a queue holds.
const DEPTH: usize = 16;

/// A bounded queue that sleeps when full or empty.
struct Queue {
    batches: Mutex<VecDeque<Vec<Block>>>,
    moved: Condvar,
}

impl Queue {
    fn new() -> Self {
        Self { batches: Mutex::new(VecDeque::with_capacity(DEPTH)), moved: Condvar::new() }
    }

    fn push(&self, batch: Vec<Block>) {
        let queue = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |q: &mut VecDeque<_>| q.len() >= DEPTH;
        let mut queue = self.moved.wait_while(queue, full).unwrap_or_else(PoisonError::into_inner);
        queue.push_back(batch);
        drop(queue);
        self.moved.notify_one();
    }

    fn pop(&self) -> Vec<Block> {
        let queue = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |q: &mut VecDeque<_>| q.is_empty();
        let mut queue = self.moved.wait_while(queue, empty).unwrap_or_else(PoisonError::into_inner);
        let batch = queue.pop_front().unwrap_or_default();
        drop(queue);
        self.moved.notify_one();
        batch
    }
}

fn batch(rng: &mut Rng, size: Option<usize>) -> Vec<Block> {
    (0..BATCH).map(|_| Block::new(size.unwrap_or_else(|| rng.log_size(16, 512)))).collect()
}

/// Pairs of threads: one allocates, the other frees.
pub fn one_way(params: &Params) -> Survivors {
    let pairs = (params.threads / 2).max(1);
    let queues: Vec<Queue> = (0..pairs).map(|_| Queue::new()).collect();
    let batches = params.operations / (pairs * BATCH) as u64;
    on_threads(2 * pairs, |n| {
        let queue = &queues[n / 2];
        let mut rng = Rng::new(n as u64);
        for _ in 0..batches {
            if n % 2 == 0 {
                queue.push(batch(&mut rng, params.size));
            } else {
                drop(queue.pop());
            }
        }
        Survivors::new()
    })
}

/// Pairs of threads: each allocates for the other and frees what it gets.
pub fn two_way(params: &Params) -> Survivors {
    let pairs = (params.threads / 2).max(1);
    let queues: Vec<Queue> = (0..2 * pairs).map(|_| Queue::new()).collect();
    let batches = params.operations / (2 * pairs * BATCH) as u64;
    on_threads(2 * pairs, |n| {
        let mut rng = Rng::new(n as u64);
        for _ in 0..batches {
            queues[n].push(batch(&mut rng, params.size));
            drop(queues[n ^ 1].pop());
        }
        Survivors::new()
    })
}

/// Writes to a block as a busy counter would, then replaces it.
fn hammer(mut block: Block, share: u64) {
    let size = block.len();
    for _ in 0..share {
        for value in 0..1000_u32 {
            block.set(0, value as u8);
        }
        drop(block);
        block = Block::new(size);
    }
}

/// Each thread's small objects, written often: slow if they share a line with another thread's.
pub fn active_sharing(params: &Params) -> Survivors {
    on_threads(params.threads, |_| {
        hammer(Block::new(8), params.share());
        Survivors::new()
    })
}

/// The same, but the first objects are neighbours that one thread allocated: an allocator that gives
/// their places to the threads that freed them keeps the line shared.
pub fn passive_sharing(params: &Params) -> Survivors {
    let neighbours: Vec<Mutex<Option<Block>>> =
        (0..params.threads).map(|_| Mutex::new(Some(Block::new(8)))).collect();
    on_threads(params.threads, |n| {
        let block = neighbours[n].lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(block);
        hammer(Block::new(8), params.share());
        Survivors::new()
    })
}
