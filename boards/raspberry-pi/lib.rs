// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is particular to Raspberry Pi 3 and 4: where to say that there is no DTB. All else stands in it.
#![no_std]

use kernel::board::{Board, CpuPart, LastResort, UartModel};

const fn uart(part: CpuPart, model: UartModel, address: u64) -> LastResort {
    LastResort {
        part,
        model,
        address,
    }
}

/// Policy of the board.
pub const BOARD: Board = Board {
    name: "Raspberry Pi",
    early_pl011: None,
    fallback_dtb: None,
    // Both UARTs of each board: either may be the one on the header's pins (BCM2835 ARM Peripherals, 1.2.3; BCM2711, 1.2).
    last_resort: &[
        uart(CpuPart::CORTEX_A53, UartModel::Pl011, 0x3f20_1000),
        uart(CpuPart::CORTEX_A53, UartModel::Bcm2835Aux, 0x3f21_5040),
        uart(CpuPart::CORTEX_A72, UartModel::Pl011, 0xfe20_1000),
        uart(CpuPart::CORTEX_A72, UartModel::Bcm2835Aux, 0xfe21_5040),
    ],
    default_crashkernel: 4 << 20,
};
