// SPDX-License-Identifier: MIT OR Apache-2.0
//! The STOP note: how each CPU was stopped, so that its registers can be judged.

use super::coded_enum;
use super::list::Entry;
use crate::Error;
use crate::cursor::{Reader, Writer};

coded_enum! {
    /// How a CPU was stopped.
    StopStatus {
        /// It is the one that crashed.
        Crashed = 1, "crashed";
        /// It took the stop request as IRQ.
        StoppedByIrq = 2, "stopped-by-irq";
        /// It took the stop request as FIQ at EL1.
        StoppedByFiq = 3, "stopped-by-fiq";
        /// The stub took the stop request at EL2, whatever the CPU had masked.
        StoppedAtEl2 = 4, "stopped-at-el2";
        /// It did not answer in time: it may still run, and its registers are unknown.
        NotResponding = 5, "not-responding";
        /// It was never started.
        NeverStarted = 6, "never-started";
        /// It stopped itself, because it crashed while another one was winning.
        StoppedItself = 7, "stopped-itself";
    }
}

/// How one CPU was stopped.
///
/// Layout, 32 bytes: cpu u32, status u32, mpidr u64, waited u64 (microseconds), proof u32 (bit 0 off, bit 1 parked), reserved u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStop {
    /// The CPU's number.
    pub cpu: u32,
    /// How it was stopped.
    pub status: StopStatus,
    /// Its affinity, as in MPIDR_EL1.
    pub mpidr: u64,
    /// How long the crashing CPU waited for it, in microseconds.
    pub waited_us: u64,
    /// Whether PSCI AFFINITY_INFO said OFF.
    pub is_off_confirmed: bool,
    /// Whether it said that it came to the park loop, which lies in the crash region and which it never leaves.
    pub is_parked: bool,
}

impl Entry for CpuStop {
    const LEN: usize = 32;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.cpu)?;
        writer.u32(self.status.code())?;
        writer.u64(self.mpidr)?;
        writer.u64(self.waited_us)?;
        writer.u32(u32::from(self.is_off_confirmed) | u32::from(self.is_parked) << 1)?;
        writer.u32(0)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (cpu, status) = (reader.u32()?, StopStatus::from_code(reader.u32()?));
        let (mpidr, waited_us, proof) = (reader.u64()?, reader.u64()?, reader.u32()?);
        Ok(Self {
            cpu,
            status,
            mpidr,
            waited_us,
            is_off_confirmed: proof & 1 != 0,
            is_parked: proof & 2 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{Entries, ListWriter};
    use super::*;

    #[test]
    fn stop_has_its_golden_bytes() {
        let stop = CpuStop {
            cpu: 1,
            status: StopStatus::StoppedAtEl2,
            mpidr: 0x8000_0001,
            waited_us: 12,
            is_off_confirmed: true,
            is_parked: false,
        };
        let mut out = [0xff; 56];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        list.push(&stop).unwrap();
        assert_eq!(list.finish(), Ok(56));
        #[rustfmt::skip]
        assert_eq!(out[24..], [
            1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0x80, 0, 0, 0, 0,
            12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(Entries::<CpuStop>::decode(&out).unwrap().next(), Some(stop));
        // The same CPU, parked: the proof's bit 1.
        let parked = CpuStop {
            is_off_confirmed: false,
            is_parked: true,
            ..stop
        };
        let mut out = [0xff; 56];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        list.push(&parked).unwrap();
        assert_eq!((list.finish(), out[48]), (Ok(56), 2));
        let mut entries = Entries::<CpuStop>::decode(&out).unwrap();
        assert_eq!(entries.next(), Some(parked));
    }
}
