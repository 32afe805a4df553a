//! Real programs on zonal, with checked results.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use zonal_tests::{Program, have, skipped};

/// Modules of Python's own test suite, every object by malloc.
fn python_tests(modules: &[&str]) {
    // The distribution's interpreter: the test suite belongs to it.
    let python = "/usr/bin/python3";
    let probe = Program::plain(python).args(["-c", "import test.test_dict"]).run();
    if !probe.is_success() {
        return skipped("no test suite of Python (package libpython3.11-testsuite)");
    }
    let dir = tempfile::tempdir().unwrap();
    // -w: what fails runs once more, and says all. Some of its tests depend on time.
    Program::new(python)
        .args(["-m", "test", "-w"])
        .args(modules)
        .env("PYTHONMALLOC", "malloc")
        .env("TMPDIR", dir.path())
        .dir(dir.path())
        .timeout(600)
        .run()
        .success()
        .stdout_has("SUCCESS");
}

#[test]
fn python_containers() {
    python_tests(&["test_list", "test_dict", "test_set", "test_deque", "test_bytes", "test_gc"]);
}

#[test]
fn python_text() {
    python_tests(&["test_json", "test_re", "test_unicode", "test_struct", "test_ast"]);
}

#[test]
fn python_threads() {
    python_tests(&["test_threading", "test_queue", "test_thread", "test_fork1"]);
}

#[test]
fn perl_threads() {
    if !have("perl", "perl") {
        return;
    }
    let script = r#"
        use threads; use threads::shared; use Thread::Queue;
        my %seen : shared; my $q = Thread::Queue->new;
        my @workers = map { threads->create(sub {
            my $sum = 0;
            while (defined(my $n = $q->dequeue)) {
                my @parts = split /,/, join(",", map { $_ * $n } 1 .. 50);
                my %h = map { ("key$_" => "v" x ($_ % 97)) } @parts;
                $sum += scalar(keys %h);
                lock(%seen); $seen{$n} = length(join "", sort keys %h);
            }
            return $sum;
        }) } 1 .. 4;
        $q->enqueue($_) for 1 .. 2000;
        $q->end;
        my $total = 0; $total += $_->join for @workers;
        # Short threads that take a copy of all data with them.
        for (1 .. 30) { my ($t) = threads->create(sub { my $x = "a" x 100000; return length $x }); $total += $t->join }
        my $bytes = 0; $bytes += $_ for values %seen;
        print "$total ", scalar(keys %seen), " $bytes\n";
    "#;
    if !Program::plain("perl").args(["-e", "use threads"]).run().is_success() {
        return skipped("this perl has no threads");
    }
    let expected = Program::plain("perl").args(["-e", script]).run().success().stdout;
    assert!(expected.starts_with("3100000 2000 "), "{expected}");
    Program::new("perl").args(["-e", script]).run().success().quiet().stdout_is(&expected);
}

/// The compiler makes the same code on zonal, and what it makes runs on zonal.
#[test]
fn gcc_and_gpp() {
    let dir = tempfile::tempdir().unwrap();
    let c = zonal_tests::source("workload.c");
    let cpp = zonal_tests::source("new.cpp");
    for (compiler, file, options) in
        [("gcc", &c, &["-O2", "-w"][..]), ("g++", &cpp, &["-O2", "-w", "-std=c++17", "-flto"])]
    {
        let make = |program: Program, name: &str| {
            let made = dir.path().join(name);
            let run = program
                .args(options)
                .arg("-pthread")
                .arg(file)
                .arg("-o")
                .arg(&made)
                .dir(dir.path());
            run.run().success().quiet();
            fs::read(made).unwrap()
        };
        let expected = make(Program::plain(compiler), "program");
        let made = make(Program::new(compiler), "program");
        assert!(expected == made, "{compiler} makes another program on zonal");
        Program::new(dir.path().join("program")).arg("mib=16").run().success();
    }
}

