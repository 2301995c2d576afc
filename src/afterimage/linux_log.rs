// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log of a crashed Linux, out of its memory, in the form of kexec-tools' `vmcore-dmesg`.

use std::fmt::Write as _;

use vmcore::linux::{PrintkLog, VirtualMemory, Vmcoreinfo};

use crate::core_file::CoreFile;

/// One record, or a hole in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record {
        /// Nanoseconds since boot.
        ts_nsec: u64,
        /// What was logged; anything.
        text: Vec<u8>,
    },
    /// Records, one behind the other, that the dump does not have.
    Missing {
        /// How many.
        count: u64,
        /// Why the first is not there.
        error: vmcore::Error,
    },
}

/// Reads the log that `info` leads to.
///
/// # Errors
///
/// When there is no ring of the form that Linux has since 5.10, or the dump does not have what describes it.
pub fn read_log(core: &CoreFile, info: &Vmcoreinfo<'_>) -> Result<Vec<Entry>, vmcore::Error> {
    let mut memory = VirtualMemory::new(info, core)?;
    let mut log = PrintkLog::open(info, &mut memory)?;
    let mut entries = Vec::new();
    while let Some(next) = log.next(&mut memory) {
        let record = next.map_err(|unreadable| unreadable.error);
        let read = record.and_then(|record| {
            // At most 64 KiB, since Linux counts in 16 bits.
            let mut text = vec![0; usize::try_from(record.len).unwrap_or(0)];
            memory.read(record.text, &mut text)?;
            Ok(Entry::Record {
                ts_nsec: record.ts_nsec,
                text,
            })
        });
        match read {
            Ok(entry) => entries.push(entry),
            Err(error) => add_missing(&mut entries, 1, error),
        }
    }
    if let Some(Entry::Missing { error, .. }) = entries.last().cloned() {
        add_missing(&mut entries, log.remaining(), error);
    }
    Ok(entries)
}

fn add_missing(entries: &mut Vec<Entry>, more: u64, error: vmcore::Error) {
    if let Some(Entry::Missing { count, .. }) = entries.last_mut() {
        *count = count.saturating_add(more);
    } else {
        entries.push(Entry::Missing { count: more, error });
    }
}

/// Returns the log as text: a line per record, and one for each hole.
#[must_use]
pub fn log_lines(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        // Writing to a String cannot fail.
        let _ = match entry {
            Entry::Record { ts_nsec, text } => {
                let (seconds, rest) = (ts_nsec / 1_000_000_000, ts_nsec % 1_000_000_000);
                let text = printable(text);
                writeln!(out, "[{seconds:5}.{:06}] {text}", rest / 1000)
            }
            Entry::Missing { count, .. } => {
                writeln!(out, "[{count} records missing from the dump]")
            }
        };
    }
    out
}

/// Returns what is missing, for a person; nothing when all is there.
#[must_use]
pub fn missing(entries: &[Entry]) -> Option<String> {
    let holes = || {
        entries.iter().filter_map(|entry| match entry {
            Entry::Missing { count, error } => Some((*count, *error)),
            Entry::Record { .. } => None,
        })
    };
    let (_, error) = holes().next()?;
    let count = holes().fold(0_u64, |sum, (count, _)| sum.saturating_add(count));
    Some(format!(
        "{count} records of the log are not in the dump; the first: {error}"
    ))
}

/// Returns text with every byte escaped that is neither printable ASCII nor space, which makes it harmless to a terminal but
/// for a carriage return.
pub fn printable(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' '..=b'~' | b'\t'..=b'\r' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
