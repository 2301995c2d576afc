// SPDX-License-Identifier: MIT OR Apache-2.0
//! The linear map and the heap.

use core::sync::atomic::{AtomicU64, Ordering};

use boot_config::{MemoryMap, PhysRange};
use machine::mmu::{AddressSpace, MapError};
use machine::ram::LinearMap;

/// Ranges of RAM that the crash path knows of.
pub(crate) const MAX_RANGES: usize = 32;

/// Start and end of each range of RAM, both 0 when there is none. For the crash path, which reads no DTB.
static RAM: [[AtomicU64; 2]; MAX_RANGES] = [const { [const { AtomicU64::new(0) }; 2] }; MAX_RANGES];

/// Calls `each` with start and end of every range of RAM; none before the memory map is known.
pub(crate) fn each_range(mut each: impl FnMut(u64, u64)) {
    for [start, end] in &RAM {
        let (start, end) = (start.load(Ordering::Acquire), end.load(Ordering::Acquire));
        if end > start {
            each(start, end);
        }
    }
}

/// Maps RAM, without the crash region, and gives what is free to the heap.
pub(crate) fn init(
    space: &mut AddressSpace,
    map: &MemoryMap,
    crash: Option<PhysRange>,
) -> Result<(), MapError> {
    for ([start, end], range) in RAM.iter().zip(map.mappable().iter()) {
        start.store(range.start, Ordering::Release);
        end.store(range.end, Ordering::Release);
    }
    LinearMap::make(space, map, crash)?.free_memory(map, crash, |memory| {
        if let Err(error) = memory.give_to(&crate::HEAP) {
            log::warn!("{error}");
        }
    });
    let usage = crate::HEAP.usage().unwrap_or_default();
    let (tables, pool) = space.table_use();
    log::info!(
        "heap of {} KiB; {tables} of {pool} page-table pages in use",
        usage.total / 1024
    );
    Ok(())
}
