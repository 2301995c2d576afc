// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mapped block of 32-bit device registers, for accesses that the driver crates do not offer.

/// Registers at a virtual address that `AddressSpace::map_device` returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    base: u64,
    len: u64,
}

impl Block {
    /// # Safety
    /// `base..base + len` must be mapped as device registers for as long as the block is used.
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
