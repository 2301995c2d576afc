// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host says: which frames came, which blocks it keeps.
//!
//! Frames are acknowledged by sequence number, which is how a sender finds out at once what was lost; blocks by block
//! number, which is what counts: only a stored block is never sent again. A status carries all there is to know, so any
//! of them may be lost.

use crate::Error;
use crate::cursor::{Reader, Writer};

/// Frames before the newest that a status tells of, and blocks after the first missing one.
pub const BITS: u32 = 256;
/// Bytes of such a map.
pub const MAP_LEN: usize = BITS as usize / 8;
/// Most ranges of stored blocks in a status.
pub const RANGES_MAX: usize = 8;
/// No block.
pub const NO_BLOCK: u32 = u32::MAX;

/// What a host has of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Names this run of the host command: another one has lost what was in the making.
    pub session: u32,
    /// Whether the last frame of the dump was seen.
    pub has_finished: bool,
    /// Whether pages are to be offered by hash before they are sent.
    pub wants_offers: bool,
    /// The highest rate that the host can set, in baud; 0 when it can set none.
    pub baud_max: u32,
    /// Sequence of the newest frame.
    pub newest: u32,
    /// Bit `n` (of byte `n / 8`): the frame `n + 1` before the newest came.
    pub frames: [u8; MAP_LEN],
    /// The first block that is not stored.
    pub first_missing: u32,
    /// Bit `n`: the block `n + 1` after the first missing one is stored.
    pub blocks: [u8; MAP_LEN],
    /// A block that came and was not believed, so all of it is needed again; else [`NO_BLOCK`].
    pub rejected: u32,
    /// How many of the ranges count.
    pub range_count: u8,
    /// Some ranges of stored blocks, others each time: first, and how many.
    pub ranges: [(u32, u32); RANGES_MAX],
}

impl Status {
    /// Bytes of the fixed fields.
    pub const FIXED_LEN: usize = 92;
    /// Longest payload.
    pub const LEN_MAX: usize = Self::FIXED_LEN + 8 * RANGES_MAX;

    /// Returns the status of a host that has nothing yet.
    #[must_use]
    pub const fn new(session: u32) -> Self {
        Self {
            session,
            has_finished: false,
            wants_offers: false,
            baud_max: 0,
            newest: 0,
            frames: [0; MAP_LEN],
            first_missing: 0,
            blocks: [0; MAP_LEN],
            rejected: NO_BLOCK,
            range_count: 0,
            ranges: [(0, 0); RANGES_MAX],
        }
    }

