// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the arm64 Image header: no panic, and what is placed lies in the region.
#![no_main]

use boot_config::{ImageHeader, PhysRange};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, u64, u64, &[u8])| {
    let (start, len, file_len, image) = input;
    let (Ok(header), Ok(region)) = (ImageHeader::parse(image), PhysRange::from_len(start, len))
    else {
        return;
    };
    if let Ok(placement) = header.place(file_len, region) {
        assert!(region.contains_range(&placement.memory));
        assert!(placement.memory.len() >= file_len);
    }
});
