//! Whose page it is, and who may read it.

use zonal_tests::{install, skipped};

use super::*;

/// A server that starts as root and drops its rights keeps its page, which is root's.
#[test]
fn a_process_that_became_another_user_is_read() {
    const SERVER: &str = "
import os, time
os.setgid(65534)
os.setuid(65534)
print(os.getpid(), flush=True)
time.sleep(60)
";
    if !is_zonal() || user() != 0 {
        skipped("only root can become another user");
        return;
    }
    let program = Program::new("python3").args(["-c", SERVER]).env("ZONAL_CONF", "stats:live");
    let mut child = program.piped().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let outcome = stats(line.trim().parse().unwrap()).run();
    child.kill().unwrap();
    child.wait().unwrap();
    let report: Value = serde_json::from_str(&outcome.success().stdout).unwrap();
    assert_eq!(report["pid"], child.id());
}

#[test]
fn a_process_that_was_killed_leaves_nothing_for_long() {
    if !is_zonal() {
        return;
    }
    let mut program = Waiting::start("wait", "stats:live", 1);
    let (pid, page) = (program.pid(), page_of(program.pid()));
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    assert!(page.exists(), "nobody was left to remove it");
    refused(&stats(pid).run(), "no such process");
    assert!(!page.exists(), "the reader removes it");
}

/// Containers of one pod share `/dev/shm`, and each has a process 1.
#[test]
fn containers_that_share_the_folder_are_told_apart() {
    if !is_zonal() {
        return;
    }
    if user() != 0 {
        return skipped("needs root to make namespaces");
    }
    let start = |blocks: &str| {
        let mut child = Program::plain("unshare")
            .args(["--pid", "--fork", "--kill-child", "env", "ZONAL_CONF=stats:live"])
            .arg(format!("LD_PRELOAD={}", library().unwrap().display()))
            .arg(zonal_tests::compile("stats.c"))
            .args(["wait", blocks, "1000"])
            .piped()
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "1\n", "the first of its namespace");
        child
    };
    let mut children = [start("2000"), start("20000")];
    let used = |child: &Child| {
        let pid = child.id();
        let inner = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let outcome = stats(inner.trim().parse().unwrap()).run().success();
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(report["pid"], 1);
        report["memory"]["used_small_bytes"].as_u64().unwrap()
    };
    let [small, large] = [used(&children[0]), used(&children[1])];
    assert!(small < 4_000_000 && large > 15_000_000, "{small} {large}");
    // One that goes takes its own page only.
    drop(children[1].stdin.take());
    assert!(children[1].wait().unwrap().success());
    assert_eq!(used(&children[0]), small);
    drop(children[0].stdin.take());
    assert!(children[0].wait().unwrap().success());
}

#[test]
fn a_forked_child_has_a_page_of_its_own() {
    if !is_zonal() {
        return;
    }
    let program = Waiting::start("fork", "stats:live", 2);
    for &pid in &program.pids {
        let report: Value = serde_json::from_str(&stats(pid).run().success().stdout).unwrap();
        assert_eq!(report["pid"], pid);
        assert!(page_of(pid).exists());
    }
    assert_ne!(program.pids[0], program.pids[1]);
}

#[test]
fn what_cannot_be_read_is_said_in_a_line() {
    if !is_zonal() {
        return;
    }
    refused(&stats(4_194_303).run(), "no such process");
    let silent = Waiting::start("wait", "stats:off", 1);
    refused(&stats(silent.pid()).run(), "publishes no statistics");
    let mut stranger = Program::plain("sleep").arg("30").piped().spawn().unwrap();
    refused(&stats(stranger.id()).run(), "zonal is not in this process");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let foreign = if user() == 0 {
        let waiting = Waiting::start("wait", "stats:live", 1);
        let pid = waiting.pid().to_string();
        let other = ["--reuid=54321", "--clear-groups"];
        // The command may lie where only root can reach it.
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("zonal");
        install(&zonal(), &copy);
        open_to_all(dir.path());
        Program::plain("setpriv").args(other).arg(copy).args(["stats", &pid]).run()
    } else {
        stats(1).run()
    };
    refused(&foreign, "permission denied");
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Everybody may make files in /dev/shm: a folder that is not the user's own is not used.
#[test]
fn a_folder_laid_by_others_is_refused() {
    const OTHER: u32 = 54_322;
    if !is_zonal() {
        return;
    }
    if user() != 0 {
        return skipped("needs root to be somebody else");
    }
    let trap = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(trap.path(), Some(OTHER), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    open_to_all(dir.path());
    for (from, name) in [(zonal_tests::compile("stats.c"), "stats"), (library().unwrap(), "z.so")] {
        install(&from, &dir.path().join(name));
    }
    let folder = format!("/dev/shm/zonal-{OTHER}");
    // How many pages lie in `place` while the program runs; it would remove its own at the end.
    let pages_in = |place: &Path| {
        let mut child = Program::plain("setpriv")
            .args([&format!("--reuid={OTHER}"), "--clear-groups", "env"])
            .arg(format!("LD_PRELOAD={}", dir.path().join("z.so").display()))
            .arg("ZONAL_CONF=stats:live")
            .arg(dir.path().join("stats"))
            .args(["wait", "100", "1000"])
            .piped()
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), child.id().to_string());
        let nr_pages = place.read_dir().unwrap().count();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        nr_pages
    };
    let folder = Path::new(&folder);
    std::os::unix::fs::symlink(trap.path(), folder).unwrap();
    assert_eq!(pages_in(trap.path()), 0, "through a link");
    std::fs::remove_file(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
    open_to_all(folder);
    assert_eq!(pages_in(folder), 0, "in root's folder");
    std::os::unix::fs::chown(folder, Some(OTHER), None).unwrap();
    assert_eq!(pages_in(folder), 0, "in a folder that others may read");
    std::fs::remove_dir(folder).unwrap();
    // It makes one of its own.
    assert_eq!(pages_in(folder), 1);
    std::fs::remove_dir(folder).unwrap();
}
