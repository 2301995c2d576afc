// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FALLBACK note: how far down the chain of fallbacks the crash path had to go.

use super::{VERSION, coded_enum, payload};
use crate::Error;
use crate::cursor::Writer;

coded_enum! {
    /// Who made the dump.
    FallbackLevel {
        /// The capture kernel.
        FirstCopy = 1, "first-copy";
        /// The second copy of the capture kernel.
        SecondCopy = 2, "second-copy";
        /// The crashed kernel itself, as far as it could.
        Minimal = 3, "minimal";
    }
}

coded_enum! {
    /// What the crash path found of a copy of the capture kernel.
    CopyState {
        /// There is none.
        Absent = 0, "absent";
        /// Its digest was right.
        Good = 1, "good";
        /// Its digest was wrong: it was not entered.
        WrongDigest = 2, "wrong-digest";
        /// It was not looked at.
        NotChecked = 3, "not-checked";
    }
}

/// The FALLBACK payload.
///
/// Layout, 16 bytes: version u32, level u32, state of the first copy u32, of the second u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Who made the dump.
    pub level: FallbackLevel,
    /// What became of each copy of the capture kernel, in the order in which they are tried.
    pub copies: [CopyState; 2],
}

impl Fallback {
    /// Bytes of the payload.
    pub const LEN: usize = 16;

    /// Writes the payload and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(VERSION)?;
        writer.u32(self.level.code())?;
        for copy in self.copies {
            writer.u32(copy.code())?;
        }
        Ok(writer.offset())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`].
    pub fn decode(desc: &[u8]) -> Result<Self, Error> {
        let mut reader = payload(desc)?;
        Ok(Self {
            level: FallbackLevel::from_code(reader.u32()?),
            copies: [
                CopyState::from_code(reader.u32()?),
                CopyState::from_code(reader.u32()?),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Fallback = Fallback {
        level: FallbackLevel::SecondCopy,
        copies: [CopyState::WrongDigest, CopyState::Good],
    };

    #[test]
    fn fallback_has_its_golden_bytes() {
        let mut out = [0xff; 16];
        assert_eq!(SAMPLE.encode(&mut out), Ok(Fallback::LEN));
        assert_eq!(out, [1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(Fallback::decode(&out), Ok(SAMPLE));
    }

    #[test]
    fn fallback_cut_short_or_of_another_version_is_refused() {
        let mut out = [0; 16];
        SAMPLE.encode(&mut out).unwrap();
        assert!(Fallback::decode(&out[..15]).is_err());
        assert!(SAMPLE.encode(&mut [0; 15]).is_err());
        out[0] = 7;
        assert_eq!(Fallback::decode(&out), Err(Error::Version(7)));
    }

    #[test]
    fn level_unknown_is_kept() {
        assert_eq!(FallbackLevel::from_code(9).code(), 9);
        assert_eq!(CopyState::from_code(9).code(), 9);
    }
}
