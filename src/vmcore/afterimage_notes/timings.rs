// SPDX-License-Identifier: MIT OR Apache-2.0
//! The TIMINGS note: when the crash path reached which phase.

use super::coded_enum;
use super::list::Entry;
use crate::Error;
use crate::cursor::{Reader, Writer};

coded_enum! {
    /// A point in the crash path.
    Phase {
        /// The exception or panic was entered.
        Fault = 1, "fault";
        /// This CPU won.
        Won = 2, "won";
        /// The other CPUs are stopped, or given up.
        Stopped = 3, "stopped";
        /// The notes are written.
        Notes = 4, "notes";
        /// Interrupts and timers are quiet.
        Quiesced = 5, "quiesced";
        /// The capture image's digest was found right.
        Verified = 6, "verified";
        /// The jump.
        Jump = 7, "jump";
        /// The capture kernel's first instruction that can tell the time.
        CaptureEntry = 8, "capture-entry";
        /// The first frame.
        FirstFrame = 9, "first-frame";
        /// The last frame.
        LastFrame = 10, "last-frame";
    }
}

/// When a phase was reached.
///
/// Layout, 16 bytes: phase u32, reserved u32, ticks u64 (of the system counter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Which point.
    pub phase: Phase,
    /// The system counter then.
    pub ticks: u64,
}

impl Entry for Timing {
    const LEN: usize = 16;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.phase.code())?;
        writer.u32(0)?;
        writer.u64(self.ticks)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let phase = Phase::from_code(reader.u32()?);
        reader.u32()?;
        Ok(Self {
            phase,
            ticks: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::ListWriter;
    use super::*;

    #[test]
    fn timing_has_its_golden_bytes() {
        let mut out = [0xff; 40];
        let mut list = ListWriter::new(&mut out, 1000).unwrap();
        list.push(&Timing {
            phase: Phase::Jump,
            ticks: 0x0201,
        })
        .unwrap();
        assert_eq!(list.finish(), Ok(40));
        assert_eq!(out[16..24], 1000_u64.to_le_bytes());
        assert_eq!(out[24..], [7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
    }
}
