// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers of plain memory that remember what was written, in order: drivers are tested on them.
extern crate std;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

use crate::bcm2836::Registers;

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
