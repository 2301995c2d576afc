// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages were described as data, by hash, so that a page like one of them need not travel.
//!
//! A bounded table: what is pushed out is forgotten, and a page like it then travels again. A hit is confirmed against
//! memory by the caller; the tag kept here says too that the page found is still the one that was sent.

use vmcore::PAGE_SIZE;

/// Words of an entry: page number and tag.
const ENTRY_WORDS: usize = 2;
/// Entries that share a place; the oldest goes first.
const WAYS: usize = 4;
/// Bits of the page number that the second word holds above the tag.
const PAGE_HIGH_BITS: u32 = 8;

/// The table.
#[derive(Debug)]
pub(crate) struct PageIndex<'a> {
    words: &'a mut [u32],
}

/// A hash of a page, good enough to find one that is like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageKey(u64);

impl PageKey {
    /// Returns the key of a page.
    pub(crate) fn of(page: &[u8]) -> Self {
        // Odd constants with an even mix of bits (the fractional parts of the golden ratio and of the square root of 3).
        const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
        const SECOND: u64 = 0xbb67_ae85_84ca_a73b;
        let (mut low, mut high) = (FIRST, SECOND);
        for pair in page.as_chunks::<16>().0 {
            let pair = u128::from_le_bytes(*pair);
            // The truncations take the low and the high word.
            low = (low ^ pair as u64).wrapping_mul(SECOND).rotate_left(29);
            high = (high ^ (pair >> 64) as u64)
                .wrapping_mul(FIRST)
                .rotate_left(31);
        }
        let mixed = (low ^ high.rotate_left(32)).wrapping_mul(FIRST);
        Self(mixed ^ mixed >> 32)
    }

    /// Returns the key mixed with where the page lies, so that pages that change places do not go unnoticed in a sum.
    pub(crate) const fn at(self, address: u64) -> u32 {
        let mixed = (self.0 ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32
    }

    const fn tag(self) -> u32 {
        (self.0 >> 40) as u32
    }
}

impl<'a> PageIndex<'a> {
    /// Starts empty over `words`; without any, nothing is ever found.
    pub(crate) fn new(words: &'a mut [u32]) -> Self {
        words.fill(0);
        Self { words }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
    }

    fn entries(&mut self, key: PageKey) -> &mut [[u32; ENTRY_WORDS]] {
        let places = self.words.len() / (ENTRY_WORDS * WAYS);
        let Some(place) = (key.0 as usize & 0xff_ffff_ffff).checked_rem(places) else {
            return &mut [];
        };
        let start = place.saturating_mul(ENTRY_WORDS * WAYS);
        let words = self
            .words
            .get_mut(start..start.saturating_add(ENTRY_WORDS * WAYS))
            .unwrap_or_default();
        words.as_chunks_mut().0
    }

    /// Returns the addresses of pages that may be like the one of `key`, the latest first.
    pub(crate) fn candidates(&mut self, key: PageKey) -> [Option<u64>; WAYS] {
        let mut found = [None; WAYS];
        for (place, entry) in found.iter_mut().zip(self.entries(key)) {
            let [low, high] = *entry;
            let is_same = high & 0xff_ffff == key.tag() & 0xff_ffff && (low, high) != (0, 0);
            *place = is_same.then(|| {
                let number = u64::from(high >> 24) << 32 | u64::from(low);
                number.saturating_mul(PAGE_SIZE)
            });
        }
        found
    }

    /// Remembers the page of `key` at `address`; one beyond what an entry can name is left out.
    pub(crate) fn insert(&mut self, key: PageKey, address: u64) {
        let number = address.div_euclid(PAGE_SIZE);
        let high = number >> 32;
        if high >= 1 << PAGE_HIGH_BITS {
            return;
        }
        let entries = self.entries(key);
        entries.rotate_right(usize::from(!entries.is_empty()));
        if let Some(entry) = entries.first_mut() {
            *entry = [number as u32, (high as u32) << 24 | key.tag() & 0xff_ffff];
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec;

    fn page(number: u64) -> std::vec::Vec<u8> {
        let mut page = vec![0; 4096];
        page[1000..1008].copy_from_slice(&number.to_le_bytes());
        page
    }

    fn has(index: &mut PageIndex<'_>, key: PageKey, address: u64) -> bool {
        index.candidates(key).contains(&Some(address))
    }

    #[test]
    fn page_inserted_is_found_and_others_are_not() {
        let mut words = vec![7; 1024];
        let mut index = PageIndex::new(&mut words);
        let key = PageKey::of(&page(1));
        assert_eq!(index.candidates(key), [None; WAYS]);
        index.insert(key, 0xff_1234_5000);
        assert!(has(&mut index, key, 0xff_1234_5000));
        assert!(!has(&mut index, PageKey::of(&page(2)), 0xff_1234_5000));
        index.clear();
        assert_eq!(index.candidates(key), [None; WAYS]);
    }

    #[test]
    fn keys_of_pages_that_differ_in_a_bit_or_in_order_differ() {
        let base = page(3);
        let mut flipped = base.clone();
        flipped[4095] ^= 0x80;
        let mut swapped = base.clone();
        swapped.swap(1000, 1016);
        assert_ne!(PageKey::of(&base), PageKey::of(&flipped));
        assert_ne!(PageKey::of(&base), PageKey::of(&swapped));
    }

    #[test]
    fn place_that_is_full_forgets_the_oldest() {
        let mut words = vec![0; ENTRY_WORDS * WAYS];
        let mut index = PageIndex::new(&mut words);
        let keys = [1, 2, 3, 4, 5].map(|number| PageKey::of(&page(number)));
        for (key, number) in keys.iter().zip(1..) {
            index.insert(*key, number * 0x1000);
        }
        assert!(!has(&mut index, keys[0], 0x1000));
        assert!(has(&mut index, keys[1], 0x2000) && has(&mut index, keys[4], 0x5000));
    }

    #[test]
    fn index_without_memory_or_address_too_high_is_left_out() {
        let key = PageKey::of(&page(1));
        let mut none = PageIndex::new(&mut []);
        none.insert(key, 0x1000);
        assert_eq!(none.candidates(key), [None; WAYS]);
        let mut words = vec![0; 64];
        let mut index = PageIndex::new(&mut words);
        index.insert(key, !0xfff);
        assert_eq!(index.candidates(key), [None; WAYS]);
    }
}
