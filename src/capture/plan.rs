// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which memory travels, each page exactly once.
//!
//! A dump is useful at every prefix, so what explains a crash goes first: stacks, log, page tables, kernel data, then
//! everything else from the lowest address up. What lies where comes from the crashed kernel and may be wrong,
//! overlapping or absurd: it can change the order but not the set of pages. The plan is fixed before the first block, so
//! a [`Cursor`] is all that is needed to go on from the middle.

use vmcore::{Error, PhysRange, RangeSet};

use crate::pages;

/// Ranges of RAM that are kept apart; Linux on a large server has a few dozen.
pub(crate) const RAM_RANGES: usize = 128;

/// Ranges that can be moved to the front.
pub(crate) const FIRST_RANGES: usize = 256;

/// Stages that can be told apart: the crashed CPU's stack, all stacks.
pub(crate) const STAGES: usize = 2;

/// The order of one dump.
#[derive(Debug)]
pub(crate) struct Plan {
    ram: RangeSet<RAM_RANGES>,
    first: [PhysRange; FIRST_RANGES],
    first_len: usize,
    in_first: RangeSet<FIRST_RANGES>,
    /// Numbers of leading ranges after which what was gathered is to be sent.
    stage_ends: [usize; STAGES],
    stages: usize,
}

/// Place in a [`Plan`]: everything before it has been described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// Number of leading ranges that are done.
    ranges_done: usize,
    /// Lowest address of the current range, or of the rest, that is not done.
    address: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// Returns a plan of no memory at all.
    pub(crate) const fn new() -> Self {
        Self {
            ram: RangeSet::new(),
            first: [PhysRange { start: 0, end: 0 }; FIRST_RANGES],
            first_len: 0,
            in_first: RangeSet::new(),
            stage_ends: [0; STAGES],
            stages: 0,
        }
    }

    /// Adds the pages of `range` to what is dumped; what it shares with earlier ranges is not doubled.
    ///
    /// # Errors
    /// [`Error::TooMany`] if there is no place; the range is then not dumped.
    pub(crate) fn add_ram(&mut self, range: PhysRange) -> Result<(), Error> {
        self.ram.insert(pages::around(range))
    }

    /// Takes the pages of `range` out of what is dumped; to be called after the last [`Plan::add_ram`].
    ///
    /// # Errors
    /// [`Error::TooMany`] if there is no place for another piece; nothing is taken out then.
    pub(crate) fn remove_ram(&mut self, range: PhysRange) -> Result<(), Error> {
        self.ram.remove(pages::around(range))
    }

    /// Returns what is dumped, lowest first.
    pub(crate) fn ram(&self) -> &[PhysRange] {
        self.ram.as_slice()
    }

    /// Moves what `range` shares with RAM behind what was moved before it; to be called once the RAM is complete.
    ///
    /// # Errors
    /// [`Error::TooMany`] if there is no place; what is left of the range then travels with the rest.
    pub(crate) fn move_first(&mut self, range: PhysRange) -> Result<(), Error> {
        let range = pages::around(range);
        let mut at = range.start;
        // Each pass goes past a range of one of the two sets, or past a new one, which the second set then holds.
        for _ in 0..RAM_RANGES
            .saturating_add(FIRST_RANGES)
            .saturating_add(FIRST_RANGES)
        {
            let Some(ram) = pages::next_from(self.ram(), at) else {
                break;
            };
            let piece = ram.intersection(&PhysRange {
                start: at,
                end: range.end,
            });
            if piece.is_empty() {
                break;
            }
            at = match pages::find(self.in_first.as_slice(), piece.start) {
                Some(done) => done.end,
                None => self.push_first(piece)?,
            };
        }
        Ok(())
    }

    /// Ends the stage of what was moved so far: it is not to wait until a block is full. Past [`STAGES`] nothing happens.
    pub(crate) fn end_stage(&mut self) {
        if let Some(place) = self.stage_ends.get_mut(self.stages) {
            *place = self.first_len;
            self.stages = self.stages.saturating_add(1);
        }
    }

    /// Returns whether `cursor` is where a stage ends.
    pub(crate) fn is_stage_end(&self, cursor: Cursor) -> bool {
        let mut ends = self.stage_ends.iter().take(self.stages);
        cursor.address == 0 && cursor.ranges_done > 0 && ends.any(|&end| end == cursor.ranges_done)
    }

    /// Appends `piece` up to the next range that was moved already, and returns the end of what was appended.
    fn push_first(&mut self, piece: PhysRange) -> Result<u64, Error> {
        let range = cut_before_next(piece, self.in_first.as_slice());
        let place = self.first.get_mut(self.first_len).ok_or(Error::TooMany {
            limit: FIRST_RANGES as u64,
        })?;
        self.in_first.insert(range)?;
        *place = range;
        self.first_len = self.first_len.saturating_add(1);
        Ok(range.end)
    }

    /// Returns the contiguous pages to describe next, from the cursor on; `None` at the end.
    pub(crate) fn next(&self, cursor: Cursor) -> Option<PhysRange> {
        if let Some(range) = self.first().get(cursor.ranges_done) {
            return Some(PhysRange {
                start: range.start.max(cursor.address),
                end: range.end,
            });
        }
        let moved = self.in_first.as_slice();
        let mut at = cursor.address;
        for _ in 0..RAM_RANGES.saturating_add(FIRST_RANGES) {
            let ram = pages::next_from(self.ram(), at)?;
            let rest = PhysRange {
                start: ram.start.max(at),
                end: ram.end,
            };
            match pages::find(moved, rest.start) {
                Some(done) => at = done.end,
                None => return Some(cut_before_next(rest, moved)),
            }
        }
        None
    }

    /// Returns the cursor once everything of [`Plan::next`] below `address` has been described.
    pub(crate) fn advance(&self, cursor: Cursor, address: u64) -> Cursor {
        match self.first().get(cursor.ranges_done) {
            Some(range) if address >= range.end => Cursor {
                ranges_done: cursor.ranges_done.saturating_add(1),
                address: 0,
            },
            _ => Cursor { address, ..cursor },
        }
    }

    fn first(&self) -> &[PhysRange] {
        self.first.get(..self.first_len).unwrap_or_default()
    }
}

