// SPDX-License-Identifier: MIT OR Apache-2.0
//! The payload of a change of speed.

use crate::Error;
use crate::cursor::Reader;

/// A step of a change of speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Target to host, at the old rate: let us change.
    Propose,
    /// Host to target, at the old rate: it changes now.
    Agree,
    /// Target to host, at the new rate: can you read this?
    Probe,
    /// Host to target, at the new rate: it can.
    Confirm,
}

impl Step {
    const fn code(self) -> u8 {
        match self {
            Self::Propose => 1,
            Self::Agree => 2,
            Self::Probe => 3,
            Self::Confirm => 4,
        }
    }
}

/// A change of speed.
///
/// Layout: step u8, three reserved bytes, rate in baud u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaudChange {
    /// The step.
    pub step: Step,
    /// The new rate in baud.
    pub rate: u32,
}

impl BaudChange {
    /// Bytes of the payload.
    pub const LEN: usize = 8;

    /// Returns the payload.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [self.step.code(), 0, 0, 0, 0, 0, 0, 0];
        if let Some(rate) = out.get_mut(4..) {
            rate.copy_from_slice(&self.rate.to_le_bytes());
        }
        out
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::BadValue`] for an unknown step or a rate of 0.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let [step, _, _, _] = reader.array()?;
        let rate = reader.u32()?;
        let step = match step {
            1 => Step::Propose,
            2 => Step::Agree,
            3 => Step::Probe,
            4 => Step::Confirm,
            step => {
                return Err(Error::BadValue {
                    offset: 0,
                    value: u64::from(step),
                });
            }
        };
        if rate == 0 {
            return Err(Error::BadValue {
                offset: 4,
                value: 0,
            });
        }
        Ok(Self { step, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_of_version_2_has_its_golden_bytes() {
        let change = BaudChange {
            step: Step::Probe,
            rate: 921_600,
        };
        assert_eq!(change.encode(), [3, 0, 0, 0, 0, 0x10, 0x0e, 0]);
        assert_eq!(BaudChange::decode(&change.encode()), Ok(change));
    }

    #[test]
    fn change_unknown_to_nothing_or_cut_short_is_refused() {
        assert!(BaudChange::decode(&[5, 0, 0, 0, 1, 0, 0, 0]).is_err());
        assert!(BaudChange::decode(&[1, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(BaudChange::decode(&[1, 0, 0, 0, 1, 0, 0]).is_err());
    }
}
