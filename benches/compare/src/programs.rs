//! Real programs as loads, on inputs of our own; those that are not installed are left out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::home;
use crate::run::Bench;

/// One program with its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// Name in tables.
    pub name: &'static str,
    /// The executable.
    pub file: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(&'static str, &'static str)>,
    /// Programs run against it while it runs, one after the other; they are not measured.
    pub clients: Vec<Vec<String>>,
}

/// Everything that can be run here; prints what cannot.
pub fn available(bench: &Bench) -> Vec<Program> {
    let input = |file: &str| home().join("programs").join(file).display().to_string();
    let scratch = |file: &str| bench.scratch.join(file).display().to_string();
    let mut found = Vec::new();
    let mut add = |name: &'static str, file: &str, args: &[&str]| match locate(file) {
        Some(file) => {
            let args = args.iter().map(|&arg| arg.to_owned()).collect();
            found.push(Program {
                name,
                file,
                args,
                env: vec![("PYTHONMALLOC", "malloc")],
                clients: Vec::new(),
            });
        }
        None => eprintln!("without {name}: {file} is not installed"),
    };
    add("python3", "python3", &[&input("parse.py")]);
    add("sqlite3", "sqlite3", &[":memory:", &format!(".read {}", input("orders.sql"))]);
    add("perl", "perl", &[&input("words.pl")]);
    add("g++", "g++", &["-std=c++17", "-fsyntax-only", &input("templates.cpp")]);
    add(
        "ghostscript",
        "gs",
        &["-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=ppmraw", "-o", "/dev/null", &input("page.ps")],
    );
    add("z3", "z3", &[&input("queens.smt2")]);
    add("node", "node", &[&input("buffers.js")]);
    let repository = scratch("history");
    match make_history(Path::new(&repository)) {
        Ok(()) => {
            add(
                "git",
                "git",
                &["-C", &repository, "repack", "-adfq", "--threads=2", "--window=10"],
            );
        }
        Err(error) => eprintln!("without git: {error}"),
    }
    add(
        "redis",
        "redis-server",
        &["--port", "0", "--unixsocket", &scratch("redis.sock"), "--save", "", "--daemonize", "no"],
    );
    if locate("redis-benchmark").is_none() || locate("redis-cli").is_none() {
        eprintln!("without redis: redis-benchmark and redis-cli are not installed");
        found.retain(|program| program.name != "redis");
    }
    if let Some(redis) = found.iter_mut().find(|program| program.name == "redis") {
        let client = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let socket = scratch("redis.sock");
        redis.clients = vec![
            client(format!(
                "redis-benchmark -s {socket} -q -c 8 -P 16 -n 60000 -r 20000 -d 200 -t set,get,lpush,sadd,hset,lpop,mset"
            )),
            client(format!("redis-cli -s {socket} flushall")),
            client(format!("redis-cli -s {socket} shutdown nosave")),
        ];
    }
    found
}

/// The distribution's executable rather than a wrapper script earlier in the path.
fn locate(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A repository of 300 commits that touch 40 files each.
fn make_history(folder: &Path) -> io::Result<()> {
    if folder.join("HEAD").exists() {
        return Ok(());
    }
    let git = locate("git").ok_or_else(|| io::Error::other("not installed"))?;
    fs::create_dir_all(folder)?;
    Command::new(&git).args(["init", "-q", "--bare"]).arg(folder).status()?;
    let mut import = Command::new(&git)
        .arg("-C")
        .arg(folder)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut text = Vec::new();
    for commit in 0..300_u32 {
        write!(
            text,
            "commit refs/heads/main\ncommitter A <a@b> {} +0000\ndata 5\nstep\n\n",
            1_700_000_000 + commit
        )?;
        for file in 0..40_u32 {
            let number = (commit * 31 + file * 17) % 500;
            let body: String = (0..60_u32)
                .map(|line| {
                    format!(
                        "line {line} of {number}: {}\n",
                        (line * number + commit / 7 * line) % 9973
                    )
                })
                .collect();
            write!(
                text,
                "M 100644 inline dir{}/file{number}\ndata {}\n{body}\n",
                number % 13,
                body.len()
            )?;
        }
    }
    import.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?.write_all(&text)?;
    let status = import.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("git fast-import: {status}")))
    }
}
