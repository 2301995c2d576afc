// SPDX-License-Identifier: MIT OR Apache-2.0
//! The TAINT note: what had happened before the crash that makes the machine's state doubtful.

use core::fmt;

use super::{VERSION, payload};
use crate::Error;
use crate::cursor::Writer;

/// Letter of each of Linux's taint flags, by bit (Documentation/admin-guide/tainted-kernels.rst).
const LETTERS: [char; 20] = [
    'P', 'F', 'S', 'R', 'M', 'B', 'U', 'D', 'A', 'W', 'C', 'I', 'O', 'E', 'L', 'K', 'X', 'T', 'N',
    'J',
];

/// The TAINT payload: version u32, reserved u32, flags u64. Shown as Linux's letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taint {
    /// Linux's flags.
    pub flags: u64,
}

impl Taint {
    /// Flags that have a meaning in Linux.
    pub const KNOWN: u64 = (1 << LETTERS.len()) - 1;
    /// Bytes of the payload.
    pub const LEN: usize = 16;

    /// Writes the payload and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(VERSION)?;
        writer.u32(0)?;
        writer.u64(self.flags)?;
        Ok(writer.offset())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`].
    pub fn decode(desc: &[u8]) -> Result<Self, Error> {
        let mut reader = payload(desc)?;
        reader.u32()?;
        Ok(Self {
            flags: reader.u64()?,
        })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flags == 0 {
            return f.write_str("not tainted");
        }
        f.write_str("tainted ")?;
        for (bit, letter) in LETTERS.iter().enumerate() {
            if self.flags >> bit & 1 != 0 {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " ({:#x})", self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn taint_has_its_golden_bytes() {
        let mut out = [0xff; 16];
        let taint = Taint { flags: 0x4200 };
        assert_eq!(taint.encode(&mut out), Ok(16));
        assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0x42, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Taint::decode(&out), Ok(taint));
    }

    #[test]
    fn taint_is_shown_in_the_letters_of_linux() {
        assert_eq!(Taint { flags: 0x4200 }.to_string(), "tainted WL (0x4200)");
        assert_eq!(Taint { flags: 1 }.to_string(), "tainted P (0x1)");
    }

    #[test]
    fn taint_without_flags_says_so() {
        assert_eq!(Taint::default().to_string(), "not tainted");
    }

    #[test]
    fn taint_of_an_unknown_flag_keeps_its_number() {
        assert_eq!(
            Taint { flags: 1 << 40 }.to_string(),
            "tainted  (0x10000000000)"
        );
    }

    #[test]
    fn taint_cut_short_or_of_another_version_is_refused() {
        assert!(Taint::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
        assert_eq!(Taint::decode(&[2, 0, 0, 0]), Err(Error::Version(2)));
    }
}