    /// Writes the payload and returns its length.
    ///
    /// Layout: session u32, flags u8 (bit 0 finished, bit 1 offers), ranges u8, reserved u16, highest baud u32, newest u32,
    /// frames 32 bytes, first missing u32, blocks 32 bytes, rejected u32, reserved u32; per range first u32, count u32.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], never with [`Status::LEN_MAX`] bytes.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(self.session)?;
        let flags = u8::from(self.has_finished) | u8::from(self.wants_offers) << 1;
        let count = usize::from(self.range_count).min(RANGES_MAX);
        writer.put(&[flags, count as u8, 0, 0])?;
        writer.u32(self.baud_max)?;
        writer.u32(self.newest)?;
        writer.put(&self.frames)?;
        writer.u32(self.first_missing)?;
        writer.put(&self.blocks)?;
        writer.u32(self.rejected)?;
        writer.u32(0)?;
        for (first, blocks) in self.ranges.iter().take(count) {
            writer.u32(*first)?;
            writer.u32(*blocks)?;
        }
        Ok(writer.offset())
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::TooLong`] for the number of ranges.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let session = reader.u32()?;
        let [flags, range_count, _, _] = reader.array()?;
        let mut status = Self {
            session,
            has_finished: flags & 1 != 0,
            wants_offers: flags & 2 != 0,
            baud_max: reader.u32()?,
            newest: reader.u32()?,
            frames: reader.array()?,
            first_missing: reader.u32()?,
            blocks: reader.array()?,
            rejected: reader.u32()?,
            range_count,
            ranges: [(0, 0); RANGES_MAX],
        };
        reader.u32()?;
        if usize::from(range_count) > RANGES_MAX {
            return Err(Error::TooLong {
                len: u64::from(range_count),
                limit: RANGES_MAX as u64,
            });
        }
        for range in status.ranges.iter_mut().take(usize::from(range_count)) {
            *range = (reader.u32()?, reader.u32()?);
        }
        Ok(status)
    }

    /// Returns whether the frame `sequence` came; `None` when it is newer than the newest or too old to tell.
    #[must_use]
    pub fn has_frame(&self, sequence: u32) -> Option<bool> {
        match self.newest.wrapping_sub(sequence) {
            0 => Some(true),
            back @ 1..=BITS => Some(bit(&self.frames, back.saturating_sub(1))),
            _ => None,
        }
    }

    /// Returns whether this status alone says that the block `number` is stored.
    #[must_use]
    pub fn has_block(&self, number: u32) -> bool {
        if number < self.first_missing {
            return true;
        }
        let after = number.saturating_sub(self.first_missing);
        let in_map = after
            .checked_sub(1)
            .is_some_and(|index| index < BITS && bit(&self.blocks, index));
        in_map
            || self
                .stored_ranges()
                .any(|(first, count)| number.checked_sub(first).is_some_and(|at| at < count))
    }

    /// Returns the ranges of stored blocks that it names: first, and how many.
    pub fn stored_ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let count = usize::from(self.range_count);
        self.ranges.iter().take(count).copied()
    }

    /// Notes that the frame `back` before the newest came.
    pub fn set_frame(&mut self, back: u32) {
        if let Some(index) = back.checked_sub(1) {
            set_bit(&mut self.frames, index);
        }
    }

    /// Notes that the block `after` the first missing one is stored.
    pub fn set_block(&mut self, after: u32) {
        if let Some(index) = after.checked_sub(1) {
            set_bit(&mut self.blocks, index);
        }
    }
}

fn bit(map: &[u8; MAP_LEN], index: u32) -> bool {
    map.get((index / 8) as usize)
        .is_some_and(|byte| byte & 1 << (index % 8) != 0)
}

fn set_bit(map: &mut [u8; MAP_LEN], index: u32) {
    if let Some(byte) = map.get_mut((index / 8) as usize) {
        *byte |= 1 << (index % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        let mut status = Status {
            wants_offers: true,
            baud_max: 921_600,
            newest: 0x0102,
            first_missing: 9,
            range_count: 1,
            ..Status::new(0xaabb_ccdd)
        };
        status.ranges[0] = (20, 3);
        status.set_frame(1);
        status.set_frame(256);
        status.set_block(2);
        status
    }

    #[test]
    fn status_of_version_2_has_its_golden_bytes() {
        let mut out = [0xff; Status::LEN_MAX];
        let len = sample().encode(&mut out).unwrap();
        assert_eq!(len, Status::FIXED_LEN + 8);
        #[rustfmt::skip]
        assert_eq!(out[..17], [0xdd, 0xcc, 0xbb, 0xaa, 2, 1, 0, 0, 0, 0x10, 0x0e, 0, 2, 1, 0, 0, 1]);
        assert_eq!((out[47], &out[48..53]), (0x80, &[9_u8, 0, 0, 0, 2][..]));
        #[rustfmt::skip]
        assert_eq!(out[84..100], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(Status::decode(&out[..len]), Ok(sample()));
    }

    #[test]
    fn status_tells_of_frames_and_blocks() {
        let status = sample();
        assert_eq!(status.has_frame(0x0102), Some(true));
        assert_eq!(status.has_frame(0x0101), Some(true));
        assert_eq!(status.has_frame(0x0100), Some(false));
        assert_eq!(status.has_frame(2), Some(true));
        assert_eq!(status.has_frame(1), None);
        assert_eq!(status.has_frame(0x0103), None);
        let stored = |number| status.has_block(number);
        assert!(stored(8) && stored(11) && stored(20) && stored(22));
        assert!(!stored(9) && !stored(10) && !stored(12) && !stored(23) && !stored(u32::MAX));
    }

    #[test]
    fn status_cut_short_or_with_too_many_ranges_is_refused() {
        let mut out = [0; Status::LEN_MAX];
        let len = sample().encode(&mut out).unwrap();
        assert!(Status::decode(&out[..len - 1]).is_err());
        out[5] = 9;
        assert!(matches!(Status::decode(&out), Err(Error::TooLong { .. })));
        assert!(sample().encode(&mut [0; 90]).is_err());
    }
}
