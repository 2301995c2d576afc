// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the ELF core header: bounded whatever it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::elf_core::{CoreHeader, PHDR_LEN};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = CoreHeader::parse(bytes) else {
        return;
    };
    assert!(header.len() <= bytes.len());
    assert!(header.segments().count() <= bytes.len() / PHDR_LEN);
    assert!(header.notes().count() + header.loads().count() <= header.segments().count());
    if let Ok((ranges, _)) = header.ram_ranges::<64>() {
        assert!(
            ranges
                .as_slice()
                .windows(2)
                .all(|pair| pair[0].end < pair[1].start)
        );
        for load in header.loads() {
            assert!(ranges.contains(load.paddr));
        }
    }
});
