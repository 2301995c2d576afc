// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dumps as lines of text on a console: Zephyr, ESP-IDF and NuttX.
//!
//! What they print around the memory (registers, headers of some bytes, first and last line) is left out: it does not
//! count beside the memory, and leaving it out favours them.

use crate::lzf::Compressor;

/// Zephyr's coredump logging backend: `#CD:` and 32 bytes in hexadecimal, as an error of the minimal log.
const ZEPHYR: Lines = Lines {
    bytes: 32,
    code: Code::Hex,
    around: "E: #CD:".len() + "\r\n".len(),
};
/// ESP-IDF's core dump on the UART: lines of 48 bytes in base64.
const ESP_IDF: Lines = Lines {
    bytes: 48,
    code: Code::Base64,
    around: "\r\n".len(),
};
/// NuttX's hexdump stream: 128 digits a line by default. The prefixes that its system log may add are left out.
const NUTTX: Lines = Lines {
    bytes: 64,
    code: Code::Hex,
    around: "\r\n".len(),
};

/// Length of Zephyr's dump of `ram`.
#[must_use]
pub fn zephyr(ram: &[u8]) -> u64 {
    ZEPHYR.len(ram.len() as u64)
}

/// Length of ESP-IDF's dump of `ram`.
#[must_use]
pub fn esp_idf(ram: &[u8]) -> u64 {
    ESP_IDF.len(ram.len() as u64)
}

/// Length of NuttX's dump of `ram` on the system log: LZF in blocks of 1023 bytes, in hexadecimal lines.
#[must_use]
pub fn nuttx(ram: &[u8]) -> u64 {
    let mut compressor = Compressor::new();
    let bytes = ram
        .chunks(crate::lzf::BLOCK)
        .map(|block| compressor.block(block).len() as u64)
        .sum();
    NUTTX.len(bytes)
}

/// How bytes become characters.
#[derive(Clone, Copy, Debug)]
enum Code {
    /// Two characters a byte.
    Hex,
    /// Four characters for each three bytes begun.
    Base64,
}

impl Code {
    /// Characters for `bytes` bytes.
    fn len(self, bytes: u64) -> u64 {
        match self {
            Self::Hex => 2 * bytes,
            Self::Base64 => 4 * bytes.div_ceil(3),
        }
    }
}

/// An encoding whose length depends on nothing but the number of bytes.
#[derive(Debug)]
struct Lines {
    /// Bytes in a full line.
    bytes: u64,
    code: Code,
    /// Further characters of a line.
    around: usize,
}

impl Lines {
    /// Characters for `len` bytes.
    fn len(&self, len: u64) -> u64 {
        let (full, rest) = (len / self.bytes, len % self.bytes);
        let last = if rest == 0 { 0 } else { self.line(rest) };
        full * self.line(self.bytes) + last
    }

    /// Characters of a line of `bytes` bytes.
    fn line(&self, bytes: u64) -> u64 {
        self.code.len(bytes) + self.around as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::noise;

    /// `bytes` in hexadecimal lines, written out.
    fn hex_lines(bytes: &[u8], per_line: usize, prefix: &str) -> String {
        let digits = |line: &[u8]| {
            line.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        bytes
            .chunks(per_line)
            .map(|line| format!("{prefix}{}\r\n", digits(line)))
            .collect()
    }

    #[test]
    fn zephyr_of_a_page_has_the_length_of_its_lines() {
        let ram = noise(4096);

        assert_eq!(zephyr(&ram), hex_lines(&ram, 32, "E: #CD:").len() as u64);
    }

    #[test]
    fn zephyr_of_a_broken_line_has_the_length_of_its_lines() {
        let ram = noise(33);

        assert_eq!(zephyr(&ram), hex_lines(&ram, 32, "E: #CD:").len() as u64);
    }

    #[test]
    fn esp_idf_of_one_line_and_a_byte_is_two_lines() {
        // RFC 4648: 48 bytes are 64 characters, 1 byte is 4 with its padding.
        assert_eq!(esp_idf(&[0xa5; 49]), 64 + 2 + 4 + 2);
    }

    #[test]
    fn nuttx_of_noise_is_stored_blocks_in_lines() {
        let ram = noise(2 * 1023);
        // A block that does not shrink: 'Z', 'V', type 0, length 1023.
        let stored = [b"ZV\0\x03\xff", &ram[..1023], b"ZV\0\x03\xff", &ram[1023..]].concat();

        assert_eq!(nuttx(&ram), hex_lines(&stored, 64, "").len() as u64);
    }

    #[test]
    fn nothing_becomes_no_line() {
        assert_eq!((zephyr(&[]), esp_idf(&[]), nuttx(&[])), (0, 0, 0));
    }
}
