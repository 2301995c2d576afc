// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical ranges and a small sorted set of them, without a heap.

use crate::Error;

/// A half-open range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysRange {
    /// First address.
    pub start: u64,
    /// Address after the last; never below `start` in a range made by [`PhysRange::new`].
    pub end: u64,
}

impl PhysRange {
    /// Returns the range of `len` bytes at `start`.
    ///
    /// # Errors
    /// [`Error::RangeWraps`] when its end passes 2^64.
    pub const fn new(start: u64, len: u64) -> Result<Self, Error> {
        match start.checked_add(len) {
            Some(end) => Ok(Self { start, end }),
            None => Err(Error::RangeWraps { start, len }),
        }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Tells whether nothing lies in the range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Tells whether `address` lies in the range.
    #[must_use]
    pub const fn contains(&self, address: u64) -> bool {
        address >= self.start && address < self.end
    }

    /// Tells whether the ranges share an address.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// Returns the part that both ranges share, empty when there is none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let start = self.start.max(other.start);
        Self {
            start,
            end: self.end.min(other.end).max(start),
        }
    }
}

/// Up to `N` ranges, sorted, disjoint and not touching.
#[derive(Clone, Debug)]
pub struct RangeSet<const N: usize> {
    ranges: [PhysRange; N],
    len: usize,
}

impl<const N: usize> Default for RangeSet<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> RangeSet<N> {
    /// Returns the empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: [PhysRange { start: 0, end: 0 }; N],
            len: 0,
        }
    }

    /// Returns the ranges in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[PhysRange] {
        self.ranges.get(..self.len).unwrap_or_default()
    }

    /// Returns the sum of the lengths in bytes.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.as_slice()
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// Tells whether `address` lies in one of the ranges.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        let after = self
            .as_slice()
            .partition_point(|range| range.start <= address);
        after
            .checked_sub(1)
            .and_then(|at| self.as_slice().get(at))
            .is_some_and(|range| range.contains(address))
    }

    /// Tells whether some range shares an address with `range`.
    #[must_use]
    pub fn overlaps(&self, range: &PhysRange) -> bool {
        self.as_slice().iter().any(|one| one.overlaps(range))
    }

    /// Adds `range`, merging what it overlaps or touches. An empty range changes nothing.
    ///
    /// # Errors
    /// [`Error::TooMany`] when a range more would be needed than there is room for; the set is unchanged.
    pub fn insert(&mut self, range: PhysRange) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let mut next = Self::new();
        let mut new = range;
        for &one in self.as_slice() {
            if one.end < new.start {
                next.append(one)?;
            } else if one.start > new.end {
                next.append(new)?;
                new = one;
            } else {
                new = PhysRange {
                    start: one.start.min(new.start),
                    end: one.end.max(new.end),
                };
            }
        }
        next.append(new)?;
        *self = next;
        Ok(())
    }

    /// Takes `range` out, splitting what it cuts.
    ///
    /// # Errors
    /// [`Error::TooMany`] when a split needs a range more than there is room for; the set is unchanged.
    pub fn remove(&mut self, range: PhysRange) -> Result<(), Error> {
        let mut next = Self::new();
        for &one in self.as_slice() {
            if one.overlaps(&range) {
                next.append(PhysRange {
                    start: one.start,
                    end: range.start,
                })?;
                next.append(PhysRange {
                    start: range.end,
                    end: one.end,
                })?;
            } else {
                next.append(one)?;
            }
        }
        *self = next;
        Ok(())
    }

    fn append(&mut self, range: PhysRange) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        *self
            .ranges
            .get_mut(self.len)
            .ok_or(Error::TooMany { limit: N as u64 })? = range;
        self.len = self.len.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn range_past_the_end_of_addresses_is_refused() {
        assert_eq!(
            PhysRange::new(u64::MAX, 2),
            Err(Error::RangeWraps {
                start: u64::MAX,
                len: 2
            })
        );
    }

    #[test]
    fn insert_touching_ranges_merges_them() {
        let mut set = RangeSet::<4>::new();
        set.insert(range(10, 20)).unwrap();
        set.insert(range(30, 40)).unwrap();
        set.insert(range(20, 30)).unwrap();
        assert_eq!(set.as_slice(), &[range(10, 40)]);
    }

    #[test]
    fn insert_into_full_set_is_refused_and_changes_nothing() {
        let mut set = RangeSet::<1>::new();
        set.insert(range(10, 20)).unwrap();
        assert_eq!(set.insert(range(0, 5)), Err(Error::TooMany { limit: 1 }));
        assert_eq!(set.as_slice(), &[range(10, 20)]);
    }

    #[test]
    fn remove_middle_splits_range() {
        let mut set = RangeSet::<2>::new();
        set.insert(range(0, 100)).unwrap();
        set.remove(range(40, 60)).unwrap();
        assert_eq!(set.as_slice(), &[range(0, 40), range(60, 100)]);
    }

    #[test]
    fn remove_empty_range_changes_nothing() {
        let mut set = RangeSet::<2>::new();
        set.insert(range(0, 100)).unwrap();
        set.remove(range(50, 50)).unwrap();
        assert_eq!(set.as_slice(), &[range(0, 100)]);
    }

    proptest! {
        #[test]
        fn set_agrees_with_a_bitmap(ops in proptest::collection::vec((any::<bool>(), 0_u64..64, 0_u64..16), 0..40)) {
            let mut set = RangeSet::<64>::new();
            let mut model = [false; 80];
            for (add, start, len) in ops {
                let one = range(start, start + len);
                if add { set.insert(one).unwrap() } else { set.remove(one).unwrap() }
                model[start as usize..(start + len) as usize].fill(add);
            }
            let found: Vec<bool> = (0..80).map(|address| set.contains(address)).collect();
            prop_assert_eq!(&found[..], &model[..]);
            prop_assert!(set.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
