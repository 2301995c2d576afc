// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's memory by virtual address.

use super::translation::{LinearMap, PageTables, Span};
use super::vmcoreinfo::Vmcoreinfo;
use crate::{Error, PhysMemory};

/// How addresses are translated; the memory itself is the caller's, who may need it for something else between two reads.
#[derive(Debug)]
pub(super) struct Addresses {
    tables: PageTables,
    linear: Option<LinearMap>,
    /// The mapping that was used last, by the address that it was asked for: most reads are next to each other.
    last: Option<(u64, Span)>,
}

impl Addresses {
    /// Goes by the page tables only.
    pub(super) const fn by(tables: PageTables) -> Self {
        Self {
            tables,
            linear: None,
            last: None,
        }
    }

    /// Translates by the tables; where they are of no use, by the linear map, if that is known.
    fn span(&mut self, memory: &mut impl PhysMemory, va: u64) -> Result<Span, Error> {
        if let Some((start, span)) = self.last
            && let Some(within) = va.checked_sub(start).filter(|within| *within < span.len)
        {
            return Ok(Span {
                pa: span.pa.saturating_add(within),
                len: span.len.saturating_sub(within),
            });
        }
        let span = match self.tables.translate(memory, va) {
            Ok(span) => span,
            Err(error) => {
                let linear = self.linear.and_then(|map| map.translate(va));
                return linear.ok_or(error);
            }
        };
        self.last = Some((va, span));
        Ok(span)
    }

    /// Fills `buf` with the bytes at `va`.
    ///
    /// # Errors
    /// Those of [`PageTables::translate`], and [`Error::Read`]; `buf` then holds anything.
    pub(super) fn read(
        &mut self,
        memory: &mut impl PhysMemory,
        mut va: u64,
        mut buf: &mut [u8],
    ) -> Result<(), Error> {
        // A span has a byte at least, so this ends.
        while !buf.is_empty() {
            let span = self.span(memory, va)?;
            let len = usize::try_from(span.len).unwrap_or(usize::MAX);
            let (now, later) = buf.split_at_mut(len.clamp(1, buf.len()));
            memory.read(span.pa, now)?;
            va = va.wrapping_add(now.len() as u64);
            buf = later;
        }
        Ok(())
    }

    /// Reads a little-endian u64.
    ///
    /// # Errors
    /// As for [`Addresses::read`].
    pub(super) fn u64(&mut self, memory: &mut impl PhysMemory, va: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.read(memory, va, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Memory, and how its addresses are translated.
#[derive(Debug)]
pub struct VirtualMemory<M> {
    memory: M,
    addresses: Addresses,
}

impl<M: PhysMemory> VirtualMemory<M> {
    /// Reads `memory` through the tables of the kernel that wrote this note.
    ///
    /// # Errors
    /// Those of [`PageTables::of`].
    pub fn new(info: &Vmcoreinfo<'_>, memory: M) -> Result<Self, Error> {
        let addresses = Addresses {
            linear: LinearMap::of(info).ok(),
            ..Addresses::by(PageTables::of(info)?)
        };
        Ok(Self { memory, addresses })
    }

    /// Returns the page tables.
    #[must_use]
    pub const fn tables(&self) -> &PageTables {
        &self.addresses.tables
    }

    /// Fills `buf` with the bytes at `va`.
    ///
    /// # Errors
    /// Those of [`PageTables::translate`], and [`Error::Read`]; `buf` then holds anything.
    pub fn read(&mut self, va: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.addresses.read(&mut self.memory, va, buf)
    }

    /// Reads a little-endian u64.
    ///
    /// # Errors
    /// As for [`VirtualMemory::read`].
    pub fn u64(&mut self, va: u64) -> Result<u64, Error> {
        self.addresses.u64(&mut self.memory, va)
    }

    /// Reads a little-endian u32.
    ///
    /// # Errors
    /// As for [`VirtualMemory::read`].
    pub fn u32(&mut self, va: u64) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.read(va, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a little-endian u16.
    ///
    /// # Errors
    /// As for [`VirtualMemory::read`].
    pub fn u16(&mut self, va: u64) -> Result<u16, Error> {
        let mut bytes = [0; 2];
        self.read(va, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::testing::{Guest, START};

    #[test]
    fn words_are_read_little_endian_by_virtual_address() {
        let mut guest = Guest::new(0x100);
        guest.put_u64(START + 8, 0x1122_3344_5566_7788);
        let mut memory = guest.memory();
        assert_eq!(memory.u64(START + 8), Ok(0x1122_3344_5566_7788));
        assert_eq!(memory.u32(START + 8), Ok(0x5566_7788));
        assert_eq!(memory.u16(START + 14), Ok(0x1122));
    }

    #[test]
    fn read_behind_a_cached_mapping_is_translated_anew() {
        let mut guest = Guest::new(0x100);
        guest.put_u64(START, 7);
        let mut memory = guest.memory();
        assert_eq!(memory.u64(START), Ok(7));
        // The next GiB is not mapped, the one before neither.
        let next = START - 0x1000 + 0x4000_0000;
        let not_mapped = |va| Error::NotMapped {
            va,
            level: 1,
            descriptor: 0,
        };
        assert_eq!(memory.u64(next), Err(not_mapped(next)));
        assert_eq!(memory.u64(START - 0x2000), Err(not_mapped(START - 0x2000)));
        assert_eq!(memory.u64(START), Ok(7));
    }

    #[test]
    fn read_that_leaves_memory_names_the_physical_address() {
        let guest = Guest::new(0x100);
        let error = guest.memory().u64(START + 0xfc).unwrap_err();
        assert!(
            matches!(error, Error::Read(fault) if fault.address == 0x4000_1100),
            "{error}"
        );
    }

    #[test]
    fn linear_map_serves_where_the_tables_do_not() {
        let mut guest = Guest::new(0x100);
        guest.put_u64(START, 7);
        let linear = 0xffff_ff80_0000_1000;
        assert!(guest.memory().u64(linear).is_err());
        guest.note.push_str("NUMBER(PHYS_OFFSET)=0x40000000\n");
        assert_eq!(guest.memory().u64(linear), Ok(7));
    }
}
