// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same RAM as other systems would put it on a line.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blackbox::memory::{PAGE, Pages};
use blackbox::process::run;

/// Zephyr's coredump logging backend: `#CD:` and 32 bytes in hexadecimal, as an error of the minimal log.
const HEX: Lines = Lines {
    bytes: 32,
    characters: 64,
    around: "E: #CD:".len() + "\r\n".len(),
};
/// ESP-IDF's core dump on the UART: lines of 48 bytes in base64.
const BASE64: Lines = Lines {
    bytes: 48,
    characters: 64,
    around: "\r\n".len(),
};
/// Longest run of the reference compressor.
const ZLIB_LIMIT: Duration = Duration::from_secs(300);

/// zlib level 1 on each page, as makedumpfile -c does; a page that does not shrink is stored. A page descriptor of the
/// kdump-compressed format takes 24 bytes.
const ZLIB_PROGRAM: &str = "
import sys, zlib
total = 0
with open(sys.argv[1], 'rb') as file:
    while page := file.read(4096):
        total += 24 + min(len(zlib.compress(page, 1)), len(page))
print(total)
";

/// Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encodings {
    /// RAM.
    pub(crate) raw: u64,
    /// All of it in hexadecimal lines.
    pub(crate) hex: u64,
    /// All of it in base64 lines.
    pub(crate) base64: u64,
    /// Pages that are not zero.
    pub(crate) data: u64,
    /// The same in hexadecimal lines.
    pub(crate) data_hex: u64,
    /// The same in base64 lines.
    pub(crate) data_base64: u64,
    /// The same by zlib, page by page.
    pub(crate) data_zlib: u64,
}

impl Encodings {
    /// Encodes `pages`, those of `raw` bytes of RAM that are not zero; `dir` is for a temporary file.
    ///
    /// # Panics
    /// Python does not run.
    pub(crate) fn of(pages: &Pages, raw: u64, dir: &Path) -> Self {
        let data = pages.len() as u64 * PAGE;
        let (hex, base64) = (HEX.len(raw), BASE64.len(raw));
        let (data_hex, data_base64) = (HEX.len(data), BASE64.len(data));
        Self {
            raw,
            hex,
            base64,
            data,
            data_hex,
            data_base64,
            data_zlib: zlib(pages, dir),
        }
    }
}

/// An encoding whose length depends on nothing but the number of bytes.
struct Lines {
    /// Bytes in a line.
    bytes: u64,
    /// Characters that a full line's bytes become.
    characters: u64,
    /// Further characters of a line.
    around: usize,
}

impl Lines {
    /// Characters for `len` bytes.
    fn len(&self, len: u64) -> u64 {
        let (full, rest) = (len / self.bytes, len % self.bytes);
        let per_line = self.characters + self.around as u64;
        // A group is as few bytes as become whole characters: 1 in hexadecimal, 3 in base64.
        let group = if self.characters == 2 * self.bytes {
            1
        } else {
            3
        };
        let last = rest.div_ceil(group) * (self.characters * group / self.bytes);
        full * per_line
            + if rest == 0 {
                0
            } else {
                last + self.around as u64
            }
    }
}

fn zlib(pages: &Pages, dir: &Path) -> u64 {
    let path = dir.join("pages");
    let bytes: Vec<u8> = pages
        .values()
        .flat_map(|page| page.iter().copied())
        .collect();
    fs::write(&path, bytes).expect("a temporary file");
    let text = run(
        Command::new("python3")
            .args(["-c", ZLIB_PROGRAM])
            .arg(&path),
        ZLIB_LIMIT,
    )
    .success();
    text.trim()
        .parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zephyr's lines, written out.
    fn hex_lines(bytes: &[u8]) -> String {
        let digits = |line: &[u8]| {
            line.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        bytes
            .chunks(32)
            .map(|line| format!("E: #CD:{}\r\n", digits(line)))
            .collect()
    }

    #[test]
    fn hex_of_a_page_has_the_length_of_its_lines() {
        assert_eq!(HEX.len(4096), hex_lines(&[0xa5; 4096]).len() as u64);
    }

    #[test]
    fn hex_of_a_broken_line_has_the_length_of_its_lines() {
        assert_eq!(HEX.len(33), hex_lines(&[0xa5; 33]).len() as u64);
    }

    #[test]
    fn base64_of_one_line_and_a_byte_is_two_lines() {
        // RFC 4648: 48 bytes are 64 characters, 1 byte is 4 with its padding.
        assert_eq!(BASE64.len(49), 64 + 2 + 4 + 2);
    }

    #[test]
    fn nothing_becomes_no_line() {
        assert_eq!((HEX.len(0), BASE64.len(0)), (0, 0));
    }
}
