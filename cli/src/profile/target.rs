//! A process that can be asked for a profile: by the signal that it has for that.
//!
//! Nothing is attached and nothing stops. The process writes a file where its settings say; which
//! signal and which file are read from the environment that it was started with.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use std::{io, ptr};

use anyhow::{Context as _, Result, bail};

use crate::system::{System, Unreachable};

/// What `zonal run` sets, if nobody sets another one: no program is known that uses it.
pub(crate) const DEFAULT_SIGNAL: &str = "SIGRTMAX-7";
const DEFAULT_FILE: &[u8] = b"zonal.heap.%p";
const DEFAULT_TIME: Duration = Duration::from_secs(10);
/// Bytes of a profile; one of a large program is some MiB.
const MOST: u64 = 1 << 30;
/// How long a process may take to write its file. One that is stopped never does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Numbers that go with the signal: `ffi/src/profile/request.rs` has the same.
const START: usize = 1;
const STOP_AND_WRITE: usize = 2;
const WRITE: usize = 3;

/// A process with a signal for profiles.
#[derive(Debug)]
pub(super) struct Target {
    pid: u32,
    system: System,
    signal: i32,
    /// As the process names it.
    file: Vec<u8>,
    /// It is profiled since its start.
    always: bool,
}

impl Target {
    pub(super) fn find(pid: u32) -> Result<Self> {
        let system = System::process(pid)?;
        let conf = system.variable("ZONAL_CONF").unwrap_or_default();
        let value = |key: &str| setting(&conf, key);
        let Some(name) = value("profile_signal") else {
            if system.has_library() {
                bail!(
                    "{pid}: has no signal for profiles: start it by zonal run, or with \
                     ZONAL_CONF=profile_signal:SIGNAL"
                );
            }
            bail!("{pid}: not started on zonal: see zonal doctor {pid}");
        };
        let signal = signal(&name.to_string_lossy())
            .with_context(|| format!("{pid}: unknown signal {}", name.display()))?;
        // Without a handler the signal would end the process.
        let caught = system.status("SigCgt").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
        if caught.is_none_or(|mask| mask >> (signal - 1) & 1 == 0) {
            bail!("{pid}: does not answer the signal {signal}: zonal is not active in it");
        }
        let file =
            value("profile_file").map_or(DEFAULT_FILE.to_vec(), |file| file.as_bytes().into());
        let always = value("profile").is_some_and(|value| value == "on");
        Ok(Self { pid, system, signal, file, always })
    }

    /// What the process sees as `/`.
    pub(super) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.pid).into()
    }

    /// Takes a profile of the next `time`; answers the text that the process wrote.
    pub(super) fn take(&self, time: Option<Duration>) -> Result<String> {
        let time = time.unwrap_or(if self.always { Duration::ZERO } else { DEFAULT_TIME });
        if !self.always {
            self.send(START)?;
        }
        thread::sleep(time);
        let path = self.path();
        // A file of an earlier profile is none of ours, and stays if nothing new comes.
        let before = self.system.with_its_rights(|| stamp(&path));
        self.send(if self.always { WRITE } else { STOP_AND_WRITE })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.system.with_its_rights(|| stamp(&path));
            if now.is_some() && now != before {
                break;
            }
            if System::process(self.pid).is_err() {
                return Err(Unreachable::NoSuchProcess(self.pid).into());
            }
            if Instant::now() > deadline {
                bail!("{}: wrote no profile to {}", self.pid, path.display());
            }
            thread::sleep(Duration::from_millis(2));
        }
        let bytes = self.system.with_its_rights(|| {
            let bytes = read(&path).with_context(|| path.display().to_string());
            // It was written for us.
            let _ = fs::remove_file(&path);
            bytes
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The file, as this process reaches it.
    fn path(&self) -> PathBuf {
        let mut name = Vec::new();
        let mut rest = self.file.as_slice();
        while let [first, tail @ ..] = rest {
            rest = tail;
            if let (b'%', [b'p', after @ ..]) = (first, tail) {
                rest = after;
                let pid = self.system.number_inside().unwrap_or(self.pid);
                name.extend(pid.to_string().bytes());
            } else {
                name.push(*first);
            }
        }
        let name = PathBuf::from(std::ffi::OsString::from_vec(name));
        match name.strip_prefix("/") {
            Ok(below) => self.root().join(below),
            Err(_) => Path::new("/proc").join(self.pid.to_string()).join("cwd").join(name),
        }
    }

    fn send(&self, request: usize) -> Result<()> {
        let value = libc::sigval { sival_ptr: ptr::without_provenance_mut(request) };
        let pid = libc::pid_t::try_from(self.pid).context("no such process")?;
        // SAFETY: sends a number.
        if unsafe { libc::sigqueue(pid, self.signal, value) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ESRCH) => Err(Unreachable::NoSuchProcess(self.pid).into()),
            Some(libc::EPERM) => Err(Unreachable::Denied(self.pid).into()),
            _ => Err(error).context(self.pid),
        }
    }
}

/// The process names the file, and may name anything: no fifo, and nothing without end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file"));
    }
    let mut bytes = Vec::new();
    if file.take(MOST + 1).read_to_end(&mut bytes)? as u64 > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large for a profile"));
    }
    Ok(bytes)
}

/// What tells a file from one of the same name before it.
fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.modified().ok()?))
}

/// The last value of `key`, as the library takes it.
fn setting(conf: &OsStr, key: &str) -> Option<std::ffi::OsString> {
    let items = conf.as_bytes().split(|byte| *byte == b',');
    let mut values = items.filter_map(|item| item.strip_prefix(key.as_bytes())?.strip_prefix(b":"));
    values.next_back().map(|value| OsStr::from_bytes(value).to_owned())
}

/// The same names as in `ffi/src/handler.rs`.
fn signal(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let number = |text: &str| text.parse::<i32>().ok();
    match name {
        "HUP" => Some(libc::SIGHUP),
        "INT" => Some(libc::SIGINT),
        "QUIT" => Some(libc::SIGQUIT),
        "USR1" => Some(libc::SIGUSR1),
        "USR2" => Some(libc::SIGUSR2),
        "URG" => Some(libc::SIGURG),
        "WINCH" => Some(libc::SIGWINCH),
        "IO" => Some(libc::SIGIO),
        "PWR" => Some(libc::SIGPWR),
        "RTMIN" => Some(libc::SIGRTMIN()),
        "RTMAX" => Some(libc::SIGRTMAX()),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(above), _) => libc::SIGRTMIN().checked_add(number(above)?),
            (_, Some(below)) => libc::SIGRTMAX().checked_sub(number(below)?),
            _ => number(name),
        },
    }
    .filter(|signal| (1..=libc::SIGRTMAX()).contains(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_by_key() {
        let conf = OsStr::new("profile:on,profile_signal:USR1,limit:1G,profile_signal:USR2");
        assert_eq!(setting(conf, "profile_signal").unwrap(), "USR2");
        assert_eq!(setting(conf, "profile").unwrap(), "on");
        assert_eq!(setting(conf, "profile_file"), None);
    }

    #[test]
    fn signals_are_read_as_the_library_does() {
        assert_eq!((signal("SIGHUP"), signal("PWR")), (Some(libc::SIGHUP), Some(libc::SIGPWR)));
        assert_eq!(signal(DEFAULT_SIGNAL), Some(libc::SIGRTMAX() - 7));
        assert_eq!(signal("RTMIN+1"), Some(libc::SIGRTMIN() + 1));
        assert_eq!(signal("12"), Some(12));
        assert_eq!((signal("65"), signal("TERM"), signal("RTMAX-")), (None, None, None));
    }
}
