//! Patterns of one thread that others repeat side by side: no object crosses threads.

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// Blocks of one size, `batch` at a time, freed in the order they came; one size after the other.
pub fn pairs(params: &Params) -> Survivors {
    const SIZES: [usize; 10] = [8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384];
    on_threads(params.threads, |_| {
        let sizes: &[usize] = params.size.as_ref().map_or(&SIZES, core::slice::from_ref);
        let per_size = params.share() / sizes.len() as u64;
        let mut held = Vec::with_capacity(params.batch);
        for &size in sizes {
            if params.batch == 1 {
                for _ in 0..per_size {
                    drop(Block::new(size));
                }
                continue;
            }
            for _ in 0..per_size / params.batch as u64 {
                held.extend((0..params.batch).map(|_| Block::new(size)));
                held.clear();
            }
        }
        Survivors::new()
    })
}

/// A table of blocks; each step replaces a random one.
fn table(share: u64, seed: u64, slots: usize, make: impl Fn(&mut Rng) -> Block) -> Survivors {
    let mut rng = Rng::new(seed);
    let mut table: Vec<Option<Block>> = (0..slots).map(|_| None).collect();
    for _ in 0..share {
        let slot = rng.below(slots);
        table[slot] = None;
        table[slot] = Some(make(&mut rng));
    }
    Survivors::new()
}

/// Random sizes, exponential lifetimes.
pub fn random(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        table(params.share(), n as u64, 4000, |rng| {
            let mut block = Block::new(rng.mixed_size());
            let last = block.len() - 1;
            block.set(last, 2);
            block
        })
    })
}

/// Zeroed blocks, checked here and there and then written.
pub fn calloc(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        table(params.share(), n as u64, 500, |rng| {
            let size = if rng.one_in(50) {
                rng.log_size(4 << 10, 256 << 10)
            } else {
                rng.log_size(16, 4 << 10)
            };
            let mut block = Block::zeroed(size);
            assert_eq!(block.sum(1024), 0, "calloc gave dirty memory");
            block.touch(512, 1);
            block
        })
    })
}

/// Mostly cache lines, at times pages.
pub fn aligned(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        table(params.share(), n as u64, 2000, |rng| {
            let align = if rng.one_in(100) { 4096 } else { 16 << rng.below(5) };
            Block::aligned(align, rng.log_size(16, 1024))
        })
    })
}
