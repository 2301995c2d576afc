// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages by hash: what the host already has need not travel.
//!
//! The hash finds a page in the host's files. Whether it was the right one the hash of the whole block tells, so that
//! six bytes are enough here.

use sha2::{Digest, Sha256};

use crate::Error;
use crate::block::PAGES_MAX;
use crate::cursor::{Reader, Writer};

/// The first six bytes of the SHA-256 of a page.
pub type PageHash = [u8; 6];

/// Most hashes in one offer.
pub const HASHES_MAX: usize = 256;
/// Bytes before the hashes.
const HEADER_LEN: usize = 8;

/// Returns the hash of a page.
#[must_use]
pub fn page_hash(page: &[u8]) -> PageHash {
    let mut hash = PageHash::default();
    for (to, from) in hash.iter_mut().zip(Sha256::digest(page)) {
        *to = from;
    }
    hash
}

/// Some of a block's data pages, by hash.
///
/// Layout: block number u32, number of the first page u16, pages in the block u16, hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Number of the block.
    pub block: u32,
    /// Number, among the data pages of the block, of the first page here.
    pub first: u16,
    /// Data pages of the block.
    pub pages: u16,
    hashes: &'a [u8],
}

impl<'a> Offer<'a> {
    /// Longest payload.
    pub const LEN_MAX: usize = HEADER_LEN + HASHES_MAX * size_of::<PageHash>();

    /// Writes the payload and returns its length; at most [`HASHES_MAX`] of the hashes are taken.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], never with [`Offer::LEN_MAX`] bytes.
    pub fn encode(
        block: u32,
        first: u16,
        pages: u16,
        hashes: impl Iterator<Item = PageHash>,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(block)?;
        writer.u16(first)?;
        writer.u16(pages)?;
        for hash in hashes.take(HASHES_MAX) {
            writer.put(&hash)?;
        }
        Ok(writer.offset())
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::TooLong`] for more pages than a block has; [`Error::BadValue`] when the hashes are none,
    /// not whole, or past the last page.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let offer = Self {
            block: reader.u32()?,
            first: reader.u16()?,
            pages: reader.u16()?,
            hashes: reader.rest(),
        };
        if usize::from(offer.pages) > PAGES_MAX {
            return Err(Error::TooLong {
                len: u64::from(offer.pages),
                limit: PAGES_MAX as u64,
            });
        }
        let count = offer.hashes.len().div_euclid(size_of::<PageHash>());
        let end = usize::from(offer.first).saturating_add(count);
        let is_whole = offer.hashes.len().is_multiple_of(size_of::<PageHash>());
        if count == 0 || !is_whole || end > usize::from(offer.pages) {
            return Err(Error::BadValue {
                offset: 4,
                value: end as u64,
            });
        }
        Ok(offer)
    }

    /// Returns the hashes.
    pub fn hashes(&self) -> impl Iterator<Item = PageHash> + '_ {
        self.hashes.as_chunks().0.iter().copied()
    }
}

/// Which of a block's data pages the host wants.
///
/// Layout: block number u32, pages u16, reserved u16, a bit for each page, set when it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Number of the block.
    pub block: u32,
    /// Data pages of the block.
    pub pages: u16,
    /// Bit `n` (of byte `n / 8`): page `n` is wanted.
    pub map: [u8; PAGES_MAX / 8],
}

impl Want {
    /// Longest payload.
    pub const LEN_MAX: usize = HEADER_LEN + PAGES_MAX / 8;

    /// Returns the answer that nothing is wanted.
    #[must_use]
    pub const fn nothing(block: u32, pages: u16) -> Self {
        Self {
            block,
            pages,
            map: [0; PAGES_MAX / 8],
        }
    }

    /// Wants the page number `index`.
    pub fn add(&mut self, index: usize) {
        if let Some(byte) = self.map.get_mut(index / 8) {
            *byte |= 1 << (index % 8);
        }
    }

    /// Tells whether the page number `index` is wanted; what the map does not have is.
    #[must_use]
    pub fn is_wanted(&self, index: usize) -> bool {
        self.map
            .get(index / 8)
            .is_none_or(|byte| byte & 1 << (index % 8) != 0)
    }

    /// Writes the payload and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], never with [`Want::LEN_MAX`] bytes.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(self.block)?;
        writer.u16(self.pages)?;
        writer.u16(0)?;
        let len = usize::from(self.pages).div_ceil(8).min(self.map.len());
        writer.put(self.map.get(..len).unwrap_or_default())?;
        Ok(writer.offset())
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::TooLong`] for more pages than a block has.
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let (block, pages) = (reader.u32()?, reader.u16()?);
        reader.u16()?;
        let mut want = Self::nothing(block, pages);
        let len = usize::from(pages).div_ceil(8);
        let room = want.map.get_mut(..len).ok_or(Error::TooLong {
            len: u64::from(pages),
            limit: PAGES_MAX as u64,
        })?;
        room.copy_from_slice(reader.take(len)?);
        Ok(want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn offer_of_version_2_has_its_golden_bytes() {
        let mut out = [0; Offer::LEN_MAX];
        let hashes = [[1, 2, 3, 4, 5, 6], [9; 6]];
        let len = Offer::encode(3, 1, 3, hashes.into_iter(), &mut out).unwrap();
        #[rustfmt::skip]
        assert_eq!(out[..len], [3, 0, 0, 0, 1, 0, 3, 0, 1, 2, 3, 4, 5, 6, 9, 9, 9, 9, 9, 9]);
        let offer = Offer::decode(&out[..len]).unwrap();
        assert_eq!(offer.hashes().collect::<Vec<_>>(), hashes);
    }

    #[test]
    fn page_hash_is_the_start_of_sha256() {
        assert_eq!(page_hash(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn offer_with_hashes_past_its_pages_is_refused() {
        let mut payload = [0; 14];
        payload[6] = 1;
        assert!(Offer::decode(&payload).is_ok());
        payload[4] = 1;
        assert!(matches!(
            Offer::decode(&payload),
            Err(Error::BadValue { .. })
        ));
        assert!(Offer::decode(&payload[..13]).is_err());
        payload[7] = 3;
        assert!(matches!(
            Offer::decode(&payload),
            Err(Error::TooLong { .. })
        ));
    }

    #[test]
    fn want_of_version_2_has_its_golden_bytes() {
        let mut want = Want::nothing(7, 10);
        want.add(1);
        want.add(8);
        let mut out = [0xff; Want::LEN_MAX];
        let len = want.encode(&mut out).unwrap();
        assert_eq!(out[..len], [7, 0, 0, 0, 10, 0, 0, 0, 2, 1]);
        assert_eq!(Want::decode(&out[..len]), Ok(want));
        assert!(want.is_wanted(8) && !want.is_wanted(0) && want.is_wanted(9999));
    }

    #[test]
    fn want_of_too_many_pages_or_cut_short_is_refused() {
        assert!(matches!(
            Want::decode(&[0, 0, 0, 0, 0xff, 0xff, 0, 0]),
            Err(Error::TooLong { .. })
        ));
        assert!(Want::decode(&[0, 0, 0, 0, 9, 0, 0, 0, 1]).is_err());
    }
}
