// SPDX-License-Identifier: MIT OR Apache-2.0
//! The header of a blob (Devicetree Specification v0.4, section 5.2).

use super::error::{Block, DtbError};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 40;

/// The longest blob accepted, in bytes; the arm64 boot protocol allows no more.
pub const MAX_LEN: usize = 2 << 20;

const MAGIC: u32 = 0xd00d_feed;

/// The version read and written.
const VERSION: u32 = 17;

/// The oldest version whose readers understand what is written.
const LAST_COMPATIBLE: u32 = 16;

/// The fields of a header, checked against the length of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) total_size: usize,
    pub(super) structure: usize,
    pub(super) structure_len: usize,
    pub(super) strings: usize,
    pub(super) strings_len: usize,
    pub(super) reservations: usize,
    pub(super) boot_cpu_id: u32,
}

/// Returns the big-endian word at `offset`.
pub(super) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// Returns the big-endian double word at `offset`.
pub(super) fn be64(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_be_bytes(*word))
}

pub(super) fn peek_total_size(first: &[u8]) -> Result<u32, DtbError> {
    let truncated = DtbError::Truncated {
        needed: 8,
        len: first.len(),
    };
    let found = be32(first, 0).ok_or(truncated)?;
    if found != MAGIC {
        return Err(DtbError::NotADtb { found });
    }
    let total_size = be32(first, 4).ok_or(truncated)?;
    match usize::try_from(total_size) {
        Ok(len) if (HEADER_LEN..=MAX_LEN).contains(&len) => Ok(total_size),
        _ => Err(DtbError::TotalSize { total_size }),
    }
}

impl Header {
    /// Reads the header at the start of `bytes`, of which all of the blob must be there.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DtbError> {
        let total_size = peek_total_size(bytes)?;
        let len = bytes.len();
        let needed = usize::try_from(total_size).map_err(|_| DtbError::TotalSize { total_size })?;
        if needed > len {
            return Err(DtbError::Truncated { needed, len });
        }
        let field = |offset| be32(bytes, offset).ok_or(DtbError::Truncated { needed, len });
        let (version, last_compatible) = (field(20)?, field(24)?);
        if version < VERSION || last_compatible > VERSION {
            return Err(DtbError::Version {
                version,
                last_compatible,
            });
        }
        let block = |block, offset: u32, len: u32, align: usize| {
            let error = DtbError::BlockBounds { block, offset, len };
            let start = usize::try_from(offset).map_err(|_| error)?;
            let len = usize::try_from(len).map_err(|_| error)?;
            let end = start.checked_add(len).ok_or(error)?;
            let is_inside = start >= HEADER_LEN && end <= needed;
            if is_inside && start.is_multiple_of(align) {
                Ok((start, len))
            } else {
                Err(error)
            }
        };
        let (structure, structure_len) = block(Block::Structure, field(8)?, field(36)?, 4)?;
        let (strings, strings_len) = block(Block::Strings, field(12)?, field(32)?, 1)?;
        let (reservations, _) = block(Block::MemoryReservations, field(16)?, 0, 8)?;
        Ok(Self {
            total_size: needed,
            structure,
            structure_len,
            strings,
            strings_len,
            reservations,
            boot_cpu_id: field(28)?,
        })
    }

    /// Returns the header as bytes, `None` if a field does not fit into 32 bits.
    pub(super) fn to_bytes(self) -> Option<[u8; HEADER_LEN]> {
        let word = |value: usize| u32::try_from(value).ok();
        let words = [
            MAGIC,
            word(self.total_size)?,
            word(self.structure)?,
            word(self.strings)?,
            word(self.reservations)?,
            VERSION,
            LAST_COMPATIBLE,
            self.boot_cpu_id,
            word(self.strings_len)?,
            word(self.structure_len)?,
        ];
        let mut bytes = [0; HEADER_LEN];
        for (slot, value) in bytes.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        Some(bytes)
    }
}
