//! More real programs on zonal: large, and not part of every test run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use zonal_tests::{Program, have, skipped, source};

/// Runs without zonal and with it; both must succeed with the same output.
fn same(describe: impl Fn(Program) -> Program, program: &str) -> String {
    let expected = describe(Program::plain(program)).timeout(300).run().success().stdout;
    describe(Program::new(program)).timeout(400).run().success().stdout_is(&expected).stdout
}

fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Some servers drop their privileges and must still reach it.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

/// A text that compresses, some megabytes of it.
fn text(lines: usize) -> String {
    (0..lines)
        .map(|i| format!("line {i} of {} and {}\n", i * 7919 % 1000, i * i % 100_003))
        .collect()
}

/// A server in the foreground; killed with the test.
struct Server(Child);

impl Server {
    fn start(program: Program) -> Self {
        Self(program.spawn().unwrap())
    }

    /// Waits until something listens.
    fn listening(mut self, port: u16) -> Self {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(self.0.try_wait().unwrap().is_none(), "the server ended by itself");
            assert!(Instant::now() < end, "the server does not listen");
            std::thread::sleep(Duration::from_millis(30));
        }
        self
    }

    /// Asks it to end and demands that it does so in good order.
    fn stop(mut self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let status = self.0.wait().unwrap();
        assert!(status.code().is_some(), "the server ended with {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already in the good case.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(|_| ()).unwrap_or_default();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
#[ignore = "make test-programs"]
fn node() {
    if !have("node", "nodejs") {
        return;
    }
    let script = r#"
        const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
        const crypto = require('crypto'), zlib = require('zlib');
        function work(seed) {
            const map = new Map(); let h = crypto.createHash('sha256');
            for (let i = 0; i < 200000; i++) map.set('k' + (i * seed % 50021), { i, t: 'x'.repeat(i % 60) });
            for (const [k, v] of map) h.update(k + v.i + v.t);
            const z = zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(3000000, 'abc' + seed)));
            const b = []; for (let i = 0; i < 3000; i++) b.push(Buffer.alloc(i * 10, i % 256));
            h.update(z).update(Buffer.concat(b)).update(JSON.stringify([...map.values()].slice(0, 9999)));
            return h.digest('hex');
        }
        if (!isMainThread) parentPort.postMessage(work(workerData));
        else (async () => {
            const all = await Promise.all([3, 7, 11, 13].map(s => new Promise((ok, no) => {
                const w = new Worker(__filename, { workerData: s }); w.on('message', ok); w.on('error', no);
            })));
            console.log(work(5), all.join(' '));
        })();
    "#;
    let dir = directory();
    fs::write(dir.path().join("work.js"), script).unwrap();
    let out = same(|program| program.arg("work.js").dir(dir.path()), "node");
    assert_eq!(out.split_whitespace().count(), 5);
}

#[test]
#[ignore = "make test-programs"]
fn java() {
    if !have("javac", "default-jdk-headless") || !have("java", "default-jdk-headless") {
        return;
    }
    let program = r#"
        import java.util.*; import java.util.concurrent.*; import java.util.zip.*;
        public class Work { public static void main(String[] a) throws Exception {
            var pool = Executors.newFixedThreadPool(4); var parts = new ArrayList<Future<Long>>();
            for (int t = 0; t < 16; t++) { final int s = t; parts.add(pool.submit(() -> {
                var map = new HashMap<String, Integer>(); long sum = 0;
                for (int i = 0; i < 100000; i++) map.merge("k" + i * 31L * (s + 1) % 9973, i, Integer::sum);
                for (int v : map.values()) sum += v;
                var d = new Deflater(); var in = new byte[1 << 20]; new Random(s).nextBytes(in);
                d.setInput(in); d.finish(); var out = new byte[2 << 20]; int n = d.deflate(out); d.end();
                var b = java.nio.ByteBuffer.allocateDirect(5 << 20); b.putLong(4 << 20, sum);
                return sum + n + b.getLong(4 << 20); })); }
            long all = 0; for (var p : parts) all += p.get(); pool.shutdown(); System.out.println(all); } }
    "#;
    let dir = directory();
    fs::write(dir.path().join("Work.java"), program).unwrap();
    Program::new("javac").arg("Work.java").dir(dir.path()).run().success();
    same(|program| program.args(["-Xmx300m", "-cp", ".", "Work"]).dir(dir.path()), "java");
}

