//! zonal as `#[global_allocator]`: this test program itself runs on it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout};
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use zonal_tests::{Program, compile, compile_shared};

#[global_allocator]
static ZONAL: zonal::Zonal = zonal::Zonal;

/// A small source of numbers; the same in every run.
fn numbers(mut seed: u64) -> impl FnMut() -> usize {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 11).unwrap()
    }
}

#[test]
fn large_collections() {
    let mut next = numbers(42);
    let mut map = HashMap::new();
    let mut tree = BTreeMap::new();
    let mut heap = BinaryHeap::new();
    for i in 0..200_000_usize {
        let key = next() % 100_000;
        let mut text = String::new();
        write!(text, "{key}-{}", "x".repeat(key % 40)).unwrap();
        map.insert(text.clone(), i);
        tree.insert(text, i);
        heap.push(key);
        if i % 3 == 0 {
            heap.pop();
        }
    }
    assert_eq!(map.len(), tree.len());
    assert!(tree.iter().all(|(key, value)| map[key] == *value));
    let sorted = heap.into_sorted_vec();
    assert!(sorted.is_sorted());
    let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
    for i in 0..100_000_usize {
        queue.push_back(vec![u8::try_from(i % 251).unwrap(); i % 700]);
        if queue.len() > 5000 {
            let oldest = queue.pop_front().unwrap();
            assert!(oldest.iter().all(|&byte| usize::from(byte) == (i - 5000) % 251));
        }
    }
    // Growth by realloc to a huge block, and back.
    let mut grown: Vec<u64> = (0..20_000_000).collect();
    assert_eq!(grown.iter().sum::<u64>(), 199_999_990_000_000);
    grown.truncate(10);
    grown.shrink_to_fit();
    assert_eq!(grown, (0..10).collect::<Vec<_>>());
}

