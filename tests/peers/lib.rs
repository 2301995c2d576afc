// SPDX-License-Identifier: MIT OR Apache-2.0
//! What others would put on the line for the same RAM.
//!
//! Reference encoders of other systems' dumps, on the compression libraries that they use themselves: zlib, zstd, LZ4 and
//! liblzma in C. They run on the host only and give lengths, so that docs/benchmarks.md can compare in one run on one
//! image. Where a choice of the other system is open, the shorter one is taken.

#![forbid(unsafe_code)]

pub mod lzf;
pub mod makedumpfile;
pub mod text;
pub mod yardsticks;

use std::collections::HashSet;

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Where QEMU's `virt` has its RAM; makedumpfile's bitmaps begin at address 0.
pub const RAM_START: u64 = 0x4000_0000;

/// One encoding of the RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose it is, and of what.
    pub name: &'static str,
    /// Bytes on the wire.
    pub bytes: u64,
}

/// Encodes `ram`, which begins at [`RAM_START`], in each way. Takes some minutes for 256 MiB.
///
/// # Panics
/// A compression library fails, or `ram` is no whole number of pages.
#[must_use]
pub fn rows(ram: &[u8]) -> Vec<Row> {
    let row = |name, bytes| Row { name, bytes };
    vec![
        row("Zephyr, hex lines, all RAM", text::zephyr(ram)),
        row("ESP-IDF, base64 lines, all RAM", text::esp_idf(ram)),
        row("NuttX, LZF and hex lines, all RAM", text::nuttx(ram)),
        row("LZ4 per page, no zero pages", yardsticks::lz4_pages(ram)),
        row(
            "makedumpfile -c -d 1, zlib per page, flattened",
            makedumpfile::zlib(ram, RAM_START),
        ),
        row(
            "makedumpfile -z -d 1, zstd per page, flattened",
            makedumpfile::zstd(ram, RAM_START),
        ),
        row(
            "distinct pages, zstd 19, one stream",
            yardsticks::distinct_zstd_19(ram),
        ),
        row(
            "distinct pages, LZMA, dictionary 1 MiB, one stream",
            yardsticks::distinct_lzma_1m(ram),
        ),
        row(
            "distinct pages, LZMA lc0 lp2, dictionary 1 MiB, one stream",
            yardsticks::distinct_lzma_1m_words(ram),
        ),
    ]
}

/// The pages of `ram`.
///
/// # Panics
/// `ram` is no whole number of pages.
pub fn pages(ram: &[u8]) -> impl Iterator<Item = &[u8]> {
    assert!(
        ram.len().is_multiple_of(PAGE),
        "{} bytes are no whole number of pages",
        ram.len()
    );
    ram.chunks_exact(PAGE)
}

/// Whether a page is all zero.
#[must_use]
pub fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|byte| *byte == 0)
}

/// The pages that are not zero, each once, in order of their first address.
///
/// # Panics
/// `ram` is no whole number of pages.
#[must_use]
pub fn distinct_pages(ram: &[u8]) -> Vec<&[u8]> {
    let mut seen = HashSet::new();
    pages(ram)
        .filter(|page| !is_zero(page) && seen.insert(*page))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text whose lines differ, as logs and tables do.
    pub(crate) fn lines(len: usize) -> Vec<u8> {
        (0_u32..)
            .flat_map(|number| {
                format!("{:08x} line {number}\n", number.wrapping_mul(2_654_435_761)).into_bytes()
            })
            .take(len)
            .collect()
    }

    /// Bytes that do not shrink.
    pub(crate) fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn distinct_pages_leave_out_zeros_and_repetitions() {
        let (one, two) = (lines(PAGE), noise(PAGE));
        let ram = [&one[..], &[0; PAGE], &two, &one].concat();

        assert_eq!(distinct_pages(&ram), [&one[..], &two]);
    }

    #[test]
    #[should_panic(expected = "no whole number of pages")]
    fn pages_of_a_broken_page_are_refused() {
        let _ = pages(&[0; PAGE + 1]);
    }

    #[test]
    fn rows_of_text_name_each_encoding_once_and_shrink_it() {
        let ram = [lines(32 * PAGE), vec![0; 32 * PAGE]].concat();

        let rows = rows(&ram);

        let names: HashSet<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
        let len = ram.len() as u64;
        let longer: Vec<bool> = rows.iter().map(|row| row.bytes > len).collect();
        // Hexadecimal and base64 are longer than what they stand for.
        assert_eq!(
            longer,
            [true, true, false, false, false, false, false, false, false]
        );
    }
}
