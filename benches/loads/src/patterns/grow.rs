//! Blocks that grow.

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// Strings that are appended to, vectors that double, buffers that grow by half; at times one
/// grows to 8 MiB in steps of 128 KiB.
pub fn realloc(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let mut left = params.share() as i64;
        let mut strings: Vec<Block> = (0..256).map(|_| Block::new(16)).collect();
        let mut steps = 0_u64;
        while left > 0 {
            // 64 appends to strings of up to 4 KiB, interleaved so that none can simply stay last.
            for _ in 0..64 {
                let string = &mut strings[rng.below(256)];
                let len = string.len() + rng.between(1, 64);
                if len > 4096 {
                    *string = Block::new(16);
                } else {
                    string.resize(len);
                }
            }
            left -= 64;
            steps += 1;
            if steps.is_multiple_of(16) {
                left -= vector(rng.log_size(1 << 10, 1 << 20), |len| 2 * len);
                left -= vector(rng.log_size(1 << 10, 128 << 10), |len| len + len / 2);
            }
            if steps.is_multiple_of(4096) {
                left -= vector(8 << 20, |len| len + (128 << 10));
            }
        }
        Survivors::new()
    })
}

/// Grows one block to `limit`, writing what was added; returns the number of steps.
fn vector(limit: usize, next: impl Fn(usize) -> usize) -> i64 {
    let mut block = Block::new(64);
    let mut steps = 1;
    while block.len() < limit {
        let old = block.len();
        block.resize(next(old));
        for at in (old..block.len()).step_by(64) {
            block.set(at, 1);
        }
        steps += 1;
    }
    steps
}
