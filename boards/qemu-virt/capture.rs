// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel on QEMU virt, and on every machine that its DTB describes.
#![no_std]
#![no_main]

capture_kernel::entry!(Some(0x0900_0000));
