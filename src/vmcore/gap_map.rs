// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of each byte of RAM: sorted runs, for the host.
//!
//! Replaces the earlier word on a byte when a later one comes: a block that arrives in a second round fills its gap.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::{PageClass, PhysRange};

/// Sorted, disjoint runs of physical addresses with a class each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapMap {
    /// Start of a run, its end and class; neighbours of one class are one run.
    runs: BTreeMap<u64, (u64, PageClass)>,
}

impl GapMap {
    /// Returns a map that knows nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            runs: BTreeMap::new(),
        }
    }

    /// Says what became of `range`, whatever was said before.
    pub fn insert(&mut self, range: PhysRange, class: PageClass) {
        if range.is_empty() {
            return;
        }
        self.cut(range);
        let mut new = range;
        if let Some((&start, &(end, before))) = self.runs.range(..range.start).next_back()
            && end == range.start
            && before == class
        {
            new.start = start;
        }
        if let Some(&(end, after)) = self.runs.get(&range.end)
            && after == class
        {
            self.runs.remove(&range.end);
            new.end = end;
        }
        self.runs.insert(new.start, (new.end, class));
    }

    /// Says what became of those parts of `range` of which nothing was said.
    pub fn fill(&mut self, range: PhysRange, class: PageClass) {
        for missing in self.missing(&[range]) {
            self.insert(missing, class);
        }
    }

    /// Returns the runs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (PhysRange, PageClass)> {
        self.runs
            .iter()
            .map(|(&start, &(end, class))| (PhysRange { start, end }, class))
    }

    /// Returns what became of the byte at `address`.
    #[must_use]
    pub fn class_at(&self, address: u64) -> Option<PageClass> {
        let (_, &(end, class)) = self.runs.range(..=address).next_back()?;
        (address < end).then_some(class)
    }

    /// Returns those parts of `ram` of which nothing was said, in the order of `ram`.
    #[must_use]
    pub fn missing(&self, ram: &[PhysRange]) -> Vec<PhysRange> {
        let mut missing = Vec::new();
        for range in ram {
            let mut at = range.start;
            for (run, _) in self.overlapping(*range) {
                if run.start > at {
                    missing.push(PhysRange {
                        start: at,
                        end: run.start,
                    });
                }
                at = at.max(run.end);
            }
            if at < range.end {
                missing.push(PhysRange {
                    start: at,
                    end: range.end,
                });
            }
        }
        missing
    }

    /// Returns how many bytes have this class.
    #[must_use]
    pub fn bytes_of(&self, class: PageClass) -> u64 {
        let of_class = self.iter().filter(|(_, found)| *found == class);
        of_class.fold(0, |sum, (run, _)| sum.saturating_add(run.len()))
    }

    /// Returns the runs that share an address with `range`, uncut.
    pub fn overlapping(&self, range: PhysRange) -> impl Iterator<Item = (PhysRange, PageClass)> {
        let before = self
            .runs
            .range(..range.start)
            .next_back()
            .map(|(&start, _)| start);
        let first = before.unwrap_or(range.start).min(range.end);
        self.runs
            .range(first..range.end.max(first))
            .map(|(&start, &(end, class))| (PhysRange { start, end }, class))
            .filter(move |(run, _)| run.overlaps(&range))
    }

    /// Takes `range` out, keeping what juts out of it.
    fn cut(&mut self, range: PhysRange) {
        let touched: Vec<_> = self.overlapping(range).collect();
        for (run, class) in touched {
            self.runs.remove(&run.start);
            if run.start < range.start {
                self.runs.insert(run.start, (range.start, class));
            }
            if run.end > range.end {
                self.runs.insert(range.end, (run.end, class));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn run_inserted_into_another_splits_it() {
        let mut map = GapMap::new();
        map.insert(range(0, 100), PageClass::Lost);
        map.insert(range(40, 60), PageClass::Data);
        let runs: Vec<_> = map.iter().collect();
        assert_eq!(
            runs,
            [
                (range(0, 40), PageClass::Lost),
                (range(40, 60), PageClass::Data),
                (range(60, 100), PageClass::Lost)
            ]
        );
    }

    #[test]
    fn neighbours_of_one_class_become_one_run() {
        let mut map = GapMap::new();
        map.insert(range(0, 10), PageClass::Free);
        map.insert(range(20, 30), PageClass::Free);
        map.insert(range(10, 20), PageClass::Free);
        assert_eq!(
            map.iter().collect::<Vec<_>>(),
            [(range(0, 30), PageClass::Free)]
        );
    }

    #[test]
    fn missing_parts_of_ram_are_named() {
        let mut map = GapMap::new();
        map.insert(range(10, 20), PageClass::Data);
        map.insert(range(50, 150), PageClass::Zero);
        let missing = map.missing(&[range(0, 100), range(100, 200)]);
        assert_eq!(missing, [range(0, 10), range(20, 50), range(150, 200)]);
    }

    #[test]
    fn fill_leaves_what_was_said() {
        let mut map = GapMap::new();
        map.insert(range(10, 20), PageClass::Data);
        map.fill(range(0, 30), PageClass::Lost);
        assert_eq!(map.class_at(15), Some(PageClass::Data));
        assert_eq!(map.bytes_of(PageClass::Lost), 20);
        assert_eq!(map.class_at(30), None);
    }

    proptest! {
        #[test]
        fn map_agrees_with_an_array(ops in proptest::collection::vec((0_u64..64, 0_u64..20, 0_u8..3), 0..40)) {
            let mut map = GapMap::new();
            let mut model = [None; 90];
            for (start, len, class) in ops {
                let class = PageClass::from_code(class).unwrap();
                map.insert(range(start, start + len), class);
                model[start as usize..(start + len) as usize].fill(Some(class));
            }
            let found: Vec<_> = (0..90).map(|address| map.class_at(address)).collect();
            prop_assert_eq!(&found[..], &model[..]);
            let missing: u64 = map.missing(&[range(0, 90)]).iter().map(PhysRange::len).sum();
            prop_assert_eq!(missing, model.iter().filter(|class| class.is_none()).count() as u64);
            let runs: Vec<_> = map.iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].0.end < pair[1].0.start || pair[0].1 != pair[1].1));
        }
    }
}