#[test]
#[ignore = "make test-programs"]
fn clang() {
    if !have("clang", "clang") {
        return;
    }
    let dir = directory();
    let functions =
        |i| format!("int f{i}(int x) {{ return x % {} ? f{}(x / 2) + {i} : x; }}\n", i + 2, i - 1);
    let big: String = (1..8000).map(functions).collect();
    fs::write(dir.path().join("big.c"), format!("int f0(int x) {{ return x; }}\n{big}")).unwrap();
    let out =
        same(|program| program.args(["-O2", "-S", "-o", "-", "big.c"]).dir(dir.path()), "clang");
    assert!(out.len() > 1_000_000);
    let cpp = source("new.cpp");
    same(
        |p| {
            p.args([
                "-x",
                "c++",
                "-std=c++17",
                "-fsized-deallocation",
                "-O2",
                "-w",
                "-S",
                "-o",
                "-",
            ])
            .arg(&cpp)
        },
        "clang",
    );
}

#[test]
#[ignore = "make test-programs"]
fn cargo_build() {
    if !have("cargo", "rustup") {
        return;
    }
    let dir = directory();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir(at("src")).unwrap();
    fs::write(
        at("Cargo.toml"),
        "[package]\nname = \"small\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    )
    .unwrap();
    let modules: String = (0..60)
        .map(|i| {
            format!(
                "pub mod m{i} {{ use std::collections::*; pub fn f(n: u64) -> u64 {{ let mut m = BTreeMap::new(); \
                 for i in 0..n {{ m.insert(i * {i} % 97, format!(\"{{i}}\")); }} \
                 m.values().map(|s| s.len() as u64).sum() }} }}\n"
            )
        })
        .collect();
    let calls: Vec<String> = (0..60).map(|i| format!("m{i}::f(1000)")).collect();
    let main = format!("{modules}fn main() {{ println!(\"{{}}\", {}); }}\n", calls.join(" + "));
    fs::write(at("src/main.rs"), main).unwrap();
    let built = |program: Program, target: &str| -> PathBuf {
        let run = program
            .args(["build", "--release", "--offline", "--target-dir", target])
            .dir(dir.path());
        run.timeout(300).run().success();
        at(target).join("release/small")
    };
    let plain = Program::plain(built(Program::plain("cargo"), "plain")).run().success().stdout;
    let made = built(Program::new("cargo"), "zonal");
    Program::new(made).run().success().quiet().stdout_is(&plain);
}

/// Where Debian keeps the programs of a PostgreSQL server.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|v| Some(v.ok()?.path().join("bin")))
        .find(|bin| bin.join("postgres").is_file())
}

