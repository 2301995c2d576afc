// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system kernel on QEMU virt: boots, arms the capture kernel, idles until something crashes it.
#![no_std]
#![no_main]

kernel::entry!(kernel::idle_main, qemu_virt::BOARD);
kernel::capture_image!(env!("CAPTURE_IMAGE"));
