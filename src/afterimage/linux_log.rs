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
mod tests {
    use super::*;
    use vmcore::linux::Key;

    fn record(ts_nsec: u64, text: &[u8]) -> Entry {
        Entry::Record {
            ts_nsec,
            text: text.to_vec(),
        }
    }

    fn hole(count: u64) -> Entry {
        let error = vmcore::Error::KeyMissing(Key::Symbol("x"));
        Entry::Missing { count, error }
    }

    #[test]
    fn records_are_lines_with_their_time_in_microseconds() {
        let entries = [
            record(0, b"Booting"),
            record(6_902_011_999, b"sysrq: Trigger a crash"),
            record(123_456_000_000_000, b""),
        ];
        assert_eq!(
            log_lines(&entries),
            "[    0.000000] Booting\n[    6.902011] sysrq: Trigger a crash\n[123456.000000] \n"
        );
        assert_eq!(missing(&entries), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped_and_space_is_not() {
        assert_eq!(
            printable(b"a\x1b[1m\tb\x7f\xc3\xa9\n c\0"),
            "a\\x1b[1m\tb\\x7f\\xc3\\xa9\n c\\x00"
        );
    }

    #[test]
    fn holes_are_said_in_their_place_and_in_sum() {
        let entries = [hole(2), record(1000, b"x"), hole(3)];
        assert_eq!(
            log_lines(&entries),
            "[2 records missing from the dump]\n[    0.000001] x\n[3 records missing from the dump]\n"
        );
        let said = missing(&entries).expect("said");
        assert_eq!(
            said,
            "5 records of the log are not in the dump; the first: vmcoreinfo has no SYMBOL(x)"
        );
    }

    #[test]
    fn records_missing_one_behind_the_other_are_one_hole() {
        let mut entries = vec![hole(1)];
        add_missing(&mut entries, 4, vmcore::Error::BadMagic { value: 0 });
        assert_eq!(entries, [hole(5)]);
    }
}
