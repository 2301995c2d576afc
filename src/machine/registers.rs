// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of 32-bit registers, as drivers see them: a device's, or in tests a block of memory.

/// A block of 32-bit registers, by offset: the driver is tested without a device.
pub(crate) trait Registers {
    /// Reads a register; 0 outside the block.
    fn read(&self, offset: u64) -> u32;
    /// Writes a register; nothing outside the block.
    fn write(&self, offset: u64, value: u32);
}

#[cfg(test)]
pub(crate) mod fake {
    extern crate std;

    use super::Registers;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// Registers of plain memory that remember what was written, in order.
    #[derive(Debug, Default)]
    pub(crate) struct Fake {
        words: RefCell<BTreeMap<u64, u32>>,
        pub(crate) written: RefCell<Vec<(u64, u32)>>,
    }

    impl Fake {
        pub(crate) fn set(&self, offset: u64, value: u32) {
            self.words.borrow_mut().insert(offset, value);
        }
    }

    impl Registers for &Fake {
        fn read(&self, offset: u64) -> u32 {
            self.words.borrow().get(&offset).copied().unwrap_or(0)
        }
        fn write(&self, offset: u64, value: u32) {
            self.written.borrow_mut().push((offset, value));
            self.set(offset, value);
        }
    }
}
