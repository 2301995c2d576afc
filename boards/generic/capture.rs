// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel on any machine: it prints nothing before it has read its device tree.
#![no_std]
#![no_main]

capture_kernel::entry!(None);