/// A repository with long history is made, cloned, packed and checked.
#[test]
fn git_clone_gc_fsck() {
    if !have("git", "git") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        Program::new("git")
            .args(["-c", "pack.threads=4", "-c", "safe.directory=*"])
            .args(arguments)
            .env("HOME", dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .dir(dir.path())
    };
    git(&["init", "-q", "--bare", "origin"]).run().success();
    git(&["-C", "origin", "fast-import", "--quiet"]).input(history(400)).run().success();
    git(&["clone", "-q", "--no-local", "--branch", "main", "origin", "copy"]).run().success();
    git(&["-C", "copy", "gc", "-q", "--aggressive", "--prune=now"]).run().success();
    git(&["-C", "copy", "fsck", "--full", "--strict"]).run().success();
    let head = |at: &str| git(&["-C", at, "rev-parse", "main"]).run().success().stdout;
    assert_eq!(head("origin"), head("copy"));
    git(&["-C", "copy", "rev-list", "--count", "main"]).run().success().stdout_is("400\n");
    let plain = |arguments: &[&str]| {
        Program::plain("git")
            .args(["-c", "safe.directory=*", "-C", "copy"])
            .args(arguments)
            .dir(dir.path())
    };
    plain(&["fsck", "--full", "--strict"]).run().success();
    let log = ["log", "-p", "--stat", "-50", "main"];
    let expected = plain(&log).run().success().stdout;
    git(&["-C", "copy"]).args(log).run().success().stdout_is(&expected);

    // This repository too, where it is one.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let own = own.to_string_lossy();
    if !git(&["-C", &own, "rev-parse", "HEAD"]).run().is_success() {
        return skipped("the sources are no git repository with a commit");
    }
    git(&["clone", "-q", "--no-local", &own, "own"]).run().success();
    git(&["-C", "own", "gc", "-q"]).run().success();
    git(&["-C", "own", "fsck", "--full"]).run().success();
}

/// A stream for `git fast-import`: `commits` commits that change some of 300 files.
fn history(commits: usize) -> String {
    let mut stream = String::new();
    for commit in 1..=commits {
        stream += "commit refs/heads/main\ncommitter A <a@example.org> ";
        stream +=
            &format!("{} +0000\ndata 9\ncommit {:02}\n", 1_700_000_000 + commit, commit % 100);
        for file in 0..8 {
            let path = (commit * 31 + file * 97) % 300;
            let lines = 20 + (commit * file) % 300;
            let text: String =
                (0..lines).map(|l| format!("{l} {}\n", l * path + commit / 9)).collect();
            stream +=
                &format!("M 644 inline d{}/f{path}\ndata {}\n{text}\n", path % 17, text.len());
        }
    }
    stream
}

#[test]
fn sqlite() {
    if !have("sqlite3", "sqlite3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "
        PRAGMA journal_mode=WAL; PRAGMA cache_size=-8000;
        CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, v REAL, b BLOB);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
          INSERT INTO t SELECT i, printf('key-%d', i * 7919 % 120000), i * 0.5, zeroblob(i % 300) FROM n;
        CREATE INDEX tk ON t(k); CREATE INDEX tv ON t(v, k);
        SELECT count(*), sum(v), max(k), sum(length(b)) FROM t;
        SELECT substr(k, 5, 2) g, count(*), avg(v) FROM t GROUP BY g ORDER BY 2 DESC, 1 LIMIT 20;
        SELECT count(*) FROM t a JOIN t b ON a.k = b.k WHERE a.id % 3 = 0;
        DELETE FROM t WHERE id % 4 = 1; UPDATE t SET k = k || '-x' WHERE id % 5 = 0;
        WITH RECURSIVE f(a, b, n) AS (SELECT 0, 1, 0 UNION ALL SELECT b, (a + b) % 1000007, n + 1 FROM f
          WHERE n < 200000) SELECT max(a), min(b) FROM f;
        SELECT json_group_array(k) FROM (SELECT k FROM t ORDER BY v LIMIT 50);
        SELECT group_concat(k) FROM (SELECT k FROM t ORDER BY k DESC LIMIT 50);
        VACUUM; PRAGMA integrity_check; SELECT count(*), sum(v), min(k) FROM t;
    ";
    let run = |program: Program, file: &str| {
        program.arg(dir.path().join(file)).input(script).run().success().quiet().stdout
    };
    let expected = run(Program::plain("sqlite3"), "plain.db");
    assert!(expected.contains("\nok\n"), "{expected}");
    assert_eq!(run(Program::new("sqlite3"), "zonal.db"), expected);
}

