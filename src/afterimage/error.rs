// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong in the host command, and the exit status each end has.
//!
//! Every variant carries the value that offended. The exit statuses are a contract: scripts rely on them.

use std::path::PathBuf;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, nothing missing.
    Done,
    /// Failed; a message says why.
    Failed,
    /// The dump is incomplete, and still written.
    Incomplete,
    /// The machine crashed under `run`.
    Crashed,
    /// Ctrl-C; what was received is kept.
    Interrupted,
    /// Another program's exit status, passed on (`run`, `gdb`).
    Other(u8),
}

impl Exit {
    /// Returns the process exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Incomplete => 3,
            Self::Crashed => 101,
            Self::Interrupted => 130,
            Self::Other(code) => code,
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read, written or renamed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: "open", "create", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The output exists and `--force` was not given.
    #[error("{} exists; use --force to overwrite it", .0.display())]
    Exists(PathBuf),
    /// Another run of the command is receiving into the file.
    #[error("{}: another afterimage is receiving into it", .0.display())]
    InUse(PathBuf),
    /// The part file holds what another dump left.
    #[error("{} is of {}, not of dump {expected}; use --force to overwrite it, or another name", part.display(), found.as_deref().map_or_else(|| "a dump that cannot be told".to_owned(), |id| format!("dump {id}")))]
    OtherDump {
        /// The part file.
        part: PathBuf,
        /// The id of its dump in hexadecimal, where its journal tells.
        found: Option<String>,
        /// The id of the dump that came.
        expected: String,
    },
    /// The link could not be opened.
    #[error("cannot connect to {link}: {source}")]
    Connect {
        /// The link as given.
        link: String,
        /// Why not.
        source: std::io::Error,
    },
    /// No running kernel answered.
    #[error("no answer of a kernel on {link}: {what}")]
    NoAnswer {
        /// The link as given.
        link: String,
        /// What came instead.
        what: String,
    },
    /// What answered cannot be believed.
    #[error("the answer on {link} makes no sense: {what}")]
    BadAnswer {
        /// The link as given.
        link: String,
        /// What is wrong with it.
        what: String,
    },
    /// Reading from or writing to the link failed.
    #[error("link failed: {0}")]
    Link(std::io::Error),
    /// No dump began within the time given.
    #[error("no dump began within {seconds} s on {link}")]
    NoDump {
        /// The link as given.
        link: String,
        /// The time waited.
        seconds: u64,
    },
    /// The line ended before a dump began.
    #[error("{link} ended after {bytes} bytes and no dump began")]
    NoDumpOnLine {
        /// The link as given.
        link: String,
        /// Bytes read from it.
        bytes: u64,
    },
    /// The file is no ELF core of an arm64 machine.
    #[error("{}: not an arm64 ELF core: {what} at offset {offset:#x}", path.display())]
    NotCore {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// Memory that the dump should hold cannot be read from it.
    #[error("{}: cannot read the memory at {address:#x}", path.display())]
    Unreadable {
        /// The dump.
        path: PathBuf,
        /// The physical address.
        address: u64,
    },
    /// The output is there, and is nothing that a file could replace.
    #[error("{} is no regular file: not replaced", .0.display())]
    NoFile(PathBuf),
    /// The ELF file with the symbols cannot be used.
    #[error("{}: cannot use as ELF with symbols: {what}", path.display())]
    BadElf {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// The ELF is another build than the one that crashed.
    #[error("{} is the wrong ELF: its build ID is {found}, the dump's is {expected}", path.display())]
    WrongElf {
        /// The ELF file.
        path: PathBuf,
        /// Its build ID in hexadecimal, or "absent".
        found: String,
        /// The dump's build ID in hexadecimal.
        expected: String,
    },
    /// The manifest of a dump makes no sense.
    #[error("the dump's manifest is unusable: {0}")]
    Manifest(String),
    /// The dump does not carry what the command needs.
    #[error("{}: the dump has no {what}", path.display())]
    Absent {
        /// The dump.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// A helper program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A helper program did not end in time.
    #[error("{program} was stopped after {seconds} s ({variable} sets the limit)")]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
        /// The environment variable that sets the limit.
        variable: &'static str,
    },
    /// A terminal setting failed.
    #[error("cannot set up the terminal: {0}")]
    Terminal(std::io::Error),
    /// Standard output could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// An environment variable's value makes no sense.
    #[error("{variable}={value}: not a number of seconds")]
    BadVariable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

impl Error {
    /// Makes a closure for `map_err` that names the file and what was tried on it.
    pub fn file(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contract() {
        assert_eq!(Exit::Done.code(), 0);
        assert_eq!(Exit::Failed.code(), 1);
        assert_eq!(Exit::Incomplete.code(), 3);
        assert_eq!(Exit::Crashed.code(), 101);
        assert_eq!(Exit::Interrupted.code(), 130);
        assert_eq!(Exit::Other(7).code(), 7);
    }

    #[test]
    fn file_error_names_path_and_action() {
        let error =
            Error::file("create", std::path::Path::new("/x/y"))(std::io::Error::other("no"));
        assert_eq!(error.to_string(), "cannot create /x/y: no");
    }
}
