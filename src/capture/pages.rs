// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ranges in whole pages, and look-ups in sorted ranges.
//!
//! Which way a range is rounded is a decision: outwards for what must be dumped or must not leak, inwards for what may
//! be left out.

use vmcore::{PAGE_SIZE, PhysRange, RangeSet};

const OFFSET_MASK: u64 = PAGE_SIZE.wrapping_sub(1);

/// Returns the smallest range of whole pages that covers `range`, cut before the last page of the address space.
pub(crate) fn around(range: PhysRange) -> PhysRange {
    let end = range
        .end
        .checked_next_multiple_of(PAGE_SIZE)
        .unwrap_or(!OFFSET_MASK);
    PhysRange {
        start: range.start & !OFFSET_MASK,
        end,
    }
}

/// Returns the largest range of whole pages inside `range`; it may be empty.
pub(crate) fn within(range: PhysRange) -> PhysRange {
    let start = range
        .start
        .checked_next_multiple_of(PAGE_SIZE)
        .unwrap_or(!OFFSET_MASK);
    PhysRange {
        start,
        end: (range.end & !OFFSET_MASK).max(start),
    }
}

/// Returns the range of `len` bytes at `start`, cut at the end of the address space.
pub(crate) fn clamped(start: u64, len: u64) -> PhysRange {
    PhysRange {
        start,
        end: start.saturating_add(len),
    }
}

/// Returns the one of the sorted `ranges` that holds `address`, if any.
pub(crate) fn find(ranges: &[PhysRange], address: u64) -> Option<PhysRange> {
    next_from(ranges, address).filter(|range| range.contains(address))
}

/// Returns the first of the sorted `ranges` that ends after `address`, if any; it may begin before `address`.
pub(crate) fn next_from(ranges: &[PhysRange], address: u64) -> Option<PhysRange> {
    ranges
        .get(ranges.partition_point(|range| range.end <= address))
        .copied()
}

/// Adds `range` even to a full set, by closing the smallest gap: the set then covers too much, never too little.
pub(crate) fn insert_widening<const N: usize>(set: &mut RangeSet<N>, range: PhysRange) {
    if set.insert(range).is_ok() {
        return;
    }
    let gaps = set.as_slice().array_windows().map(|[low, high]| PhysRange {
        start: low.end,
        end: high.start,
    });
    let new_gap = nearest_gap(set.as_slice(), range);
    match gaps
        .min_by_key(PhysRange::len)
        .filter(|gap| gap.len() < new_gap.len())
    {
        // What touches two neighbours needs no place and leaves one.
        Some(gap) => {
            let _needs_no_place = set.insert(gap);
            let _has_a_place = set.insert(range);
        }
        None => {
            let bridge = PhysRange {
                start: range.start.min(new_gap.start),
                end: range.end.max(new_gap.end),
            };
            let _needs_no_place = set.insert(bridge);
        }
    }
}

/// Returns the smallest gap between `range` and one of `ranges`, none of which it touches.
fn nearest_gap(ranges: &[PhysRange], range: PhysRange) -> PhysRange {
    ranges
        .iter()
        .map(|one| {
            if one.end <= range.start {
                PhysRange {
                    start: one.end,
                    end: range.start,
                }
            } else {
                PhysRange {
                    start: range.end,
                    end: one.start,
                }
            }
        })
        .min_by_key(PhysRange::len)
        .unwrap_or(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn range_near_the_end_of_the_address_space_is_cut() {
        assert_eq!(clamped(u64::MAX - 1, 100), range(u64::MAX - 1, u64::MAX));
        assert!(around(range(u64::MAX - 1, u64::MAX)).is_empty());
        assert!(within(range(u64::MAX - 1, u64::MAX)).is_empty());
    }

    #[test]
    fn range_rounds_outwards_and_inwards() {
        assert_eq!(around(range(0x1001, 0x3001)), range(0x1000, 0x4000));
        assert_eq!(within(range(0x1001, 0x3001)), range(0x2000, 0x3000));
        assert!(within(range(0x1001, 0x2fff)).is_empty());
    }

    #[test]
    fn lookups_find_the_right_range() {
        let ranges = [range(10, 20), range(30, 40)];
        assert_eq!(find(&ranges, 15), Some(range(10, 20)));
        assert_eq!(find(&ranges, 20), None);
        assert_eq!(next_from(&ranges, 20), Some(range(30, 40)));
        assert_eq!(next_from(&ranges, 40), None);
    }

    #[test]
    fn set_full_widens_over_the_smallest_gap() {
        let mut set = RangeSet::<2>::new();
        set.insert(range(10, 20)).unwrap();
        set.insert(range(30, 40)).unwrap();
        insert_widening(&mut set, range(1000, 1010));
        assert_eq!(set.as_slice(), [range(10, 40), range(1000, 1010)]);
        insert_widening(&mut set, range(1020, 1030));
        assert_eq!(set.as_slice(), [range(10, 40), range(1000, 1030)]);
    }

    proptest::proptest! {
        #[test]
        fn set_widened_never_covers_less(steps in proptest::collection::vec((0_u64..1000, 1_u64..20), 0..40)) {
            let mut set = RangeSet::<3>::new();
            for (start, len) in &steps {
                insert_widening(&mut set, range(*start, start + len));
            }
            for (start, len) in steps {
                proptest::prop_assert!((start..start + len).all(|at| set.contains(at)));
            }
        }
    }
}
