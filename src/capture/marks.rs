// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that the crashed program marked: its secrets, and its own bulky data.
//!
//! The two are rounded in opposite ways. A page that holds one byte of a secret never travels; a page is left out as
//! application data only when all of it is. When there are too many marks, secrets are widened and data marks ignored.

use vmcore::{DumpLevel, Error, PageClass, PhysRange, RangeSet};

use crate::pages;

/// Marked ranges of one kind that are kept apart.
const MARKED_RANGES: usize = 64;

/// The marked pages of one machine.
#[derive(Debug)]
pub(crate) struct Marks {
    secrets: RangeSet<MARKED_RANGES>,
    app_data: RangeSet<MARKED_RANGES>,
}

impl Marks {
    /// Returns no marks.
    pub(crate) const fn new() -> Self {
        Self {
            secrets: RangeSet::new(),
            app_data: RangeSet::new(),
        }
    }

    /// Marks every page that `range` touches as secret.
    pub(crate) fn add_secret(&mut self, range: PhysRange) {
        pages::insert_widening(&mut self.secrets, pages::around(range));
    }

    /// Marks the pages that lie wholly in `range` as application data.
    ///
    /// # Errors
    /// [`Error::TooMany`] if there is no place; the pages are then dumped.
    pub(crate) fn add_app_data(&mut self, range: PhysRange) -> Result<(), Error> {
        self.app_data.insert(pages::within(range))
    }

    /// Returns why the pages from `range.start` on are left out at `level`, if they are, and where that changes.
    pub(crate) fn first_run(
        &self,
        range: PhysRange,
        level: DumpLevel,
    ) -> (Option<PageClass>, PhysRange) {
        let (is_secret, range) = split(self.secrets.as_slice(), range);
        if is_secret {
            return (Some(PageClass::Secret), range);
        }
        if !level.leaves_out(PageClass::AppData) {
            return (None, range);
        }
        let (is_app_data, range) = split(self.app_data.as_slice(), range);
        (is_app_data.then_some(PageClass::AppData), range)
    }
}

/// Returns whether the start of `range` lies in one of `ranges`, and the part of `range` for which this holds.
fn split(ranges: &[PhysRange], range: PhysRange) -> (bool, PhysRange) {
    match pages::next_from(ranges, range.start) {
        Some(one) if one.contains(range.start) => (
            true,
            PhysRange {
                end: range.end.min(one.end),
                ..range
            },
        ),
        Some(one) => (
            false,
            PhysRange {
                end: range.end.min(one.start),
                ..range
            },
        ),
        None => (false, range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: PhysRange = PhysRange {
        start: 0,
        end: 0x10_0000,
    };

    const fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn secret_of_one_byte_keeps_its_page_back_at_level_zero() {
        let mut marks = Marks::new();
        marks.add_secret(range(0x1fff, 0x2001));
        assert_eq!(marks.first_run(ALL, DumpLevel(0)), (None, range(0, 0x1000)));
        let rest = range(0x1000, 0x9000);
        assert_eq!(
            marks.first_run(rest, DumpLevel(0)),
            (Some(PageClass::Secret), range(0x1000, 0x3000))
        );
    }

    #[test]
    fn app_data_is_left_out_only_at_its_level_and_in_whole_pages() {
        let mut marks = Marks::new();
        marks.add_app_data(range(0x1800, 0x3800)).unwrap();
        let rest = range(0x2000, 0x9000);
        assert_eq!(marks.first_run(rest, DumpLevel(17)), (None, rest));
        assert_eq!(
            marks.first_run(rest, DumpLevel(31)),
            (Some(PageClass::AppData), range(0x2000, 0x3000))
        );
        assert_eq!(
            marks.first_run(range(0x3000, 0x9000), DumpLevel(31)).0,
            None
        );
    }

    #[test]
    fn secret_inside_app_data_stays_secret() {
        let mut marks = Marks::new();
        marks.add_app_data(range(0x1000, 0x8000)).unwrap();
        marks.add_secret(range(0x3000, 0x4000));
        let run = marks.first_run(range(0x2000, 0x9000), DumpLevel(8));
        assert_eq!(run, (Some(PageClass::AppData), range(0x2000, 0x3000)));
        assert_eq!(
            marks.first_run(range(0x3000, 0x9000), DumpLevel(8)).0,
            Some(PageClass::Secret)
        );
    }

    #[test]
    fn secrets_beyond_the_room_are_still_kept_back() {
        let mut marks = Marks::new();
        let secrets =
            (0..3 * MARKED_RANGES as u64).map(|number| range(number * 0x4000, number * 0x4000 + 1));
        secrets.clone().for_each(|secret| marks.add_secret(secret));
        let leaked = secrets
            .filter(|&secret| marks.first_run(secret, DumpLevel(0)).0.is_none())
            .count();
        assert_eq!(leaked, 0);
    }

    #[test]
    fn secret_at_the_end_of_addresses_changes_nothing_else() {
        let mut marks = Marks::new();
        marks.add_secret(range(u64::MAX - 5, u64::MAX));
        assert_eq!(marks.first_run(ALL, DumpLevel(0)), (None, ALL));
    }
}
