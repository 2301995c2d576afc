// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the comparison of page tables with what had been mapped: tables of any content, that name each other, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::afterimage_notes::{Entry, Mapping};
use vmcore::cursor::Reader;
use vmcore::{FaultCause, PhysMemory, ReadFault, page_tables};

/// All of physical memory is `bytes`, again and again, but for its upper half, which aborts.
struct Again<'a>(&'a [u8]);

impl PhysMemory for Again<'_> {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        if pa >> 47 != 0 || self.0.is_empty() {
            return Err(ReadFault {
                address: pa,
                cause: FaultCause::SyncExternalAbort,
            });
        }
        for (at, byte) in (pa..).zip(buf) {
            *byte = self.0[(at % self.0.len() as u64) as usize];
        }
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (head, tables) = bytes.split_at(bytes.len().min(3 * Mapping::LEN));
    let mappings = head
        .chunks_exact(Mapping::LEN)
        .filter_map(|entry| Mapping::take(&mut Reader::new(entry)).ok());
    for is_all in [false, true] {
        let mut reported = 0_u64;
        let mut memory = Again(tables);
        page_tables::check(&mut memory, 0x1000, mappings.clone(), is_all, &mut |_| {
            reported += 1
        });
    }
});
