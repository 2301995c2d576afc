// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page-state map: which pages of the heap are free, kept by the allocator in the kernel's RAM.
//!
//! Layout, little-endian: header of 40 bytes (magic u64, version u32, part pages u32, first page frame u64, pages u64,
//! reserved u32, CRC-32C of the bytes before u32), then a u32 checksum per part, then a u16 count of live allocations
//! per page. A part's checksum is a weighted sum that changes with a count at constant cost; one wrong count always
//! shows, because the weights are odd. A part that fails counts as in use: better a page too much than one too few.

mod read;
mod update;

pub use read::PageStateReader;
pub use update::PageStateMut;

/// "AFTPGMAP" in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"AFTPGMAP");
/// The version of the layout.
pub const VERSION: u32 = 1;
/// Pages per part.
pub const PART_PAGES: u64 = 4096;
/// Bytes of the header.
pub const HEADER_LEN: usize = 40;

/// Start of a part's sum, so that a part of zeros (memory that was wiped) does not pass for all free.
const SEED: u32 = 0x9e37_79b9;

/// Returns the odd weight of a page within its part.
const fn weight(page_in_part: u64) -> u32 {
    (page_in_part as u32)
        .wrapping_mul(0x85eb_ca6a)
        .wrapping_add(0x27d4_eb2f)
}

/// Returns the sum of a part without live allocations.
const fn empty_sum(part: u64) -> u32 {
    SEED.wrapping_add((part as u32).wrapping_mul(0xc2b2_ae35))
}

/// Returns how many parts a map of this many pages has.
const fn parts(pages: u64) -> u64 {
    pages.div_ceil(PART_PAGES)
}

/// Returns where the counts start, in bytes; `None` when the map is too large to address.
fn counts_offset(pages: u64) -> Option<u64> {
    parts(pages).checked_mul(4)?.checked_add(HEADER_LEN as u64)
}

/// Returns the bytes of a map of this many pages; `None` when that is too large to address.
#[must_use]
pub fn map_len(pages: u64) -> Option<u64> {
    counts_offset(pages)?.checked_add(pages.checked_mul(2)?)
}
