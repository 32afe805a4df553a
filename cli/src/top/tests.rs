//! The screen of a made-up process, as text.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use zonal_stats::{Pageblock, Section, Snapshot};

use super::app::App;
use super::screen;

const MIB: u64 = 1 << 20;

/// A server with 1 GiB limit on two nodes, `second` seconds after its start.
fn snapshot(second: u64) -> Box<Snapshot> {
    let mut snapshot = Box::<Snapshot>::default();
    snapshot.version[..5].copy_from_slice(b"0.1.0");
    // Far ahead of any clock: never old.
    snapshot.taken_ns = (1 << 60) + second * 1_000_000_000;
    let pages = |mib: u64| mib * MIB / 4096;
    let process = &mut snapshot.process;
    (process.limit, process.min, process.low, process.high) =
        (pages(1024), pages(16), pages(64), pages(128));
    (process.nr_heaps, process.nr_dead_heaps) = (14, 2);
    process.meta_resident_bytes = 103 * MIB;
    process.in_flight_bytes = 112 * MIB;
    snapshot.nr_nodes = 2;
    for (id, node) in snapshot.nodes.iter_mut().take(2).enumerate() {
        node.id = id as u64;
        node.zone.nr_managed = pages(500);
        node.zone.nr_out = pages(300);
        node.zone.nr_free_resident = pages(40);
        node.zone.nr_charged = pages(360);
        node.zone.nr_huge = pages(20);
        node.memory.used_small_bytes = 200 * MIB;
        node.memory.used_large_bytes = 60 * MIB;
        node.memory.cached_bytes = 30 * MIB;
        node.memory.free_resident_bytes = 40 * MIB;
        node.memory.huge_cached_bytes = 20 * MIB;
        node.memory.resident_bytes = (350 + second % 7) * MIB;
        (node.pcp.count, node.pcp.high, node.pcp.batch) = (pages(3), pages(8), 63);
        node.free_area[0][0] = [7, 12_345];
        node.free_area[3][1] = [0, 130];
        node.free_area[10][1] = [20, 2];
        node.events.pgalloc = second * second * 1000;
        node.events.pgsteal = second * 300;
    }
    snapshot.heap_events.bin_refill = second * 20_000;
    snapshot.nr_classes = 57;
    for (i, class) in snapshot.classes.iter_mut().take(57).enumerate() {
        class.size = 16 * (i as u64 + 1);
        class.slab_pages = 8;
        class.nr_slabs = 100 * (i as u64 % 5);
        class.nr_objects = class.nr_slabs * 8 * 4096 / class.size;
        class.nr_free = class.nr_objects * (i as u64 % 9) / 9;
        class.nr_partial = class.nr_slabs / 3;
    }
    snapshot.nr_sections = 1;
    snapshot.nr_pageblocks = 32;
    snapshot.sections[0] = Section {
        start: 0x7f12_0000_0000,
        nr_pages: 32 * 512,
        nr_committed: 20 * 512,
        nr_resident: 12 * 512,
        nr_pageblocks: 32,
        ..Section::default()
    };
    for (i, block) in snapshot.pageblocks.iter_mut().take(32).enumerate() {
        *block = Pageblock { slab: 512 - 16 * i as u16, ..Pageblock::default() };
    }
    snapshot
}

fn app() -> App {
    let mut app = App::new("server".into(), 4711, Duration::from_secs(1));
    for second in 1..40 {
        app.update(snapshot(second));
    }
    app
}

fn drawn(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let rows: Vec<String> = (0..height).map(row).collect();
    println!("{}", rows.join("\n"));
    rows
}

fn press(app: &mut App, key: char) {
    assert!(app.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)));
}

/// The keys of every page fit, in every order of the slabs; a smaller screen says that it is one.
#[test]
fn the_keys_fit_the_smallest_screen() {
    let mut app = app();
    for page in ['1', '2', '3'] {
        press(&mut app, page);
        for _ in 0..3 {
            press(&mut app, 's');
            let rows = drawn(&mut app, 80, 24);
            assert!(rows[23].trim_end().ends_with("q quit"), "{}", rows[23]);
        }
    }
    for (width, height) in [(79, 24), (80, 23), (40, 10)] {
        let rows = drawn(&mut app, width, height);
        let last = &rows[usize::from(height) - 1];
        assert!(last.contains("needs 80x24") && last.contains("q quit"), "{last}");
    }
}

#[test]
fn all_of_the_overview_fits_the_smallest_screen() {
    let rows = drawn(&mut app(), 80, 24);
    for (row, text) in [
        (0, "zonal top  server (pid 4711)"),
        (0, "12 threads  zonal 0.1.0  every 1s"),
        (1, "811 MiB of 1.0 GiB"),
        (2, "used 408M"),
        (2, "sent 112M"),
        (2, "meta 103M"),
        (5, "nodes"),
        (6, "node 0"),
        (6, "360 MiB of 1.0 GiB"),
        (7, "node 1"),
        (8, "free area"),
        (10, "24k"),
        (15, "page caches"),
        (16, "6.0 MiB of 16.0 MiB"),
        (17, "% used"),
        (18, "rates"),
        (19, "pgalloc"),
        (22, "allocstall"),
        (23, "q quit"),
    ] {
        assert!(rows[row].contains(text), "row {row} lacks {text:?}: {:?}", rows[row]);
    }
    // Two seconds back it was 38^2, now 39^2 thousand pages on two nodes.
    assert!(rows[19].contains("601 MiB"), "{:?}", rows[19]);
    for mark in ["h", "l", "m"] {
        let bar = rows[6].split('\u{b7}').skip(1).collect::<String>();
        assert!(bar.contains(mark), "{:?}", rows[6]);
    }
}

