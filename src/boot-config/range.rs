// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical addresses, half-open ranges of them, and sets of ranges.
//!
//! Every operation is checked or saturating: the numbers come from the device tree and from the command line.

use core::fmt;

/// A physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why a range or a set of ranges cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeError {
    /// The end lies below the start.
    EndBelowStart {
        /// First address.
        start: u64,
        /// Address after the last one.
        end: u64,
    },
    /// `start + len` does not fit into 64 bits.
    Overflow {
        /// First address.
        start: u64,
        /// Length in bytes.
        len: u64,
    },
    /// An alignment is not a power of two.
    BadAlignment {
        /// The alignment in bytes.
        align: u64,
    },
    /// A set has no room for another range.
    Full {
        /// How many ranges it holds.
        capacity: usize,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndBelowStart { start, end } => {
                write!(f, "range ends at {end:#x}, below its start {start:#x}")
            }
            Self::Overflow { start, len } => {
                write!(f, "range of {len:#x} bytes at {start:#x} wraps around")
            }
            Self::BadAlignment { align } => write!(f, "alignment {align:#x} is no power of two"),
            Self::Full { capacity } => write!(f, "more than {capacity} separate ranges"),
        }
    }
}

impl core::error::Error for RangeError {}

/// A half-open range `start..end` of physical addresses; the constructors keep `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysRange {
    /// First address.
    pub start: u64,
    /// Address after the last one.
    pub end: u64,
}

impl PhysRange {
    /// The range without an address in it.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// Makes `start..end`.
    ///
    /// # Errors
    /// [`RangeError::EndBelowStart`].
    pub const fn new(start: u64, end: u64) -> Result<Self, RangeError> {
        if end < start {
            return Err(RangeError::EndBelowStart { start, end });
        }
        Ok(Self { start, end })
    }

    /// Makes the range of `len` bytes at `start`.
    ///
    /// # Errors
    /// [`RangeError::Overflow`] when the end does not fit into 64 bits.
    pub const fn from_len(start: u64, len: u64) -> Result<Self, RangeError> {
        match start.checked_add(len) {
            Some(end) => Ok(Self { start, end }),
            None => Err(RangeError::Overflow { start, len }),
        }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Returns whether no address lies in the range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Returns whether `address` lies in the range.
    #[must_use]
    pub const fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// Returns whether all of `other` lies in the range; an empty `other` does if its start is not outside.
    #[must_use]
    pub const fn contains_range(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end && other.start <= other.end
    }

    /// Returns whether the two ranges share an address.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.intersect(other).is_some()
    }

    /// Returns the addresses in both ranges, if any.
    #[must_use]
    pub const fn intersect(&self, other: &Self) -> Option<Self> {
        let start = if self.start > other.start {
            self.start
        } else {
            other.start
        };
        let end = if self.end < other.end {
            self.end
        } else {
            other.end
        };
        if start < end {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// Shrinks the range so that both ends are multiples of `align` bytes; `None` if nothing is left.
    ///
    /// # Errors
    /// [`RangeError::BadAlignment`] when `align` is no power of two.
    pub const fn align_inward(&self, align: u64) -> Result<Option<Self>, RangeError> {
        if !align.is_power_of_two() {
            return Err(RangeError::BadAlignment { align });
        }
        let end = align_down(self.end, align);
        match align_up(self.start, align) {
            Some(start) if start < end => Ok(Some(Self { start, end })),
            _ => Ok(None),
        }
    }

    /// Grows the range so that both ends are multiples of `align` bytes.
    ///
    /// # Errors
    /// [`RangeError::BadAlignment`] when `align` is no power of two, [`RangeError::Overflow`] when the end does not
    /// fit into 64 bits.
    pub const fn align_outward(&self, align: u64) -> Result<Self, RangeError> {
        if !align.is_power_of_two() {
            return Err(RangeError::BadAlignment { align });
        }
        let start = align_down(self.start, align);
        match align_up(self.end, align) {
            Some(end) => Ok(Self { start, end }),
            None => Err(RangeError::Overflow {
                start,
                len: self.len(),
            }),
        }
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// Rounds `value` down to a multiple of `align`, a power of two.
#[must_use]
pub const fn align_down(value: u64, align: u64) -> u64 {
    value & !align.wrapping_sub(1)
}

/// Rounds `value` up to a multiple of `align`, a power of two; `None` on overflow.
#[must_use]
pub const fn align_up(value: u64, align: u64) -> Option<u64> {
    match value.checked_add(align.wrapping_sub(1)) {
        Some(sum) => Some(align_down(sum, align)),
        None => None,
    }
}

/// A sorted set of at most `N` ranges that neither touch nor overlap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RangeSet<const N: usize> {
    ranges: [PhysRange; N],
    len: usize,
}

impl<const N: usize> RangeSet<N> {
    /// Returns an empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: [PhysRange::EMPTY; N],
            len: 0,
        }
    }

    /// Adds all addresses of `range`, merging it with what it touches.
    ///
    /// # Errors
    /// [`RangeError::Full`]; the set is then unchanged.
    pub fn insert(&mut self, range: PhysRange) -> Result<(), RangeError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut merged = range;
        let mut result = Self::new();
        let mut is_placed = false;
        for old in self.iter() {
            if old.end < merged.start {
                result.append(old)?;
            } else if merged.end < old.start {
                if !is_placed {
                    result.append(merged)?;
                    is_placed = true;
                }
                result.append(old)?;
            } else {
                merged.start = merged.start.min(old.start);
                merged.end = merged.end.max(old.end);
            }
        }
        if !is_placed {
            result.append(merged)?;
        }
        *self = result;
        Ok(())
    }

