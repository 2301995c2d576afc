// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blobs that a boot loader left in memory (DTB, elfcorehdr): mapped read-only for good, first bytes read with a guard.

use core::fmt;

use boot_config::{Dtb, DtbError};

use crate::exceptions::copy_guarded;
use crate::layout::{PAGE_SIZE, PHYSICAL_LIMIT};
use crate::mmu::{Access, AddressSpace, MapError};

/// Why a blob cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobError {
    /// The DTB's address is no multiple of 8.
    Misaligned {
        /// Physical address.
        address: u64,
    },
    /// No readable memory there.
    Unreadable {
        /// Physical address.
        address: u64,
    },
    /// Its pages could not be mapped.
    Map {
        /// Physical address.
        address: u64,
        /// Why.
        cause: MapError,
    },
    /// It is no DTB, or a broken one.
    Dtb {
        /// Physical address.
        address: u64,
        /// What is wrong.
        cause: DtbError,
    },
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned { address } => {
                write!(f, "no device tree at {address:#x}: not 8-byte aligned")
            }
            Self::Unreadable { address } => write!(f, "nothing can be read at {address:#x}"),
            Self::Map { address, cause } => write!(f, "blob at {address:#x}: {cause}"),
            Self::Dtb { address, cause } => write!(f, "device tree at {address:#x}: {cause}"),
        }
    }
}

/// Maps the DTB at physical address `address` and validates it.
///
/// # Errors
/// See [`BlobError`].
pub fn open_dtb(space: &mut AddressSpace, address: u64) -> Result<Dtb<'static>, BlobError> {
    if !address.is_multiple_of(8) {
        return Err(BlobError::Misaligned { address });
    }
    let header = open(space, address, boot_config::dtb::HEADER_LEN as u64)?;
    let dtb_error = |cause| BlobError::Dtb { address, cause };
    let len = Dtb::peek_total_size(header).map_err(dtb_error)?;
    Dtb::validate(open(space, address, u64::from(len))?).map_err(dtb_error)
}

/// Maps `len` bytes at physical address `address` read-only for good. Every page is read once with a guard.
///
/// Pages that are mapped by an earlier call stay as they are.
///
/// # Errors
/// See [`BlobError`].
pub fn open(space: &mut AddressSpace, address: u64, len: u64) -> Result<&'static [u8], BlobError> {
    let unreadable = BlobError::Unreadable { address };
    let end = address
        .checked_add(len)
        .filter(|end| *end <= PHYSICAL_LIMIT)
        .ok_or(unreadable)?;
    let first = address & !(PAGE_SIZE - 1);
    let mut page = first;
    while page < end {
        let window = window_of(page);
        match space.map(window, page, PAGE_SIZE, Access::ReadOnly) {
            Ok(()) | Err(MapError::Occupied { .. }) => {}
            Err(cause) => return Err(BlobError::Map { address, cause }),
        }
        let mut probe = [0_u64; 2];
        // SAFETY: two words are 16 bytes; the borrow is exclusive.
        let probe = unsafe { &mut *core::ptr::from_mut(&mut probe).cast::<[u8; 16]>() };
        copy_guarded(probe, window).map_err(|_| unreadable)?;
        page += PAGE_SIZE;
    }
    // SAFETY: 1. Every page was mapped read-only for good, and answered a read. 2. No one writes a boot loader's blob: the
    // memory map reserves it before there is a heap.
    Ok(unsafe { core::slice::from_raw_parts(window_of(address) as *const u8, len as usize) })
}

/// Blobs are mapped at one fixed offset, in window slots of their own.
fn window_of(physical: u64) -> u64 {
    crate::layout::BLOB_BASE + physical
}