#[test]
fn the_other_pages_and_the_help() {
    let mut app = app();
    press(&mut app, '2');
    let rows = drawn(&mut app, 80, 24);
    assert!(rows[1].contains("partial") && rows[2].contains("12.5 MiB"), "{rows:#?}");
    press(&mut app, 's');
    press(&mut app, 's');
    let rows = drawn(&mut app, 80, 24);
    assert!(rows[2].trim_start().starts_with("32 "), "smallest first: {:?}", rows[2]);
    press(&mut app, '3');
    let rows = drawn(&mut app, 80, 24);
    assert!(rows.iter().any(|row| row.contains("SSSSSSSSSSSSSSSSssss............")), "{rows:#?}");
    press(&mut app, '?');
    let rows = drawn(&mut app, 80, 24);
    assert!(rows.iter().any(|row| row.contains("any key closes")), "{rows:#?}");
}

/// The same server on `nr_nodes` nodes, each with a resident part that tells it from the others.
fn app_on(nr_nodes: usize) -> App {
    let mut app = App::new("server".into(), 4711, Duration::from_secs(1));
    let mut snapshot = snapshot(1);
    snapshot.nr_nodes = nr_nodes as u64;
    let first = snapshot.nodes[0];
    for (id, node) in snapshot.nodes.iter_mut().take(nr_nodes).enumerate() {
        *node = first;
        node.id = id as u64;
        node.zone.nr_charged = (101 + id as u64) * MIB / 4096;
    }
    app.update(snapshot);
    app
}

/// On the smallest screen every node has its bar: side by side, where there are more nodes than
/// lines, and behind the arrow keys where there are more than fit.
#[test]
fn machines_with_many_nodes() {
    for nr_nodes in [1, 2, 3, 4, 8] {
        let rows = drawn(&mut app_on(nr_nodes), 80, 24);
        for id in 0..nr_nodes {
            let charged = format!("{}", 101 + id);
            let row = rows[6..8].iter().find(|row| row.contains(&charged));
            let row = row.unwrap_or_else(|| panic!("node {id} of {nr_nodes}: {rows:#?}"));
            assert!(row.contains('\u{2588}') && row.contains('m'), "{row}");
        }
        let below = ["free area", "page caches", "rates", "allocstall", "q quit"];
        assert!(below.iter().all(|part| rows.iter().any(|row| row.contains(part))), "{rows:#?}");
    }
    let mut many = app_on(64);
    let rows = drawn(&mut many, 80, 24);
    assert!(rows[5].contains("64 nodes: Up and Down") && rows[6].starts_with(" 0  "), "{rows:#?}");
    for _ in 0..100 {
        assert!(many.press(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE)));
    }
    let rows = drawn(&mut many, 80, 24);
    assert!(rows[7].contains(" 63 ") && rows[7].contains("164M"), "{rows:#?}");
    let rows = drawn(&mut app_on(64), 80, 90);
    let has = |text: String| rows.iter().any(|row| row.contains(&text));
    assert!((0..64).all(|id| has(format!(" node {id:<2} "))), "{rows:#?}");
}

/// Neither a tiny screen nor an empty process may bring it down.
#[test]
fn odd_sizes_and_empty_processes() {
    let mut empty = App::new("x".into(), 1, Duration::from_secs(1));
    empty.update(Box::default());
    for (width, height) in [(1, 1), (3, 2), (20, 5), (79, 23), (300, 100), (80, 10)] {
        for key in ['1', '2', '3', '?'] {
            let mut full = app();
            press(&mut full, key);
            let _ = drawn(&mut full, width, height);
            press(&mut empty, key);
            let _ = drawn(&mut empty, width, height);
        }
    }
}

/// Whoever owns a page may write anything into it: no figure leads out of a table, or nowhere.
#[test]
fn nonsense_is_shown_as_nonsense() {
    const VALUES: [u64; 8] = [0, 0, 1, 2, 3, 65, 512, 70_000];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        VALUES[(seed >> 61) as usize]
    };
    for round in 1..30 {
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.words_mut().iter_mut().for_each(|word| *word = random());
        snapshot.version = *b"\x1b[31mzonal\x07\0\0\0\0\0";
        snapshot.taken_ns = round;
        let mut texts = [const { String::new() }; 4];
        let [text, prometheus, sections, json] = &mut texts;
        zonal_stats::text::write(text, &snapshot).unwrap();
        zonal_stats::prometheus::write(prometheus, &snapshot).unwrap();
        zonal_stats::json::write_sections(sections, &snapshot).unwrap();
        zonal_stats::json::write(json, &snapshot).unwrap();
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(texts.iter().all(|text| text.chars().all(is_plain)));
        let mut app = App::new("nonsense".into(), 1, Duration::from_secs(1));
        app.update(snapshot);
        for key in ['1', '2', '3'] {
            press(&mut app, key);
            drawn(&mut app, 80, 24);
        }
    }
}
