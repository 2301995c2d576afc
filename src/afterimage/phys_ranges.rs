// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of physical ranges: each byte once, in ascending order.

use vmcore::PhysRange;

/// Returns the memory in `ranges`, each byte once: the kernel's text mapping shows memory that the linear mapping shows too.
#[must_use]
pub fn merged(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort();
    let mut out: Vec<PhysRange> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_mappings_are_one_range_of_memory() {
        let range = |start, end| PhysRange { start, end };
        let all = vec![
            range(0x4000, 0x9000),
            range(0x5000, 0x6000),
            range(0xf000, 0xf000),
            range(0xa000, 0xb000),
        ];
        assert_eq!(merged(all), [range(0x4000, 0x9000), range(0xa000, 0xb000)]);
    }
}
