// SPDX-License-Identifier: MIT OR Apache-2.0
//! CRC-32C, which guards structures left in the crashed kernel's RAM.
//!
//! One table of 1 KiB: what is summed is small, and so is the crash region.

use crc::{CRC_32_ISCSI, Crc};

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Returns the CRC-32C (RFC 3720, Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_check_string_is_published_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn crc32c_of_nothing_is_zero() {
        assert_eq!(crc32c(b""), 0);
    }
}
