//! One run of a program on the library under test.

use crate::{Outcome, compile, library};
use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What to run and under which conditions.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Vec<u8>,
    limits: Vec<(libc::__rlimit_resource_t, u64)>,
    closed: Vec<i32>,
    chroot: Option<CString>,
    timeout: Duration,
}

impl Program {
    /// A program by name or path, preloaded with the library under test.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let plain = Self::plain(program);
        match library() {
            Some(path) => plain.env("LD_PRELOAD", path),
            None => plain,
        }
    }

    /// A program without any preload.
    #[must_use]
    pub fn plain(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_remove("LD_PRELOAD").env_remove("ZONAL_CONF");
        Self {
            command,
            input: Vec::new(),
            limits: Vec::new(),
            closed: Vec::new(),
            chroot: None,
            // What ends within seconds on an idle machine.
            timeout: Duration::from_secs(300),
        }
    }

    /// The program of a file in `tests/c`, preloaded.
    #[must_use]
    pub fn c(file: &str) -> Self {
        Self::new(compile(file))
    }

    /// The program of a file in `tests/c`, started by `seccomp_exec` under a filter such as
    /// `EPERM:mbind,madvise`.
    #[must_use]
    pub fn filtered(filter: &str, program: impl AsRef<OsStr>) -> Self {
        let plain = Self::plain(compile("seccomp_exec.c")).arg(filter).arg(program);
        match library() {
            Some(path) => plain.env("ZT_PRELOAD", path),
            None => plain,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Removes a variable from its environment.
    #[must_use]
    pub fn without(mut self, key: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads from standard input.
    #[must_use]
    pub fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = text.into();
        self
    }

    /// Sets a resource limit, soft and hard.
    #[must_use]
    pub fn limit(mut self, resource: libc::__rlimit_resource_t, value: u64) -> Self {
        self.limits.push((resource, value));
        self
    }

    /// Closes a descriptor before the program starts.
    #[must_use]
    pub fn close(mut self, fd: i32) -> Self {
        self.closed.push(fd);
        self
    }

    /// Makes `root` its root directory.
    #[must_use]
    pub fn chroot(mut self, root: &Path) -> Self {
        self.chroot = CString::new(root.as_os_str().as_bytes()).ok();
        self
    }

    /// Kills it, with all it started, after so many seconds (120 unless told).
    #[must_use]
    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = Duration::from_secs(seconds);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let what = format!("{:?}", self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = std::mem::take(&mut self.input);
        let timeout = self.timeout;
        let begin = Instant::now();
        let mut child = self.spawn().unwrap_or_else(|e| panic!("cannot start {what}: {e}"));
        let stdin = child.stdin.take();
        let writer = thread::spawn(move || {
            // A program that does not read its input closes the pipe: no failure of the test.
            stdin.map(|mut pipe| pipe.write_all(&input).is_ok())
        });
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        let (status, timed_out) = wait(&mut child, begin + timeout);
        let elapsed = begin.elapsed();
        kill_group(&child);
        writer.join().unwrap_or_default();
        Outcome {
            what,
            status,
            timed_out,
            elapsed,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        }
    }

    /// Lets whoever [`Program::spawn`]s it write to it and read from it.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        self
    }

    /// Starts it, for programs that serve until they are stopped.
    ///
    /// # Errors
    /// What the system answered.
    pub fn spawn(mut self) -> io::Result<Child> {
        let limits = std::mem::take(&mut self.limits);
        let closed = std::mem::take(&mut self.closed);
        let chroot = self.chroot.take();
        self.command.process_group(0);
        let conditions = move || {
            // A shell that started the tests in the background had them ignored.
            for signal in [libc::SIGINT, libc::SIGQUIT] {
                // SAFETY: a plain system call of the child.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            if let Some(root) = &chroot {
                // SAFETY: plain system calls on NUL-terminated strings.
                check(unsafe { libc::chroot(root.as_ptr()) | libc::chdir(c"/".as_ptr()) })?;
            }
            for &(resource, value) in &limits {
                let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
                // SAFETY: `limit` outlives the call.
                check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
            }
            for &fd in &closed {
                // SAFETY: the descriptors of the child are its own; nothing here uses 0, 1 or 2.
                unsafe { libc::close(fd) };
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls and does not allocate.
        unsafe { self.command.pre_exec(conditions) };
        self.command.spawn()
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).unwrap_or_default();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, deadline: Instant) -> (std::process::ExitStatus, bool) {
    let mut timed_out = false;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait().unwrap_or_else(|e| panic!("wait: {e}")) {
            return (status, timed_out);
        }
        if Instant::now() > deadline && !timed_out {
            timed_out = true;
            kill_group(child);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Ends whatever the program left behind in its process group.
fn kill_group(child: &Child) {
    let group = libc::pid_t::try_from(child.id()).unwrap_or(0);
    if group > 0 {
        // SAFETY: a signal to the group made for this child.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}
