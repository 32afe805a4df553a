//! Heaps whose size or whose mix of sizes changes with time.

use std::time::Duration;

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// Grows, shrinks to a tenth, grows again with other sizes.
pub fn burst(params: &Params) -> Survivors {
    const PHASES: u64 = 40;
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let mut heap: Vec<Block> = Vec::new();
        let per_phase = params.share() / PHASES;
        for phase in 0..PHASES {
            let low = 16 << (phase % 5);
            heap.extend((0..per_phase).map(|_| Block::new(rng.log_size(low, 8 * low))));
            heap.truncate(heap.len() / 10);
        }
        Survivors::new()
    })
}

/// Objects of one size range fill the heap and nine of ten die at random; then a larger range, and so
/// on. The survivors pin what the next range cannot use.
pub fn fragmentation(params: &Params) -> Survivors {
    const ROUNDS: usize = 8;
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let mut survivors = Vec::new();
        for round in 0..ROUNDS {
            let size = 24 << (round / 2);
            let mut heap: Vec<Block> = (0..params.share() / ROUNDS as u64)
                .map(|_| Block::new(rng.between(size, 2 * size)))
                .collect();
            heap.retain(|_| rng.one_in(10));
            survivors.append(&mut heap);
        }
        survivors
    })
}

/// Works, sleeps, works: what giving memory back costs a program that comes back for it.
pub fn on_off(params: &Params) -> Survivors {
    const PAUSES_MS: [u64; 12] = [50, 50, 50, 100, 100, 200, 200, 500, 50, 50, 1000, 2000];
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let per_period = (params.share() / PAUSES_MS.len() as u64) as usize;
        for pause in PAUSES_MS {
            let mut heap: Vec<Block> = Vec::with_capacity(per_period);
            for _ in 0..per_period {
                let mut block = Block::new(rng.log_size(64, 1024));
                block.fill(1);
                heap.push(block);
            }
            drop(heap);
            std::thread::sleep(Duration::from_millis(pause));
        }
        Survivors::new()
    })
}
