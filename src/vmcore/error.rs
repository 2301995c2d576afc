// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a dump's structures, with the offending value.

use core::fmt;

use crate::linux::{Key, Value};
use crate::phys_memory::ReadFault;

/// Why a structure of a dump could not be written or was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The output buffer ends before the structure does. Both in bytes.
    BufferTooSmall {
        /// Bytes that would have been needed so far.
        needed: u64,
        /// Bytes that the buffer has.
        have: u64,
    },
    /// The input ends inside a field.
    Truncated {
        /// Where the field starts, in bytes from the start of the structure.
        offset: u64,
        /// Bytes of the field.
        needed: u64,
        /// Bytes left.
        have: u64,
    },
    /// The magic number is another one.
    BadMagic {
        /// What stands there.
        value: u64,
    },
    /// The ELF file is not 64-bit; EI_CLASS is given.
    ElfClass(u8),
    /// The ELF file is not little-endian; EI_DATA is given.
    ElfByteOrder(u8),
    /// The ELF file is no core; e_type is given.
    ElfType(u16),
    /// The ELF file is not for AArch64; e_machine is given.
    ElfMachine(u16),
    /// Program headers have a size other than 56; e_phentsize is given.
    ElfProgramHeaderSize(u16),
    /// The program headers lie outside the header's bytes.
    ElfTableOutside {
        /// e_phoff.
        offset: u64,
        /// Number of program headers.
        count: u64,
        /// Bytes that are there.
        have: u64,
    },
    /// A segment's or range's end passes 2^64.
    RangeWraps {
        /// First address.
        start: u64,
        /// Length in bytes.
        len: u64,
    },
    /// More entries than there is room for.
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The structure has a version this code does not read.
    Version(u32),
    /// A field holds a value that the structure does not allow.
    BadValue {
        /// Where, in bytes from the start of the structure.
        offset: u64,
        /// What stands there.
        value: u64,
    },
    /// The checksum over the structure disagrees.
    Checksum {
        /// Checksum that stands there.
        stored: u32,
        /// Checksum of the bytes found.
        computed: u32,
    },
    /// A page frame outside the page-state map, or a run that leaves it.
    PageOutside {
        /// First page frame number of the run.
        pfn: u64,
        /// Pages of the run.
        pages: u64,
    },
    /// More frees than allocations of this page frame.
    PageNotAllocated {
        /// Page frame number.
        pfn: u64,
    },
    /// VMCOREINFO does not say what is needed.
    KeyMissing(Key),
    /// VMCOREINFO says what cannot be.
    KeyValue {
        /// Of which key.
        key: Key,
        /// What stands there.
        value: Value,
    },
    /// The page tables do not translate this virtual address.
    NotMapped {
        /// The address.
        va: u64,
        /// Level of the table that ends the walk, -1 to 3 as in the Arm ARM.
        level: i8,
        /// Its descriptor; 0 where the address is not one that the tables are for.
        descriptor: u64,
    },
    /// What should be Linux's page array is none: the structure of a page of the kernel's own says something else.
    NoPageArray {
        /// Its page frame number.
        frame: u64,
    },
    /// Memory could not be read.
    Read(ReadFault),
}

impl From<ReadFault> for Error {
    fn from(fault: ReadFault) -> Self {
        Self::Read(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferTooSmall { needed, have } => {
                write!(f, "buffer of {have} bytes, {needed} needed")
            }
            Self::Truncated {
                offset,
                needed,
                have,
            } => {
                write!(
                    f,
                    "truncated at offset {offset}: {needed} bytes needed, {have} left"
                )
            }
            Self::BadMagic { value } => write!(f, "bad magic {value:#x}"),
            Self::ElfClass(value) => write!(f, "elf class {value} is not 64-bit"),
            Self::ElfByteOrder(value) => {
                write!(f, "elf data encoding {value} is not little-endian")
            }
            Self::ElfType(value) => write!(f, "elf type {value} is not a core"),
            Self::ElfMachine(value) => write!(f, "elf machine {value} is not aarch64"),
            Self::ElfProgramHeaderSize(value) => {
                write!(f, "elf program header size {value} is not 56")
            }
            Self::ElfTableOutside {
                offset,
                count,
                have,
            } => {
                write!(
                    f,
                    "{count} elf program headers at offset {offset:#x} leave the {have} bytes of the header"
                )
            }
            Self::RangeWraps { start, len } => {
                write!(f, "range at {start:#x} of {len:#x} bytes wraps")
            }
            Self::TooMany { limit } => write!(f, "more than {limit} entries"),
            Self::Version(value) => write!(f, "unknown version {value}"),
            Self::BadValue { offset, value } => {
                write!(f, "bad value {value:#x} at offset {offset}")
            }
            Self::Checksum { stored, computed } => {
                write!(
                    f,
                    "checksum {stored:#010x} stored, {computed:#010x} computed"
                )
            }
            Self::PageOutside { pfn, pages } => {
                write!(f, "{pages} pages from frame {pfn:#x} leave the map")
            }
            Self::PageNotAllocated { pfn } => {
                write!(f, "page frame {pfn:#x} freed but not allocated")
            }
            Self::KeyMissing(key) => write!(f, "vmcoreinfo has no {key}"),
            Self::KeyValue { key, value } => write!(f, "vmcoreinfo: {key} is {value}"),
            Self::NotMapped {
                va,
                level,
                descriptor,
            } => {
                write!(
                    f,
                    "virtual address {va:#x} is not mapped: descriptor {descriptor:#x} at level {level}"
                )
            }
            Self::NoPageArray { frame } => {
                write!(
                    f,
                    "no struct page of the kernel's own page frame {frame:#x}"
                )
            }
            Self::Read(fault) => write!(f, "{fault}"),
        }
    }
}

impl core::error::Error for Error {}
