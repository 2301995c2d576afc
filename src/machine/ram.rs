// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM in the system kernel: the linear map, and which of it the heap gets.

use core::sync::atomic::{AtomicU64, Ordering};

use boot_config::PhysRange;
use boot_config::memory_map::MemoryMap;

use crate::arch;
use crate::heap::FreeMemory;
use crate::layout::{LINEAR_BASE, PAGE_SIZE, PHYSICAL_LIMIT};
use crate::mmu::{Access, AddressSpace, MapError};

/// The linear map of the machine's RAM, made once.
#[derive(Debug)]
pub struct LinearMap {
    _made: (),
}

impl LinearMap {
    /// Maps all RAM of `map` read-write, but nothing of `keep_out` (the crash region) nor of the image. Ends of ranges that
    /// are no whole page are left out.
    ///
    /// # Errors
    /// The page tables are used up.
    pub fn make(
        space: &mut AddressSpace,
        map: &MemoryMap,
        keep_out: Option<PhysRange>,
    ) -> Result<Self, MapError> {
        let image = crate::image::range();
        let mut mapped = *map.mappable();
        let holes = [Some(image), keep_out];
        for hole in holes.into_iter().flatten() {
            mapped
                .subtract(hole)
                .map_err(|_| MapError::OutOfTables { pool: 0 })?;
        }
        for range in mapped.iter() {
            let Ok(Some(range)) = range.align_inward(PAGE_SIZE) else {
                continue;
            };
            let end = range.end.min(PHYSICAL_LIMIT);
            if range.start < end {
                space.map(
                    LINEAR_BASE + range.start,
                    range.start,
                    end - range.start,
                    Access::ReadWrite,
                )?;
            }
        }
        Ok(Self { _made: () })
    }

    /// The free RAM of `map`, minus the image and `keep_out`: each range once, for the heap.
    pub fn free_memory(
        self,
        map: &MemoryMap,
        keep_out: Option<PhysRange>,
        mut each: impl FnMut(FreeMemory),
    ) {
        let mut free = *map.free();
        for hole in [Some(crate::image::range()), keep_out]
            .into_iter()
            .flatten()
        {
            if free.subtract(hole).is_err() {
                return;
            }
        }
        for range in free.iter() {
            let Ok(Some(range)) = range.align_inward(PAGE_SIZE) else {
                continue;
            };
            let end = range.end.min(PHYSICAL_LIMIT);
            if range.start < end {
                each(FreeMemory {
                    start: range.start,
                    len: end - range.start,
                });
            }
        }
    }
}

/// Bytes of RAM that nothing else owns, for reading: an initrd that the boot loader placed and the memory map reserves.
///
/// `None` unless the range lies in RAM, in no free memory (which the heap owns), and outside the image.
pub fn reserved_bytes(map: &MemoryMap, range: PhysRange) -> Option<&'static [u8]> {
    let is_owned = map.free().overlaps(&range) || crate::image::range().overlaps(&range);
    if range.is_empty() || is_owned || !map.mappable().contains_range(&range) {
        return None;
    }
    // SAFETY: in the linear map (`mappable`), and no one writes there: the heap has only free memory.
    Some(unsafe {
        core::slice::from_raw_parts(
            (LINEAR_BASE + range.start) as *const u8,
            range.len() as usize,
        )
    })
}

/// The word of RAM that a CPU in a spin table polls (`cpu-release-addr`).
#[derive(Clone, Copy, Debug)]
pub struct ReleaseWord(&'static AtomicU64);

impl ReleaseWord {
    /// The word at this physical address. `None` unless it is an aligned one of RAM that nothing else owns: the boot loader has to reserve it.
    pub fn at(map: &MemoryMap, address: u64) -> Option<Self> {
        let range = PhysRange::from_len(address, 8).ok()?;
        let is_owned = map.free().overlaps(&range) || crate::image::range().overlaps(&range);
        if is_owned || !address.is_multiple_of(8) || !map.mappable().contains_range(&range) {
            return None;
        }
        // SAFETY: 1. In the linear map (`mappable`), aligned. 2. The heap has only free memory, so no other reference covers it; the CPU that
        // polls it only reads.
        Some(Self(unsafe {
            &*((LINEAR_BASE + address) as *const AtomicU64)
        }))
    }

    /// Sends the CPU to `entry` (physical). It polls with its MMU off.
    pub(crate) fn release(self, entry: u64) {
        self.0.store(entry, Ordering::Release);
        arch::clean_invalidate(core::ptr::from_ref(self.0).addr() as u64, 8);
        arch::send_event();
    }
}
