// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is particular to QEMU's virt machine (hw/arm/virt.c): nothing but where to print before the DTB is read.
#![no_std]

use kernel::Board;

/// Policy of the board.
pub const BOARD: Board = Board {
    name: "QEMU virt",
    early_pl011: Some(0x0900_0000),
    // An ELF loader passes no DTB; QEMU puts it at the start of RAM.
    fallback_dtb: Some(0x4000_0000),
    last_resort: &[],
    default_crashkernel: 2 << 20,
};

/// The same for the Image that is both kernels, which is larger than a capture kernel alone.
pub const BOARD_OF_BOTH: Board = Board {
    default_crashkernel: 4 << 20,
    ..BOARD
};
