// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the command line and `crashkernel=`: no panic, and every offset lies in the line.
#![no_main]

use boot_config::{crashkernel, parameters};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (total_ram, line) = input;
    for parameter in parameters(line) {
        assert!(parameter.offset < line.len());
    }
    match crashkernel::parse(line, total_ram) {
        Ok(Some(request)) => assert!(request.is_disabled() || request.size < total_ram),
        Ok(None) => {}
        Err(error) => assert!(error.offset <= line.len()),
    }
});
