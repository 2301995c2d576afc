// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage gdb`: starts gdb on a dump.
//!
//! gdb tells threads apart by pr_pid; Linux's notes of idle CPUs all say 0 ("current thread has terminated"). Such a
//! dump is copied, sparsely, with the pids made unique.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmcore::notes::{CORE, note_len};
use vmcore::registers::NT_PRSTATUS;

use crate::bt::open_symbols;
use crate::cli::Gdb;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Error, Exit, Result};
use crate::interrupt::Interrupt;

/// pr_pid in an NT_PRSTATUS payload.
const PID_OFFSET: u64 = 32;

/// Runs the command.
///
/// # Errors
///
/// When the dump or ELF cannot be used, or no gdb can be started.
pub fn gdb(args: &Gdb) -> Result<Exit> {
    let core = CoreFile::open(&args.vmcore)?;
    let contents = Contents::of(core.note_bytes());
    open_symbols(Some(&args.elf), &contents)?;
    let pids: HashSet<u32> = contents.statuses.iter().map(|s| s.pid).collect();
    if pids.len() == contents.statuses.len() && !pids.contains(&0) {
        let error = command(args, &args.vmcore).exec();
        return Err(start_error(error));
    }
    // exec would leave the copy behind, so gdb is waited for; Ctrl-C is gdb's.
    let _interrupt = Interrupt::ignore().map_err(Error::Terminal)?;
    let copy = unique_copy(&core, &args.vmcore)?;
    let status = command(args, copy.path()).status().map_err(start_error)?;
    Ok(Exit::Other(
        status
            .code()
            .and_then(|c| u8::try_from(c).ok())
            .unwrap_or(1),
    ))
}

fn start_error(source: std::io::Error) -> Error {
    Error::Start {
        program: program().to_string_lossy().into_owned(),
        source,
    }
}

/// Returns the first of gdb-multiarch and gdb that is on the PATH.
fn program() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &str| std::env::split_paths(&path).any(|dir: PathBuf| dir.join(name).is_file());
    if is_there("gdb-multiarch") {
        "gdb-multiarch"
    } else {
        "gdb"
    }
    .into()
}

fn command(args: &Gdb, core: &Path) -> Command {
    let mut command = Command::new(program());
    // "-c" keeps gdb from taking a core for a second program, whatever its name.
    command
        .args(["-q", "-ex", "set architecture aarch64"])
        .args(&args.gdb_args);
    command.arg(&args.elf).arg("-c").arg(core);
    command
}

/// Copies the core sparsely and numbers its NT_PRSTATUS notes 1, 2, 3...
fn unique_copy(core: &CoreFile, path: &Path) -> Result<tempfile::NamedTempFile> {
    let make = Error::file("copy", path);
    let copy = tempfile::Builder::new()
        .prefix("afterimage-")
        .suffix(".vmcore")
        .tempfile()
        .and_then(|copy| {
            copy_sparse(&File::open(path)?, copy.as_file())?;
            let mut pid = 0_u32;
            for note in core.notes().filter(|n| n.is(CORE, NT_PRSTATUS)) {
                pid = pid.saturating_add(1);
                let desc_at = note_len(note.name.len(), 0) as u64;
                let at = core
                    .notes_offset()
                    .saturating_add(note.offset as u64)
                    .saturating_add(desc_at)
                    .saturating_add(PID_OFFSET);
                copy.as_file().write_all_at(&pid.to_le_bytes(), at)?;
            }
            Ok(copy)
        });
    copy.map_err(make)
}

fn copy_sparse(from: &File, to: &File) -> std::io::Result<()> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let count = from.read_at(&mut buffer, at)?;
        let Some(bytes) = buffer.get(..count).filter(|b| !b.is_empty()) else {
            break;
        };
        if bytes.iter().any(|b| *b != 0) {
            to.write_all_at(bytes, at)?;
        }
        at = at.saturating_add(count as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump_file::DumpFile;
    use crate::note_bytes::NoteBytes;
    use vmcore::PhysRange;
    use vmcore::registers::PrStatus;

    #[test]
    fn copy_has_unique_pids_and_the_same_memory() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("vmcore");
        let ram = PhysRange {
            start: 0x1000,
            end: 0x3000,
        };
        let mut dump = DumpFile::create(&dir.path().join("part"), &[ram]).expect("create");
        dump.store(0x1000, &[5; 4096]).expect("store");
        let mut notes = NoteBytes::default();
        notes.add(b"VMCOREINFO", 0, b"odd");
        notes.add_status(&PrStatus::default());
        notes.add_status(&PrStatus::default());
        let map = crate::dump_file::Mapping {
            vaddr: 0x1000,
            paddr: 0x1000,
            len: 0x2000,
        };
        dump.finish(&[map], notes.as_bytes(), &path, false)
            .expect("finish");
        let core = CoreFile::open(&path).expect("core");
        let copy = unique_copy(&core, &path).expect("copy");
        let copied = CoreFile::open(copy.path()).expect("core");
        let contents = Contents::of(copied.note_bytes());
        let pids: Vec<u32> = contents.statuses.iter().map(|s| s.pid).collect();
        assert_eq!(pids, [1, 2]);
        let mut byte = [0];
        copied.read_physical(0x1fff, &mut byte).expect("memory");
        assert_eq!(byte, [5]);
    }
}
