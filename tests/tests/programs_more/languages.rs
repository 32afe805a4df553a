//! Compilers, and run-time systems of languages with heaps of their own beside malloc.

use std::fs;
use std::path::PathBuf;

use zonal_tests::{Program, have, skipped, source};

use super::{directory, same};

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

/// Arrays of all sizes, on threads of the interpreter and of its libraries.
#[test]
#[ignore = "make test-programs"]
fn python_with_pandas() {
    // Debian's own: another python3 in the path may not see its packages.
    let python = "/usr/bin/python3";
    if !Program::plain(python).args(["-c", "import pandas"]).run().is_success() {
        return skipped("no pandas (package python3-pandas)");
    }
    let script = r#"
import numpy as np, pandas as pd
from concurrent.futures import ThreadPoolExecutor
random = np.random.default_rng(1)
arrays = [random.integers(0, 99, (k % 300 + 1, 50)) for k in range(2000)]
print(sum(int(a.sum()) for a in arrays), np.concatenate([np.arange(k * 1000) for k in range(200)]).sum())
n = 200000
d = pd.DataFrame(dict(a=np.arange(n) % 997, b=np.arange(n) * 3, c=[f"k{i % 5003}" for i in range(n)]))
print(d.groupby("c").b.max().sum(), d.merge(d.drop_duplicates("a"), on="a").shape, d.c.str.upper().nunique())
d.to_csv("d.csv")
print(pd.read_csv("d.csv").b.sum(), d.pivot_table(index="a", values="b", aggfunc="sum").b.max())
def work(k): return int(np.sort(np.arange(200000 + k)[::-1])[k]) if k % 3 else int((np.arange(500000) * k).sum())
print(sum(ThreadPoolExecutor(8).map(work, range(60))))
"#;
    let dir = directory();
    let out = same(|program| program.args(["-c", script]).dir(dir.path()), python);
    assert_eq!(out.lines().count(), 4, "{out}");
}

/// Many schedulers, and allocators of its own that take large blocks from malloc.
#[test]
#[ignore = "make test-programs"]
fn erlang() {
    if !have("erl", "erlang-base") {
        return;
    }
    let script = "
        P = self(),
        Work = fun(K) ->
            L = [integer_to_binary(I * K) || I <- lists:seq(1, 20000)], E = ets:new(x, []),
            [ets:insert(E, {B, binary:copy(B, 5)}) || B <- L],
            P ! {K, ets:foldl(fun({_, V}, S) -> S + byte_size(V) end, 0, E)} end,
        [spawn(fun() -> Work(K) end) || K <- lists:seq(1, 20)],
        io:format(\"~p~n\", [lists:sum([receive {K, N} -> N end || K <- lists:seq(1, 20)])]), halt().";
    same(|program| program.args(["-noshell", "+S", "4", "-eval", script]), "erl");
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
