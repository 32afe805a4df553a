//! What the kernel knows about this process, and about a program run under it.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Instant;

/// No run takes this long.
const LIMIT_SECONDS: u32 = 100;

/// Resident memory of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resident {
    /// Now.
    pub now_kb: u64,
    /// At most, since exec.
    pub peak_kb: u64,
}

/// Reads `/proc/self/status`.
pub fn resident() -> Resident {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    Resident { now_kb: field("VmRSS:"), peak_kb: field("VmHWM:") }
}

/// Runs a program with `LD_PRELOAD` taken from `ZONAL_BENCH_PRELOAD` and writes its resource use to a
/// file. A process of its own does this because `ru_maxrss` of a child starts at the size of the
/// process that spawned it: this one is small.
pub fn program(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let report = args.next().ok_or("measure: which file?")?;
    let name = args.next().ok_or("measure: which program?")?;
    let mut command = Command::new(&name);
    command.args(args).stdin(Stdio::inherit());
    if let Some(preload) = std::env::var_os("ZONAL_BENCH_PRELOAD") {
        command.env("LD_PRELOAD", preload).env_remove("ZONAL_BENCH_PRELOAD");
    }
    // SAFETY: alarm is async-signal-safe and outlives exec: a program that hangs is killed.
    unsafe {
        command.pre_exec(|| {
            libc::alarm(LIMIT_SECONDS);
            Ok(())
        });
    }
    let start = Instant::now();
    let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let mut status = 0;
    let mut usage: libc::rusage = empty_usage();
    let pid = libc::pid_t::try_from(child.id()).map_err(|error| error.to_string())?;
    // SAFETY: both are places for the kernel's answers, and the child is ours and not yet waited for.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let wall = start.elapsed();
    if waited != pid {
        return Err(format!("{name}: wait4: {}", std::io::Error::last_os_error()));
    }
    let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    let line = format!(
        "user_us={} system_us={} wall_us={} maxrss_kb={} minor={} major={} voluntary={} involuntary={}\n",
        micros(usage.ru_utime),
        micros(usage.ru_stime),
        wall.as_micros(),
        usage.ru_maxrss,
        usage.ru_minflt,
        usage.ru_majflt,
        usage.ru_nvcsw,
        usage.ru_nivcsw,
    );
    fs::write(&report, line).map_err(|error| format!("{report}: {error}"))?;
    let status = std::process::ExitStatus::from_raw(status);
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// The file that holds the `malloc` in use.
pub fn serving_library() -> String {
    // SAFETY: plain pointers, for which null is a value.
    let mut info: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: dladdr fills `info` and takes any address.
    let found = unsafe { libc::dladdr(libc::malloc as *const libc::c_void, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return String::from("unknown");
    }
    // SAFETY: the loader's own string, alive as long as the library.
    let name = unsafe { core::ffi::CStr::from_ptr(info.dli_fname) };
    name.to_string_lossy().into_owned()
}

/// What the preloaded peer says it is, if it does.
pub fn serving_version() -> Option<i32> {
    // SAFETY: looks a name up.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"peer_version".as_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: the function of that name in `benches/peers`.
    let version: extern "C" fn() -> i32 = unsafe { core::mem::transmute(found) };
    Some(version())
}

fn empty_usage() -> libc::rusage {
    // SAFETY: plain integers, for which zero is a value.
    unsafe { core::mem::zeroed() }
}
