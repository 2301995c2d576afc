// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage run`: boots a kernel in QEMU as a cargo runner does.
//!
//! The console passes through. A dump ends the run with its backtrace and exit status 101; otherwise QEMU's own exit
//! status (semihosting sets it) is passed on.

use std::path::{Path, PathBuf};

use crate::captured::Captured;
use crate::cli::Run;
use crate::connection::{Connection, Read};
use crate::destination::Destination;
use crate::error::{Error, Exit, Result};
use crate::interrupt::Interrupt;
use crate::qemu::Qemu;
use crate::receive::{SILENCE, take_leave};
use crate::session::{Session, Settings};

/// Runs the command.
///
/// # Errors
///
/// When QEMU cannot be started or passes its time, or the dump cannot be written.
pub fn run(args: &Run, interrupt: &Interrupt) -> Result<Exit> {
    if !args.kernel.is_file() {
        return Err(Error::file("open", &args.kernel)(
            std::io::ErrorKind::NotFound.into(),
        ));
    }
    let directory = args.kernel.parent().filter(|p| !p.as_os_str().is_empty());
    let destination = Destination::Directory(directory.unwrap_or(Path::new(".")).to_path_buf());
    let mut session = Session::new(Settings {
        destination,
        elfs: symbol_files(&args.kernel),
        is_elf_required: false,
        has_backtraces: false,
        have: Vec::new(),
        silence: SILENCE,
        can_answer: true,
        baud: None,
    })?;
    let (mut qemu, line) = Qemu::start(&args.kernel, &args.qemu_args)?;
    let mut connection = Connection::from_unix_stream(line)?;
    loop {
        let mut data = Vec::new();
        let read = connection.read(&mut data, session.patience(), None)?;
        let mut events = match read {
            Read::Data => session.push(&data)?,
            Read::Idle | Read::Closed => Vec::new(),
        };
        events.extend(session.tick(read != Read::Data)?);
        events.extend(session.speak(&mut connection));
        let is_over = interrupt.is_raised() || qemu.is_overdue() || read == Read::Closed;
        if is_over {
            events.extend(session.end()?);
        }
        for event in events {
            if let Some(captured) = session.show(event)? {
                take_leave(&mut session, &mut connection, interrupt);
                return Ok(crashed(&captured, interrupt));
            }
        }
        if interrupt.is_raised() {
            return Ok(Exit::Interrupted);
        }
        if read == Read::Closed {
            let status = qemu.wait()?;
            return Ok(match status.code() {
                Some(0) => Exit::Done,
                code => Exit::Other(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
            });
        }
        if qemu.is_overdue() {
            return Err(qemu.overdue());
        }
    }
}

fn crashed(captured: &Captured, interrupt: &Interrupt) -> Exit {
    captured.announce();
    if let Some(backtrace) = captured.backtrace() {
        eprint!("{backtrace}");
    }
    if interrupt.is_raised() {
        Exit::Interrupted
    } else {
        Exit::Crashed
    }
}

/// Returns where the symbols may be: the kernel itself, or for an Image the ELF beside it.
fn symbol_files(kernel: &Path) -> Vec<PathBuf> {
    [kernel.to_path_buf(), kernel.with_extension("elf")]
        .into_iter()
        .filter(|path| crate::symbols::Symbols::open(path).is_ok())
        .take(1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_that_is_no_elf_has_no_symbols() {
        let dir = tempfile::tempdir().expect("directory");
        let image = dir.path().join("kernel.Image");
        std::fs::write(&image, "MZ").expect("write");
        assert!(symbol_files(&image).is_empty());
    }
}
