//! The table of sections: who finds a section finds all that is constant about it.
//!
//! Fault: `section_add_relaxed` (a reader counts an entry that is not filled in for it).

use loom::sync::Arc;
use loom::thread;
use zonal_numa::NodeId;

use super::{check, reached};
use crate::pfn::Pfn;
use crate::section::Sections;

#[test]
fn publication() {
    check("section:publish", &["found-0", "found-1", "found-2"], || {
        let sections = Arc::new(Sections::new());
        let reader = {
            let sections = Arc::clone(&sections);
            thread::spawn(move || {
                let mut found = 0;
                for (index, section) in sections.iter() {
                    assert_eq!(usize::from(index), found);
                    found += 1;
                    assert_eq!(section.start().index(), found * 1024);
                    assert_eq!((section.nr_pages(), section.node()), (found * 10, found));
                    assert_eq!(section.is_huge(), found == 2);
                }
                reached(["found-0", "found-1", "found-2"][found]);
            })
        };
        // Adders hold a lock, so there is one.
        for n in [1, 2] {
            let node = NodeId::new(n as u8).unwrap();
            let start = Pfn::new(n as u32 * 1024);
            assert_eq!(usize::from(sections.add(node, n == 2, start, n * 10)), n - 1);
        }
        reader.join().unwrap();
        assert!(sections.is_full());
    });
}