/// Returns `range` cut where the next of the sorted `others` begins.
fn cut_before_next(range: PhysRange, others: &[PhysRange]) -> PhysRange {
    let end =
        pages::next_from(others, range.start).map_or(range.end, |next| next.start.min(range.end));
    PhysRange { end, ..range }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange {
            start: start << 12,
            end: end << 12,
        }
    }

    fn walk(plan: &Plan) -> Vec<PhysRange> {
        let mut cursor = Cursor::default();
        let mut seen = Vec::new();
        while let Some(next) = plan.next(cursor) {
            seen.push(next);
            cursor = plan.advance(cursor, next.end);
        }
        seen
    }

    #[test]
    fn plan_without_ram_is_empty() {
        let mut plan = Plan::new();
        plan.move_first(range(0, 100)).unwrap();
        assert!(walk(&plan).is_empty());
    }

    #[test]
    fn plan_with_overlapping_loads_describes_each_page_once() {
        let mut plan = Plan::new();
        plan.add_ram(range(0x10, 0x20)).unwrap();
        plan.add_ram(range(0x12, 0x14)).unwrap();
        plan.add_ram(range(0x1f, 0x30)).unwrap();
        assert_eq!(walk(&plan), [range(0x10, 0x30)]);
    }

    #[test]
    fn plan_with_regions_out_of_ram_or_overlapping_describes_each_page_once() {
        let mut plan = Plan::new();
        plan.add_ram(range(0x10, 0x20)).unwrap();
        plan.add_ram(range(0x30, 0x40)).unwrap();
        plan.move_first(range(0x1c, 0x32)).unwrap();
        plan.move_first(range(0x1a, 0x34)).unwrap();
        plan.move_first(range(0x50, 0x60)).unwrap();
        plan.move_first(PhysRange {
            start: u64::MAX - 1,
            end: u64::MAX,
        })
        .unwrap();
        assert_eq!(
            walk(&plan),
            [
                range(0x1c, 0x20),
                range(0x30, 0x32),
                range(0x1a, 0x1c),
                range(0x32, 0x34),
                range(0x10, 0x1a),
                range(0x34, 0x40)
            ]
        );
    }

    #[test]
    fn plan_without_the_crash_region_leaves_it_out() {
        let mut plan = Plan::new();
        plan.add_ram(range(0x10, 0x20)).unwrap();
        plan.remove_ram(range(0x14, 0x16)).unwrap();
        plan.move_first(range(0x13, 0x15)).unwrap();
        assert_eq!(
            walk(&plan),
            [range(0x13, 0x14), range(0x10, 0x13), range(0x16, 0x20)]
        );
    }

    #[test]
    fn plan_cursor_in_the_middle_goes_on_there() {
        let mut plan = Plan::new();
        plan.add_ram(range(0x10, 0x20)).unwrap();
        plan.move_first(range(0x18, 0x1c)).unwrap();
        let cursor = plan.advance(Cursor::default(), 0x1a << 12);
        assert_eq!(plan.next(cursor), Some(range(0x1a, 0x1c)));
        let cursor = plan.advance(cursor, 0x1c << 12);
        let cursor = plan.advance(cursor, 0x11 << 12);
        assert_eq!(plan.next(cursor), Some(range(0x11, 0x18)));
    }

    #[test]
    fn plan_stage_ends_behind_its_last_range_only() {
        let mut plan = Plan::new();
        plan.end_stage();
        plan.add_ram(range(0x10, 0x20)).unwrap();
        plan.move_first(range(0x18, 0x1c)).unwrap();
        plan.end_stage();
        plan.end_stage();
        assert!(!plan.is_stage_end(Cursor::default()));
        let inside = plan.advance(Cursor::default(), 0x19 << 12);
        assert!(!plan.is_stage_end(inside));
        let behind = plan.advance(inside, 0x1c << 12);
        assert!(plan.is_stage_end(behind));
        assert!(!plan.is_stage_end(plan.advance(behind, 0x11 << 12)));
    }

    #[test]
    fn plan_full_of_regions_keeps_the_rest_in_the_rest() {
        let mut plan = Box::new(Plan::new());
        plan.add_ram(range(0, 4 * FIRST_RANGES as u64)).unwrap();
        let refused = (0..2 * FIRST_RANGES as u64)
            .filter(|at| plan.move_first(range(2 * at, 2 * at + 1)).is_err())
            .count();
        assert_eq!(refused, FIRST_RANGES);
        let pages: u64 = walk(&plan).iter().map(|next| next.len() >> 12).sum();
        assert_eq!(pages, 4 * FIRST_RANGES as u64);
    }

    proptest::proptest! {
        #[test]
        fn plan_arbitrary_describes_each_page_of_ram_once(
            ram in proptest::collection::vec((0_u64..100, 0_u64..30), 0..6),
            first in proptest::collection::vec((0_u64..140, 0_u64..30), 0..20),
        ) {
            let mut plan = Plan::new();
            let mut wanted = [0_u8; 200];
            for (start, len) in ram {
                plan.add_ram(range(start, start + len)).unwrap();
                wanted[start as usize..(start + len) as usize].fill(1);
            }
            for (start, len) in first {
                plan.move_first(range(start, start + len)).unwrap();
            }
            let mut seen = [0_u8; 200];
            for next in walk(&plan) {
                for page in next.start >> 12..next.end >> 12 {
                    seen[page as usize] += 1;
                }
            }
            proptest::prop_assert_eq!(&seen[..], &wanted[..]);
        }
    }
}
