// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crashed machine's RAM, read through a 2 MiB window of read-only pages.
//!
//! Only pages that the DTB calls RAM, and that are not ours, are ever mapped: a speculative read must not reach a device. Every read
//! is guarded, so an abort becomes a [`ReadFault`].
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

use boot_config::memory_map::MAX_FREE_RANGES;
use boot_config::{PhysRange, RangeSet};
use vmcore::{FaultCause, PhysMemory, ReadFault};

use crate::exceptions::{copy_guarded, is_zero_guarded};
use crate::layout::{BLOCK_SIZE, PAGE_SIZE};
use crate::mmu::{AddressSpace, MapError, PageWindow};
use crate::watchdog;

/// RAM that may be read.
pub type Readable = RangeSet<MAX_FREE_RANGES>;

/// Window slot of old memory.
const WINDOW: u64 = 3;
const NO_BLOCK: u64 = u64::MAX;

/// [`PhysMemory`] of the crashed machine.
pub struct OldMemory {
    space: AddressSpace,
    window: PageWindow,
    readable: Readable,
    /// The range of `readable` that held what was read last: a dump goes through one after the other.
    range: PhysRange,
    /// Physical address of the 2 MiB block that the window shows.
    block: u64,
}

impl OldMemory {
    /// Makes the window.
    ///
    /// # Errors
    /// The page tables are used up.
    pub fn new(mut space: AddressSpace, readable: Readable) -> Result<Self, MapError> {
        let window = space.prepare_page_window(WINDOW)?;
        Ok(Self {
            space,
            window,
            readable,
            range: PhysRange::EMPTY,
            block: NO_BLOCK,
        })
    }

    /// Shows the block that holds `address` and returns where `address` is then.
    fn show(&mut self, address: u64) -> u64 {
        let block = address & !(BLOCK_SIZE - 1);
        if block != self.block {
            let (readable, mut last) = (&self.readable, self.range);
            self.space.fill_page_window(self.window, |number| {
                let page = block.saturating_add((number as u64).saturating_mul(PAGE_SIZE));
                let range = PhysRange {
                    start: page,
                    end: page.saturating_add(PAGE_SIZE),
                };
                if !last.contains_range(&range) {
                    last = range_around(readable, &range)?;
                }
                Some(page)
            });
            self.block = block;
        }
        self.window.address.wrapping_add(address % BLOCK_SIZE)
    }

    fn check(&mut self, pa: u64, len: u64) -> Result<(), ReadFault> {
        watchdog::progress();
        let not_ram = ReadFault {
            address: pa,
            cause: FaultCause::NotRam,
        };
        let end = pa.checked_add(len).ok_or(not_ram)?;
        // Whole pages are mapped: one that RAM covers in part only is not.
        let pages = PhysRange {
            start: pa & !(PAGE_SIZE - 1),
            end: end.checked_next_multiple_of(PAGE_SIZE).ok_or(not_ram)?,
        };
        if !self.range.contains_range(&pages) {
            self.range = range_around(&self.readable, &pages).ok_or(not_ram)?;
        }
        Ok(())
    }
}

/// The range of `readable` that holds all of `range`.
fn range_around(readable: &Readable, range: &PhysRange) -> Option<PhysRange> {
    readable.iter().find(|whole| whole.contains_range(range))
}

/// Copies what lies in `line` from `skip` on, as much as fits, and returns how much that is.
pub(crate) fn copy_from(to: &mut [u8], line: &[u8], skip: usize) -> usize {
    let from = line.get(skip..).unwrap_or_default();
    let len = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
        to.copy_from_slice(from);
    }
    len
}

/// One cache line, aligned for guarded loads.
#[repr(C, align(64))]
struct Line([u8; 64]);

impl PhysMemory for OldMemory {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.check(pa, buf.len() as u64)?;
        let mut done = 0_usize;
        // Each round reads a byte at least.
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let address = pa.saturating_add(done as u64);
            let aborted = ReadFault {
                address,
                cause: FaultCause::SyncExternalAbort,
            };
            let from = self.show(address);
            let to_block_end = BLOCK_SIZE.saturating_sub(address % BLOCK_SIZE) as usize;
            let is_aligned = address.is_multiple_of(16) && rest.as_ptr().addr().is_multiple_of(8);
            let len = rest.len().min(to_block_end) & !15;
            let whole = rest.get_mut(..len);
            let read = match whole.filter(|whole| is_aligned && !whole.is_empty()) {
                Some(whole) => {
                    copy_guarded(whole, from).map_err(|_| aborted)?;
                    len
                }
                None => {
                    let mut line = Line([0; 64]);
                    let skip = address % 64;
                    copy_guarded(&mut line.0, from.wrapping_sub(skip)).map_err(|_| aborted)?;
                    copy_from(rest, &line.0, skip as usize)
                }
            };
            done = done.saturating_add(read);
        }
        Ok(())
    }

    fn is_zero_page(&mut self, pa: u64) -> Result<bool, ReadFault> {
        self.check(pa, PAGE_SIZE)?;
        let from = self.show(pa);
        is_zero_guarded(from, PAGE_SIZE as usize).map_err(|_| ReadFault {
            address: pa,
            cause: FaultCause::SyncExternalAbort,
        })
    }
}
