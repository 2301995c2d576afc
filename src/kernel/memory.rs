// SPDX-License-Identifier: MIT OR Apache-2.0
//! The linear map and the heap.

use boot_config::{MemoryMap, PhysRange};
use machine::mmu::{AddressSpace, MapError};
use machine::ram::LinearMap;

/// Maps RAM, without the crash region, and gives what is free to the heap.
pub(crate) fn init(
    space: &mut AddressSpace,
    map: &MemoryMap,
    crash: Option<PhysRange>,
) -> Result<(), MapError> {
    LinearMap::make(space, map, crash)?.free_memory(map, crash, |memory| {
        if let Err(error) = memory.give_to(&crate::HEAP) {
            log::warn!("{error}");
        }
    });
    let usage = crate::HEAP.usage();
    let (tables, pool) = space.table_use();
    log::info!(
        "heap of {} KiB; {tables} of {pool} page-table pages in use",
        usage.total / 1024
    );
    Ok(())
}
