// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds code and constants in a dump that are not what the ELF says.
//!
//! An Afterimage kernel runs at its link address and nothing patches it, so that its read-only segments stand in memory as
//! they stand in the ELF, byte for byte. Where they differ something wrote there, or the RAM failed.

use std::ops::Range;

use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::symbols::{Symbols, hex};
use crate::terminal::harmless;

/// Bytes that are compared at once; what the dump lacks is passed over in such pieces.
const PIECE: usize = 4096;
/// Equal bytes between two differences that do not part them: random bytes agree now and then.
const GAP_MAX: u64 = 8;
/// Differences that are told of one by one.
const LINES_MAX: usize = 10;
/// Bytes of a difference that are shown.
const BYTES_SHOWN: usize = 8;

/// Bytes that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    /// Virtual addresses, from the first byte that differs to the last.
    range: Range<u64>,
    is_code: bool,
    /// The first bytes as they should be, and as they are.
    expected: Vec<u8>,
    found: Vec<u8>,
}

/// Returns a line for each difference between the ELF and the dump of its kernel; none for another kernel's.
#[must_use]
pub fn corrupted_code(symbols: &Symbols, core: &CoreFile, contents: &Contents<'_>) -> Vec<String> {
    if !contents.is_afterimage()
        || contents.build_id.is_none()
        || contents.build_id != symbols.build_id()
    {
        return Vec::new();
    }
    let mut differences = Vec::new();
    for segment in symbols.fixed_segments() {
        compare(
            segment.address,
            &segment.bytes,
            segment.is_code,
            core,
            &mut differences,
        );
    }
    let mut lines: Vec<String> = differences
        .iter()
        .take(LINES_MAX)
        .map(|difference| line(symbols, difference))
        .collect();
    let hidden = differences.len().saturating_sub(LINES_MAX);
    if hidden > 0 {
        lines.push(format!("corrupted code: {hidden} more places"));
    }
    lines
}

fn compare(
    address: u64,
    expected: &[u8],
    is_code: bool,
    core: &CoreFile,
    differences: &mut Vec<Difference>,
) {
    let mut at = address;
    let mut rest = expected;
    let mut found = [0; PIECE];
    while !rest.is_empty() {
        // Pieces end where pages do: a page is in the dump or it is not.
        let len = PIECE - (at % PIECE as u64) as usize;
        let (piece, later) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        let room = found.get_mut(..piece.len()).unwrap_or_default();
        if core.read_virtual(at, room).is_ok() && room != piece {
            for ((now, was), address) in room.iter().zip(piece).zip(at..) {
                if now != was {
                    add(differences, address, is_code, *was, *now);
                }
            }
        }
        at = at.wrapping_add(piece.len() as u64);
        rest = later;
    }
}

/// Adds a byte that differs to the difference before it, or begins another.
fn add(differences: &mut Vec<Difference>, address: u64, is_code: bool, was: u8, now: u8) {
    let end = address.wrapping_add(1);
    if let Some(last) = differences.last_mut()
        && last.is_code == is_code
        && address.wrapping_sub(last.range.end) <= GAP_MAX
    {
        let is_next = address == last.range.end;
        last.range.end = end;
        if is_next && last.found.len() < BYTES_SHOWN {
            last.expected.push(was);
            last.found.push(now);
        }
        return;
    }
    differences.push(Difference {
        range: address..end,
        is_code,
        expected: vec![was],
        found: vec![now],
    });
}

fn line(symbols: &Symbols, difference: &Difference) -> String {
    let what = if difference.is_code {
        "code"
    } else {
        "read-only data"
    };
    let start = difference.range.start;
    let place = symbols
        .locate(start)
        .map_or_else(String::new, |(name, offset)| {
            format!(" in {}+{offset:#x}", harmless(&name))
        });
    let len = difference.range.end.wrapping_sub(start);
    format!(
        "corrupted {what}: {len} bytes at {start:#x}{place}: {} where the ELF has {}",
        hex(&difference.found),
        hex(&difference.expected)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(bytes: &[(u64, bool)]) -> Vec<(Range<u64>, usize)> {
        let mut found = Vec::new();
        for (address, is_code) in bytes {
            add(&mut found, *address, *is_code, 1, 2);
        }
        found
            .into_iter()
            .map(|d| (d.range, d.found.len()))
            .collect()
    }

    #[test]
    fn neighbouring_bytes_are_one_difference() {
        let bytes = [10, 11, 12, 16, 30].map(|address| (address, true));
        assert_eq!(differences(&bytes), [(10..17, 3), (30..31, 1)]);
    }

    #[test]
    fn code_and_constants_are_told_apart() {
        assert_eq!(
            differences(&[(10, true), (11, false)]),
            [(10..11, 1), (11..12, 1)]
        );
    }
}
