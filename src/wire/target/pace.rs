// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long frames are: long ones cost least on a good line, short ones are lost least on a bad one.
//!
//! With `h` bytes of overhead a frame and a rate `r` of errors a byte, a frame of `n` bytes of its own brings
//! `n / (n + h) * exp(-r * (n + h))` of what the line could, which is most where `n * (n + h) = h / r`. The optimum is flat;
//! frames are made a quarter longer than it says, because the loss of one costs a turn more than its bytes, and long ones half as long
//! again, at least 2 KiB: at 1e-6 errors a bit that costs nothing, and headers stay below 1.5 % however the errors fall.

use crate::block::{PIECE_HEADER_LEN, PIECE_MAX};
use crate::frame::OVERHEAD;

use super::window::UNIT;

/// Bytes that a piece costs besides its own.
const COST: u64 = (OVERHEAD + PIECE_HEADER_LEN) as u64;
/// Bytes of a long frame, and the least that one is given where long ones are best: a few losses close together say little.
const LONG: u128 = 896;
const LONG_MIN: u128 = 2048;
/// Bytes after which older experience counts half.
const MEMORY_BYTES: u64 = 512 * 1024;
/// Frames lost after which older experience counts half.
const MEMORY_LOSSES: u64 = 64;

/// What is assumed before anything is known: so many frames that arrived. One early loss then does not make a line bad.
const ASSUMED: Pace = Pace {
    frames: 8,
    bytes: 8 * PIECE_MAX as u64,
    lost: 0,
};

/// What was learned of the line's errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Frames whose fate is known.
    frames: u64,
    /// Their bytes.
    bytes: u64,
    /// How many of them were lost.
    lost: u64,
}

impl Default for Pace {
    fn default() -> Self {
        ASSUMED
    }
}

impl Pace {
    pub(super) const fn arrived(&mut self, len: usize) {
        self.count(len, false);
    }

    pub(super) const fn lost(&mut self, len: usize) {
        self.count(len, true);
    }

    const fn count(&mut self, len: usize, is_lost: bool) {
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64).saturating_add(COST);
        self.lost = self.lost.saturating_add(is_lost as u64);
        if self.bytes > MEMORY_BYTES || self.lost > MEMORY_LOSSES {
            self.frames /= 2;
            self.bytes /= 2;
            self.lost /= 2;
        }
    }

    /// Returns how many of a million bytes are hit by an error, roughly.
    pub(super) fn errors_per_million(&self) -> u64 {
        self.lost
            .saturating_mul(1_000_000)
            .checked_div(self.bytes)
            .unwrap_or(0)
    }

    /// Forgets all: the line has changed.
    pub(super) const fn reset(&mut self) {
        *self = ASSUMED;
    }

    /// Returns the bytes of a block that the next frame is to carry: a multiple of the unit.
    pub(super) fn piece_len(&self) -> usize {
        if self.lost == 0 {
            return PIECE_MAX / UNIT * UNIT;
        }
        // Several errors may have hit one frame: with a share `p` lost, -ln(1 - p) is about 2p / (2 - p) a frame.
        let twice = self.frames.saturating_mul(2);
        let hits = u128::from(self.lost)
            .saturating_mul(u128::from(twice))
            .checked_div(u128::from(twice.saturating_sub(self.lost)))
            .unwrap_or(0)
            .max(1);
        let product = u128::from(COST)
            .saturating_mul(u128::from(self.bytes))
            .div_euclid(hits);
        // n * (n + h) = product.
        let root = product
            .saturating_mul(4)
            .saturating_add(u128::from(COST * COST))
            .isqrt();
        let best = root.saturating_sub(u128::from(COST)) / 2;
        let len = if best < LONG {
            best.saturating_mul(5) / 4
        } else {
            (best.saturating_mul(6) / 4).max(LONG_MIN)
        };
        let len = if len > PIECE_MAX as u128 {
            PIECE_MAX
        } else {
            len as usize
        };
        let units = len / UNIT;
        units.max(1).saturating_mul(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the piece length after so many bytes with a loss every `every` bytes.
    fn settled(every: u64) -> usize {
        let mut pace = Pace::default();
        let mut to_loss = every as i64;
        for _ in 0..2_000 {
            let len = pace.piece_len();
            to_loss -= len as i64;
            if to_loss <= 0 {
                pace.lost(len);
                to_loss = every as i64;
            } else {
                pace.arrived(len);
            }
        }
        pace.piece_len()
    }

    #[test]
    fn frames_are_long_on_a_good_line() {
        assert_eq!(Pace::default().piece_len(), 4064);
        assert!(settled(10_000_000) >= 2048);
    }

    #[test]
    fn frames_are_short_on_a_bad_line_and_recover() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.lost(pace.piece_len()));
        let bad = pace.piece_len();
        assert!(bad <= 512, "{bad}");
        (0..1000).for_each(|_| pace.arrived(pace.piece_len()));
        assert!(pace.piece_len() > bad);
    }

    #[test]
    fn frames_on_a_line_that_loses_most_of_them_are_as_short_as_the_optimum() {
        let mut pace = Pace::default();
        let mut dice = 1_u64;
        for _ in 0..5000 {
            let len = pace.piece_len();
            dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // 8 errors in 1000 bytes: a bit error rate of 1e-3.
            let survives = 0.992_f64.powi((len + COST as usize) as i32);
            if (dice >> 11) as f64 / ((1_u64 << 53) as f64) < survives {
                pace.arrived(len);
            } else {
                pace.lost(len);
            }
        }
        // The optimum is 45.
        assert!(
            (32..=96).contains(&pace.piece_len()),
            "{}",
            pace.piece_len()
        );
    }

    #[test]
    fn frames_are_never_shorter_than_a_unit() {
        let mut pace = Pace::default();
        for _ in 0..2000 {
            pace.lost(pace.piece_len());
        }
        assert!(pace.piece_len() <= 2 * UNIT);
        (pace.bytes, pace.lost) = (1, u64::MAX);
        assert_eq!(pace.piece_len(), UNIT);
    }
}
