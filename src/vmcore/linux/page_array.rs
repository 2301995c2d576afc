// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's `struct page` of a page frame: where it lies, and what stands in it.
//!
//! Follows the sparse memory model, which arm64 has (Linux, include/linux/mmzone.h, mm/sparse.c): a root array of arrays of
//! sections, and in each section the address of its part of the page array, less where the section starts. Page frames are
//! asked for in rising order, so one section, one block of the mapping and one chunk of the array are remembered.

use super::translation::PageTables;
use super::virtual_memory::Addresses;
use super::vmcoreinfo::{Key, Vmcoreinfo};
use crate::{Error, PhysMemory};

/// Bytes of the array that are read at once.
pub(super) const CHUNK: usize = 4096;
/// Bytes of `struct page` that are believed: 64 nearly always.
const STRUCT_LEN: core::ops::RangeInclusive<u64> = 32..=256;
/// In a section's word: it is there, and has a part of the page array.
const PRESENT: u64 = 1 | 2;
/// In a section's word: what is no address, as the array is aligned to a cache line at least.
const FLAGS: u64 = 63;

/// What is read of a `struct page`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageStruct {
    pub(super) flags: u64,
    pub(super) refcount: u32,
    /// `_mapcount`; of what is never mapped the page's type.
    pub(super) mapcount: u32,
    pub(super) mapping: u64,
    pub(super) private: u64,
    pub(super) compound_head: u64,
    /// `lru.next`.
    pub(super) next: u64,
}

/// Where its members are, in bytes.
#[derive(Clone, Copy, Debug)]
struct Members {
    flags: usize,
    refcount: usize,
    mapcount: usize,
    mapping: usize,
    private: usize,
    compound_head: usize,
    lru: usize,
}

impl Members {
    fn of(info: &Vmcoreinfo<'_>, struct_len: u64) -> Result<Self, Error> {
        let at = |name, len| {
            let offset = info.offset(name)?;
            usize::try_from(offset)
                .ok()
                .filter(|_| offset <= struct_len.saturating_sub(len))
                .ok_or_else(|| info.refuse(Key::Offset(name)))
        };
        Ok(Self {
            flags: at("page.flags", 8)?,
            refcount: at("page._refcount", 4)?,
            mapcount: at("page._mapcount", 4)?,
            mapping: at("page.mapping", 8)?,
            private: at("page.private", 8)?,
            compound_head: at("page.compound_head", 8)?,
            lru: at("page.lru", 8)?,
        })
    }

