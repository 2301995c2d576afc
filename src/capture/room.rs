// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that a dump works in, and how it is shared out.
//!
//! Larger blocks pack better, so what there is beyond the least goes to the block, its ring and the encoder; the index of pages
//! grows with it.

use wire::block::{DESCRIPTOR_LEN, PAGES_MAX, raw_len};
use wire::parity::ParityWriter;
use wire::target::map_words;

/// Pages of data in the smallest and usual block: 256 KiB.
const PAGES_MIN: usize = 64;
/// Bytes of the ring beyond one block of incompressible data.
const RING_MORE: usize = 64 * 1024;
/// Words of the encoder's match finder for the smallest block.
const ENCODER_WORDS: usize = 120 * 1024;
/// Words of the page index for the smallest block: 4096 pages.
const INDEX_WORDS: usize = 8 * 1024;
/// Hashes of memory in the least room: one for each 64 KiB of a machine of 128 MiB.
const HASHES: usize = 2 * 1024;

/// How long each part of a [`Room`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Pages of data in a block.
    pub pages: usize,
    /// Bytes of [`Room::raw`].
    pub raw: usize,
    /// Bytes of [`Room::ring`].
    pub ring: usize,
    /// Bytes of [`Room::parity`].
    pub parity: usize,
    /// Words of [`Room::maps`].
    pub maps: usize,
    /// Words of [`Room::encoder`].
    pub encoder: usize,
    /// Words of [`Room::index`].
    pub index: usize,
    /// Words of [`Room::hashes`].
    pub hashes: usize,
}

impl Sizes {
    /// The least that a dump works with: what fits a crash region of 2 MiB.
    pub const LEAST: Self = Self::of(PAGES_MIN, ENCODER_WORDS, INDEX_WORDS, HASHES);

    const fn of(pages: usize, encoder: usize, index: usize, hashes: usize) -> Self {
        let raw = raw_len(pages);
        let block = raw.saturating_add(DESCRIPTOR_LEN);
        Self {
            pages,
            raw,
            ring: block.saturating_add(RING_MORE),
            parity: ParityWriter::ROOM,
            maps: map_words(block),
            encoder,
            index,
            hashes,
        }
    }

    /// Returns the best use of `len` bytes; [`Sizes::LEAST`] when they are fewer than that takes.
    #[must_use]
    pub const fn fitting(len: usize) -> Self {
        let mut best = Self::LEAST;
        let mut pages = PAGES_MIN * 2;
        while pages <= PAGES_MAX {
            // Two words a byte for a tree over the whole block, and hash tables.
            let words = pages.saturating_mul(4096 * 5 / 2);
            let more = Self::of(pages, words, INDEX_WORDS * 8, HASHES * 16);
            if more.total() <= len {
                best = more;
            }
            pages = pages.saturating_mul(2);
        }
        best
    }

    /// Returns the bytes of all parts.
    #[must_use]
    pub const fn total(&self) -> usize {
        let words = self
            .maps
            .saturating_add(self.encoder)
            .saturating_add(self.index)
            .saturating_add(self.hashes);
        words
            .saturating_mul(size_of::<u32>())
            .saturating_add(self.raw)
            .saturating_add(self.ring)
            .saturating_add(self.parity)
            .saturating_add(Self::SLACK)
    }

    /// Bytes that alignment may take.
    const SLACK: usize = 7 * 64;
}

/// The memory itself; what is in it does not matter.
#[derive(Debug)]
pub struct Room<'a> {
    /// A block before packing.
    pub raw: &'a mut [u8],
    /// Packed blocks.
    pub ring: &'a mut [u8],
    /// [`wire::parity::ParityWriter::ROOM`] bytes.
    pub parity: &'a mut [u8],
    /// What was sent, and what arrived.
    pub maps: &'a mut [u32],
    /// The encoder's match finder.
    pub encoder: &'a mut [u32],
    /// Pages that were sent, by hash.
    pub index: &'a mut [u32],
    /// Hashes of memory as it was read first.
    pub hashes: &'a mut [u32],
}

impl<'a> Room<'a> {
    /// Puts a room together of block, ring and parity, and of maps, encoder, index and hashes; `None` when some of these are missing.
    #[must_use]
    pub fn new(bytes: [&'a mut [u8]; 3], words: [Option<&'a mut [u32]>; 4]) -> Option<Self> {
        let ([raw, ring, parity], [maps, encoder, index, hashes]) = (bytes, words);
        Some(Self {
            raw,
            ring,
            parity,
            maps: maps?,
            encoder: encoder?,
            index: index?,
            hashes: hashes?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_fits_what_a_region_of_2_mib_leaves() {
        assert!(
            Sizes::LEAST.total() < 1450 * 1024,
            "{}",
            Sizes::LEAST.total()
        );
    }

    #[test]
    fn more_room_makes_larger_blocks_and_never_more_than_there_is() {
        let mut last = 0;
        for len in (0..64_usize).map(|mib| mib << 20) {
            let sizes = Sizes::fitting(len);
            assert!(sizes.pages >= last);
            assert!(sizes == Sizes::LEAST || sizes.total() <= len);
            last = sizes.pages;
        }
        assert_eq!(last, PAGES_MAX);
        assert!(Sizes::fitting(14 << 20).pages >= 256);
    }
}