#[test]
#[ignore = "make test-programs"]
fn postgres() {
    let Some(bin) = postgres_programs() else {
        return skipped("no PostgreSQL server (package postgresql)");
    };
    let dir = directory();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // The server refuses to run as root, and its user must reach the library.
    let library = zonal_tests::library();
    let preload = library.map(|path| {
        let copy = dir.path().join("libzonal.so");
        fs::copy(path, &copy).unwrap();
        copy
    });
    let run = |name: &str| {
        let mut program = Program::plain("setpriv").args(["--reuid=postgres", "--regid=postgres"]);
        program = program.args(["--clear-groups", "env", "HOME=/tmp"]);
        if let Some(path) = &preload {
            program = program.arg(format!("LD_PRELOAD={}", path.display()));
        }
        program.arg(bin.join(name)).dir(dir.path()).timeout(200)
    };
    let data = dir.path().join("data");
    run("initdb")
        .arg("-D")
        .arg(&data)
        .args(["-A", "trust", "-U", "postgres", "-N"])
        .run()
        .success();
    let host = dir.path().to_string_lossy().into_owned();
    let server = run("postgres").arg("-D").arg(&data).args(["-h", "", "-k", &host, "-F"]);
    let server = Server::start(server);
    let end = Instant::now() + Duration::from_secs(60);
    while !run("pg_isready").args(["-q", "-h", &host]).run().is_success() {
        assert!(Instant::now() < end, "the server does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    let connect = ["-h", &host, "-U", "postgres"];
    run("pgbench").args(connect).args(["-i", "-q", "-s", "5", "postgres"]).run().success();
    let load = ["-c", "6", "-j", "2", "-t", "400", "--no-vacuum", "postgres"];
    run("pgbench").args(connect).args(load).run().success().stdout_has("2400/2400");
    let query = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
        AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
        (SELECT count(*) FROM pgbench_history),
        (SELECT md5(string_agg(x::text, ',')) FROM generate_series(1, 200000) x)";
    let answer =
        run("psql").args(connect).args(["-At", "-c", query, "postgres"]).run().success().stdout;
    assert!(answer.starts_with("t|2400|"), "{answer}");
    server.stop();
}

#[test]
#[ignore = "make test-programs"]
fn nginx() {
    if !Path::new("/usr/sbin/nginx").exists() || !have("wrk", "wrk") {
        return skipped("nginx or wrk is not installed (packages nginx-light, wrk)");
    }
    let (dir, port) = (directory(), free_port());
    let page = text(3000);
    fs::write(dir.path().join("page.html"), &page).unwrap();
    let root = dir.path().display();
    let config = format!(
        "daemon off; worker_processes 2; pid {root}/pid; error_log {root}/error.log;
         events {{ worker_connections 512; }}
         http {{ access_log {root}/access.log; gzip on; gzip_min_length 100; gzip_types text/html;
           client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
           uwsgi_temp_path {root}/d; scgi_temp_path {root}/e; types {{ text/html html; }}
           server {{ listen 127.0.0.1:{port}; root {root}; }} }}"
    );
    fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let server = Program::new("/usr/sbin/nginx").arg("-c").arg(dir.path().join("nginx.conf"));
    let server = Server::start(server).listening(port);
    let url = format!("http://127.0.0.1:{port}/page.html");
    let load = ["-t2", "-c50", "-d4s", "-H", "Accept-Encoding: gzip", &url];
    let out = Program::new("wrk").args(load).run().success().stdout;
    assert!(!out.contains("Non-2xx") && !out.contains("Socket errors"), "{out}");
    for _ in 0..50 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /page.html HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&page));
    }
    server.stop();
}

