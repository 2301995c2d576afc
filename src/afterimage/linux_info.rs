// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `info` tells of a crashed Linux: its VMCOREINFO note, and the last words in its log.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use vmcore::linux::{PageTables, Vmcoreinfo};

use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::linux_log::{Entry, printable, read_log};
use crate::terminal::harmless;
use crate::utc;

/// How lines of the log begin that say why Linux crashed, in the order in which it writes them.
const LAST_WORDS: [&str; 5] = [
    "Unable to handle kernel",
    "kernel BUG at",
    "Internal error: ",
    "sysrq: Trigger a crash",
    "Kernel panic - not syncing",
];

/// What is told.
struct Told {
    release: Option<String>,
    build_id: Option<String>,
    crash_time: Option<u64>,
    page_bytes: Option<u64>,
    va_bits: Option<u32>,
    kaslr_offset: Option<u64>,
    panic: Vec<String>,
    /// What could not be found out, and why.
    unknown: Vec<String>,
}

impl Told {
    /// Returns nothing for a kernel other than Linux.
    fn of(core: &CoreFile, contents: &Contents<'_>) -> Option<Self> {
        let info = contents.linux()?;
        let mut unknown = Vec::new();
        let panic = last_words(core, info).unwrap_or_else(|error| {
            unknown.push(format!("log: {error}"));
            Vec::new()
        });
        let mut known = |error: vmcore::Error| unknown.push(error.to_string());
        let text = |name| info.text(name).map(harmless);
        Some(Self {
            release: text("OSRELEASE").map_err(&mut known).ok(),
            build_id: text("BUILD-ID").map_err(&mut known).ok(),
            crash_time: info.decimal("CRASHTIME").map_err(&mut known).ok(),
            page_bytes: info.decimal("PAGESIZE").map_err(&mut known).ok(),
            va_bits: PageTables::of(info)
                .map(|tables| tables.va_bits())
                .map_err(&mut known)
                .ok(),
            kaslr_offset: info.hexadecimal("KERNELOFFSET").map_err(&mut known).ok(),
            panic,
            unknown,
        })
    }
}

/// Returns the last line of each kind that says why Linux crashed.
fn last_words(core: &CoreFile, info: &Vmcoreinfo<'_>) -> Result<Vec<String>, vmcore::Error> {
    let entries = read_log(core, info)?;
    let last = |start: &&str| {
        entries.iter().rev().find_map(|entry| match entry {
            Entry::Record { text, .. } if text.starts_with(start.as_bytes()) => {
                Some(harmless(&printable(text)))
            }
            _ => None,
        })
    };
    Ok(LAST_WORDS.iter().filter_map(last).collect())
}

/// Returns the lines, each with its name; none for a kernel other than Linux.
pub fn linux_lines(core: &CoreFile, contents: &Contents<'_>) -> Vec<(&'static str, String)> {
    let Some(told) = Told::of(core, contents) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    lines.extend(told.release.map(|release| ("release", release)));
    lines.extend(told.build_id.map(|id| ("build ID", id)));
    if let Some(time) = told.crash_time.and_then(stamp) {
        lines.push(("crashed", time));
    }
    lines.extend(told.panic.into_iter().map(|words| ("panic", words)));
    if let (Some(page), Some(bits)) = (told.page_bytes, told.va_bits) {
        lines.push((
            "paging",
            format!("pages of {page} bytes, {bits} bits of address"),
        ));
    }
    if let Some(offset) = told.kaslr_offset {
        lines.push(("KASLR", format!("offset {offset:#x}")));
    }
    lines.extend(told.unknown.into_iter().map(|what| ("unknown", what)));
    lines
}

/// Returns the same for `--json`; null for a kernel other than Linux.
pub fn linux_json(core: &CoreFile, contents: &Contents<'_>) -> Value {
    Told::of(core, contents).map_or(Value::Null, |told| {
        json!({
            "release": told.release, "build_id": told.build_id, "crash_time": told.crash_time, "panic": told.panic,
            "page_bytes": told.page_bytes, "va_bits": told.va_bits, "kaslr_offset": told.kaslr_offset, "unknown": told.unknown,
        })
    })
}

/// Returns a Unix time as UTC; nothing for one that no clock shows.
fn stamp(seconds: u64) -> Option<String> {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .filter(|_| seconds < 1 << 40)
        .map(utc::stamp)
}
