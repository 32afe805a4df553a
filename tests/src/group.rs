//! Memory and other control groups of v1 or v2.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{Outcome, Program, library};

/// A control group, made below the hierarchy of `controller` (v1 or v2).
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// Makes the group; none where that is not allowed. A setting is the file of v1, that of v2, and a
    /// value.
    #[must_use]
    pub fn new(controller: &str, settings: &[(&str, &str, u64)]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let base = if v1.is_dir() { v1 } else { PathBuf::from("/sys/fs/cgroup") };
        let dir = base.join(format!("zonal-test-{}-{number}-{controller}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        let group = Self(dir);
        let set = |&(v1, v2, value): &(&str, &str, u64)| {
            [v1, v2].iter().any(|name| {
                let path = group.0.join(name);
                path.exists() && fs::write(path, value.to_string()).is_ok()
            })
        };
        settings.iter().all(set).then_some(group)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs a program with the library and these settings (`ZONAL_CONF`, may be empty) in the group. Where
    /// it fails, the kernel's account of the group stands after what it wrote to stderr.
    #[must_use]
    pub fn run(&self, conf: &str, program: &Path, arguments: &[&str]) -> Outcome {
        let script = format!("echo $$ > {}/cgroup.procs && exec env \"$@\"", self.0.display());
        let mut run = Program::plain("sh").args(["-c", &script, "sh"]);
        if let Some(library) = library() {
            run = run.arg(format!("LD_PRELOAD={}", library.display()));
            run = run.arg(format!("ZONAL_CONF={conf}"));
        }
        let mut outcome = run.arg(program).args(arguments).run();
        if !outcome.is_success() {
            outcome.stderr.push_str(&self.account());
        }
        outcome
    }
}

impl Group {
    /// How near the group came to its bound, and whether the kernel killed for it.
    fn account(&self) -> String {
        let files = [
            "memory.limit_in_bytes",
            "memory.max_usage_in_bytes",
            "memory.failcnt",
            "memory.oom_control",
            "memory.max",
            "memory.peak",
            "memory.events",
        ];
        let told = files.iter().filter_map(|name| {
            let text = fs::read_to_string(self.0.join(name)).ok()?;
            Some(format!("{name}: {}\n", text.trim_end().replace('\n', ", ")))
        });
        told.collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment after the last process.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
