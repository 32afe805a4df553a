//! Any sequence of calls on several threads: blocks keep what was written to them, and afterwards the core's
//! counters and lists agree with each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Mutex;
use std::thread;

use zonal::abi::{self, Alone};
use zonal_fuzz::fuzz;

const THREADS: usize = 3;
const SLOTS: usize = 48;

/// A live block, filled with the low byte of its size and tag.
struct Block {
    address: usize,
    size: usize,
    tag: u8,
}

impl Block {
    fn new(address: *mut u8, size: usize, align: usize, tag: u8) -> Option<Block> {
        if address.is_null() {
            return None;
        }
        assert_eq!(address.addr() % align, 0, "{size} bytes");
        // SAFETY: a live block.
        assert!(unsafe { abi::usable_size::<Alone>(address) } >= size);
        let block = Block { address: address.expose_provenance(), size, tag };
        for at in block.places() {
            // SAFETY: inside a fresh block.
            unsafe { block.start().add(at).write(tag) };
        }
        Some(block)
    }

    fn start(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    /// Where it is marked: the ends, and some pages between.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let size = self.size;
        (0..size).step_by((size / 16).max(4096)).chain(size.checked_sub(1))
    }

    fn check(&self, upto: usize) {
        for at in self.places().filter(|&at| at < upto) {
            // SAFETY: inside a live block.
            let found = unsafe { self.start().add(at).read() };
            assert_eq!(found, self.tag, "byte {at} of {} at {:#x}", self.size, self.address);
        }
    }

    fn free(self) {
        self.check(self.size);
        // SAFETY: live, and nobody else knows it.
        unsafe { abi::free::<Alone>(self.start()) };
    }

    fn resize(self, size: usize, tag: u8) -> Option<Block> {
        self.check(self.size);
        let size = size.max(1);
        // SAFETY: live, and not used by its old address.
        let moved = unsafe { abi::realloc::<Alone>(self.start(), size) };
        if moved.is_null() {
            return Some(self);
        }
        let kept = Block { address: moved.expose_provenance(), ..self };
        kept.check(kept.size.min(size));
        Block::new(moved, size, 8, tag)
    }
}

/// Sizes of all kinds: bins, runs of pages, mappings.
fn size(byte: u8) -> usize {
    match usize::from(byte) {
        n @ ..128 => n * 8,
        n @ 128..210 => (n - 127) * 350 + n,
        n @ 210..253 => (n - 209) * 45_000,
        n => (n - 252) * (1 << 20) + 3_500_000,
    }
}

type Table = [Mutex<Option<Block>>];

fn step(table: &Table, op: u8, amount: u8, other: u8) {
    let slot = &table[usize::from(other) % SLOTS];
    let size = size(amount);
    let align = 8 << (other % 11);
    // Out of the table while it is worked on: no two threads know a block at one time.
    let old = slot.lock().unwrap().take();
    let new = match (op % 8, old) {
        (3 | 5, Some(old)) => old.resize(size, other),
        (op, old) => {
            if let Some(old) = old {
                old.free();
            }
            match op {
                0 | 3 => Block::new(abi::malloc(size), size, 8, other),
                1 => {
                    let start = abi::zalloc(size);
                    if !start.is_null() {
                        // SAFETY: a fresh block.
                        let bytes = unsafe { std::slice::from_raw_parts(start, size) };
                        assert!(
                            bytes.iter().step_by(size / 100 + 1).all(|&byte| byte == 0),
                            "not zero"
                        );
                    }
                    Block::new(start, size, 8, other)
                }
                2 => Block::new(abi::aligned(size, align), size, align, other),
                6 if other.is_multiple_of(16) => {
                    zonal::trim();
                    None
                }
                _ => None,
            }
        }
    };
    // Another thread may have filled the slot meanwhile.
    let pushed_out = std::mem::replace(&mut *slot.lock().unwrap(), new);
    if let Some(block) = pushed_out {
        block.free();
    }
}

#[test]
fn calls() {
    fuzz("calls", |input| {
        let table: [_; SLOTS] = std::array::from_fn(|_| Mutex::new(None));
        thread::scope(|scope| {
            for number in 0..THREADS {
                let steps = input.as_chunks::<3>().0.iter();
                let table = &table;
                scope.spawn(move || {
                    for [op, amount, other] in
                        steps.filter(|s| usize::from(s[0] >> 6) % 3 == number)
                    {
                        step(table, *op, *amount, *other);
                    }
                });
            }
        });
        for slot in table {
            if let Some(block) = slot.into_inner().unwrap() {
                block.free();
            }
        }
        assert_eq!(zonal::validate(), Ok(()));
    });
}