#[test]
fn threads_and_channels() {
    let (sender, receiver) = mpsc::sync_channel::<(usize, Vec<String>)>(64);
    let makers: Vec<_> = (0..4)
        .map(|maker| {
            let sender = sender.clone();
            thread::spawn(move || {
                for i in 0..5000 {
                    let parts = (0..i % 20).map(|part| format!("{maker}/{i}/{part}")).collect();
                    sender.send((maker, parts)).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    let mut received = [0; 4];
    for (maker, parts) in receiver {
        let i = received[maker];
        assert_eq!(parts.len(), i % 20);
        assert!(
            parts.iter().enumerate().all(|(part, text)| *text == format!("{maker}/{i}/{part}"))
        );
        received[maker] += 1;
    }
    assert_eq!(received, [5000; 4]);
    makers.into_iter().for_each(|maker| maker.join().unwrap());
}

thread_local! {
    static LOCAL: Mutex<Vec<Box<[u8]>>> = const { Mutex::new(Vec::new()) };
}

/// What a thread keeps to its end is dropped by destructors that run beside the allocator's own.
struct Last(Arc<AtomicUsize>);

impl Drop for Last {
    fn drop(&mut self) {
        let texts: Vec<String> = (0..100).map(|i| "end".repeat(i)).collect();
        self.0.fetch_add(texts.len(), Ordering::Relaxed);
    }
}

thread_local! {
    static AT_END: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn thread_locals_and_short_threads() {
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..500 {
        let workers: Vec<_> = (0..4_usize)
            .map(|w| {
                let ended = Arc::clone(&ended);
                thread::spawn(move || {
                    AT_END.with_borrow_mut(|last| *last = Some(Last(ended)));
                    LOCAL.with(|local| {
                        let mut local = local.lock().unwrap();
                        local.extend((0..50).map(|i| vec![1; i * w].into_boxed_slice()));
                        local.iter().map(|block| block.len()).sum::<usize>()
                    })
                })
            })
            .collect();
        for (w, worker) in workers.into_iter().enumerate() {
            assert_eq!(worker.join().unwrap(), 1225 * w);
        }
    }
    assert_eq!(ended.load(Ordering::Relaxed), 500 * 4 * 100);
}

#[test]
fn async_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let total: usize = runtime.block_on(async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<usize>>(100);
        for task in 0..200 {
            let sender = sender.clone();
            tokio::spawn(async move {
                for step in 0..50 {
                    sender.send(vec![task; step]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
        }
        drop(sender);
        let mut total = 0;
        while let Some(block) = receiver.recv().await {
            total += block.iter().sum::<usize>();
        }
        total
    });
    assert_eq!(total, (0..200).sum::<usize>() * (0..50).sum::<usize>());
}

/// Layouts that the collections never ask for, straight at the trait.
#[test]
fn every_layout() {
    for shift in 0..=26 {
        let align = 1_usize << shift;
        for size in [1, 3, align / 2 + 1, align, align + 1, 5 * align, 100, 5000, 70_000] {
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            // SAFETY: sizes are not zero; every block is freed with its layout.
            unsafe {
                let block = ZONAL.alloc_zeroed(layout);
                assert!(!block.is_null() && block.addr() % align == 0, "{layout:?}: {block:?}");
                let bytes = std::slice::from_raw_parts(block, size);
                assert!(bytes.iter().all(|&byte| byte == 0), "{layout:?} is not zero");
                block.write_bytes(7, size);
                let block = ZONAL.realloc(block, layout, size * 2 + 10);
                assert!(
                    !block.is_null() && block.addr() % align == 0,
                    "{layout:?} moved to {block:?}"
                );
                let bytes = std::slice::from_raw_parts(block, size);
                assert!(bytes.iter().all(|&byte| byte == 7), "{layout:?} lost its contents");
                let grown = Layout::from_size_align(size * 2 + 10, align).unwrap();
                let block = ZONAL.realloc(block, grown, size / 2 + 1);
                assert!(!block.is_null() && block.addr() % align == 0);
                ZONAL.dealloc(block, Layout::from_size_align(size / 2 + 1, align).unwrap());
            }
        }
    }
}

#[test]
fn out_of_memory_is_an_error() {
    let mut text: Vec<u8> = Vec::new();
    assert!(text.try_reserve_exact(1 << 62).is_err());
    assert!(text.try_reserve_exact(isize::MAX as usize).is_err());
    assert!(text.try_reserve_exact(1000).is_ok());
}

/// The rlib replaces Rust's allocator and leaves the C library's names alone.
#[test]
fn the_program_defines_no_malloc() {
    let program = std::env::current_exe().unwrap();
    let names = Program::plain("nm").arg(&program).run().success().stdout;
    assert!(names.lines().count() > 1000, "nm saw no symbols");
    for line in names.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, kind, name] = words[..] {
            let taken = [
                "malloc",
                "free",
                "calloc",
                "realloc",
                "dlopen",
                "posix_memalign",
                "_Znwm",
                "_ZdlPv",
            ];
            let name = name.split('@').next().unwrap_or(name);
            assert!(kind == "U" || !taken.contains(&name), "the program defines {name}: {line}");
        }
    }
}

/// A Rust program on zonal that is itself preloaded with zonal: two instances, one process.
#[test]
fn preloaded_besides() {
    if zonal_tests::library().is_some() {
        Program::new(std::env::current_exe().unwrap())
            .args(["threads_and_channels", "large_collections"])
            .run()
            .success();
    }
}

/// Threads that used the plugin end after it was closed; one that needs the loader would wait for ever.
#[test]
fn a_plugin_is_closed() {
    let plugin = std::env::current_exe().unwrap().with_file_name("libzonal_test_plugin.so");
    let program = Program::plain(compile("closed.c")).arg(format!("plugin={}", plugin.display()));
    let opening = format!("opening={}", compile_shared("opening.c").display());
    program.arg(opening).run().success().quiet();
}
