// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the device tree blob: what validates is read and edited without a panic or a hang.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/boot-config/dtb/exercise.rs"]
mod exercise;

fuzz_target!(|bytes: &[u8]| exercise::exercise(bytes));
