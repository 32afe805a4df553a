//! The live page of `zonal_stats`: a reader never takes a mixture of two publications for whole.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use zonal_stats::live::{SeqRead, SeqWrite};

use super::{check, reached};

struct Page {
    seq: AtomicU64,
    words: [AtomicU64; 2],
}

#[test]
fn publisher_and_reader() {
    check("live:page", &["first", "second", "torn"], || {
        let page = Arc::new(Page {
            seq: AtomicU64::new(0),
            words: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let reader = {
            let page = Arc::clone(&page);
            loom::thread::spawn(move || {
                let mut found = [0; 2];
                let Some(read) = SeqRead::begin(&page.seq) else { return };
                read.load(&page.words, &mut found);
                if !read.is_whole() {
                    return reached("torn");
                }
                assert_eq!(found[0], found[1], "words of two publications");
                match found[0] {
                    1 => reached("first"),
                    2 => reached("second"),
                    _ => {}
                }
            })
        };
        for value in 1..=2 {
            let write = SeqWrite::begin(&page.seq);
            write.store(&page.words, &[value; 2]);
            write.end();
        }
        reader.join().unwrap();
    });
}
