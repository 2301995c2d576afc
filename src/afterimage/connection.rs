// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open link: bytes in, bytes out, BREAK, with bounded waits.
//!
//! Every kind of link is a file descriptor, so one poll serves them all. Opening is retried until the peer is there,
//! since QEMU, ser2net or a USB cable often come later than we do.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions};

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::line_error::{is_for_good, is_gone};
use crate::link::Link;
use crate::telnet::{BRK, IAC, Telnet};

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(100);
/// Time after which somebody wants to know what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(1);
/// Longest wait for one TCP connection attempt.
const TCP_CONNECT: Duration = Duration::from_secs(2);

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Bytes were appended.
    Data,
    /// Nothing came within the time given.
    Idle,
    /// The other end is gone, or the recording has ended.
    Closed,
}

/// Most bytes that wait for a line that does not take them.
const WAITING_MAX: usize = 64 << 10;
/// The same for what is said about a dump: each says all that the one before said.
const ANSWERS_MAX: usize = 4 << 10;
/// Longest sleep while bytes wait for the line.
const RETRY_WRITE: Duration = Duration::from_millis(10);

/// Longest time that is waited for the line to take what comes before a change of speed.
const LEAVE_LINE: Duration = Duration::from_millis(50);
/// Bits of a short frame on the line.
const FRAME_BITS: u32 = 30 * 10;

/// An open link.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    telnet: Option<Telnet>,
    /// Whether BREAK can be sent as a line condition.
    is_serial: bool,
    /// What the line has not taken yet.
    waiting: Vec<u8>,
}

fn open_device(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    // Non-blocking, so that a missing carrier does not hold the open; reads are polled anyway.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A line that does not take what we say must not keep us from hearing it.
fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    Ok(())
}

fn set_raw(fd: &OwnedFd, baud: Option<u32>) -> io::Result<()> {
    let mut settings = rustix::termios::tcgetattr(fd)?;
    settings.make_raw();
    settings.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    if let Some(baud) = baud {
        settings.set_speed(baud)?;
    }
    rustix::termios::tcsetattr(fd, OptionalActions::Now, &settings)?;
    Ok(())
}

