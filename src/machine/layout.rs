// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual address map and stack layout of both kernels.
//!
//! The table stands in docs/architecture.md. Every address is in the TTBR1 half; TTBR0 is empty except in the crash path.

/// RAM of the system kernel, read-write: `LINEAR_BASE + physical`.
pub const LINEAR_BASE: u64 = 0xffff_0000_0000_0000;
/// Blobs of the boot loader, read-only: `BLOB_BASE + physical`.
pub const BLOB_BASE: u64 = 0xffff_4000_0000_0000;
/// Windows opened for a while: the crash region while it is loaded, old RAM in the capture kernel.
pub const WINDOW_BASE: u64 = 0xffff_a000_0000_0000;
/// Device registers: `DEVICE_BASE + physical`.
pub const DEVICE_BASE: u64 = 0xffff_c000_0000_0000;
/// Physical addresses that the linear and the device map can hold (46 bits).
pub const PHYSICAL_LIMIT: u64 = 1 << 46;

/// Size of a translation granule.
pub const PAGE_SIZE: u64 = 4096;
/// Size of a level-2 block; images and crash regions are aligned to it.
pub const BLOCK_SIZE: u64 = 2 << 20;

/// The most CPUs that are started.
pub const MAX_CPUS: usize = 8;

/// Unmapped page below each stack.
pub const GUARD: usize = 0x1000;
/// Stack on which exceptions are taken (SP_EL1).
pub const EXCEPTION_STACK: usize = 0x5000;
/// Stack of the crash path.
pub const CRASH_STACK: usize = 0x7000;
/// What a CPU's stacks take besides the thread stack, whose size the linker script sets.
pub const STACK_OVERHEAD: usize = 3 * GUARD + EXCEPTION_STACK + CRASH_STACK;

const _: () = assert!(
    STACK_OVERHEAD == 0xf000,
    "STACK_UNIT in linker/*.ld adds the same number"
);
