// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM of any size, of which only the pages that are not zero take room.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use vmcore::{FaultCause, PAGE_SIZE, PhysMemory, PhysRange, ReadFault};

const PAGE: usize = PAGE_SIZE as usize;
/// No page.
const ABSENT: u32 = u32::MAX;

/// One range of RAM.
#[derive(Clone)]
pub struct Ram {
    range: PhysRange,
    /// For each page its number in `pages`, or [`ABSENT`] for zeros.
    index: Vec<u32>,
    pages: Vec<[u8; PAGE]>,
}

impl core::fmt::Debug for Ram {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} pages of RAM at {:#x}, {} of them stored",
            self.index.len(),
            self.range.start,
            self.pages.len()
        )
    }
}

impl Ram {
    /// Makes RAM of zeros; `range` consists of whole pages.
    #[must_use]
    pub fn new(range: PhysRange) -> Self {
        let count = usize::try_from(range.len() / PAGE_SIZE).expect("RAM that can be indexed");
        Self {
            range,
            index: vec![ABSENT; count],
            pages: Vec::new(),
        }
    }

    /// Reads an image of RAM that begins at physical address `base`.
    ///
    /// # Errors
    /// The file cannot be read, or is empty.
    pub fn of_image(path: &Path, base: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len() / PAGE_SIZE * PAGE_SIZE;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let mut ram = Self::new(PhysRange {
            start: base,
            end: base + len,
        });
        let mut page = [0; PAGE];
        for number in 0..len / PAGE_SIZE {
            file.read_exact(&mut page)?;
            ram.write(base + number * PAGE_SIZE, &page);
        }
        Ok(ram)
    }

    /// Returns where it lies.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        self.range
    }

    /// Returns the page at `pa`, which may lie anywhere in it; `None` for zeros.
    #[must_use]
    pub fn page(&self, pa: u64) -> Option<&[u8; PAGE]> {
        let number = pa.checked_sub(self.range.start)? / PAGE_SIZE;
        let place = *self.index.get(usize::try_from(number).ok()?)?;
        self.pages.get(place as usize)
    }

    /// Stores `bytes` at `pa`; parts of zeros take no room where nothing was.
    ///
    /// # Panics
    /// They lie outside.
    pub fn write(&mut self, pa: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (pa, bytes);
        while !rest.is_empty() {
            let offset = (at % PAGE_SIZE) as usize;
            let (part, later) = rest.split_at(rest.len().min(PAGE - offset));
            let number = ((at - self.range.start) / PAGE_SIZE) as usize;
            let is_zero = part.iter().all(|&byte| byte == 0);
            if self.index[number] == ABSENT && !is_zero {
                self.index[number] = u32::try_from(self.pages.len()).expect("fewer pages");
                self.pages.push([0; PAGE]);
            }
            if let Some(page) = self.pages.get_mut(self.index[number] as usize) {
                page[offset..offset + part.len()].copy_from_slice(part);
            }
            at += part.len() as u64;
            rest = later;
        }
    }
}

impl PhysMemory for Ram {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let (mut at, mut rest) = (pa, &mut buf[..]);
        while !rest.is_empty() {
            if !self.range.contains(at) {
                return Err(ReadFault {
                    address: at,
                    cause: FaultCause::NotRam,
                });
            }
            let offset = (at % PAGE_SIZE) as usize;
            let len = rest.len().min(PAGE - offset);
            let (part, later) = rest.split_at_mut(len);
            match self.page(at) {
                Some(page) => part.copy_from_slice(&page[offset..offset + len]),
                None => part.fill(0),
            }
            at += len as u64;
            rest = later;
        }
        Ok(())
    }

    fn is_zero_page(&mut self, pa: u64) -> Result<bool, ReadFault> {
        if !self.range.contains(pa) {
            return Err(ReadFault {
                address: pa,
                cause: FaultCause::NotRam,
            });
        }
        let page = self.page(pa);
        Ok(page.is_none_or(|page| page.iter().all(|&byte| byte == 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x4000_0000;

    fn ram() -> Ram {
        Ram::new(PhysRange {
            start: BASE,
            end: BASE + 4 * PAGE_SIZE,
        })
    }

    #[test]
    fn bytes_written_across_pages_are_read_back() {
        let mut ram = ram();
        ram.write(BASE + 4090, &[7; 12]);
        let mut out = [1; 16];
        ram.read(BASE + 4088, &mut out).unwrap();
        assert_eq!(out, [0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0]);
        assert_eq!(ram.is_zero_page(BASE), Ok(false));
        assert_eq!(ram.is_zero_page(BASE + 2 * PAGE_SIZE), Ok(true));
    }

    #[test]
    fn zeros_take_no_room_and_overwrite() {
        let mut ram = ram();
        ram.write(BASE, &[0; 4096]);
        assert!(ram.page(BASE).is_none());
        ram.write(BASE, &[1; 4096]);
        ram.write(BASE, &[0; 4096]);
        assert_eq!(ram.is_zero_page(BASE), Ok(true));
    }

    #[test]
    fn read_that_leaves_the_ram_names_the_first_address_outside() {
        let fault = ram().read(BASE + 4 * PAGE_SIZE - 4, &mut [0; 8]);
        assert_eq!(fault.unwrap_err().address, BASE + 4 * PAGE_SIZE);
        assert!(ram().is_zero_page(BASE - 1).is_err());
    }
}
