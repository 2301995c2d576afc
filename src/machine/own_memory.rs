// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running kernel's own RAM through its own mappings, by physical address, with reads that may abort.
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

use vmcore::{FaultCause, PhysMemory, ReadFault};

use crate::exceptions::copy_guarded;
use crate::layout::{LINEAR_BASE, PHYSICAL_LIMIT};
use crate::old_memory::copy_from;

/// [`PhysMemory`] of the running kernel, for what it prints when no capture kernel can.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnMemory;

impl PhysMemory for OwnMemory {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let image = crate::image::range();
        let mut bounce = [0_u64; 8];
        let mut done = 0_usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = pa
                .checked_add(done as u64)
                .filter(|at| *at < PHYSICAL_LIMIT);
            let at = at.ok_or(ReadFault {
                address: pa,
                cause: FaultCause::NotRam,
            })?;
            let line = at & !63;
            let virtual_address = if image.contains(line) {
                crate::image::bounds()
                    .begin
                    .wrapping_add(line.wrapping_sub(image.start))
            } else {
                LINEAR_BASE.wrapping_add(line)
            };
            let bytes = as_bytes(&mut bounce);
            copy_guarded(bytes, virtual_address).map_err(|_| ReadFault {
                address: at,
                cause: FaultCause::SyncExternalAbort,
            })?;
            // A line has 64 bytes, so that is a byte at least.
            let read = copy_from(rest, bytes, (at & 63) as usize);
            done = done.saturating_add(read);
        }
        Ok(())
    }
}

fn as_bytes(words: &mut [u64; 8]) -> &mut [u8; 64] {
    // SAFETY: eight words are 64 bytes, every bit pattern is a byte, and the borrow is exclusive.
    unsafe { &mut *core::ptr::from_mut(words).cast() }
}
