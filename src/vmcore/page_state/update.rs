// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writing end of the page-state map, used by the kernel's allocator.

use super::{
    HEADER_LEN, MAGIC, PART_PAGES, VERSION, counts_offset, empty_sum, map_len, parts, weight,
};
use crate::cursor::Writer;
use crate::{Error, crc32c};

/// A page-state map that is being kept.
#[derive(Debug)]
pub struct PageStateMut<'a> {
    sums: &'a mut [u8],
    counts: &'a mut [u8],
    first_pfn: u64,
    pages: u64,
}

impl<'a> PageStateMut<'a> {
    /// Returns the bytes that a map of this many pages takes; `None` when that is too large to address.
    #[must_use]
    pub fn size_for(pages: u64) -> Option<usize> {
        map_len(pages).and_then(|len| usize::try_from(len).ok())
    }

    /// Makes `bytes` a map of `pages` free pages from page frame `first_pfn` on.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; [`Error::PageOutside`] when the page frames wrap.
    pub fn init(bytes: &'a mut [u8], first_pfn: u64, pages: u64) -> Result<Self, Error> {
        let outside = Error::PageOutside {
            pfn: first_pfn,
            pages,
        };
        first_pfn.checked_add(pages).ok_or(outside)?;
        let len = Self::size_for(pages).ok_or(outside)?;
        let have = bytes.len() as u64;
        let too_small = Error::BufferTooSmall {
            needed: len as u64,
            have,
        };
        let bytes = bytes.get_mut(..len).ok_or(too_small)?;
        let (header, rest) = bytes.split_at_mut_checked(HEADER_LEN).ok_or(too_small)?;
        let mut writer = Writer::new(header);
        writer.u64(MAGIC)?;
        writer.u32(VERSION)?;
        writer.u32(PART_PAGES as u32)?;
        writer.u64(first_pfn)?;
        writer.u64(pages)?;
        writer.u32(0)?;
        let crc = crc32c(writer.written());
        writer.u32(crc)?;
        let sums_len = usize::try_from(parts(pages).saturating_mul(4)).map_err(|_| outside)?;
        let (sums, counts) = rest.split_at_mut_checked(sums_len).ok_or(too_small)?;
        counts.fill(0);
        for (part, sum) in sums.chunks_exact_mut(4).enumerate() {
            sum.copy_from_slice(&empty_sum(part as u64).to_le_bytes());
        }
        debug_assert_eq!(
            counts_offset(pages),
            Some(HEADER_LEN.saturating_add(sums_len) as u64)
        );
        Ok(Self {
            sums,
            counts,
            first_pfn,
            pages,
        })
    }

    /// Notes an allocation that lies in these pages.
    ///
    /// A count at its maximum stays there for ever: the page counts as in use from then on.
    ///
    /// # Errors
    /// [`Error::PageOutside`]; nothing is changed.
    pub fn allocated(&mut self, first_pfn: u64, pages: u64) -> Result<(), Error> {
        self.each(first_pfn, pages, |count| Some(count.saturating_add(1)))
    }

    /// Notes that an allocation in these pages is gone.
    ///
    /// # Errors
    /// [`Error::PageOutside`], nothing is changed; [`Error::PageNotAllocated`] names the first page that was free, the
    /// others are counted.
    pub fn freed(&mut self, first_pfn: u64, pages: u64) -> Result<(), Error> {
        self.each(first_pfn, pages, |count| match count {
            u16::MAX => Some(u16::MAX),
            count => count.checked_sub(1),
        })
    }

    /// Tells whether no allocation lies in the page; pages outside the map are not free.
    #[must_use]
    pub fn is_free(&self, pfn: u64) -> bool {
        self.index(pfn, 1).and_then(|page| self.count(page)) == Ok(0)
    }

    fn index(&self, pfn: u64, pages: u64) -> Result<u64, Error> {
        let outside = Error::PageOutside { pfn, pages };
        let first = pfn.checked_sub(self.first_pfn).ok_or(outside)?;
        match first.checked_add(pages) {
            Some(end) if end <= self.pages => Ok(first),
            _ => Err(outside),
        }
    }

    fn count(&self, page: u64) -> Result<u16, Error> {
        let bytes = usize::try_from(page)
            .ok()
            .and_then(|page| page.checked_mul(2))
            .and_then(|at| self.counts.get(at..)?.first_chunk());
        bytes
            .copied()
            .map(u16::from_le_bytes)
            .ok_or(Error::PageOutside {
                pfn: page,
                pages: 1,
            })
    }

