//! The examples of the documents are built and run, or checked as far as the parts are here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use zonal_tests::{Program, have, is_zonal, library};

use crate::blocks::root;

fn example(name: &str) -> PathBuf {
    root().join("docs/examples").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn a_rust_program_serves_its_statistics() {
    const PROGRAM: &str = env!("CARGO_BIN_EXE_stats_endpoint");
    let mut child = Command::new(PROGRAM)
        .arg("127.0.0.1:0")
        .env_remove("LD_PRELOAD")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{PROGRAM}: {e}"));
    let mut line = String::new();
    let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    assert!(matches!(read, Some(Ok(_))), "no address");
    let address = line.trim().trim_start_matches("http://").trim_end_matches("/metrics");
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answers = (0..3).map(|_| ask()).collect::<Result<Vec<_>, _>>();
    let _ = child.kill();
    let _ = child.wait();
    for answer in answers.unwrap_or_else(|e| panic!("{address}: {e}")) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or(("", ""));
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("version=0.0.4"), "{head}");
        // A small program's objects may all be fenced.
        let objects = ["zonal_memory_used_small_bytes{", "zonal_process_fenced_bytes "];
        let used = body.lines().filter(|line| objects.iter().any(|name| line.starts_with(name)));
        let bytes = used.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert!(bytes.sum::<u64>() > 1000, "{body}");
        assert!(body.contains("# TYPE zonal_vmstat_pgalloc_bytes_total counter"), "{body}");
    }
}

#[test]
fn a_c_program_asks_for_a_report() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("temporary directory: {e}"));
    let program = folder.path().join("report");
    let built = Command::new("cc")
        .args(["-Wall", "-Werror", "-O2", "-I"])
        .arg(root().join("ffi/include"))
        .arg(example("report.c"))
        .arg("-o")
        .arg(&program)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "cc report.c failed");
    let _ = Program::plain(&program).run().success().quiet().stdout_is("without zonal\n");
    if is_zonal() {
        let _ = Program::new(&program)
            .run()
            .success()
            .quiet()
            .stdout_has("KiB given back")
            .stdout_has("Node 0, zone");
    }
}

#[test]
fn python_runs_on_zonal() {
    let _ = Program::new("python3").arg(example("parse_stdlib.py")).run().success();
}

/// The variables of a unit or of a Dockerfile, which name the library and its settings.
fn variables(file: &str, keyword: &str) -> BTreeMap<String, String> {
    let text = text(file);
    let lines = text.lines().filter_map(|line| line.strip_prefix(keyword)?.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Settings are understood by the library, and the library is where `make install` puts it.
#[test]
fn the_settings_of_unit_and_image_are_understood() {
    for (file, keyword) in [("zonal-demo.service", "Environment="), ("Dockerfile", "ENV ")] {
        let variables = variables(file, keyword);
        assert_eq!(variables["LD_PRELOAD"], "/usr/local/lib/libzonal.so", "{file}");
        if is_zonal() {
            let run = Program::c("true.c").env("ZONAL_CONF", &variables["ZONAL_CONF"]).run();
            let _ = run.success().quiet();
        }
    }
}

/// What the image copies is what `make` builds.
#[test]
fn the_image_copies_what_is_built() {
    let text = text("Dockerfile");
    let copied: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY target/release/")?.split(' ').next())
        .collect();
    assert_eq!(copied, ["libzonal.so", "zonal"]);
    let Some(library) = library() else { return };
    let release = library.parent().unwrap_or(&library);
    for file in copied {
        assert!(release.join(file).is_file(), "{} lacks {file}", release.display());
    }
}

#[test]
fn systemd_accepts_the_unit() {
    if !have("systemd-analyze", "systemd") {
        return;
    }
    let checked = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(example("zonal-demo.service"))
        .output();
    let checked = checked.unwrap_or_else(|e| panic!("systemd-analyze: {e}"));
    let complaints = String::from_utf8_lossy(&checked.stderr);
    let ours = complaints.lines().find(|line| line.contains("zonal-demo"));
    assert_eq!(ours, None, "{complaints}");
}
