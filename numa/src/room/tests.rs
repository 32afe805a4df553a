//! Control groups as files below a directory.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::*;

struct Root(PathBuf);

impl Root {
    /// A system whose process sees `groups` in `/proc/self/cgroup`.
    fn new(name: &str, groups: &str) -> Root {
        let root =
            Root(std::env::temp_dir().join(format!("zonal-room-{name}-{}", std::process::id())));
        root.write("proc/self/cgroup", groups);
        root
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A group of v2 with a limit of 1000.
    fn limit(&self, group: &str) {
        self.write(&format!("{group}/memory.max"), "1000\n");
        self.write(&format!("{group}/memory.high"), "max\n");
        self.write(&format!("{group}/memory.current"), "700\n");
        self.write(&format!("{group}/memory.stat"), "anon 500\ninactive_file 100\n");
    }

    fn group_room(&self) -> Option<GroupRoom> {
        read_group_below(self.0.as_os_str().as_bytes()).unwrap()
    }

    fn room(&self) -> Option<Room> {
        self.group_room().map(|group| group.nearest)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ROOM: Option<Room> = Some(Room { total: 1000, available: 400 });

#[test]
fn the_second_version_alone_and_with_a_stray_mount_of_the_first() {
    let root = Root::new("stray", "0::/a/b\n");
    assert_eq!(root.room(), None);
    root.limit("sys/fs/cgroup/a");
    assert_eq!(root.room(), ROOM);
    for stray in ["1:name=systemd:/\n", "3:net_cls:/a\n"] {
        root.write("proc/self/cgroup", &format!("{stray}0::/a/b\n"));
        assert_eq!(root.room(), ROOM, "{stray}");
    }
}

/// The kernel only slows a program down beyond `memory.high`; of all levels the nearest of each kind counts.
#[test]
fn which_bound_kills() {
    let root = Root::new("kills", "0::/a/b\n");
    root.limit("sys/fs/cgroup/a/b");
    let room = |total, available| Room { total, available };
    assert_eq!(root.group_room(), Some(room(1000, 400).into()));
    root.write("sys/fs/cgroup/a/b/memory.high", "900\n");
    let nearest = room(900, 300);
    let killer = Some(room(1000, 400));
    assert_eq!(root.group_room(), Some(GroupRoom { nearest, killer }));
    root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_eq!(root.group_room(), Some(GroupRoom { nearest, killer: None }));
    root.limit("sys/fs/cgroup/a");
    assert_eq!(root.group_room(), Some(GroupRoom { nearest, killer }));
    // A killer further away has nothing to do with the nearest bound.
    root.write("sys/fs/cgroup/a/memory.max", "9000\n");
    let killer = Some(room(9000, 8400));
    assert_eq!(root.group_room(), Some(GroupRoom { nearest, killer }));
}

#[test]
fn the_second_version_beside_the_first() {
    let root = Root::new("beside", "7:cpu:/a\n0::/a/b\n");
    root.limit("sys/fs/cgroup/unified/a/b");
    assert_eq!(root.room(), ROOM);
}

#[test]
fn the_first_version_and_long_texts() {
    let others: String = (10..60).map(|n| format!("{n}:name=x:/elsewhere/{n}\n")).collect();
    let root = Root::new("first", &format!("{others}4:cpu,memory:/a\n0::/b\n"));
    root.limit("sys/fs/cgroup/b");
    assert_eq!(root.room(), None);
    root.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000\n");
    root.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "900\n");
    let stat: String = (0..100).map(|n| format!("field_{n} {n}\n")).collect();
    // No newline at the end.
    root.write("sys/fs/cgroup/memory/a/memory.stat", &format!("{stat}total_inactive_file 300"));
    assert_eq!(root.room(), Some(Room { total: 2000, available: 1400 }));
    // A line that is too long tells nothing.
    root.write("proc/self/cgroup", &format!("4:memory:/{}\n", "x".repeat(600)));
    assert_eq!(root.room(), None);
}
