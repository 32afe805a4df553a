//! A command in a pseudo-terminal, and its screen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{io, ptr};

/// A terminal of 80 by 24, unless said otherwise, in which a command runs.
pub(crate) struct Terminal {
    master: File,
    child: Child,
    parser: vt100::Parser,
}

impl Terminal {
    pub(crate) fn start(command: Command) -> Self {
        Self::sized(command, 24, 80)
    }

    pub(crate) fn sized(mut command: Command, rows: u16, columns: u16) -> Self {
        let (master, slave) = open(rows, columns);
        let copy = || slave.try_clone().unwrap();
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let control = || {
            // SAFETY: plain calls of the child on its own descriptors.
            let answer = unsafe { libc::setsid() | libc::ioctl(0, libc::TIOCSCTTY, 0) };
            if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure only makes system calls.
        unsafe { command.pre_exec(control) };
        let child = command.spawn().unwrap();
        let [rows, columns] = [rows, columns].map(|size| NonZero::new(size).unwrap());
        Self { master: File::from(master), child, parser: vt100::Parser::new(rows, columns, 0) }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until the screen is as wanted, and answers it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let screen = self.parser.screen().contents();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "not on the screen:\n{screen}");
            if !self.receive() {
                panic!("the command has ended; its last screen:\n{screen}");
            }
        }
    }

    /// Whether some cell with this text has a colour of its own.
    pub(crate) fn is_coloured(&self, text: &str) -> bool {
        let screen = self.parser.screen();
        let (rows, columns) = screen.size();
        let cells =
            (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        cells
            .filter_map(|(row, column)| screen.cell(row, column))
            .any(|cell| cell.contents() == text && cell.fgcolor() != vt100::Color::Default)
    }

    /// Reads to the end; answers how the command ended, and what stands on the screen then.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        while self.receive() {}
        (self.child.wait().unwrap(), self.parser.screen().contents())
    }

    /// Whether the program's own screen is shown, and not the one before.
    pub(crate) fn is_alternate(&self) -> bool {
        self.parser.screen().alternate_screen()
    }

    /// Takes in what comes within a second; false at the end, which a terminal tells by an error.
    fn receive(&mut self) -> bool {
        let mut waits =
            libc::pollfd { fd: self.master.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, writable.
        if unsafe { libc::poll(&raw mut waits, 1, 1000) } == 0 {
            return true;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.parser.process(&buffer[..length]);
                true
            }
        }
    }
}

fn open(rows: u16, columns: u16) -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both numbers are writable; no name and no modes are asked for.
    let answer = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut slave,
            ptr::null_mut(),
            ptr::null(),
            &raw const size,
        )
    };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    for fd in [master, slave] {
        // SAFETY: a descriptor of ours.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: opened above, and owned by nobody else.
    let master = unsafe { OwnedFd::from_raw_fd(master) };
    // SAFETY: as above.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    (master, slave)
}
