//! A Rust program on zonal that serves its own statistics to Prometheus.
//!
//! `stats_endpoint [ADDRESS]` listens on 127.0.0.1:9469 or the address given, prints the address,
//! and answers every request with the figures of that moment. In a program of yours, `serve` is one
//! thread beside the rest.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

#[global_allocator]
static GLOBAL: zonal::Zonal = zonal::Zonal;

const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
    Connection: close\r\n\r\n";

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9469".into());
    let listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "http://{}/metrics", listener.local_addr()?)?;
    std::thread::spawn(work);
    serve(&listener)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away is no reason to stop.
        let _ = answer(&stream);
    }
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    // The request ends with an empty line; what it asks for does not matter here.
    let lines = BufReader::new(stream).lines();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    stream.write_all(HEAD.as_bytes())?;
    // Written straight to the socket: the report itself allocates nothing.
    zonal::print(stream.as_raw_fd(), zonal::Format::Prometheus);
    stream.shutdown(std::net::Shutdown::Write)
}

/// Something to see.
fn work() {
    let mut kept = Vec::new();
    for round in 0_usize.. {
        kept.push(vec![0_u8; 100 + round % 5000]);
        if kept.len() > 10_000 {
            kept.clear();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
