//! Blocks far above the size classes.

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// 64 KiB to 64 MiB, the small ones more often; eight alive a thread.
pub fn blocks(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let mut table: Vec<Option<Block>> = (0..8).map(|_| None).collect();
        for _ in 0..params.share() {
            let slot = rng.below(table.len());
            table[slot] = None;
            // Two of three below 1 MiB, one in a hundred above 8 MiB.
            let size = match rng.below(100) {
                0 => rng.log_size(8 << 20, 64 << 20),
                1..=32 => rng.log_size(1 << 20, 8 << 20),
                _ => rng.log_size(64 << 10, 1 << 20),
            };
            let mut block = Block::new(size);
            block.touch(4096, 1);
            table[slot] = Some(block);
        }
        Survivors::new()
    })
}