    /// Removes all addresses of `range`.
    ///
    /// # Errors
    /// [`RangeError::Full`] when a range would have to be split and there is no room; the set is then unchanged.
    pub fn subtract(&mut self, range: PhysRange) -> Result<(), RangeError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut result = Self::new();
        for old in self.iter() {
            let below = PhysRange {
                start: old.start,
                end: old.end.min(range.start),
            };
            let above = PhysRange {
                start: old.start.max(range.end),
                end: old.end,
            };
            if !below.is_empty() {
                result.append(below)?;
            }
            if !above.is_empty() {
                result.append(above)?;
            }
        }
        *self = result;
        Ok(())
    }

    /// Iterates over the ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = PhysRange> + ExactSizeIterator + '_ {
        self.as_slice().iter().copied()
    }

    /// Returns the ranges, lowest first.
    #[must_use]
    pub fn as_slice(&self) -> &[PhysRange] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }

    /// Returns how many separate ranges there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the set holds no address.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of addresses in the set.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.iter()
            .fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// Returns whether `address` is in the set.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        self.iter().any(|range| range.contains(address))
    }

    /// Returns whether every address of `range` is in the set.
    #[must_use]
    pub fn contains_range(&self, range: &PhysRange) -> bool {
        self.iter().any(|old| old.contains_range(range))
    }

    /// Returns whether any address of `range` is in the set.
    #[must_use]
    pub fn overlaps(&self, range: &PhysRange) -> bool {
        self.iter().any(|old| old.overlaps(range))
    }

    fn append(&mut self, range: PhysRange) -> Result<(), RangeError> {
        let slot = self
            .ranges
            .get_mut(self.len)
            .ok_or(RangeError::Full { capacity: N })?;
        *slot = range;
        self.len = self.len.saturating_add(1);
        Ok(())
    }
}

impl<const N: usize> Default for RangeSet<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for RangeSet<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    #[test]
    fn new_end_below_start_is_rejected() {
        assert_eq!(
            PhysRange::new(2, 1),
            Err(RangeError::EndBelowStart { start: 2, end: 1 })
        );
    }

    #[test]
    fn from_len_beyond_64_bits_is_rejected() {
        let result = PhysRange::from_len(u64::MAX, 2);
        assert_eq!(
            result,
            Err(RangeError::Overflow {
                start: u64::MAX,
                len: 2
            })
        );
    }

    #[test]
    fn intersect_touching_ranges_is_none() {
        assert_eq!(range(0, 4).intersect(&range(4, 8)), None);
        assert_eq!(range(0, 5).intersect(&range(4, 8)), Some(range(4, 5)));
    }

    #[test]
    fn align_inward_keeps_whole_blocks_only() {
        assert_eq!(range(1, 9).align_inward(4), Ok(Some(range(4, 8))));
        assert_eq!(range(1, 7).align_inward(4), Ok(None));
        assert_eq!(
            range(1, 7).align_inward(3),
            Err(RangeError::BadAlignment { align: 3 })
        );
    }

    #[test]
    fn align_outward_at_the_top_is_rejected() {
        assert_eq!(range(1, 7).align_outward(4), Ok(range(0, 8)));
        assert!(range(0, u64::MAX).align_outward(4096).is_err());
    }

    #[test]
    fn insert_overlapping_ranges_merges_them() {
        let mut set = RangeSet::<4>::new();
        set.insert(range(0, 2)).unwrap();
        set.insert(range(6, 8)).unwrap();
        set.insert(range(2, 6)).unwrap();
        assert_eq!(set.as_slice(), [range(0, 8)]);
    }

    #[test]
    fn insert_into_full_set_leaves_it_unchanged() {
        let mut set = RangeSet::<1>::new();
        set.insert(range(4, 8)).unwrap();
        assert_eq!(
            set.insert(range(0, 1)),
            Err(RangeError::Full { capacity: 1 })
        );
        assert_eq!(set.as_slice(), [range(4, 8)]);
    }

    #[test]
    fn subtract_middle_of_full_set_is_rejected() {
        let mut set = RangeSet::<1>::new();
        set.insert(range(0, 8)).unwrap();
        assert_eq!(
            set.subtract(range(2, 3)),
            Err(RangeError::Full { capacity: 1 })
        );
        assert_eq!(set.total_bytes(), 8);
    }

    proptest! {
    #![proptest_config(crate::testing::config())]

            #[test]
            fn insert_and_subtract_agree_with_a_set_of_numbers(
                steps in proptest::collection::vec((any::<bool>(), 0_u64..64, 0_u64..16), 0..24)
            ) {
                let mut set = RangeSet::<64>::new();
                let mut model = BTreeSet::new();
                for (adds, start, len) in steps {
                    let step = PhysRange::from_len(start, len).unwrap();
                    if adds {
                        set.insert(step).unwrap();
                        model.extend(step.start..step.end);
                    } else {
                        set.subtract(step).unwrap();
                        model.retain(|n| !step.contains(*n));
                    }
                }
                let listed: Vec<u64> = set.iter().flat_map(|r| r.start..r.end).collect();
                let expected: Vec<u64> = model.into_iter().collect();
                prop_assert_eq!(listed, expected);
                let separate = set.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start);
                prop_assert!(separate);
            }
        }
}
