// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory, line and clock of a machine that exists in tests only.
extern crate std;

use core::cell::Cell;
use std::vec::Vec;

use vmcore::{FaultCause, PhysMemory, PhysRange, ReadFault};

use crate::{Clock, Line};

/// One range of RAM, with addresses that cannot be read.
pub(crate) struct Ram {
    pub(crate) base: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) faults: Vec<PhysRange>,
    /// Addresses at which reads began.
    pub(crate) reads: Vec<u64>,
}

impl Ram {
    /// Returns `pages` pages of zeros at `base`.
    pub(crate) fn new(base: u64, pages: usize) -> Self {
        Self {
            base,
            bytes: std::vec![0; pages * 4096],
            faults: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Returns the bytes from physical address `pa` on.
    pub(crate) fn at(&mut self, pa: u64) -> &mut [u8] {
        &mut self.bytes[(pa - self.base) as usize..]
    }
}

impl PhysMemory for Ram {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        self.reads.push(pa);
        let end = pa.saturating_add(buf.len() as u64);
        let read = PhysRange { start: pa, end };
        if let Some(fault) = self.faults.iter().find(|fault| fault.overlaps(&read)) {
            return Err(ReadFault {
                address: fault.start.max(pa),
                cause: FaultCause::SyncExternalAbort,
            });
        }
        let found = pa
            .checked_sub(self.base)
            .and_then(|at| self.bytes.get(at as usize..)?.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(ReadFault {
            address: pa,
            cause: FaultCause::NotRam,
        })?);
        Ok(())
    }
}

/// A line that nobody answers, and that takes whatever is written.
impl Line for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.extend_from_slice(bytes);
        bytes.len()
    }

    fn read(&mut self) -> Option<u8> {
        None
    }
}

/// A line that takes so many bytes and then no more.
pub(crate) struct Stuck(pub(crate) usize);

impl Line for Stuck {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        taken
    }

    fn read(&mut self) -> Option<u8> {
        None
    }
}

/// A clock that goes on by a millisecond, 62,500 ticks, whenever it is looked at.
#[derive(Default)]
pub(crate) struct Looked(Cell<u64>);

impl Clock for Looked {
    fn ticks(&self) -> u64 {
        self.0.set(self.0.get() + 62_500);
        self.0.get()
    }
}
