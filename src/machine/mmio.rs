// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapped device registers, for accesses that the driver crates do not offer: blocks of 32-bit ones, and a 16550's.

use crate::ns16550::Port;
use crate::registers::Registers;

/// Registers at a virtual address that `AddressSpace::map_device` returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    base: u64,
    len: u64,
}

impl Block {
    /// # Safety
    /// `base..base + len` must be mapped as device registers for as long as the block is used, or be memory that nothing refers to.
    pub(crate) const unsafe fn new(base: u64, len: u64) -> Self {
        Self { base, len }
    }

    /// The register at `offset`; `None` outside the block.
    fn at(&self, offset: u64) -> Option<*mut u32> {
        let is_inside =
            offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= self.len);
        is_inside.then_some((self.base + offset) as *mut u32)
    }

    /// Reads a register; 0 outside the block.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        // SAFETY: inside the block, which `new`'s caller vouched for.
        self.at(offset)
            .map_or(0, |register| unsafe { register.read_volatile() })
    }

    /// Writes a register; nothing outside the block.
    pub(crate) fn write(&self, offset: u64, value: u32) {
        if let Some(register) = self.at(offset) {
            // SAFETY: as in `read`.
            unsafe { register.write_volatile(value) };
        }
    }

    /// Virtual address of the first register.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }
}

impl Registers for Block {
    fn read(&self, offset: u64) -> u32 {
        Block::read(self, offset)
    }

    fn write(&self, offset: u64, value: u32) {
        Block::write(self, offset, value);
    }
}

/// The eight registers of a mapped 16550.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    base: u64,
    shift: u32,
    is_wide: bool,
}

impl Ports {
    /// Most that `reg-shift` may say: registers a page apart are none of a 16550.
    pub(crate) const MAX_SHIFT: u32 = 8;

    /// Registers `1 << shift` bytes apart from `base` on, four bytes wide if `is_wide`, else one.
    ///
    /// # Safety
    /// `base` must be mapped as device registers for `8 << shift` bytes for as long as the ports are used, `shift` be at most
    /// [`Self::MAX_SHIFT`] and, if `is_wide`, at least 2, with `base` a multiple of 4.
    pub(crate) const unsafe fn new(base: u64, shift: u32, is_wide: bool) -> Self {
        Self {
            base,
            shift,
            is_wide,
        }
    }

    fn at(&self, number: u8) -> u64 {
        let offset = u64::from(number & 7).wrapping_shl(self.shift);
        self.base.wrapping_add(offset)
    }
}

impl Port for Ports {
    fn read(&self, number: u8) -> u8 {
        let at = self.at(number);
        if self.is_wide {
            // SAFETY: one of the registers that `new`'s caller vouched for, of this width.
            return unsafe { (at as *const u32).read_volatile() } as u8;
        }
        // SAFETY: as above.
        unsafe { (at as *const u8).read_volatile() }
    }

    fn write(&self, number: u8, value: u8) {
        let at = self.at(number);
        if self.is_wide {
            // SAFETY: as in `read`.
            return unsafe { (at as *mut u32).write_volatile(u32::from(value)) };
        }
        // SAFETY: as in `read`.
        unsafe { (at as *mut u8).write_volatile(value) }
    }
}
