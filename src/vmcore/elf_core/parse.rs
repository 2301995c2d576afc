// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading an ELF core header that nothing vouches for.

use super::{
    EHDR_LEN, ELF_MAGIC, ELFCLASS64, ELFDATA2LSB, EM_AARCH64, ET_CORE, LoadSegment, NoteSegment,
    PHDR_LEN, PN_XNUM, PT_LOAD, PT_NOTE, Segment,
};
use crate::cursor::Reader;
use crate::{Error, PhysRange, RangeSet};

/// A checked view of an ELF core header.
#[derive(Clone, Copy, Debug)]
pub struct CoreHeader<'a> {
    /// The program headers, a whole number of them.
    table: &'a [u8],
    /// Bytes from the start up to the end of the program headers.
    len: usize,
}

impl<'a> CoreHeader<'a> {
    /// Checks the header in `bytes`: identity, table inside.
    ///
    /// Segments may overlap: kexec-tools lists the kernel's text beside the RAM it lies in.
    /// [`CoreHeader::ram_ranges`] merges them. A segment that wraps is left out of everything but [`CoreHeader::segments`] and
    /// [`CoreHeader::wrapping`]: kexec-tools 2.0.29 writes one for the kernel's text when it does not find `_text` in /proc/kallsyms (Linux 6.1),
    /// and the others are good.
    ///
    /// # Errors
    /// What disagrees, with its value.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u32()?;
        if magic != ELF_MAGIC {
            return Err(Error::BadMagic {
                value: u64::from(magic),
            });
        }
        let ident = reader.take(12)?;
        match *ident {
            [ELFCLASS64, ELFDATA2LSB, ..] => {}
            [ELFCLASS64, order, ..] => return Err(Error::ElfByteOrder(order)),
            [class, ..] => return Err(Error::ElfClass(class)),
            [] => return Err(Error::ElfClass(0)),
        }
        let kind = reader.u16()?;
        if kind != ET_CORE {
            return Err(Error::ElfType(kind));
        }
        let machine = reader.u16()?;
        if machine != EM_AARCH64 {
            return Err(Error::ElfMachine(machine));
        }
        reader.take(4 + 8)?; // e_version, e_entry
        let table_offset = reader.u64()?;
        let section_offset = reader.u64()?;
        reader.take(4 + 2)?; // e_flags, e_ehsize
        let entry_len = reader.u16()?;
        let short_count = reader.u16()?;
        reader.take(EHDR_LEN - 58)?; // e_shentsize, e_shnum, e_shstrndx
        if usize::from(entry_len) != PHDR_LEN && short_count != 0 {
            return Err(Error::ElfProgramHeaderSize(entry_len));
        }
        let count = if short_count == PN_XNUM {
            extended_count(bytes, section_offset)?
        } else {
            u32::from(short_count)
        };
        let have = bytes.len() as u64;
        let outside = Error::ElfTableOutside {
            offset: table_offset,
            count: u64::from(count),
            have,
        };
        let start = usize::try_from(table_offset).map_err(|_| outside)?;
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(PHDR_LEN))
            .and_then(|len| start.checked_add(len))
            .ok_or(outside)?;
        Ok(Self {
            table: bytes.get(start..end).ok_or(outside)?,
            len: end,
        })
    }

    /// Returns the segments that wrap around the end of memory: number of the program header, and what is wrong.
    pub fn wrapping(&self) -> impl Iterator<Item = (u32, Error)> + use<'a> {
        (0..).zip(self.segments()).filter_map(|(index, segment)| {
            let error = segment.check().err()?;
            Some((index, error))
        })
    }

    /// Returns the bytes from the start of the file up to the end of the program headers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there is no program header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the program headers as they stand.
    #[must_use]
    pub const fn segments(&self) -> Segments<'a> {
        Segments {
            reader: Reader::new(self.table),
        }
    }

    /// Returns the note buffers, in order.
    #[must_use]
    pub const fn notes(&self) -> Notes<'a> {
        Notes {
            segments: self.segments(),
            next: 0,
        }
    }

    /// Returns the memory ranges, in order; several may name the same memory.
    #[must_use]
    pub const fn loads(&self) -> Loads<'a> {
        Loads {
            segments: self.segments(),
            next: 0,
        }
    }

    /// Returns the physical memory that the loads cover, sorted and merged, and how many loads overlapped earlier ones.
    ///
    /// # Errors
    /// [`Error::TooMany`] when it is in more than `N` pieces.
    pub fn ram_ranges<const N: usize>(&self) -> Result<(RangeSet<N>, u32), Error> {
        let mut ranges = RangeSet::new();
        let mut overlaps: u32 = 0;
        for load in self.loads() {
            let range = PhysRange::new(load.paddr, load.len)?;
            overlaps = overlaps.saturating_add(u32::from(ranges.overlaps(&range)));
            ranges.insert(range)?;
        }
        Ok((ranges, overlaps))
    }
}

/// Returns sh_info of section 0.
fn extended_count(bytes: &[u8], section_offset: u64) -> Result<u32, Error> {
    let have = bytes.len() as u64;
    let outside = Error::ElfTableOutside {
        offset: section_offset,
        count: u64::from(PN_XNUM),
        have,
    };
    let start = usize::try_from(section_offset).map_err(|_| outside)?;
    if start < EHDR_LEN {
        return Err(outside);
    }
    let mut reader = Reader::new(bytes.get(start..).ok_or(outside)?);
    reader.take(44)?;
    reader.u32()
}

/// The program headers of a [`CoreHeader`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    reader: Reader<'a>,
}

impl Segments<'_> {
    fn read(&mut self) -> Result<Segment, Error> {
        let reader = &mut self.reader;
        Ok(Segment {
            kind: reader.u32()?,
            flags: reader.u32()?,
            offset: reader.u64()?,
            vaddr: reader.u64()?,
            paddr: reader.u64()?,
            file_len: reader.u64()?,
            mem_len: reader.u64()?,
            align: reader.u64()?,
        })
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        self.read().ok()
    }
}

/// The note buffers of a [`CoreHeader`].
#[derive(Clone, Debug)]
pub struct Notes<'a> {
    segments: Segments<'a>,
    next: u32,
}

impl Iterator for Notes<'_> {
    type Item = NoteSegment;

    fn next(&mut self) -> Option<NoteSegment> {
        loop {
            let segment = self.segments.next()?;
            let index = self.next;
            self.next = self.next.saturating_add(1);
            if segment.kind == PT_NOTE && segment.check().is_ok() {
                // p_offset is what vmcore.c reads by, and p_filesz what it reads; kexec-tools sets both pairs alike.
                return Some(NoteSegment {
                    index,
                    paddr: segment.offset,
                    len: segment.file_len,
                });
            }
        }
    }
}

/// The memory ranges of a [`CoreHeader`].
#[derive(Clone, Debug)]
pub struct Loads<'a> {
    segments: Segments<'a>,
    next: u32,
}

impl Iterator for Loads<'_> {
    type Item = LoadSegment;

    fn next(&mut self) -> Option<LoadSegment> {
        loop {
            let segment = self.segments.next()?;
            let index = self.next;
            self.next = self.next.saturating_add(1);
            if segment.kind == PT_LOAD && segment.mem_len != 0 && segment.check().is_ok() {
                let Segment {
                    vaddr,
                    paddr,
                    mem_len: len,
                    flags,
                    ..
                } = segment;
                return Some(LoadSegment {
                    index,
                    vaddr,
                    paddr,
                    len,
                    flags,
                });
            }
        }
    }
}
