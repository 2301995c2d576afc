// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a board decides that its DTB does not say.

/// A board's policy.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Name, for the first line of output.
    pub name: &'static str,
    /// Physical address of a PL011 that may be used before the DTB is read; `None` prints nothing until then.
    pub early_pl011: Option<u64>,
    /// Where to look for a DTB when x0 holds none (an ELF loader).
    pub fallback_dtb: Option<u64>,
    /// Size of the crash region in bytes when the command line does not say.
    pub default_crashkernel: u64,
}

impl Board {
    /// Any machine that keeps the arm64 boot contract.
    pub const GENERIC: Self = Self {
        name: "arm64",
        early_pl011: None,
        fallback_dtb: None,
        default_crashkernel: 2 << 20,
    };
}
