//! What the allocator's placement costs the program: memory that is used, not only asked for.

use std::hint::black_box;

use serde_json::Value;

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// Many objects of random sizes, some replaced; then passes over all of them in order of allocation and
/// at random.
pub fn touch(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let count = (params.share() / 4) as usize;
        let mut heap: Vec<Block> = (0..count).map(|_| Block::new(rng.log_size(16, 512))).collect();
        for _ in 0..count {
            let at = rng.below(count);
            heap[at] = Block::new(rng.log_size(16, 512));
        }
        let mut sum = 0;
        for pass in 0..8_u8 {
            for block in &mut heap {
                block.touch(64, pass);
            }
            for _ in 0..count {
                sum += heap[rng.below(count)].sum(64);
            }
        }
        black_box(sum);
        Survivors::new()
    })
}

/// Parses, edits and prints documents through Rust's own containers.
pub fn json(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let mut text = document(&mut rng);
        for round in 0..params.share() {
            let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(rows) = value.as_array_mut() {
                let at = rng.below(rows.len());
                rows.swap_remove(at);
                rows.push(row(&mut rng, round as usize));
            }
            text = value.to_string();
        }
        black_box(text.len());
        Survivors::new()
    })
}

fn document(rng: &mut Rng) -> String {
    let rows: Vec<Value> = (0..1500).map(|n| row(rng, n)).collect();
    Value::from(rows).to_string()
}

fn row(rng: &mut Rng, id: usize) -> Value {
    let name = "abcdefghijklmnopqrstuvwxyz".repeat(1 + rng.below(4));
    let tags: Vec<String> =
        (0..rng.below(8)).map(|n| format!("tag-{n}-{}", rng.below(1000))).collect();
    serde_json::json!({ "id": id, "name": name, "tags": tags, "at": { "x": rng.below(100), "y": rng.below(100) } })
}