fn connect_tcp(host: &str, port: u16) -> io::Result<OwnedFd> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TCP_CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Connection {
    fn try_open(link: &Link) -> io::Result<Self> {
        let (fd, telnet, is_serial) = match link {
            Link::Serial { device, baud } => {
                let fd = open_device(device)?;
                set_raw(&fd, Some(*baud))?;
                (fd, None, true)
            }
            Link::Pty(path) => {
                let fd = open_device(path)?;
                set_raw(&fd, None)?;
                (fd, None, true)
            }
            Link::Tcp { host, port } => (connect_tcp(host, *port)?, None, false),
            Link::Telnet { host, port } => (connect_tcp(host, *port)?, Some(Telnet::new()), false),
            Link::Unix(path) => (UnixStream::connect(path)?.into(), None, false),
            Link::File(path) => (std::fs::File::open(path)?.into(), None, false),
            Link::Stdin => (io::stdin().as_fd().try_clone_to_owned()?, None, false),
        };
        if !link.is_recording() {
            set_nonblocking(&fd)?;
        }
        Ok(Self {
            fd,
            telnet,
            is_serial,
            waiting: Vec::new(),
        })
    }

    /// Opens `link`, again and again until it is there, `deadline` has passed or Ctrl-C comes.
    ///
    /// Returns `None` after Ctrl-C.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] with the last reason when the deadline has passed; at once for a recording, and for what no waiting changes.
    pub fn open(
        link: &Link,
        deadline: Option<Instant>,
        interrupt: &Interrupt,
    ) -> Result<Option<Self>> {
        let (began, mut is_said) = (Instant::now(), false);
        loop {
            if interrupt.is_raised() {
                return Ok(None);
            }
            let source = match Self::try_open(link) {
                Ok(connection) => return Ok(Some(connection)),
                Err(source) => source,
            };
            let is_over = deadline.is_some_and(|end| Instant::now() >= end);
            if link.is_recording() || is_over || is_for_good(&source) {
                return Err(Error::Connect {
                    link: link.to_string(),
                    source,
                });
            }
            if !is_said && began.elapsed() >= SAY_AFTER {
                eprintln!("afterimage: waiting for {link}: {source}");
                is_said = true;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Wraps an already connected stream (the serial line of a QEMU that `run` started).
    ///
    /// # Errors
    ///
    /// [`Error::Link`] when it cannot be set up.
    pub fn from_unix_stream(stream: UnixStream) -> Result<Self> {
        let fd: OwnedFd = stream.into();
        set_nonblocking(&fd).map_err(Error::Link)?;
        Ok(Self {
            fd,
            telnet: None,
            is_serial: false,
            waiting: Vec::new(),
        })
    }

    /// Waits up to `timeout` for bytes of the line, or for one on `keyboard`, and appends those of the line to `data`.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] when the operating system reports a failure that is not the end of the line.
    pub fn read(
        &mut self,
        data: &mut Vec<u8>,
        timeout: Duration,
        keyboard: Option<&OwnedFd>,
    ) -> Result<Read> {
        let timeout = if self.flush()? {
            timeout
        } else {
            timeout.min(RETRY_WRITE)
        };
        if !wait(&self.fd, keyboard, timeout)? {
            return Ok(Read::Idle);
        }
        let mut buffer = [0_u8; 65_536];
        let length = match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => return Ok(Read::Closed),
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Read::Idle),
            Err(error) if is_gone(error) => return Ok(Read::Closed),
            Err(error) => return Err(Error::Link(error.into())),
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        match &mut self.telnet {
            None => data.extend_from_slice(bytes),
            Some(telnet) => {
                let mut reply = Vec::new();
                telnet.receive(bytes, data, &mut reply);
                self.write_line(&reply)?;
            }
        }
        Ok(Read::Data)
    }

    /// Sends `data`, or keeps it until the line takes it.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] when the line fails, or has taken nothing for too long.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        match &self.telnet {
            None => self.write_line(data),
            Some(_) => {
                let mut line = Vec::with_capacity(data.len());
                Telnet::send(data, &mut line);
                self.write_line(&line)
            }
        }
    }

    /// Sends what is to be said about a dump; leaves it out when what was said before still waits for the line.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] when the line fails.
    pub fn answer(&mut self, data: &[u8]) -> Result<()> {
        if self.waiting.len() > ANSWERS_MAX {
            return self.flush().map(|_| ());
        }
        self.write(data)
    }

    /// Sets the rate of a serial device in baud, once all that was written has left.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] when the line does not take what was written, or refuses the rate.
    pub fn set_speed(&mut self, rate: u32) -> Result<()> {
        let end = Instant::now() + LEAVE_LINE;
        while !self.flush()? && Instant::now() < end {
            std::thread::sleep(RETRY_WRITE);
        }
        let fail = |error: io::Error| Error::Link(error);
        let mut settings = rustix::termios::tcgetattr(&self.fd).map_err(|e| fail(e.into()))?;
        let before = settings.output_speed().max(1);
        // What an adapter holds itself nobody waits for: as long as one of our frames takes at the rate of before.
        let us = u64::from(FRAME_BITS).saturating_mul(1_000_000) / u64::from(before);
        rustix::termios::tcdrain(&self.fd).map_err(|e| fail(e.into()))?;
        std::thread::sleep(Duration::from_micros(us).min(LEAVE_LINE));
        settings.set_speed(rate).map_err(|e| fail(e.into()))?;
        rustix::termios::tcsetattr(&self.fd, OptionalActions::Now, &settings)
            .map_err(|e| fail(e.into()))
    }

    /// Sends BREAK; returns whether the link has a way to.
    ///
    /// # Errors
    ///
    /// [`Error::Link`] when the line refuses it.
    pub fn send_break(&mut self) -> Result<bool> {
        if self.telnet.is_some() {
            self.write_line(&[IAC, BRK])?;
        } else if self.is_serial {
            rustix::termios::tcsendbreak(&self.fd).map_err(|e| Error::Link(e.into()))?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn write_line(&mut self, data: &[u8]) -> Result<()> {
        if self.waiting.len().saturating_add(data.len()) > WAITING_MAX {
            self.waiting.clear();
            return Err(Error::Link(io::ErrorKind::TimedOut.into()));
        }
        self.waiting.extend_from_slice(data);
        self.flush().map(|_| ())
    }

    /// Writes as much of what waits as the line takes now; returns whether that was all.
    fn flush(&mut self) -> Result<bool> {
        while !self.waiting.is_empty() {
            match rustix::io::write(&self.fd, &self.waiting) {
                Ok(length) => {
                    self.waiting.drain(..length.min(self.waiting.len()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => {
                    self.waiting.clear();
                    // That the other end is gone the next read finds out.
                    let failed = Error::Link(error.into());
                    return is_gone(error).then_some(true).ok_or(failed);
                }
            }
        }
        Ok(true)
    }
}

/// Polls; returns whether anything is ready. A signal counts as nothing.
fn poll(fds: &mut [PollFd<'_>], timeout: Duration) -> Result<bool> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match rustix::event::poll(fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(Error::Link(error.into())),
    }
}

/// Returns whether `fd` can be read; ends early when `keyboard` can.
fn wait(fd: &OwnedFd, keyboard: Option<&OwnedFd>, timeout: Duration) -> Result<bool> {
    let mut fds = vec![PollFd::new(fd, PollFlags::IN)];
    fds.extend(keyboard.map(|k| PollFd::new(k, PollFlags::IN)));
    poll(&mut fds, timeout)?;
    Ok(fds.first().is_some_and(|line| !line.revents().is_empty()))
}

/// Reads what is waiting on `keyboard`; `None` when it has ended.
///
/// # Errors
///
/// [`Error::Terminal`] when it cannot be read.
pub fn read_keyboard(keyboard: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let mut fds = [PollFd::new(keyboard, PollFlags::IN)];
    if !poll(&mut fds, Duration::ZERO)? {
        return Ok(Some(Vec::new()));
    }
    let mut buffer = [0_u8; 1024];
    match rustix::io::read(keyboard, &mut buffer) {
        Ok(0) => Ok(None),
        Ok(length) => Ok(Some(buffer.get(..length).unwrap_or_default().to_vec())),
        Err(Errno::INTR | Errno::AGAIN) => Ok(Some(Vec::new())),
        Err(Errno::IO) => Ok(None),
        Err(error) => Err(Error::Terminal(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(10);

    fn pair(telnet: Option<Telnet>) -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        let mut connection = Connection::from_unix_stream(ours).expect("set up");
        connection.telnet = telnet;
        (connection, theirs)
    }

    #[test]
    fn data_idle_and_close_are_told_apart() {
        let (mut connection, mut peer) = pair(None);
        let mut data = Vec::new();
        assert_eq!(
            connection.read(&mut data, SHORT, None).expect("idle"),
            Read::Idle
        );
        peer.write_all(b"hello").expect("write");
        assert_eq!(
            connection.read(&mut data, LONG, None).expect("data"),
            Read::Data
        );
        assert_eq!(data, b"hello");
        drop(peer);
        assert_eq!(
            connection.read(&mut data, LONG, None).expect("end"),
            Read::Closed
        );
    }

    #[test]
    fn line_that_takes_nothing_holds_nobody_up() {
        let (mut connection, peer) = pair(None);
        for _ in 0..1000 {
            connection.answer(&[7; 1000]).expect("no failure");
        }
        assert!(connection.waiting.len() <= ANSWERS_MAX + 1000);
        let mut data = Vec::new();
        let read = connection.read(&mut data, SHORT, None).expect("idle");
        assert_eq!(read, Read::Idle);
        let keys = (0..100).try_for_each(|_| connection.write(&[7; 1000]));
        assert!(matches!(keys, Err(Error::Link(_))));
        drop(peer);
        connection.answer(&[7; 100]).expect("found out by reading");
    }

    #[test]
    fn bytes_that_waited_arrive_whole() {
        let (mut connection, mut peer) = pair(None);
        let sent: Vec<u8> = (0..60_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut got = Vec::new();
        for part in sent.chunks(10_000) {
            connection.write(part).expect("sent");
            let mut buffer = vec![0; 7000];
            let length = peer.read(&mut buffer).expect("read");
            got.extend_from_slice(&buffer[..length]);
        }
        peer.set_nonblocking(true).expect("set");
        while got.len() < sent.len() {
            connection
                .read(&mut Vec::new(), SHORT, None)
                .expect("flushed");
            let mut buffer = vec![0; 7000];
            if let Ok(length) = peer.read(&mut buffer) {
                got.extend_from_slice(&buffer[..length]);
            }
        }
        assert!(got == sent);
    }

    #[test]
    fn raw_socket_has_no_break() {
        let (mut connection, _peer) = pair(None);
        assert!(!connection.send_break().expect("no failure"));
    }

    #[test]
    fn telnet_break_is_iac_brk() {
        let (mut connection, mut peer) = pair(Some(Telnet::new()));
        assert!(connection.send_break().expect("sent"));
        let mut got = [0; 2];
        peer.read_exact(&mut got).expect("read");
        assert_eq!(got, [IAC, BRK]);
    }

    #[test]
    fn missing_recording_fails_at_once() {
        let link = Link::File("/nonexistent/recording".into());
        let error = Connection::open(&link, None, &Interrupt::never()).expect_err("not there");
        assert!(
            error.to_string().contains("/nonexistent/recording"),
            "{error}"
        );
    }

    #[test]
    fn absent_peer_fails_at_the_deadline() {
        let link = Link::Unix("/nonexistent/socket".into());
        let deadline = Instant::now() + SHORT;
        let result = Connection::open(&link, Some(deadline), &Interrupt::never());
        assert!(matches!(result, Err(Error::Connect { .. })));
    }

    #[test]
    fn late_peer_is_waited_for() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("line");
        let late = path.clone();
        let peer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(250));
            let listener = std::os::unix::net::UnixListener::bind(late).expect("bind");
            listener.accept().expect("accept")
        });
        let opened = Connection::open(
            &Link::Unix(path),
            Some(Instant::now() + LONG),
            &Interrupt::never(),
        );
        assert!(opened.expect("connected").is_some());
        peer.join().expect("peer");
    }
}
