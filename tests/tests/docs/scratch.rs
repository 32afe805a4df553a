//! Where the commands of the documents run: a folder with an installed zonal, and stand-ins for
//! what a test cannot run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zonal_tests::{Outcome, Program, compile, install_script, library};

use crate::blocks::root;

/// Stand-ins, as shell scripts. The build behind `make` is that of the library under test.
const MAKE: &str = r#"exec "$REAL_MAKE" -s -C "$REPOSITORY" CARGO=true PREFIX="$PREFIX" "$@""#;

/// Checks what a container would be given, and runs the program with it.
const DOCKER: &str = r#"
[ "$1" = run ] || { echo "stand-in: docker $1"; exit 1; }
shift
while [ $# -gt 0 ]; do
    case $1 in
    -v) from=${2%%:*}; to=${2#*:}; to=${to%%:*}; [ -r "$from" ] || exit 1; shift 2 ;;
    -e) set -- "$1" "$(echo "$2" | sed "s|=$to|=$from|")" "${@:3}"; export "$2"; shift 2 ;;
    --rm|-d|--memory=*|--cpuset-mems=*|--cap-add=*) shift ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] && exec program
"#;

/// Starts the command in a scope of its own; here without limits.
const SYSTEMD_RUN: &str = r#"
while [ $# -gt 0 ]; do
    case $1 in -p) shift 2 ;; -*) shift ;; *) break ;; esac
done
exec "$@"
"#;

/// The policy of the system belongs to the laboratory of machines; here the options only have to be
/// those that numactl has.
const NUMACTL: &str = r#"
while [ $# -gt 0 ]; do
    case $1 in --cpunodebind=*|--membind=*|--interleave=*|--preferred=*) shift ;; *) break ;; esac
done
exec "$@"
"#;

/// A folder with an installed zonal.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Installs the library under test by the repository's own `make install`.
    pub(crate) fn new() -> Self {
        let scratch =
            Self { folder: TempDir::new().unwrap_or_else(|e| panic!("temporary directory: {e}")) };
        let bin = scratch.path("bin");
        fs::create_dir(&bin).unwrap_or_else(|e| panic!("{}: {e}", bin.display()));
        for (name, script) in
            [("make", MAKE), ("docker", DOCKER), ("systemd-run", SYSTEMD_RUN), ("numactl", NUMACTL)]
        {
            scratch.stand_in(name, script);
        }
        let link = |target: &Path, name: &str| {
            symlink(target, scratch.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        };
        link(&compile("standin.c"), "bin/program");
        link(&release().join(".."), "target");
        for shared in ["docs", "ffi"] {
            link(&root().join(shared), shared);
        }
        let _ = scratch.run("make install", None).success();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stand_in(&self, name: &str, script: &str) {
        install_script(&format!("#!/bin/bash\n{script}\n"), &self.path("bin").join(name));
    }

    /// A running program on zonal, for `$PID`.
    pub(crate) fn server(&self) -> Server {
        let child = Command::new(self.path("prefix/bin/zonal"))
            .args(["run", "--"])
            .arg(self.path("bin/program"))
            .arg("serve")
            .env_remove("LD_PRELOAD")
            .env_remove("ZONAL_CONF")
            .env_remove("ZONAL_LIB")
            .stdin(Stdio::piped())
            .spawn();
        let server = Server(child.unwrap_or_else(|e| panic!("zonal run: {e}")));
        // It publishes once it has allocated a little.
        let end = Instant::now() + Duration::from_secs(60);
        while !self.run("zonal stats $PID", Some(&server)).is_success() {
            assert!(Instant::now() < end, "the server publishes nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Runs a block of a document in a shell that stops at the first failure.
    pub(crate) fn run(&self, block: &str, server: Option<&Server>) -> Outcome {
        let prefix = self.path("prefix");
        let text = block.replace("/usr/local", &prefix.to_string_lossy());
        let path = std::env::var("PATH").unwrap_or_default();
        let path =
            format!("{0}/bin:{1}/bin:{path}", self.folder.path().display(), prefix.display());
        Program::plain("bash")
            .args(["--norc", "-euo", "pipefail", "-c", &text])
            .dir(self.folder.path())
            .env("PATH", path)
            .env("PREFIX", &prefix)
            .env("HOME", self.folder.path())
            .env("REPOSITORY", root())
            .env("REAL_MAKE", real_make())
            .env("CARGO_TARGET_DIR", release().join(".."))
            .env("PID", server.map(|server| server.0.id().to_string()).unwrap_or_default())
            .without("ZONAL_LIB")
            .run()
    }
}

/// Ends with the test, since its input does.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The folder of the library under test, where its command must be too.
fn release() -> PathBuf {
    let library = library().unwrap_or_else(|| panic!("these tests need zonal"));
    let folder = library.parent().unwrap_or(Path::new("/")).to_owned();
    assert!(
        folder.join("zonal").exists(),
        "{}: no command zonal; run `make build`",
        folder.display()
    );
    folder
}

fn real_make() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("make"));
    places.find(|file| file.is_file()).unwrap_or_else(|| panic!("make is not installed"))
}