    fn take(&self, bytes: &[u8]) -> Option<PageStruct> {
        Some(PageStruct {
            flags: word(bytes, self.flags)?,
            refcount: half(bytes, self.refcount)?,
            mapcount: half(bytes, self.mapcount)?,
            mapping: word(bytes, self.mapping)?,
            private: word(bytes, self.private)?,
            compound_head: word(bytes, self.compound_head)?,
            next: word(bytes, self.lru)?,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The page array of a crashed Linux.
#[derive(Debug)]
pub(super) struct PageArray<'a> {
    addresses: Addresses,
    /// Virtual address of the root array.
    roots: u64,
    root_count: u64,
    sections_per_root: u64,
    section_len: u64,
    /// Where a section's word is in it.
    word_at: u64,
    /// Page frames of a section, as a power of two; bytes of a page likewise.
    section_shift: u32,
    page_shift: u32,
    struct_len: u64,
    members: Members,
    /// Structures in a chunk, a power of two.
    in_chunk: u64,
    chunk: &'a mut [u8; CHUNK],
    /// The page frame of the chunk's first structure, and whether it was read.
    held: Option<(u64, bool)>,
    /// A section's number and the address in its word; none where it has no page array.
    section: Option<(u64, Option<u64>)>,
    first_unread: Option<u64>,
}

impl<'a> PageArray<'a> {
    /// Finds the page array of the kernel that wrote `info`.
    ///
    /// # Errors
    /// [`Error::KeyMissing`] and [`Error::KeyValue`] for what is needed.
    pub(super) fn of(info: &Vmcoreinfo<'_>, chunk: &'a mut [u8; CHUNK]) -> Result<Self, Error> {
        let tables = PageTables::of(info)?;
        let page_shift = tables.page_bytes().trailing_zeros();
        let struct_len = info.size("page")?;
        if !STRUCT_LEN.contains(&struct_len) || !struct_len.is_multiple_of(8) {
            return Err(info.refuse(Key::Size("page")));
        }
        let section_len = info.size("mem_section")?;
        let sections_per_root = tables
            .page_bytes()
            .checked_div(section_len)
            .filter(|count| *count > 0 && section_len >= 8)
            .ok_or_else(|| info.refuse(Key::Size("mem_section")))?;
        let word_at = info.offset("mem_section.section_mem_map")?;
        if word_at > section_len.saturating_sub(8) {
            return Err(info.refuse(Key::Offset("mem_section.section_mem_map")));
        }
        let section_bits = info.number("SECTION_SIZE_BITS")?;
        let section_shift = u32::try_from(section_bits)
            .ok()
            .and_then(|bits| bits.checked_sub(page_shift))
            .filter(|_| section_bits < 64)
            .ok_or_else(|| info.refuse(Key::Number("SECTION_SIZE_BITS")))?;
        let sections = info
            .number("MAX_PHYSMEM_BITS")?
            .checked_sub(section_bits)
            .and_then(|bits| 1_u64.checked_shl(u32::try_from(bits).ok()?))
            .ok_or_else(|| info.refuse(Key::Number("MAX_PHYSMEM_BITS")))?;
        let root_count = info.length("mem_section")?;
        // Else it is another memory model, with other rules.
        if root_count != sections.div_ceil(sections_per_root) {
            return Err(info.refuse(Key::Length("mem_section")));
        }
        let fitting = (CHUNK as u64).checked_div(struct_len).unwrap_or(1);
        Ok(Self {
            roots: info.symbol("mem_section")?,
            root_count,
            sections_per_root,
            section_len,
            word_at,
            section_shift,
            page_shift,
            struct_len,
            members: Members::of(info, struct_len)?,
            in_chunk: 1_u64
                .checked_shl(fitting.checked_ilog2().unwrap_or(0))
                .unwrap_or(1),
            chunk,
            held: None,
            section: None,
            first_unread: None,
            addresses: Addresses::by(tables),
        })
    }

    /// Returns the page frame that holds a physical address.
    pub(super) const fn frame_of(&self, address: u64) -> u64 {
        address >> self.page_shift
    }

    /// Returns the first page frame whose structure there should have been but could not be read.
    pub(super) const fn first_unread(&self) -> Option<u64> {
        self.first_unread
    }

    /// Returns the address of a page frame's `lru`, which is what `lru.next` holds where it is in no list.
    pub(super) fn list_of(&mut self, memory: &mut impl PhysMemory, frame: u64) -> Option<u64> {
        let start = self.address_of(memory, frame)?;
        Some(start.wrapping_add(self.members.lru as u64))
    }

    /// Returns the page frame whose structure lies at `address`, in the part of the array that `near` has its in.
    pub(super) fn frame_at(
        &mut self,
        memory: &mut impl PhysMemory,
        address: u64,
        near: u64,
    ) -> Option<u64> {
        let offset = address.wrapping_sub(self.base_of(memory, near)?);
        let frame = offset.checked_div(self.struct_len)?;
        (self.address_of(memory, frame)? == address).then_some(frame)
    }

    /// Returns what stands in a page frame's structure; none where it has none, or where it cannot be read.
    pub(super) fn get(&mut self, memory: &mut impl PhysMemory, frame: u64) -> Option<PageStruct> {
        let members = self.members;
        members.take(self.bytes(memory, frame)?)
    }

    /// Returns a page frame's structure as it is, and what lies behind it in the chunk.
    pub(super) fn bytes(&mut self, memory: &mut impl PhysMemory, frame: u64) -> Option<&[u8]> {
        let mask = self.in_chunk.wrapping_sub(1);
        let first = frame & !mask;
        if self.held.is_none_or(|(held, _)| held != first) {
            let start = self.address_of(memory, first)?;
            let len = usize::try_from(self.in_chunk.saturating_mul(self.struct_len)).ok()?;
            let bytes = self.chunk.get_mut(..len)?;
            let is_read = self.addresses.read(memory, start, bytes).is_ok();
            self.held = Some((first, is_read));
            if !is_read {
                self.first_unread = self.first_unread.or(Some(frame));
            }
        }
        let at = (frame & mask).saturating_mul(self.struct_len);
        let at = usize::try_from(at).ok()?;
        self.held
            .filter(|(_, is_read)| *is_read)
            .and_then(|_| self.chunk.get(at..))
    }

    fn address_of(&mut self, memory: &mut impl PhysMemory, frame: u64) -> Option<u64> {
        let base = self.base_of(memory, frame)?;
        Some(base.wrapping_add(frame.wrapping_mul(self.struct_len)))
    }

    /// Returns where the structure of page frame 0 would lie, by the section of `frame`.
    fn base_of(&mut self, memory: &mut impl PhysMemory, frame: u64) -> Option<u64> {
        let section = frame.checked_shr(self.section_shift)?;
        if let Some((held, base)) = self.section
            && held == section
        {
            return base;
        }
        let word = self.section_word(memory, section);
        if word.is_err() {
            self.first_unread = self.first_unread.or(Some(frame));
        }
        let base = word
            .ok()
            .filter(|word| word & PRESENT == PRESENT)
            .map(|word| word & !FLAGS);
        self.section = Some((section, base));
        base
    }

    /// Returns a section's word; 0 where there is no section.
    fn section_word(&mut self, memory: &mut impl PhysMemory, section: u64) -> Result<u64, Error> {
        let number = section.checked_div(self.sections_per_root).unwrap_or(0);
        if number >= self.root_count {
            return Ok(0);
        }
        let root = self.roots.wrapping_add(number.wrapping_mul(8));
        let root = self.addresses.u64(memory, root)?;
        if root == 0 {
            return Ok(0);
        }
        let number = section.checked_rem(self.sections_per_root).unwrap_or(0);
        let at = number
            .wrapping_mul(self.section_len)
            .wrapping_add(self.word_at);
        self.addresses.u64(memory, root.wrapping_add(at))
    }
}
