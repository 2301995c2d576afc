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
//! - [`dtb`]: validating, reading and editing the device tree blob.
//! - [`foreign`]: memory that others than the CPUs use.
//! - [`memory_map`]: RAM minus what is taken, and where the crash region goes.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as boot_config;
#[cfg(test)]
extern crate std;

pub mod command_line;
pub mod crashkernel;
pub mod dtb;
pub mod error;
pub mod fixed_list;
pub mod foreign;
pub mod image_header;
pub mod memory_map;
pub mod range;
#[cfg(test)]
mod testing;

pub use command_line::{Parameter, Parameters, parameters};
pub use crashkernel::{CrashKernel, CrashKernelError};
pub use dtb::{Dtb, DtbError};
pub use error::Error;
pub use fixed_list::FixedList;
pub use image_header::{ImageError, ImageHeader};
pub use memory_map::{CrashPlacement, MemoryMap, PlacementError};
pub use range::{PhysAddr, PhysRange, RangeError, RangeSet};