    fn each(
        &mut self,
        first_pfn: u64,
        pages: u64,
        next: impl Fn(u16) -> Option<u16>,
    ) -> Result<(), Error> {
        let first = self.index(first_pfn, pages)?;
        let mut outcome = Ok(());
        for page in first..first.saturating_add(pages) {
            let pfn = self.first_pfn.saturating_add(page);
            let old = self.count(page)?;
            match next(old) {
                Some(new) => self.set(page, old, new)?,
                None if outcome.is_ok() => outcome = Err(Error::PageNotAllocated { pfn }),
                None => {}
            }
        }
        outcome
    }

    fn set(&mut self, page: u64, old: u16, new: u16) -> Result<(), Error> {
        let outside = Error::PageOutside {
            pfn: page,
            pages: 1,
        };
        let part = page.div_euclid(PART_PAGES);
        let sum = usize::try_from(part.saturating_mul(4))
            .ok()
            .and_then(|at| self.sums.get_mut(at..)?.first_chunk_mut::<4>())
            .ok_or(outside)?;
        let change = u32::from(new).wrapping_sub(u32::from(old));
        let weighted = weight(page.rem_euclid(PART_PAGES)).wrapping_mul(change);
        *sum = u32::from_le_bytes(*sum)
            .wrapping_add(weighted)
            .to_le_bytes();
        let count = usize::try_from(page.saturating_mul(2))
            .ok()
            .and_then(|at| self.counts.get_mut(at..)?.first_chunk_mut::<2>())
            .ok_or(outside)?;
        *count = new.to_le_bytes();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn map_has_its_golden_bytes() {
        let mut bytes = vec![0xff; PageStateMut::size_for(3).unwrap()];
        let mut map = PageStateMut::init(&mut bytes, 0x40000, 3).unwrap();
        map.allocated(0x40001, 1).unwrap();
        assert_eq!(bytes.len(), 50);
        #[rustfmt::skip]
        assert_eq!(bytes[..36], [
            b'A', b'F', b'T', b'P', b'G', b'M', b'A', b'P', 1, 0, 0, 0, 0, 16, 0, 0,
            0, 0, 4, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        // 0x9e3779b9 + (0x85ebca6a + 0x27d4eb2f), mod 2^32.
        assert_eq!(bytes[40..44], 0x4bf8_2f52_u32.to_le_bytes());
        assert_eq!(bytes[44..], [0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn page_with_two_allocations_is_free_after_two_frees() {
        let mut bytes = vec![0; 64];
        let mut map = PageStateMut::init(&mut bytes, 10, 4).unwrap();
        map.allocated(10, 2).unwrap();
        map.allocated(11, 1).unwrap();
        map.freed(10, 2).unwrap();
        assert!(map.is_free(10));
        assert!(!map.is_free(11));
        map.freed(11, 1).unwrap();
        assert!(map.is_free(11));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn count_at_its_maximum_stays_in_use() {
        let mut bytes = vec![0; 64];
        let mut map = PageStateMut::init(&mut bytes, 0, 1).unwrap();
        (0..70_000).for_each(|_| map.allocated(0, 1).unwrap());
        (0..70_000).for_each(|_| map.freed(0, 1).unwrap());
        assert!(!map.is_free(0));
    }

    #[test]
    fn free_of_a_free_page_is_named_and_the_others_are_counted() {
        let mut bytes = vec![0; 64];
        let mut map = PageStateMut::init(&mut bytes, 0, 2).unwrap();
        map.allocated(1, 1).unwrap();
        assert_eq!(map.freed(0, 2), Err(Error::PageNotAllocated { pfn: 0 }));
        assert!(map.is_free(1));
    }

    #[test]
    fn run_leaving_the_map_is_refused_and_changes_nothing() {
        let mut bytes = vec![0; 64];
        let mut map = PageStateMut::init(&mut bytes, 8, 2).unwrap();
        assert_eq!(
            map.allocated(9, 2),
            Err(Error::PageOutside { pfn: 9, pages: 2 })
        );
        assert_eq!(
            map.allocated(9, u64::MAX),
            Err(Error::PageOutside {
                pfn: 9,
                pages: u64::MAX
            })
        );
        assert_eq!(
            map.allocated(7, 1),
            Err(Error::PageOutside { pfn: 7, pages: 1 })
        );
        assert!(map.is_free(9));
        assert!(!map.is_free(7));
    }

    #[test]
    fn map_in_too_small_a_buffer_is_refused() {
        let error = PageStateMut::init(&mut [0; 49], 0, 3).unwrap_err();
        assert_eq!(
            error,
            Error::BufferTooSmall {
                needed: 50,
                have: 49
            }
        );
    }

    #[test]
    fn map_of_all_pages_there_could_be_is_refused() {
        assert_eq!(PageStateMut::size_for(u64::MAX), None);
        assert!(PageStateMut::init(&mut [0; 64], 1, u64::MAX).is_err());
    }
}
