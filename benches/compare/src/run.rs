//! One run of one row on one allocator.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::allocators::Allocator;
use crate::programs::Program;
use crate::rows::{Kind, Row};

/// How long a load idles before its memory is read again.
const IDLE_MS: u64 = 1200;

/// What one run took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    pub row: String,
    pub allocator: String,
    pub round: usize,
    pub idle: bool,
    pub cpu_us: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub wall_us: u64,
    pub peak_kb: u64,
    pub idle_kb: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// Where things are.
#[derive(Debug)]
pub struct Bench {
    /// The folder of the built binaries and peers.
    pub folder: PathBuf,
    /// A folder for inputs and reports.
    pub scratch: PathBuf,
    operations: HashMap<String, u64>,
}

impl Bench {
    /// Looks for `loads` beside this binary and asks it for its patterns.
    pub fn new() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let folder = own.parent().unwrap_or(Path::new(".")).to_owned();
        let scratch = folder.join("bench-scratch");
        fs::create_dir_all(&scratch)?;
        let list = Command::new(folder.join("loads")).arg("list").output().map_err(|error| {
            io::Error::other(format!(
                "{}: {error}; run `cargo build --release` first",
                folder.join("loads").display()
            ))
        })?;
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let operations = list
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
            })
            .collect();
        Ok(Self { folder, scratch, operations })
    }

    /// Whether a process with this allocator preloaded really gets its `malloc` from there, and the version that its
    /// name promises.
    pub fn serves(&self, allocator: &Allocator) -> io::Result<()> {
        let own = self.rust_binary(allocator);
        if allocator.rust_only {
            return fs::metadata(&own).map(drop);
        }
        let mut command = Command::new(self.folder.join("loads"));
        command.arg("served");
        if let Some(library) = &allocator.library {
            fs::metadata(library)
                .map_err(|error| io::Error::other(format!("{}: {error}", library.display())))?;
            command.env("LD_PRELOAD", library);
        }
        let answer = said(command)?;
        let mut lines = answer.lines();
        let server = lines.next().unwrap_or_default().trim();
        let expected = allocator.library.as_deref().unwrap_or(Path::new("libc.so.6"));
        if !Path::new(server).ends_with(expected) {
            return Err(io::Error::other(format!("malloc is served by {server}")));
        }
        let Some(major) = allocator.major else { return Ok(()) };
        check_version(expected, major, lines.next())?;
        if own.exists() {
            let mut command = Command::new(&own);
            command.arg("version");
            check_version(&own, major, said(command).ok().as_deref())?;
        }
        Ok(())
    }

    /// The Rust loads with that allocator as `GlobalAlloc`, if it was built so.
    pub fn rust_binary(&self, allocator: &Allocator) -> PathBuf {
        self.folder.join(format!("rust-{}", allocator.name))
    }

    /// Runs one row and measures it.
    pub fn run(
        &self,
        row: &Row,
        allocator: &Allocator,
        round: usize,
        scale: f64,
        idle: bool,
    ) -> io::Result<Sample> {
        let report = self.scratch.join("usage");
        let mut command = Command::new(self.folder.join("loads"));
        command.arg("measure").arg(&report);
        let mut rust_own = false;
        let program = match &row.kind {
            Kind::Load { pattern, threads, extra } => {
                let operations = self.operations.get(*pattern).copied().unwrap_or(1);
                let scaled = (operations as f64 * scale) as u64;
                command.arg(self.folder.join("loads")).arg(pattern).args(*extra);
                command.args(["-t", &threads.to_string(), "-n", &scaled.max(1).to_string()]);
                if idle {
                    command.args(["-i", &IDLE_MS.to_string()]);
                }
                None
            }
            &Kind::Rust { pattern, operations, threads } => {
                let scaled = ((operations as f64 * scale) as u64).max(1);
                let own = self.rust_binary(allocator);
                rust_own = own.exists();
                command.arg(if rust_own { own } else { self.folder.join("rust-system") });
                command.args([pattern, "-t", &threads.to_string(), "-n", &scaled.to_string()]);
                None
            }
            Kind::Program(program) => {
                command.arg(&program.file).args(&program.args).envs(program.env.iter().copied());
                Some(program)
            }
        };
        // Its own binary has the allocator built in.
        if let Some(library) = preload(allocator, program).filter(|_| !rust_own) {
            command.env("ZONAL_BENCH_PRELOAD", library);
        }
        command.envs(allocator.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        if let Some(program) = program {
            serve(program)?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(
                said.lines().last().unwrap_or("failed without a word").to_owned(),
            ));
        }
        let usage = fields(&fs::read_to_string(&report)?);
        let own = fields(&String::from_utf8_lossy(&output.stdout));
        let get = |name: &str| usage.get(name).copied().unwrap_or(0);
        let peak_kb = own.get("peak_kb").copied().unwrap_or(get("maxrss_kb"));
        Ok(Sample {
            row: row.name.clone(),
            allocator: allocator.name.clone(),
            round,
            idle,
            cpu_us: get("user_us") + get("system_us"),
            user_us: get("user_us"),
            system_us: get("system_us"),
            wall_us: get("wall_us"),
            peak_kb,
            idle_kb: if idle { own.get("idle_kb").copied().unwrap_or(0) } else { 0 },
            minor_faults: get("minor"),
            major_faults: get("major"),
            voluntary_switches: get("voluntary"),
            involuntary_switches: get("involuntary"),
        })
    }
}

/// What a command prints.
fn said(mut command: Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or("without a word");
    // The loader ends a program so.
    let what = if output.status.code() == Some(127) { "does not load" } else { "fails" };
    Err(io::Error::other(format!("it {what} ({}): {last}", output.status)))
}

/// Whether what an allocator says begins with the version that it is taken for. A build of several packages at once
/// unites what they ask of a crate that they share, and what is built then is not what is asked for.
fn check_version(file: &Path, major: &str, says: Option<&str>) -> io::Result<()> {
    match says.map(str::trim) {
        Some(version) if version.starts_with(major) => Ok(()),
        says => Err(io::Error::other(format!(
            "{} says that it is version {}, not {major}: build it by itself, as `compare` does",
            file.display(),
            says.unwrap_or("none")
        ))),
    }
}

/// Debian's redis is linked to jemalloc: there glibc has to be preloaded to take part.
fn preload(allocator: &Allocator, program: Option<&Program>) -> Option<PathBuf> {
    let linked = program.is_some_and(|program| program.name == "redis");
    allocator.library.clone().or_else(|| linked.then(|| PathBuf::from("libc.so.6")))
}

/// Runs the clients of a server, once it listens.
fn serve(program: &Program) -> io::Result<()> {
    let limit = Instant::now() + Duration::from_secs(30);
    for client in &program.clients {
        let [name, args @ ..] = client.as_slice() else { continue };
        let attempt =
            || Command::new(name).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        // The first one waits for the socket.
        while !attempt()?.success() && name == "redis-benchmark" && Instant::now() < limit {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// `name=number` words.
fn fields(text: &str) -> HashMap<String, u64> {
    text.split_whitespace()
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}
