// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a board decides that its DTB does not say.

pub use boot_config::dtb::UartModel;
pub use machine::arch::CpuPart;

/// A UART to say on that there is no DTB, on a board whose CPU is `part`: one Image may serve several boards.
#[derive(Clone, Copy, Debug)]
pub struct LastResort {
    /// Model of the CPU, which tells the boards apart.
    pub part: CpuPart,
    /// What the UART is: a PL011 or a mini UART.
    pub model: UartModel,
    /// Physical address of its registers, as a DTB would give it.
    pub address: u64,
}

/// A board's policy.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Name, for the first line of output.
    pub name: &'static str,
    /// Physical address of a PL011 that may be used before the DTB is read; `None` prints nothing until then.
    pub early_pl011: Option<u64>,
    /// Where to look for a DTB when x0 holds none (an ELF loader).
    pub fallback_dtb: Option<u64>,
    /// Where to say that x0 holds no DTB, on a board that has no `early_pl011`: on each that fits the CPU.
    pub last_resort: &'static [LastResort],
    /// Size of the crash region in bytes when the command line does not say.
    pub default_crashkernel: u64,
}

impl Board {
    /// Any machine that keeps the arm64 boot contract.
    pub const GENERIC: Self = Self {
        name: "arm64",
        early_pl011: None,
        fallback_dtb: None,
        last_resort: &[],
        default_crashkernel: 2 << 20,
    };
}
