// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory, line and clock of a machine that exists in tests only.
extern crate std;

use std::vec::Vec;

use vmcore::{FaultCause, PhysMemory, PhysRange, ReadFault};

use crate::{Clock, Error, Line};

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

impl Line for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A line that takes so many bytes and then no more.
pub(crate) struct Stuck(pub(crate) usize);

impl Line for Stuck {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Error::LineStuck {
                accepted: self.0,
                offered: bytes.len(),
            }),
        }
    }
}

/// A clock that stands still.
pub(crate) struct Stopped;

impl Clock for Stopped {
    fn ticks(&self) -> u64 {
        62_500_000
    }
}
