// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system kernel on any machine that keeps the arm64 boot contract: its device tree says all that is needed.
#![no_std]
#![no_main]

kernel::entry!(kernel::idle_main);
kernel::capture_image!(env!("CAPTURE_IMAGE"));
