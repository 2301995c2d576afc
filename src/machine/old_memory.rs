// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crashed machine's RAM, read through a 2 MiB window of read-only pages.
//!
//! Only pages that the DTB calls RAM, and that are not ours, are ever mapped: a speculative read must not reach a device. Every read
//! is guarded, so an abort becomes a [`ReadFault`].

use boot_config::memory_map::MAX_FREE_RANGES;
use boot_config::{PhysRange, RangeSet};
use vmcore::{FaultCause, PhysMemory, ReadFault};

use crate::exceptions::{copy_guarded, is_zero_guarded};
use crate::layout::{BLOCK_SIZE, PAGE_SIZE};
use crate::mmu::{AddressSpace, MapError, PageWindow};

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
                let page = block + number as u64 * PAGE_SIZE;
                let range = PhysRange {
                    start: page,
                    end: page + PAGE_SIZE,
                };
                if !last.contains_range(&range) {
                    last = range_around(readable, &range)?;
                }
                Some(page)
            });
            self.block = block;
        }
        self.window.address + (address - block)
    }

    fn check(&mut self, pa: u64, len: u64) -> Result<(), ReadFault> {
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

/// One cache line, aligned for guarded loads.
#[repr(C, align(64))]
struct Line([u8; 64]);

impl PhysMemory for OldMemory {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.check(pa, buf.len() as u64)?;
        let mut done = 0;
        while done < buf.len() {
            let address = pa + done as u64;
            let aborted = ReadFault {
                address,
                cause: FaultCause::SyncExternalAbort,
            };
            let from = self.show(address);
            let to_block_end = (BLOCK_SIZE - address % BLOCK_SIZE) as usize;
            let rest = buf.len() - done;
            let destination = &mut buf[done..];
            if address.is_multiple_of(16)
                && rest >= 16
                && destination.as_ptr().addr().is_multiple_of(8)
            {
                let part = rest.min(to_block_end) & !15;
                copy_guarded(&mut destination[..part], from).map_err(|_| aborted)?;
                done += part;
            } else {
                let mut line = Line([0; 64]);
                let skip = (address % 64) as usize;
                copy_guarded(&mut line.0, from - skip as u64).map_err(|_| aborted)?;
                let part = rest.min(64 - skip);
                destination[..part].copy_from_slice(&line.0[skip..skip + part]);
                done += part;
            }
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
