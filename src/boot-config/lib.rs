// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the boot inputs say, and what we change in them before handing over.
//!
//! Portable: nothing here reads hardware or allocates. The inputs are the device tree blob that the boot loader
//! passes, the command line in it, and the arm64 `Image` to be loaded; every byte of them is treated as hostile.
//! An error always carries the offset or the value that is wrong.
//!
//! - [`range`]: physical addresses and ranges, and sets of ranges.
//! - [`command_line`], [`crashkernel`]: the kernel command line and its `crashkernel=` parameter.
//! - [`image_header`]: the 64-byte header of an arm64 `Image`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod command_line;
pub mod crashkernel;
pub mod fixed_list;
pub mod image_header;
pub mod range;

pub use command_line::{Parameter, Parameters, parameters};
pub use crashkernel::{CrashKernel, CrashKernelError};
pub use fixed_list::FixedList;
pub use image_header::{ImageError, ImageHeader};
pub use range::{PhysAddr, PhysRange, RangeError, RangeSet};
