// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing an ELF core header into a buffer.

use super::{
    EHDR_LEN, ELF_MAGIC, ELFCLASS64, ELFDATA2LSB, EM_AARCH64, ET_CORE, EV_CURRENT, PF_RWX,
    PHDR_LEN, PN_XNUM, PT_LOAD, PT_NOTE, SHDR_LEN, Segment,
};
use crate::Error;
use crate::cursor::Writer;

/// Returns the bytes that a header with this many segments takes.
#[must_use]
pub const fn core_header_len(segments: usize) -> usize {
    let table = EHDR_LEN.saturating_add(segments.saturating_mul(PHDR_LEN));
    if segments >= PN_XNUM as usize {
        table.saturating_add(SHDR_LEN)
    } else {
        table
    }
}

/// Writes an ELF core header, segment by segment.
///
/// Order matters to readers: notes first, in CPU order, then the kernel mapping, then RAM.
#[derive(Debug)]
pub struct CoreHeaderWriter<'a> {
    out: &'a mut [u8],
    segments: usize,
}

impl<'a> CoreHeaderWriter<'a> {
    /// Starts a header at the front of `out`.
    #[must_use]
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, segments: 0 }
    }

    /// Adds a PT_NOTE for the buffer of `len` bytes at physical address `paddr`.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], [`Error::RangeWraps`].
    pub fn note(&mut self, paddr: u64, len: u64) -> Result<(), Error> {
        self.segment(&Segment {
            kind: PT_NOTE,
            flags: 0,
            offset: paddr,
            vaddr: 0,
            paddr,
            file_len: len,
            mem_len: len,
            align: 4,
        })
    }

    /// Adds a PT_LOAD for `len` bytes at physical address `paddr`, mapped at `vaddr` in this kernel.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], [`Error::RangeWraps`].
    pub fn load(&mut self, vaddr: u64, paddr: u64, len: u64) -> Result<(), Error> {
        self.segment(&Segment {
            kind: PT_LOAD,
            flags: PF_RWX,
            offset: paddr,
            vaddr,
            paddr,
            file_len: len,
            mem_len: len,
            align: 0,
        })
    }

    /// Adds any program header; for files, whose offsets are no physical addresses.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; [`Error::RangeWraps`] when its memory or its part of the file passes 2^64.
    pub fn segment(&mut self, segment: &Segment) -> Result<(), Error> {
        for (start, len) in [
            (segment.offset, segment.file_len),
            (segment.paddr, segment.mem_len),
            // The last page of the address space may be mapped: its end is 2^64 itself.
            (segment.vaddr, segment.mem_len.saturating_sub(1)),
        ] {
            start
                .checked_add(len)
                .ok_or(Error::RangeWraps { start, len })?;
        }
        let at = core_header_len(0).saturating_add(self.segments.saturating_mul(PHDR_LEN));
        let end = at.saturating_add(PHDR_LEN);
        let have = self.out.len() as u64;
        let too_small = Error::BufferTooSmall {
            needed: end as u64,
            have,
        };
        let out = self.out.get_mut(at..end).ok_or(too_small)?;
        let mut writer = Writer::new(out);
        writer.u32(segment.kind)?;
        writer.u32(segment.flags)?;
        writer.u64(segment.offset)?;
        writer.u64(segment.vaddr)?;
        writer.u64(segment.paddr)?;
        writer.u64(segment.file_len)?;
        writer.u64(segment.mem_len)?;
        writer.u64(segment.align)?;
        self.segments = self.segments.saturating_add(1);
        Ok(())
    }

    /// Writes the file header and returns the bytes used.
    ///
    /// Without this the buffer holds no ELF magic: a header that was not finished is not taken for one.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; [`Error::TooMany`] past 2^32 segments.
    pub fn finish(self) -> Result<usize, Error> {
        let len = core_header_len(self.segments);
        let limit = u64::from(u32::MAX);
        let count = u32::try_from(self.segments).map_err(|_| Error::TooMany { limit })?;
        let is_extended = count >= u32::from(PN_XNUM);
        let table_end = EHDR_LEN.saturating_add(self.segments.saturating_mul(PHDR_LEN));
        if is_extended {
            let have = self.out.len() as u64;
            let too_small = Error::BufferTooSmall {
                needed: len as u64,
                have,
            };
            let mut section = Writer::new(self.out.get_mut(table_end..).ok_or(too_small)?);
            // Section 0: type SHT_NULL; sh_info, at 44, is the number of segments.
            section.zeros(44)?;
            section.u32(count)?;
            section.zeros(SHDR_LEN - 48)?;
        }
        let mut writer = Writer::new(self.out);
        writer.u32(ELF_MAGIC)?;
        writer.put(&[ELFCLASS64, ELFDATA2LSB, EV_CURRENT])?;
        writer.zeros(9)?;
        writer.u16(ET_CORE)?;
        writer.u16(EM_AARCH64)?;
        writer.u32(u32::from(EV_CURRENT))?;
        writer.u64(0)?; // e_entry
        writer.u64(EHDR_LEN as u64)?; // e_phoff
        writer.u64(if is_extended { table_end as u64 } else { 0 })?; // e_shoff
        writer.u32(0)?; // e_flags
        writer.u16(EHDR_LEN as u16)?;
        writer.u16(PHDR_LEN as u16)?;
        writer.u16(if is_extended { PN_XNUM } else { count as u16 })?;
        writer.u16(if is_extended { SHDR_LEN as u16 } else { 0 })?;
        writer.u16(u16::from(is_extended))?; // e_shnum
        writer.u16(0)?; // e_shstrndx
        Ok(len)
    }
}
