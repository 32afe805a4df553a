//! Servers under load, which end in good order when they are asked to.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use zonal_tests::{Program, have, skipped};

use super::{directory, text};

/// A server in the foreground; killed with the test.
struct Server(Child);

impl Server {
    fn start(program: Program) -> Self {
        Self(program.spawn().unwrap())
    }

    /// Waits until something listens.
    fn listening(mut self, port: u16) -> Self {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(self.0.try_wait().unwrap().is_none(), "the server ended by itself");
            assert!(Instant::now() < end, "the server does not listen");
            std::thread::sleep(Duration::from_millis(30));
        }
        self
    }

    /// Asks it to end and demands that it does so in good order.
    fn stop(mut self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let status = self.0.wait().unwrap();
        assert!(status.code().is_some(), "the server ended with {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already in the good case.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(|_| ()).unwrap_or_default();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
#[ignore = "make test-programs"]
fn nginx() {
    if !Path::new("/usr/sbin/nginx").exists() || !have("wrk", "wrk") {
        return skipped("nginx or wrk is not installed (packages nginx-light, wrk)");
    }
    let (dir, port) = (directory(), free_port());
    let page = text(3000);
    fs::write(dir.path().join("page.html"), &page).unwrap();
    let root = dir.path().display();
    let config = format!(
        "daemon off; worker_processes 2; pid {root}/pid; error_log {root}/error.log;
         events {{ worker_connections 512; }}
         http {{ access_log {root}/access.log; gzip on; gzip_min_length 100; gzip_types text/html;
           client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
           uwsgi_temp_path {root}/d; scgi_temp_path {root}/e; types {{ text/html html; }}
           server {{ listen 127.0.0.1:{port}; root {root}; }} }}"
    );
    fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let server = Program::new("/usr/sbin/nginx").arg("-c").arg(dir.path().join("nginx.conf"));
    let server = Server::start(server).listening(port);
    let url = format!("http://127.0.0.1:{port}/page.html");
    let load = ["-t2", "-c50", "-d4s", "-H", "Accept-Encoding: gzip", &url];
    let out = Program::new("wrk").args(load).run().success().stdout;
    assert!(!out.contains("Non-2xx") && !out.contains("Socket errors"), "{out}");
    for _ in 0..50 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /page.html HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&page));
    }
    server.stop();
}

#[test]
#[ignore = "make test-programs"]
fn memcached() {
    if !have("memcached", "memcached") {
        return;
    }
    let port = free_port();
    let server = ["-u", "root", "-l", "127.0.0.1", "-p", &port.to_string(), "-t", "4", "-m", "64"];
    let server = Server::start(Program::new("memcached").args(server)).listening(port);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let value = |i: usize| format!("{client}-{i};").repeat(1 + i * 13 % 500);
                for i in 0..3000 {
                    let (key, value) = (format!("{client}:{}", i % 700), value(i % 700));
                    let commands =
                        format!("set {key} 0 0 {}\r\n{value}\r\nget {key}\r\n", value.len());
                    stream.write_all(commands.as_bytes()).unwrap();
                    let expected =
                        format!("STORED\r\nVALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len());
                    let mut answer = vec![0; expected.len()];
                    stream.read_exact(&mut answer).unwrap();
                    assert!(answer == expected.as_bytes(), "client {client}, round {i}");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.stop();
}

/// Where Debian keeps the programs of a PostgreSQL server.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|v| Some(v.ok()?.path().join("bin")))
        .find(|bin| bin.join("postgres").is_file())
}

#[test]
#[ignore = "make test-programs"]
fn postgres() {
    let Some(bin) = postgres_programs() else {
        return skipped("no PostgreSQL server (package postgresql)");
    };
    let dir = directory();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // The server refuses to run as root, and its user must reach the library.
    let library = zonal_tests::library();
    let preload = library.map(|path| {
        let copy = dir.path().join("libzonal.so");
        fs::copy(path, &copy).unwrap();
        copy
    });
    let run = |name: &str| {
        let mut program = Program::plain("setpriv").args(["--reuid=postgres", "--regid=postgres"]);
        program = program.args(["--clear-groups", "env", "HOME=/tmp"]);
        if let Some(path) = &preload {
            program = program.arg(format!("LD_PRELOAD={}", path.display()));
        }
        program.arg(bin.join(name)).dir(dir.path()).timeout(200)
    };
    let data = dir.path().join("data");
    run("initdb")
        .arg("-D")
        .arg(&data)
        .args(["-A", "trust", "-U", "postgres", "-N"])
        .run()
        .success();
    let host = dir.path().to_string_lossy().into_owned();
    let server = run("postgres").arg("-D").arg(&data).args(["-h", "", "-k", &host, "-F"]);
    let server = Server::start(server);
    let end = Instant::now() + Duration::from_secs(60);
    while !run("pg_isready").args(["-q", "-h", &host]).run().is_success() {
        assert!(Instant::now() < end, "the server does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    let connect = ["-h", &host, "-U", "postgres"];
    run("pgbench").args(connect).args(["-i", "-q", "-s", "5", "postgres"]).run().success();
    let load = ["-c", "6", "-j", "2", "-t", "400", "--no-vacuum", "postgres"];
    run("pgbench").args(connect).args(load).run().success().stdout_has("2400/2400");
    let query = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
        AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
        (SELECT count(*) FROM pgbench_history),
        (SELECT md5(string_agg(x::text, ',')) FROM generate_series(1, 200000) x)";
    let answer =
        run("psql").args(connect).args(["-At", "-c", query, "postgres"]).run().success().stdout;
    assert!(answer.starts_with("t|2400|"), "{answer}");
    server.stop();
}
