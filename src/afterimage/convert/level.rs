// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of makedumpfile's levels a converted dump has, and what is said when that is not the one asked for.
//!
//! A file tells which pages are zero. Which ones were free, caches or the program's own data was known when the dump was
//! made: what its list of gaps names is left out already, and nothing more can be.

use vmcore::afterimage_notes::Gap;
use vmcore::{DumpLevel, PageClass};

/// Returns the level of a dump with these gaps: zero pages take no room in any format.
fn level_of(gaps: &[Gap]) -> u32 {
    let is_used = |bit: &u32| {
        let leaves_out = |gap: &Gap| first_bit(gap.class) == Some(*bit);
        gaps.iter().any(leaves_out)
    };
    bits(DumpLevel::ALL)
        .filter(is_used)
        .fold(DumpLevel::ZERO, |level, bit| level | bit)
}

/// Returns the lowest bit that leaves out pages of this class.
fn first_bit(class: PageClass) -> Option<u32> {
    bits(DumpLevel::ALL).find(|bit| DumpLevel(*bit).leaves_out(class))
}

/// Returns the bits that are set in `level`, from the lowest on.
fn bits(level: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS)
        .map(|shift| 1 << shift)
        .filter(move |bit| level & bit != 0)
}

/// Returns the level of the converted dump, and what is to be said of the one that was asked for.
pub(super) fn level(asked: Option<u32>, gaps: &[Gap]) -> (u32, Vec<String>) {
    let found = level_of(gaps);
    let Some(asked) = asked else {
        return (found, Vec::new());
    };
    let mut remarks = Vec::new();
    // Bit 4 leaves out what bit 2 does, and more.
    let implied = if found & DumpLevel::ALL_CACHE == 0 {
        0
    } else {
        DumpLevel::CACHE
    };
    if let Some(bits) = names(asked & !found & !implied) {
        remarks.push(format!(
            "-d {asked}: {bits} cannot be applied: a dump does not tell which of its pages these are; what is in it stays"
        ));
    }
    if let Some(bits) = names(found & !asked & !DumpLevel::ZERO) {
        remarks.push(format!(
            "-d {asked}: what {bits} left out when the dump was made cannot be brought back"
        ));
    }
    // Without bit 1 the pages of zeros are in the dump, and share their room all the same.
    (found & !(DumpLevel::ZERO & !asked), remarks)
}

/// Returns the words for the bits of `level`; `None` without any.
fn names(level: u32) -> Option<String> {
    let bits: Vec<String> = bits(level).map(|bit| bit.to_string()).collect();
    match bits.as_slice() {
        [] => None,
        [bit] => Some(format!("bit {bit}")),
        bits => Some(format!("bits {}", bits.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::PhysRange;

    fn gap(class: PageClass) -> Gap {
        Gap {
            range: PhysRange {
                start: 0,
                end: 4096,
            },
            class,
        }
    }

    #[test]
    fn without_a_wish_the_level_is_that_of_the_file() {
        let gaps = [gap(PageClass::Free), gap(PageClass::Lost)];
        assert_eq!(level(None, &gaps), (17, Vec::new()));
        assert_eq!(level(None, &[]), (1, Vec::new()));
    }

    #[test]
    fn linux_classes_have_their_bits() {
        let gaps = [gap(PageClass::PrivateCache), gap(PageClass::User)];
        assert_eq!(level(None, &gaps).0, 1 | 4 | 8);
        let (_, remarks) = level(Some(15), &gaps);
        assert_eq!(remarks, Vec::<String>::new(), "bit 4 does what bit 2 does");
    }

    #[test]
    fn bits_that_a_file_does_not_tell_are_refused_by_name() {
        let (found, remarks) = level(Some(31), &[gap(PageClass::AppData)]);
        assert_eq!(found, 9);
        assert_eq!(remarks.len(), 1);
        assert!(
            remarks[0].contains("-d 31: bits 2, 4, 16 cannot"),
            "{remarks:?}"
        );
    }

    #[test]
    fn what_was_left_out_is_not_brought_back() {
        let (found, remarks) = level(Some(0), &[gap(PageClass::Free)]);
        assert_eq!(found, 16);
        assert!(remarks[0].contains("what bit 16 left out"), "{remarks:?}");
        assert_eq!(level(Some(0), &[]), (0, Vec::new()));
    }
}
