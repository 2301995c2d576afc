// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is armed in the crash region, and the region opened for the crash path.
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

use core::arch::asm;
use core::mem::size_of;

use super::{ARMED, CrashRegion, TRAMPOLINE, stub};
use crate::arch;
use crate::layout::PAGE_SIZE;

/// One part of what was loaded, all of it covered by the digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Physical address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A copy that is armed; kept in the region, so that the kernel cannot spoil it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub(super) magic: u64,
    pub(super) entry: u64,
    pub(super) dtb: u64,
    pub(super) segments: [Segment; MAX_SEGMENTS],
    pub(super) digest: [u8; 32],
}

/// Image, DTB, elfcorehdr, and one to spare (an initrd).
pub const MAX_SEGMENTS: usize = 4;
/// Copies of the capture kernel that can be armed at a time, in the order in which the crash path tries them.
pub const COPIES: usize = 2;
const _: () = assert!(ARMED % PAGE_SIZE + (size_of::<Armed>() * COPIES) as u64 <= PAGE_SIZE);
pub(super) const ARMED_MAGIC: u64 = u64::from_le_bytes(*b"ARMEDimg");

/// The region in the crash path: readable at its physical addresses.
#[derive(Debug)]
pub struct OpenRegion {
    pub(super) region: CrashRegion,
    pub(super) armed: [Option<Armed>; COPIES],
}

impl OpenRegion {
    /// Copy number `number`, when it is armed.
    pub fn copy(&self, number: usize) -> Option<ArmedCopy> {
        let armed = *self.armed.get(number)?;
        armed.map(|armed| ArmedCopy {
            region: self.region,
            armed,
        })
    }
}

/// A copy of the capture kernel in the open region.
#[derive(Debug)]
pub struct ArmedCopy {
    region: CrashRegion,
    armed: Armed,
}

impl ArmedCopy {
    /// The armed segments' bytes, in order, to be hashed.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.armed
            .segments
            .iter()
            .filter(|segment| segment.len != 0)
            .map(|segment| {
                // SAFETY: inside the region (checked when this was made), which the identity map maps; no one writes there.
                unsafe {
                    core::slice::from_raw_parts(segment.start as *const u8, segment.len as usize)
                }
            })
    }

    /// Digest that was taken when the copy was loaded.
    pub fn expected_digest(&self) -> &[u8; 32] {
        &self.armed.digest
    }

    /// Leaves for the capture kernel: caches of the region written back, MMU off, exception level as it was at boot.
    pub fn enter(self) -> ! {
        let region = self.region;
        arch::mask_all();
        arch::clean_invalidate(region.start, region.end.saturating_sub(region.start));
        let trampoline = region.supervisor() + TRAMPOLINE;
        // SAFETY: 1. The identity map maps the trampoline executable at its physical address. 2. It never returns. 3. The
        // armed entry and DTB were checked when they were loaded, and the digest covers them.
        unsafe {
            asm!("br {}", in(reg) trampoline, in("x0") self.armed.dtb, in("x1") self.armed.entry,
                in("x2") u64::from(region.has_stub && stub::is_installed()), options(noreturn, nostack));
        }
    }
}
