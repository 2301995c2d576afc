// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel on Raspberry Pi 3 and 4: its DTB says which it is.
#![no_std]
#![no_main]

capture_kernel::entry!(None);
