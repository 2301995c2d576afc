// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a dump is: ELF core header, notes, page classes, and where to look.
//!
//! Everything that passes from a crashed kernel to a capture kernel, and on to the file, has its layout here:
//! the ELF core header that kexec loaders leave in the crash region, the notes in the crashed kernel's RAM, the
//! page-state map, the log ring. Both sides use this crate, so a layout exists once. Readers trust nothing: the
//! memory they look at belongs to a kernel that has just crashed.
#![no_std]
#![forbid(unsafe_code)]
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod afterimage_notes;
mod checksum;
pub mod console_report;
pub mod cursor;
pub mod elf_core;
mod error;
#[cfg(feature = "alloc")]
pub mod gap_map;
pub mod linux;
pub mod log_ring;
pub mod notes;
pub mod page_class;
pub mod page_state;
pub mod page_tables;
pub mod phys_memory;
pub mod ranges;
pub mod registers;

pub use checksum::{Crc32c, crc32c};
pub use error::Error;
pub use page_class::{DumpLevel, PageClass};
pub use phys_memory::{FaultCause, PhysMemory, ReadFault};
pub use ranges::{PhysRange, RangeSet};
pub use registers::Registers;

/// Bytes of the page that everything here counts in, whatever granule the crashed kernel translates with.
pub const PAGE_SIZE: u64 = 4096;