/// A redis server for one test; it is killed when the test ends, however that is.
struct Redis(Child);

impl Redis {
    fn start(dir: &Path) -> Self {
        let server = Program::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--daemonize", "no"])
            .args([
                "--io-threads",
                "2",
                "--maxmemory-policy",
                "noeviction",
                "--logfile",
                "redis.log",
            ])
            .dir(dir)
            .spawn();
        let redis = Self(server.unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        while !try_redis(dir, "*1\r\n$4\r\nPING\r\n", "+PONG\r\n") {
            let log = fs::read_to_string(dir.join("redis.log")).unwrap_or_default();
            assert!(Instant::now() < end, "redis does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        redis
    }

    fn stop(mut self, dir: &Path) {
        try_redis(dir, "*2\r\n$8\r\nSHUTDOWN\r\n$4\r\nSAVE\r\n", "");
        let status = self.0.wait().unwrap();
        assert!(status.success(), "redis-server ended with {status}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Ended already in the good case.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(|_| ()).unwrap_or_default();
    }
}

/// Sends commands and compares what comes back.
fn try_redis(dir: &Path, commands: &str, expected: &str) -> bool {
    let Ok(mut socket) = UnixStream::connect(dir.join("redis.sock")) else { return false };
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = vec![0; expected.len()];
    let sent = commands.to_owned();
    let mut sender = socket.try_clone().unwrap();
    let writer = std::thread::spawn(move || sender.write_all(sent.as_bytes()).is_ok());
    let read = socket.read_exact(&mut answer).is_ok();
    writer.join().unwrap() && read && answer == expected.as_bytes()
}

fn value(i: usize, round: usize) -> String {
    format!("{i}:{round}:").repeat(1 + (i * 37 + round) % 400)
}

#[test]
fn redis() {
    if !have("redis-server", "redis-server") || !have("redis-benchmark", "redis-tools") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Redis::start(dir.path());
    let set = |keys: std::ops::Range<usize>, round| {
        let (mut commands, mut answers) = (String::new(), String::new());
        for i in keys {
            let (key, value) = (format!("own:{i}"), value(i, round));
            let (k, v) = (key.len(), value.len());
            commands += &format!("*3\r\n$3\r\nSET\r\n${k}\r\n{key}\r\n${v}\r\n{value}\r\n");
            answers += "+OK\r\n";
        }
        assert!(try_redis(dir.path(), &commands, &answers), "SET, round {round}");
    };
    let get = |keys: std::ops::Range<usize>, round| {
        let (mut commands, mut answers) = (String::new(), String::new());
        for i in keys {
            let (key, value) = (format!("own:{i}"), value(i, round));
            commands += &format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
            answers += &format!("${}\r\n{value}\r\n", value.len());
        }
        assert!(try_redis(dir.path(), &commands, &answers), "GET, round {round}: wrong contents");
    };
    set(0..5000, 0);
    Program::new("redis-benchmark")
        .args([
            "-s",
            "redis.sock",
            "-n",
            "20000",
            "-c",
            "20",
            "-P",
            "8",
            "-d",
            "300",
            "-r",
            "20000",
            "-q",
        ])
        .args(["-t", "set,get,incr,lpush,lpop,sadd,hset,zadd,lrange_100,mset"])
        .dir(dir.path())
        .run()
        .success();
    get(0..5000, 0);
    // Written anew while a forked child saves what was there.
    assert!(try_redis(dir.path(), "*1\r\n$6\r\nBGSAVE\r\n", "+Background saving started\r\n"));
    set(1000..3000, 1);
    get(1000..3000, 1);
    get(3000..5000, 0);
    // Saved, and loaded by the next server.
    server.stop(dir.path());
    let server = Redis::start(dir.path());
    get(0..1000, 0);
    get(1000..3000, 1);
    get(3000..5000, 0);
    server.stop(dir.path());
}