#[test]
#[ignore = "make test-programs"]
fn memcached() {
    if !have("memcached", "memcached") {
        return;
    }
    let port = free_port();
    let server = ["-u", "root", "-l", "127.0.0.1", "-p", &port.to_string(), "-t", "4", "-m", "64"];
    let server = Server::start(Program::new("memcached").args(server)).listening(port);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let value = |i: usize| format!("{client}-{i};").repeat(1 + i * 13 % 500);
                for i in 0..3000 {
                    let (key, value) = (format!("{client}:{}", i % 700), value(i % 700));
                    let commands =
                        format!("set {key} 0 0 {}\r\n{value}\r\nget {key}\r\n", value.len());
                    stream.write_all(commands.as_bytes()).unwrap();
                    let expected =
                        format!("STORED\r\nVALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len());
                    let mut answer = vec![0; expected.len()];
                    stream.read_exact(&mut answer).unwrap();
                    assert!(answer == expected.as_bytes(), "client {client}, round {i}");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.stop();
}

/// Debian's php opens its extensions with RTLD_DEEPBIND.
#[test]
#[ignore = "make test-programs"]
fn php_with_extensions() {
    if !have("php", "php-cli") {
        return;
    }
    let script = r#"
        foreach (['mbstring', 'xml', 'intl', 'pdo_sqlite', 'curl'] as $e)
            if (!extension_loaded($e)) { echo "no $e\n"; exit(0); }
        $d = new DOMDocument; $r = $d->appendChild($d->createElement('r'));
        for ($i = 0; $i < 20000; $i++) $r->appendChild($d->createElement('n', "v$i"));
        $x = new DOMXPath($d); $xml = $d->saveXML(); $s = simplexml_load_string($xml);
        echo md5($xml), ' ', $x->query('//n')->length, ' ', count($s->n), "\n";
        $c = new Collator('de_DE'); $w = []; for ($i = 0; $i < 5000; $i++) $w[] = mb_convert_case("\u{e4}b$i", MB_CASE_TITLE);
        $c->sort($w); echo md5(implode(',', $w)), "\n";
        $db = new PDO('sqlite::memory:'); $db->exec('CREATE TABLE t(a, b)'); $p = $db->prepare('INSERT INTO t VALUES(?, ?)');
        for ($i = 0; $i < 20000; $i++) $p->execute([$i, str_repeat('z', $i % 200)]);
        echo $db->query('SELECT sum(length(b)) FROM t')->fetchColumn(), "\n";
        $h = curl_init('file:///etc/hostname'); curl_setopt($h, CURLOPT_RETURNTRANSFER, 1); echo strlen(curl_exec($h)) > 0, "\n";
        echo preg_match_all('/(\w+)-(\d+)/', str_repeat('abc-123 ', 50000)), ' ', strlen(gzcompress(str_repeat('q', 5000000))), "\n";
    "#;
    for memory in ["0", "1"] {
        let out = same(
            |p| p.args(["-d", "memory_limit=512M", "-r", script]).env("USE_ZEND_ALLOC", memory),
            "php",
        );
        if out.starts_with("no ") {
            return skipped(&format!("php has {}(packages in tests/PACKAGES.programs)", out));
        }
    }
}

#[test]
#[ignore = "make test-programs"]
fn imagemagick() {
    // The real program, not a script that happens to have its name.
    let Some(convert) =
        ["/usr/bin/convert-im6.q16", "/usr/bin/convert"].iter().find(|p| Path::new(p).exists())
    else {
        return skipped("convert is not installed (package imagemagick)");
    };
    let steps = [
        "-seed",
        "7",
        "-size",
        "900x700",
        "plasma:red-blue",
        "-resize",
        "130%",
        "-blur",
        "0x4",
        "-rotate",
        "17",
        "-colors",
        "64",
        "-unsharp",
        "0x2",
        "-depth",
        "8",
        "ppm:-",
    ];
    let dir = directory();
    let picture = |program: Program, name: &str| {
        let to = format!("ppm:{}", dir.path().join(name).display());
        let steps: Vec<&str> =
            steps[..steps.len() - 1].iter().copied().chain([to.as_str()]).collect();
        program.args(steps).env("MAGICK_THREAD_LIMIT", "4").timeout(300).run().success();
        fs::read(dir.path().join(name)).unwrap()
    };
    let expected = picture(Program::plain(convert), "plain.ppm");
    assert!(picture(Program::new(convert), "zonal.ppm") == expected, "another picture on zonal");
}

#[test]
#[ignore = "make test-programs"]
fn compressors_with_threads() {
    let dir = directory();
    let plain = text(400_000);
    fs::write(dir.path().join("text"), &plain).unwrap();
    for (name, package, pack) in [
        ("xz", "xz-utils", &["-T4", "-2", "--block-size=1MiB"][..]),
        ("zstd", "zstd", &["-T4", "-9"]),
    ] {
        if !have(name, package) {
            continue;
        }
        let packed = dir.path().join("packed");
        Program::new("sh")
            .args(["-c", "\"$@\" -c text > packed", "sh", name])
            .args(pack)
            .dir(dir.path())
            .run()
            .success();
        assert!(fs::metadata(&packed).unwrap().len() > 10_000);
        Program::new("sh")
            .args(["-c", "exec \"$0\" -dc < packed", name])
            .dir(dir.path())
            .run()
            .success()
            .stdout_is(&plain);
    }
}
