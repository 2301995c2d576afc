// SPDX-License-Identifier: MIT OR Apache-2.0
//! System kernel and capture kernel of QEMU virt in one Image: it loads itself into the crash region.
#![no_std]
#![no_main]

kernel::entry!(kernel::idle_main, qemu_virt::BOARD_OF_BOTH, capture: capture_kernel::run_in);
