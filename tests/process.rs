// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other programs, run with a bound.

use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::Deadline;

/// What a program left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Returns the standard output.
    ///
    /// # Panics
    /// The program failed.
    #[must_use]
    pub fn success(self) -> String {
        assert!(
            self.status.success(),
            "{}\n{}\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }
}

/// Runs `command` to its end, for at most `limit`.
///
/// # Panics
/// It cannot be started, or ran for longer.
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let create = |path| fs::File::create(path).expect("a file in the temporary directory");
    command
        .stdin(Stdio::null())
        .stdout(create(&out))
        .stderr(create(&err));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program()));
    let status = Deadline::after(limit).poll(|| child.try_wait().expect("the child's state"));
    if status.is_none() {
        // It may have ended by itself in this moment.
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |path| String::from_utf8_lossy(&fs::read(path).expect("the output")).into_owned();
    let (stdout, stderr) = (read(&out), read(&err));
    match status {
        Some(status) => Finished {
            status,
            stdout,
            stderr,
        },
        None => panic!("{command:?} ran for more than {limit:?}:\n{stdout}\n{stderr}"),
    }
}
