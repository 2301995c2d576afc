// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage dmesg`: the crashed kernel's log, out of the ring in its memory.

use vmcore::afterimage_notes::RegionKind;
use vmcore::log_ring::LogReader;

use crate::cli::Dmesg;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Error, Exit, Result};
use crate::output::print;
use crate::terminal::harmless;

/// Runs the command.
///
/// # Errors
///
/// When the dump cannot be used or holds no log.
pub fn dmesg(args: &Dmesg) -> Result<Exit> {
    let mut core = CoreFile::open(&args.vmcore)?;
    let notes = core.note_bytes().to_vec();
    let contents = Contents::of(&notes);
    let (text, is_whole) = log_text(&mut core, &contents)?;
    print(harmless(&text).as_bytes())?;
    Ok(if is_whole {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// Returns the log, and whether all of it is in the dump.
///
/// # Errors
///
/// [`Error::Absent`] when the dump names no log ring or what lies there is none.
pub fn log_text(core: &mut CoreFile, contents: &Contents<'_>) -> Result<(String, bool)> {
    let absent = |what: String| Error::Absent {
        path: core.path().to_path_buf(),
        what,
    };
    let region = contents
        .regions
        .iter()
        .find(|region| region.kind == RegionKind::LogRing)
        .ok_or_else(|| absent("log ring: no REGIONS note names one".to_owned()))?;
    let missing = absent(format!("readable log ring at {:#x}", region.pa));
    let Ok(mut reader) = LogReader::open(core, region.pa, region.len) else {
        return Err(missing);
    };
    let mut text = Vec::new();
    let mut is_whole = true;
    let mut buffer = [0; 4096];
    while reader.remaining() > 0 {
        match reader.read(core, &mut buffer) {
            Ok(0) => break,
            Ok(len) => text.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Err(_) => {
                is_whole = false;
                text.extend_from_slice(b"\n[missing from the dump]\n");
            }
        }
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), is_whole))
}
