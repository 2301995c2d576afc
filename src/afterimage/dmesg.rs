// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage dmesg`: the crashed kernel's log, out of the ring in its memory.

use vmcore::afterimage_notes::RegionKind;
use vmcore::linux::Vmcoreinfo;
use vmcore::log_ring::LogReader;

use crate::cli::Dmesg;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Error, Exit, Result};
use crate::linux_log::{log_lines, missing, read_log};
use crate::output::print;
use crate::terminal::harmless;

/// The log, harmless to a terminal.
#[derive(Debug)]
pub struct Log {
    /// Its text; what is missing is said in its place.
    pub text: String,
    /// What is missing, for a person.
    pub missing: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When the dump cannot be used or holds no log.
pub fn dmesg(args: &Dmesg) -> Result<Exit> {
    let core = CoreFile::open(&args.vmcore)?;
    let log = log_text(&core, &Contents::of(core.note_bytes()))?;
    print(log.text.as_bytes())?;
    Ok(match log.missing {
        None => Exit::Done,
        Some(missing) => {
            eprintln!("afterimage: {missing}");
            Exit::Incomplete
        }
    })
}

/// Returns the log: of an Afterimage kernel by its REGIONS note, of a Linux by its VMCOREINFO note.
///
/// # Errors
///
/// [`Error::Absent`] when the dump names no log or what lies there is none.
pub fn log_text(core: &CoreFile, contents: &Contents<'_>) -> Result<Log> {
    match contents.linux() {
        Some(info) => linux_log(core, info),
        None => own_log(core, contents),
    }
}

fn absent(core: &CoreFile, what: impl Into<String>) -> Error {
    Error::Absent {
        path: core.path().to_path_buf(),
        what: what.into(),
    }
}

fn linux_log(core: &CoreFile, info: &Vmcoreinfo<'_>) -> Result<Log> {
    let entries = read_log(core, info)
        .map_err(|error| absent(core, format!("readable log of Linux: {error}")))?;
    Ok(Log {
        text: log_lines(&entries),
        missing: missing(&entries),
    })
}

fn own_log(mut core: &CoreFile, contents: &Contents<'_>) -> Result<Log> {
    let region = contents
        .regions
        .iter()
        .find(|region| region.kind == RegionKind::LogRing)
        .ok_or_else(|| absent(core, "log ring: no REGIONS note names one"))?;
    let missing = absent(core, format!("readable log ring at {:#x}", region.pa));
    let Ok(mut reader) = LogReader::open(&mut core, region.pa, region.len) else {
        return Err(missing);
    };
    let mut text = Vec::new();
    let mut missing = None;
    let mut buffer = [0; 4096];
    while reader.remaining() > 0 {
        match reader.read(&mut core, &mut buffer) {
            Ok(0) => break,
            Ok(len) => text.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Err(error) => {
                missing.get_or_insert_with(|| {
                    format!("a part of the log is not in the dump: {error}")
                });
                text.extend_from_slice(b"\n[missing from the dump]\n");
            }
        }
    }
    let text = harmless(&String::from_utf8_lossy(&text));
    Ok(Log { text, missing })
}
