// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that changed while it was dumped: the end of a SUMMARY.

use crate::cursor::{Reader, Writer};
use crate::{Error, PAGE_SIZE};

/// Ranges that are listed; what changed beyond them is counted only. A summary has to survive a bad line.
pub const MOVED_MAX: usize = 16;

/// A range that changed: whole granules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovedRange {
    /// Physical address, a multiple of the page size.
    pub start: u64,
    /// Pages.
    pub pages: u32,
}

/// What changed between the first look at memory and a second one after all of it had been read.
///
/// Layout, appended to a SUMMARY only where memory was looked at twice: pages of a granule u32, granules that changed u32,
/// listed ranges u16, reserved u16, then for each range its address u64 and its pages u32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Pages that share one hash; 0 when memory was not looked at a second time.
    pub granule_pages: u32,
    /// Granules that changed.
    pub granules: u32,
    ranges: [MovedRange; MOVED_MAX],
    len: usize,
}

impl Moved {
    /// Most bytes of it.
    pub const LEN_MAX: usize = 12 + MOVED_MAX * 12;

    /// Returns that nothing has changed so far, in granules of so many pages.
    #[must_use]
    pub fn in_granules_of(pages: u32) -> Self {
        Self {
            granule_pages: pages,
            ..Self::default()
        }
    }

    /// Adds a granule that changed; addresses come in rising order.
    pub fn add(&mut self, start: u64, pages: u32) {
        self.granules = self.granules.saturating_add(1);
        let last = self
            .len
            .checked_sub(1)
            .and_then(|at| self.ranges.get_mut(at));
        if let Some(last) = last {
            let len = u64::from(last.pages).saturating_mul(PAGE_SIZE as u64);
            let joined = last.pages.checked_add(pages);
            if let Some(joined) = joined.filter(|_| last.start.saturating_add(len) == start) {
                last.pages = joined;
                return;
            }
        }
        self.push(MovedRange { start, pages });
    }

    /// Returns the ranges that are listed.
    #[must_use]
    pub fn ranges(&self) -> &[MovedRange] {
        self.ranges.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, range: MovedRange) {
        if let Some(place) = self.ranges.get_mut(self.len) {
            *place = range;
            self.len = self.len.saturating_add(1);
        }
    }

    /// Writes it.
    pub(crate) fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.granule_pages)?;
        writer.u32(self.granules)?;
        writer.u16(u16::try_from(self.len).unwrap_or(u16::MAX))?;
        writer.u16(0)?;
        for range in self.ranges() {
            writer.u64(range.start)?;
            writer.u32(range.pages)?;
        }
        Ok(())
    }

    /// Reads it; nothing at all means that memory was not looked at a second time, as of an older sender.
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.rest().is_empty() {
            return Ok(Self::default());
        }
        let mut moved = Self::in_granules_of(reader.u32()?);
        moved.granules = reader.u32()?;
        let count = reader.u16()?;
        reader.u16()?;
        for _ in 0..usize::from(count).min(MOVED_MAX) {
            let range = MovedRange {
                start: reader.u64()?,
                pages: reader.u32()?,
            };
            moved.push(range);
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Summary;

    fn encoded(moved: Moved) -> std::vec::Vec<u8> {
        let mut out = [0xff; Summary::LEN_MAX];
        let summary = Summary {
            moved,
            ..Summary::default()
        };
        let len = summary.encode(&mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn moved_of_version_2_has_its_golden_bytes() {
        let mut moved = Moved::in_granules_of(8);
        moved.add(0x4000_8000, 8);
        let out = encoded(moved);
        #[rustfmt::skip]
        assert_eq!(out[Summary::LEN..], [
            0, 0, 0, 0, 0, 0, 0, 0,
            8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
            0, 0x80, 0, 0x40, 0, 0, 0, 0, 8, 0, 0, 0,
        ]);
        assert_eq!(Summary::decode(&out).unwrap().moved, moved);
    }

    #[test]
    fn moved_not_looked_for_takes_no_bytes() {
        assert_eq!(encoded(Moved::default()).len(), Summary::LEN);
    }

    #[test]
    fn granules_that_touch_are_one_range() {
        let mut moved = Moved::in_granules_of(1);
        moved.add(0x1000, 1);
        moved.add(0x2000, 1);
        moved.add(0x4000, 1);
        let pages: std::vec::Vec<u32> = moved.ranges().iter().map(|range| range.pages).collect();
        assert_eq!((moved.granules, pages), (3, std::vec![2, 1]));
    }

    #[test]
    fn granules_beyond_the_list_are_counted() {
        let mut moved = Moved::in_granules_of(1);
        (0..40).for_each(|number| moved.add(number * 0x2000, 1));
        assert_eq!((moved.granules, moved.ranges().len()), (40, MOVED_MAX));
        assert_eq!(encoded(moved).len(), Summary::LEN_MAX - 24);
    }

    #[test]
    fn moved_cut_short_is_refused() {
        let mut moved = Moved::in_granules_of(1);
        moved.add(0x1000, 1);
        let out = encoded(moved);
        for len in (Summary::LEN + 1..out.len()).filter(|len| *len != Summary::LEN + 8) {
            assert!(Summary::decode(&out[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn moved_that_names_more_ranges_than_there_can_be_keeps_the_first() {
        let mut out = encoded(Moved::in_granules_of(1));
        out[Summary::LEN + 16..][..2].copy_from_slice(&u16::MAX.to_le_bytes());
        out.resize(2048, 0);
        assert_eq!(
            Summary::decode(&out).unwrap().moved.ranges().len(),
            MOVED_MAX
        );
    }
}
