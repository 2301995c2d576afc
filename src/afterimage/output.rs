// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output, with failures reported instead of panicking.

use std::io::Write as _;

use crate::error::{Error, Result};

/// Writes `bytes` to standard output and flushes it.
///
/// # Errors
///
/// [`Error::Output`].
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(Error::Output)
}

/// Returns `bytes` in a unit that reads well.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if bytes >> shift > 0 {
            // 2^53 bytes are exact in an f64; above, the error is far below the one digit shown.
            return format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_largest_unit_that_fits() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(134_217_728), "128.0 MiB");
    }
}
