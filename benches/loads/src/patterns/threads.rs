//! Threads that end while their objects live on.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// A server: each thread replaces random objects of its table, ends, and hands the table on.
pub fn larson(params: &Params) -> Survivors {
    const ROUNDS: u64 = 40;
    const SLOTS: usize = 2000;
    let per_round = params.share() / ROUNDS;
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let mut table: Vec<Block> = (0..SLOTS).map(|_| Block::new(rng.between(16, 1000))).collect();
        for round in 0..ROUNDS {
            let successor = std::thread::spawn(move || {
                let mut rng = Rng::new(((n as u64) << 32) | round);
                for _ in 0..per_round {
                    let slot = rng.below(SLOTS);
                    table[slot] = Block::new(rng.between(16, 1000));
                }
                table
            });
            table = successor.join().unwrap_or_else(|_| panic!("a worker panicked"));
        }
        Survivors::new()
    })
}

/// Slots through which objects change threads.
const TRANSFER: usize = 1000;

/// Objects in tables of their own and in a common one; the threads end and others follow.
pub fn mstress(params: &Params) -> Survivors {
    const GENERATIONS: u64 = 8;
    let transfer: Vec<Mutex<Vec<Block>>> = (0..TRANSFER).map(|_| Mutex::new(Vec::new())).collect();
    for generation in 0..GENERATIONS {
        on_threads(params.threads, |n| {
            migrate(params.share() / GENERATIONS, (generation << 16) | n as u64, &transfer);
            Survivors::new()
        });
    }
    Survivors::new()
}

fn migrate(operations: u64, seed: u64, transfer: &[Mutex<Vec<Block>>]) {
    let mut rng = Rng::new(seed);
    let mut kept: Vec<Vec<Block>> = Vec::new();
    let mut done = 0;
    while done < operations {
        // A small structure of blocks that live and die together, sizes by a power law.
        let parts = 1 + rng.below(16);
        done += parts as u64;
        let mut item: Vec<Block> = (0..parts).map(|_| marked(power_size(&mut rng))).collect();
        if rng.one_in(4) {
            kept.push(item);
        } else if rng.one_in(2) {
            let slot = &transfer[rng.below(TRANSFER)];
            core::mem::swap(&mut item, &mut *slot.lock().unwrap_or_else(PoisonError::into_inner));
            check(&item);
        } else if !kept.is_empty() {
            let at = rng.below(kept.len());
            check(&kept.swap_remove(at));
        }
    }
}

/// 16 B, twice as often as 32 B, twice as often as 64 B ... up to 128 KiB.
fn power_size(rng: &mut Rng) -> usize {
    let doublings = (rng.next().trailing_zeros() as usize).min(13);
    rng.between(16 << doublings >> 1, 16 << doublings) + 1
}

/// Both ends of a block carry its size: foreign writes show up.
fn marked(size: usize) -> Block {
    let mut block = Block::zeroed(size);
    block.set(0, size as u8);
    block.set(size - 1, size as u8);
    block
}

fn check(item: &[Block]) {
    for block in item {
        let mark = block.len() as u8;
        assert!(
            block.get(0) == mark && block.get(block.len() - 1) == mark,
            "a live block was overwritten"
        );
    }
}

/// Short-lived threads, `threads` at a time.
pub fn churn(params: &Params) -> Survivors {
    let next = AtomicUsize::new(0);
    on_threads(params.threads, |_| {
        while next.fetch_add(1, Ordering::Relaxed) < params.operations as usize {
            let seed = next.load(Ordering::Relaxed) as u64;
            let worker = std::thread::spawn(move || {
                let mut rng = Rng::new(seed);
                let blocks: Vec<Block> =
                    (0..200).map(|_| Block::new(rng.log_size(16, 1024))).collect();
                drop(blocks);
            });
            worker.join().unwrap_or_else(|_| panic!("a worker panicked"));
        }
        Survivors::new()
    })
}
