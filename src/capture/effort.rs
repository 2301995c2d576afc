// SPDX-License-Identifier: MIT OR Apache-2.0
//! How hard the encoder works: as hard as the line is slow.
//!
//! Packing the next block and sending the last one go on side by side, so the whole is fastest when both take as long.
//! After each block the two times are compared, and the effort goes a step up or down. Where even the least effort takes
//! longer than sending the bytes as they are, they are sent as they are, and the encoder is tried again now and then.

use wire::lzma::Effort;

/// Rate up to which the line is surely slower than the encoder, in baud.
const SLOW_BAUD: u32 = 500_000;
/// Blocks sent as they are before the encoder is tried again.
const RETRY_BLOCKS: u32 = 16;
/// Blocks too short to tell anything, in bytes before packing.
const SHORT: usize = 64 * 1024;
/// The next effort costs up to three times as much, so it pays when packing takes less than this part of the line's time, in
/// hundredths.
const RAISE_BELOW: u64 = 40;
/// Packing that takes longer than this part of the line's time keeps the line waiting, in hundredths.
const LOWER_ABOVE: u64 = 100;

/// The effort, and how it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Controller {
    /// `None`: sent as it is.
    effort: Option<u8>,
    stored_blocks: u32,
    is_fixed: bool,
}

/// What a block took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Bytes before packing.
    pub(crate) raw_len: usize,
    /// Bytes after it.
    pub(crate) packed_len: usize,
    /// Time of packing, in microseconds.
    pub(crate) packing_us: u64,
    /// What the line took up to now, in bytes, and the time that it had something to take, in microseconds.
    pub(crate) line: (u64, u64),
}

impl Controller {
    /// Starts for a line of so many baud, 0 when that is not known.
    pub(crate) const fn new(rate: u32) -> Self {
        let effort = if rate != 0 && rate <= SLOW_BAUD {
            Effort::MAX.0
        } else {
            1
        };
        Self {
            effort: Some(effort),
            stored_blocks: 0,
            is_fixed: false,
        }
    }

    /// Works at this effort, whatever the line is like.
    pub(crate) const fn fixed(effort: Option<u8>) -> Self {
        Self {
            effort,
            stored_blocks: 0,
            is_fixed: true,
        }
    }

    /// Returns the effort for the next block; `None` to send it as it is.
    pub(crate) fn effort(&self) -> Option<Effort> {
        self.effort.map(Effort)
    }

    /// Learns from a block.
    pub(crate) fn learn(&mut self, measured: &Measured) {
        let (bytes, line_us) = measured.line;
        if self.is_fixed || measured.raw_len < SHORT || bytes == 0 {
            return;
        }
        let Some(effort) = self.effort else {
            self.stored_blocks = self.stored_blocks.saturating_add(1);
            if self.stored_blocks >= RETRY_BLOCKS {
                self.effort = Some(0);
                self.stored_blocks = 0;
            }
            return;
        };
        let time_for = |len: usize| {
            let us = (len as u64).saturating_mul(line_us).checked_div(bytes);
            us.unwrap_or(0).max(1)
        };
        let hundredths = |time: u64| {
            let part = measured.packing_us.saturating_mul(100).checked_div(time);
            part.unwrap_or(u64::MAX)
        };
        let used = hundredths(time_for(measured.packed_len));
        if effort == 0 && hundredths(time_for(measured.raw_len)) > LOWER_ABOVE {
            self.effort = None;
        } else if used > LOWER_ABOVE {
            self.effort = Some(effort.saturating_sub(1));
        } else if used < RAISE_BELOW {
            self.effort = Some(effort.saturating_add(1).min(Effort::MAX.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 256 * 1024;

    /// Where the effort settles on a line of so many bytes a second, with a CPU that packs so many at effort 0, and half as
    /// many at each higher one.
    fn settled(line: u64, cpu: u64) -> Option<u8> {
        let mut controller = Controller::new(0);
        for _ in 0..RETRY_BLOCKS {
            let effort = u32::from(controller.effort.unwrap_or(0));
            controller.learn(&Measured {
                raw_len: LEN,
                packed_len: LEN / 3,
                packing_us: LEN as u64 * 1_000_000 * 2_u64.pow(effort) / cpu,
                line: (line, 1_000_000),
            });
        }
        controller.effort
    }

    #[test]
    fn slow_line_gets_all_effort() {
        assert_eq!(settled(11_500, 10_000_000), Some(Effort::MAX.0));
        assert_eq!(Controller::new(115_200).effort, Some(Effort::MAX.0));
    }

    #[test]
    fn line_faster_than_the_encoder_gets_what_there_is() {
        assert_eq!(settled(100_000_000, 1_000_000), None);
    }

    #[test]
    fn line_in_between_gets_some_effort() {
        assert_eq!(settled(1_000_000, 10_000_000), Some(1));
    }

    #[test]
    fn encoder_is_tried_again_when_the_line_became_slow() {
        let mut controller = Controller::fixed(None);
        controller.is_fixed = false;
        let slow = Measured {
            raw_len: LEN,
            packed_len: LEN / 3,
            packing_us: 1000,
            line: (1000, 1_000_000),
        };
        (0..RETRY_BLOCKS).for_each(|_| controller.learn(&slow));
        assert_eq!(controller.effort, Some(0));
    }

    #[test]
    fn short_blocks_and_fixed_efforts_change_nothing() {
        let short = Measured {
            raw_len: 100,
            packed_len: 50,
            packing_us: 1_000_000,
            line: (1_000_000, 1),
        };
        let mut controller = Controller::new(0);
        controller.learn(&short);
        assert_eq!(controller.effort, Some(1));
        let mut fixed = Controller::fixed(Some(2));
        fixed.learn(&Measured {
            raw_len: LEN,
            ..short
        });
        assert_eq!(fixed.effort, Some(2));
    }
}
