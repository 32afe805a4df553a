use super::*;

fn page() -> Box<LivePage> {
    // SAFETY: all zeros is a page.
    unsafe { Box::<LivePage>::new_zeroed().assume_init() }
}

#[test]
fn what_is_published_is_read() {
    let page = page();
    let mut read = Box::<Snapshot>::default();
    assert_eq!(page.check(), Err(Unfit::NotAPage));
    page.describe(7, 1);
    assert_eq!(page.check(), Ok(()));
    assert!(!page.read(&mut read));
    let mut snapshot = Box::<Snapshot>::default();
    snapshot.nr_nodes = 2;
    snapshot.nodes[1].zone.nr_free = 33;
    snapshot.nr_pageblocks = 1;
    snapshot.pageblocks[0].slab = 512;
    let request = page.ask();
    assert!(page.is_asked() && !page.is_served(request));
    page.publish(&snapshot);
    assert!(!page.is_asked() && page.is_served(request));
    assert!(page.read(&mut read));
    assert_eq!(read.nodes()[1].zone.nr_free, 33);
    assert_eq!(read.pageblocks[0], snapshot.pageblocks[0]);
}

#[test]
fn counts_beyond_the_tables_are_cut() {
    let page = page();
    let mut snapshot = Box::<Snapshot>::default();
    snapshot.nr_sections = u64::MAX;
    snapshot.nr_classes = u64::MAX;
    page.publish(&snapshot);
    let mut read = Box::<Snapshot>::default();
    assert!(page.read(&mut read));
    assert_eq!(read.sections().len(), crate::MAX_SECTIONS);
}

/// A publisher that was killed in the middle leaves the number odd.
#[test]
fn a_torn_page_is_refused() {
    let page = page();
    page.publish(&Box::<Snapshot>::default());
    let write = SeqWrite::begin(&page.seq);
    assert!(!page.read(&mut Box::<Snapshot>::default()));
    write.end();
    assert!(page.read(&mut Box::<Snapshot>::default()));
}

#[test]
fn readers_beside_a_publisher_see_whole_snapshots() {
    let page = page();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut snapshot = Box::<Snapshot>::default();
            for round in 1..=20_000 {
                snapshot.pid = round;
                snapshot.nr_classes = 64;
                snapshot.classes.iter_mut().for_each(|class| class.nr_slabs = round);
                page.publish(&snapshot);
            }
        });
        let mut read = Box::<Snapshot>::default();
        while read.pid < 20_000 {
            if page.read(&mut read) {
                let pid = read.pid;
                assert!(read.classes().iter().all(|class| class.nr_slabs == pid));
            }
        }
    });
}
