// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts QEMU with its serial line on a Unix socket, and bounds its life.

use std::ffi::OsString;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Names the QEMU to start.
pub const QEMU_VARIABLE: &str = "AFTERIMAGE_QEMU";
/// Bounds a run, in seconds.
pub const TIMEOUT_VARIABLE: &str = "AFTERIMAGE_RUN_TIMEOUT";
/// Default bound of a run in seconds.
const DEFAULT_TIMEOUT: u64 = 60;
/// How long QEMU may take to connect its serial line.
const CONNECT: Duration = Duration::from_secs(10);

/// A running QEMU; it ends when this is dropped.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    program: String,
    started: Instant,
    limit: Duration,
}

/// Returns the bound of a run.
///
/// # Errors
///
/// [`Error::BadVariable`].
pub fn timeout() -> Result<Duration> {
    let Some(value) = std::env::var_os(TIMEOUT_VARIABLE) else {
        return Ok(Duration::from_secs(DEFAULT_TIMEOUT));
    };
    let value = value.to_string_lossy().into_owned();
    match value.parse::<u64>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Error::BadVariable {
            variable: TIMEOUT_VARIABLE,
            value,
        }),
    }
}

/// Returns QEMU's arguments; those of the user come last and win where QEMU lets them.
fn arguments(kernel: &Path, socket: &Path, user: &[OsString]) -> Vec<OsString> {
    let mut chardev = OsString::from("socket,id=line,path=");
    chardev.push(socket);
    let mut arguments: Vec<OsString> = [
        "-M",
        "virt",
        "-cpu",
        "cortex-a72",
        "-m",
        "128M",
        "-display",
        "none",
        "-monitor",
        "none",
        "-nodefaults",
        "-semihosting-config",
        "enable=on,target=native",
        "-serial",
        "chardev:line",
        "-chardev",
    ]
    .map(OsString::from)
    .into();
    arguments.push(chardev);
    arguments.push("-kernel".into());
    arguments.push(kernel.into());
    // The word by which a kernel knows that a host takes its semihosting calls; a command line of the user's says it itself.
    if !user.iter().any(|argument| argument == "-append") {
        arguments.extend(["-append", "semihosting"].map(OsString::from));
    }
    arguments.extend_from_slice(user);
    arguments
}

impl Qemu {
    /// Starts QEMU on `kernel`; returns it and the serial line.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] when it cannot be started, or ends before it opens its serial line.
    pub fn start(kernel: &Path, user: &[OsString]) -> Result<(Self, UnixStream)> {
        let program =
            std::env::var_os(QEMU_VARIABLE).unwrap_or_else(|| "qemu-system-aarch64".into());
        let name = program.to_string_lossy().into_owned();
        let fail = |source| Error::Start {
            program: name.clone(),
            source,
        };
        let limit = timeout()?;
        let dir = tempfile::Builder::new()
            .prefix("afterimage-")
            .tempdir()
            .map_err(fail)?;
        let socket = dir.path().join("line");
        let listener = UnixListener::bind(&socket).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let child = Command::new(&program)
            .args(arguments(kernel, &socket, user))
            .stdin(Stdio::null())
            .spawn()
            .map_err(fail)?;
        let mut qemu = Self {
            child,
            program: name.clone(),
            started: Instant::now(),
            limit,
        };
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(fail)?;
                    return Ok((qemu, stream));
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(fail(e)),
            }
            if let Some(status) = qemu.child.try_wait().map_err(fail)? {
                return Err(fail(std::io::Error::other(format!(
                    "it ended at once, {status}"
                ))));
            }
            if qemu.started.elapsed() > CONNECT {
                return Err(fail(std::io::Error::other(
                    "it did not open its serial line",
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns whether the bound is passed.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.started.elapsed() > self.limit
    }

    /// Returns the error that says so.
    #[must_use]
    pub fn overdue(&self) -> Error {
        Error::TimedOut {
            program: self.program.clone(),
            seconds: self.limit.as_secs(),
            variable: TIMEOUT_VARIABLE,
        }
    }

    /// Waits for QEMU's end, within the bound.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; [`Error::Start`] when the operating system cannot tell.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            let status = self.child.try_wait().map_err(|source| Error::Start {
                program: self.program.clone(),
                source,
            })?;
            if let Some(status) = status {
                return Ok(status);
            }
            if self.is_overdue() {
                return Err(self.overdue());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Already ended, or ends now: either way there is nothing left to do about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_arguments_come_last() {
        let arguments = arguments(
            Path::new("k.elf"),
            Path::new("/s"),
            &["-smp".into(), "4".into()],
        );
        assert!(arguments.ends_with(&["semihosting".into(), "-smp".into(), "4".into()]));
        assert!(arguments.contains(&"cortex-a72".into()));
    }

    #[test]
    fn command_line_of_the_user_is_the_only_one() {
        let user = ["-append", "test=one"].map(OsString::from);
        let arguments = arguments(Path::new("k.elf"), Path::new("s"), &user);
        let appends = arguments.iter().filter(|argument| *argument == "-append");
        assert_eq!(appends.count(), 1);
    }
}
