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

/// A CRC-32C over bytes that come in parts.
#[derive(Clone)]
pub struct Crc32c(crc::Digest<'static, u32>);

impl Crc32c {
    /// Returns the sum over nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(CRC.digest())
    }

    /// Adds `bytes`.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the sum over all that was added.
    #[must_use]
    pub fn sum(self) -> u32 {
        self.0.finalize()
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Crc32c")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_check_string_is_published_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn crc32c_in_parts_is_that_of_the_whole() {
        let mut sum = Crc32c::new();
        sum.add(b"1234");
        sum.add(b"");
        sum.add(b"56789");
        assert_eq!(sum.sum(), 0xe306_9283);
    }

    #[test]
    fn crc32c_of_nothing_is_zero() {
        assert_eq!(crc32c(b""), 0);
    }
}
