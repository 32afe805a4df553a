//! A folder with an empty library that stands in for zonal, and the command that finds it there.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub(crate) const ZONAL: &str = env!("CARGO_BIN_EXE_zonal");

/// A folder with an empty `libzonal.so`.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        place.compile("", &["-shared", "-nostdlib"], "libzonal.so");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn library(&self) -> String {
        let path = self.path("libzonal.so").canonicalize().unwrap();
        path.into_os_string().into_string().unwrap()
    }

    pub(crate) fn compile(&self, source: &str, flags: &[&str], name: &str) -> PathBuf {
        let out = self.path(name);
        let mut child = Command::new("cc")
            .args(["-x", "c", "-", "-o"])
            .arg(&out)
            .args(flags)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "cc failed for {name}");
        out
    }

    /// The command with this library and an environment free of the tester's own settings.
    pub(crate) fn zonal(&self) -> Command {
        let mut command = Command::new(ZONAL);
        command
            .env("ZONAL_LIB", self.path("libzonal.so"))
            .env_remove("LD_PRELOAD")
            .env_remove("ZONAL_CONF");
        command
    }
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim_end()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}
