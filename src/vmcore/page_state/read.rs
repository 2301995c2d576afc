// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reading end of the page-state map: believes a part only after its checksum.

use super::{HEADER_LEN, MAGIC, PART_PAGES, VERSION, counts_offset, empty_sum, map_len, weight};
use crate::cursor::Reader;
use crate::phys_memory::PhysMemory;
use crate::{Error, crc32c};

const FREE_WORDS: usize = PART_PAGES as usize / 64;

/// A page-state map in a crashed kernel's RAM.
///
/// Keeps one part's answers, so ask in order of page frames.
#[derive(Clone, Debug)]
pub struct PageStateReader {
    base: u64,
    first_pfn: u64,
    pages: u64,
    /// Number of the part whose answers are kept.
    part: Option<u64>,
    free: [u64; FREE_WORDS],
    failed_parts: u32,
}

impl PageStateReader {
    /// Looks at the map of `len` bytes at physical address `pa`.
    ///
    /// # Errors
    /// [`Error::BadMagic`], [`Error::Version`], [`Error::Checksum`] of the header, [`Error::BadValue`] when it
    /// disagrees with `len`, [`Error::RangeWraps`], [`Error::Read`].
    pub fn open<M: PhysMemory>(memory: &mut M, pa: u64, len: u64) -> Result<Self, Error> {
        pa.checked_add(len)
            .ok_or(Error::RangeWraps { start: pa, len })?;
        if len < HEADER_LEN as u64 {
            return Err(Error::Truncated {
                offset: 0,
                needed: HEADER_LEN as u64,
                have: len,
            });
        }
        let mut header = [0; HEADER_LEN];
        memory.read(pa, &mut header)?;
        let mut reader = Reader::new(&header);
        let magic = reader.u64()?;
        if magic != MAGIC {
            return Err(Error::BadMagic { value: magic });
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let part_pages = reader.u32()?;
        let first_pfn = reader.u64()?;
        let pages = reader.u64()?;
        reader.u32()?;
        let computed = crc32c(header.get(..reader.offset()).unwrap_or_default());
        let stored = reader.u32()?;
        if stored != computed {
            return Err(Error::Checksum { stored, computed });
        }
        if u64::from(part_pages) != PART_PAGES {
            return Err(Error::BadValue {
                offset: 12,
                value: u64::from(part_pages),
            });
        }
        first_pfn.checked_add(pages).ok_or(Error::BadValue {
            offset: 16,
            value: first_pfn,
        })?;
        if map_len(pages).is_none_or(|needed| needed > len) {
            return Err(Error::BadValue {
                offset: 24,
                value: pages,
            });
        }
        let free = [0; FREE_WORDS];
        Ok(Self {
            base: pa,
            first_pfn,
            pages,
            part: None,
            free,
            failed_parts: 0,
        })
    }

    /// Tells whether the page frame was free; outside the map, or in a part that fails, it was not.
    pub fn is_free<M: PhysMemory>(&mut self, memory: &mut M, pfn: u64) -> bool {
        let Some(page) = pfn
            .checked_sub(self.first_pfn)
            .filter(|&page| page < self.pages)
        else {
            return false;
        };
        let part = page.div_euclid(PART_PAGES);
        if self.part != Some(part) {
            self.part = Some(part);
            if self.load(memory, part).is_err() {
                self.free = [0; FREE_WORDS];
                self.failed_parts = self.failed_parts.saturating_add(1);
            }
        }
        let bit = page.rem_euclid(PART_PAGES);
        let word = usize::try_from(bit.div_euclid(64))
            .ok()
            .and_then(|word| self.free.get(word));
        word.is_some_and(|word| word >> bit.rem_euclid(64) & 1 == 1)
    }

    /// Returns the first page frame and the number of pages that the map says it covers.
    #[must_use]
    pub const fn covered(&self) -> (u64, u64) {
        (self.first_pfn, self.pages)
    }

    /// Returns how often a part failed its checksum or could not be read.
    #[must_use]
    pub const fn failed_parts(&self) -> u32 {
        self.failed_parts
    }

    /// Reads a part, leaves its answers in `free`, and fails when its checksum does.
    fn load<M: PhysMemory>(&mut self, memory: &mut M, part: u64) -> Result<(), Error> {
        // No sum here can pass the end of the map, which `open` found below 2^64.
        let mut stored = [0; 4];
        let sum_at = (HEADER_LEN as u64).saturating_add(part.saturating_mul(4));
        memory.read(self.base.saturating_add(sum_at), &mut stored)?;
        let first = part.saturating_mul(PART_PAGES);
        let in_part = self.pages.saturating_sub(first).min(PART_PAGES);
        let counts = counts_offset(self.pages).unwrap_or(u64::MAX);
        let mut at = self
            .base
            .saturating_add(counts)
            .saturating_add(first.saturating_mul(2));
        let mut sum = empty_sum(part);
        let mut page: u64 = 0;
        for word in &mut self.free {
            *word = 0;
            let now = in_part.saturating_sub(page).min(64);
            let mut buf = [0; 128];
            let len = usize::try_from(now.saturating_mul(2)).unwrap_or(0);
            let bytes = buf.get_mut(..len).unwrap_or_default();
            if bytes.is_empty() {
                continue;
            }
            memory.read(at, bytes)?;
            at = at.saturating_add(bytes.len() as u64);
            for (bit, count) in bytes.as_chunks::<2>().0.iter().enumerate() {
                let count = u16::from_le_bytes(*count);
                *word |= u64::from(count == 0) << bit;
                sum = sum.wrapping_add(weight(page).wrapping_mul(u32::from(count)));
                page = page.saturating_add(1);
            }
        }
        let stored = u32::from_le_bytes(stored);
        if stored == sum {
            Ok(())
        } else {
            Err(Error::Checksum {
                stored,
                computed: sum,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PageStateMut;
    use super::*;
    use crate::phys_memory::SliceMemory;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const BASE: u64 = 0x8000;

    fn map_of(pages: u64, used: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0xff; PageStateMut::size_for(pages).unwrap()];
        let mut map = PageStateMut::init(&mut bytes, 100, pages).unwrap();
        used.iter()
            .for_each(|&(pfn, pages)| map.allocated(pfn, pages).unwrap());
        bytes
    }

    fn open(bytes: &[u8]) -> Result<(PageStateReader, SliceMemory<'_>), Error> {
        let mut memory = SliceMemory { base: BASE, bytes };
        Ok((
            PageStateReader::open(&mut memory, BASE, bytes.len() as u64)?,
            memory,
        ))
    }

    #[test]
    fn page_without_allocation_is_free_in_every_part() {
        let bytes = map_of(9000, &[(100 + 4096, 2)]);
        let (mut reader, mut memory) = open(&bytes).unwrap();
        assert!(reader.is_free(&mut memory, 100));
        assert!(!reader.is_free(&mut memory, 100 + 4096));
        assert!(!reader.is_free(&mut memory, 100 + 4097));
        assert!(reader.is_free(&mut memory, 100 + 8999));
        assert_eq!(reader.failed_parts(), 0);
    }

    #[test]
    fn page_outside_the_map_is_not_free() {
        let bytes = map_of(10, &[]);
        let (mut reader, mut memory) = open(&bytes).unwrap();
        assert!(!reader.is_free(&mut memory, 99));
        assert!(!reader.is_free(&mut memory, 110));
    }

    #[test]
    fn part_with_one_wrong_count_is_in_use_and_the_next_part_is_not() {
        let mut bytes = map_of(5000, &[(100, 1)]);
        let counts = HEADER_LEN + 2 * 4;
        bytes[counts] = 0;
        let (mut reader, mut memory) = open(&bytes).unwrap();
        assert!(!reader.is_free(&mut memory, 100));
        assert!(!reader.is_free(&mut memory, 101));
        assert!(reader.is_free(&mut memory, 100 + 4096));
        assert_eq!(reader.failed_parts(), 1);
    }

    #[test]
    fn wiped_part_is_in_use() {
        let mut bytes = map_of(10, &[]);
        bytes[HEADER_LEN..].fill(0);
        let (mut reader, mut memory) = open(&bytes).unwrap();
        assert!(!reader.is_free(&mut memory, 100));
    }

    #[test]
    fn map_longer_than_its_region_is_refused() {
        let bytes = map_of(10, &[]);
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &bytes,
        };
        let error = PageStateReader::open(&mut memory, BASE, bytes.len() as u64 - 1).unwrap_err();
        assert_eq!(
            error,
            Error::BadValue {
                offset: 24,
                value: 10
            }
        );
    }

    #[test]
    fn map_with_damaged_header_is_refused() {
        let mut bytes = map_of(10, &[]);
        bytes[24] ^= 1;
        assert!(matches!(open(&bytes), Err(Error::Checksum { .. })));
    }

    #[test]
    fn map_whose_counts_cannot_be_read_is_in_use() {
        let bytes = map_of(10, &[]);
        let mut memory = SliceMemory {
            base: BASE,
            bytes: &bytes[..50],
        };
        let mut reader = PageStateReader::open(&mut memory, BASE, bytes.len() as u64).unwrap();
        assert!(!reader.is_free(&mut memory, 100));
        assert_eq!(reader.failed_parts(), 1);
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "too slow under Miri")]
        fn a_changed_count_is_never_believed(page in 0_u64..4096, flip in 1_u16..) {
            let mut bytes = map_of(4096, &[(100, 50)]);
            let at = HEADER_LEN + 4 + page as usize * 2;
            let count = u16::from_le_bytes([bytes[at], bytes[at + 1]]) ^ flip;
            bytes[at..at + 2].copy_from_slice(&count.to_le_bytes());
            let (mut reader, mut memory) = open(&bytes).unwrap();
            prop_assert!(!reader.is_free(&mut memory, 100 + 60));
        }

        #[test]
        #[cfg_attr(miri, ignore = "too slow under Miri")]
        fn reader_agrees_with_the_allocator(runs in proptest::collection::vec((0_u64..300, 1_u64..20), 0..20)) {
            let runs: Vec<_> = runs.into_iter().map(|(page, pages)| (100 + page, pages)).collect();
            let bytes = map_of(400, &runs);
            let (mut reader, mut memory) = open(&bytes).unwrap();
            for pfn in 100..500 {
                let used = runs.iter().any(|&(first, pages)| pfn >= first && pfn < first + pages);
                prop_assert_eq!(reader.is_free(&mut memory, pfn), !used);
            }
        }
    }
}
