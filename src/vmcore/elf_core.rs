// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ELF core header that describes a machine's memory.
//!
//! A kexec loader builds it in the crash region before any crash ("elfcorehdr"); the capture kernel reads it; the host
//! writes one at the front of the file. ELF-64, little-endian, ET_CORE, EM_AARCH64 (ELF gABI chapter 5; the kdump
//! conventions are those of Linux's `fs/proc/vmcore.c` and of kexec-tools).

mod parse;
mod write;

use crate::{Error, PhysRange};

pub use parse::{CoreHeader, Loads, Notes, Segments};
pub use write::{CoreHeaderWriter, core_header_len};

/// Bytes of the ELF file header.
pub const EHDR_LEN: usize = 64;
/// Bytes of a program header.
pub const PHDR_LEN: usize = 56;
/// Bytes of a section header, which holds the number of segments when e_phnum cannot.
pub const SHDR_LEN: usize = 64;
/// e_phnum that says: the number stands in sh_info of section 0.
pub const PN_XNUM: u16 = 0xffff;
/// Segment type of memory.
pub const PT_LOAD: u32 = 1;
/// Segment type of notes.
pub const PT_NOTE: u32 = 4;
/// e_flags that says: not all of the dump is in the file (makedumpfile, IMPLEMENTATION, "The incomplete elf DUMPFILE").
pub const DUMP_ELF_INCOMPLETE: u32 = 1;
/// p_flags of readable, writable, executable memory.
pub const PF_RWX: u32 = 7;

const ELF_MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const EV_CURRENT: u8 = 1;
const ET_CORE: u16 = 4;
const EM_AARCH64: u16 = 183;

/// A program header, as it stands in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// p_type.
    pub kind: u32,
    /// p_flags.
    pub flags: u32,
    /// p_offset: in an elfcorehdr a physical address, in a file an offset.
    pub offset: u64,
    /// p_vaddr.
    pub vaddr: u64,
    /// p_paddr.
    pub paddr: u64,
    /// p_filesz.
    pub file_len: u64,
    /// p_memsz.
    pub mem_len: u64,
    /// p_align.
    pub align: u64,
}

impl Segment {
    /// Whether both of its ranges end where they can.
    fn check(&self) -> Result<(), Error> {
        PhysRange::new(self.paddr, self.mem_len)?;
        PhysRange::new(self.offset, self.file_len)?;
        Ok(())
    }
}

/// A note buffer that an elfcorehdr points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteSegment {
    /// Number of the program header.
    pub index: u32,
    /// Physical address of the buffer.
    pub paddr: u64,
    /// Bytes of the buffer.
    pub len: u64,
}

/// A range of memory that an elfcorehdr names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSegment {
    /// Number of the program header.
    pub index: u32,
    /// Virtual address in the crashed kernel.
    pub vaddr: u64,
    /// Physical address.
    pub paddr: u64,
    /// Bytes.
    pub len: u64,
    /// p_flags.
    pub flags: u32,
}

#[cfg(test)]
mod tests;
