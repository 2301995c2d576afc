// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of the system kernel, tested where it runs: `cargo test` boots each program in QEMU.
//!
//! ```text
//! CAPTURE_IMAGE=$PWD/target/images/qemu-virt/capture.Image \
//! CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_RUNNER="$PWD/target/release/afterimage run" \
//! cargo test --release --no-fail-fast --target aarch64-unknown-none-softfloat -p target-tests -- -- -append semihosting
//! ```
//! What follows the second `--` goes to QEMU: `-smp 4`, or `test=NAME` in `-append` to run one property. All of it, on
//! several machines, with the programs that end in a crash or a failure on purpose:
//! ```text
//! CAPTURE_IMAGE=$PWD/target/images/qemu-virt/capture.Image tests/target/judge.py target/release/afterimage
//! ```
//!
//! Here: what the programs share. The tests look at memory from outside, by guarded reads, not through the library's
//! own accessors.
#![no_std]
#![forbid(unsafe_code)]

use kernel::Board;
use machine::exceptions::copy_guarded;

/// QEMU's `virt` machine, with a crash region that has room to shrink.
pub const BOARD: Board = Board {
    name: "target tests on QEMU virt",
    // An ELF loader passes no DTB; QEMU puts it at the start of RAM.
    fallback_dtb: Some(0x4000_0000),
    last_resort: &[],
    default_crashkernel: 4 << 20,
    ..Board::GENERIC
};

/// Bytes of a guarded read.
#[repr(align(16))]
struct Aligned<const N: usize>([u8; N]);

/// Reads `N` bytes, a multiple of 16, at an address that is one, too; `None` when the read faults.
#[must_use]
pub fn read<const N: usize>(address: u64) -> Option<[u8; N]> {
    let mut bytes = Aligned([0; N]);
    copy_guarded(&mut bytes.0, address).ok().map(|()| bytes.0)
}

/// Whether a read at an address, a multiple of 16, comes back.
#[must_use]
pub fn is_readable(address: u64) -> bool {
    read::<16>(address).is_some()
}
