// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system kernel on Raspberry Pi 3 and 4: boots, arms the capture kernel, idles until something crashes it.
#![no_std]
#![no_main]

kernel::entry!(kernel::idle_main, raspberry_pi::BOARD);
kernel::capture_image!(env!("CAPTURE_IMAGE"));
