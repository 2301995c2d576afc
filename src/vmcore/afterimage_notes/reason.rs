// SPDX-License-Identifier: MIT OR Apache-2.0
//! The REASON note: what happened, where.

use super::{VERSION, coded_enum, payload, valid_prefix};
use crate::Error;
use crate::cursor::Writer;

coded_enum! {
    /// What made the kernel crash.
    CrashKind {
        /// `panic!` or a failed assertion.
        Panic = 1, "panic";
        /// A synchronous exception from the kernel's own code.
        Exception = 2, "exception";
        /// An SError interrupt.
        SError = 3, "serror";
        /// Magic SysRq `c`.
        SysRq = 4, "sysrq";
        /// The program asked for it.
        Api = 5, "api";
        /// A warning, with `panic_on_warn`.
        Warn = 6, "warn";
        /// A taint flag, with `panic_on_taint`.
        Taint = 7, "taint";
        /// A watchdog found no progress.
        Watchdog = 8, "watchdog";
        /// A stack ran into its guard page.
        StackOverflow = 9, "stack-overflow";
        /// An interrupt that nothing handles, or an FIQ that nobody sent.
        UnexpectedInterrupt = 10, "unexpected-interrupt";
        /// An instruction or access that stage 2 forbids.
        RegionProtection = 11, "region-protection";
        /// A CPU took no interrupts any more.
        HardLockup = 12, "hard-lockup";
        /// A CPU took interrupts, and its program made no progress.
        SoftLockup = 13, "soft-lockup";
        /// A CPU waits for a lock that it will not get.
        SpinLockup = 14, "spin-lockup";
        /// A thread of the program did not check in.
        HungTask = 15, "hung-task";
    }
}

/// The REASON payload.
///
/// Layout: version u32, kind u32, cpu u32, text length u32, pc u64, esr u64, far u64, counter u64, counter_hz u64, text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// What it was.
    pub kind: CrashKind,
    /// Number of the CPU that crashed.
    pub cpu: u32,
    /// Program counter at the fault.
    pub pc: u64,
    /// ESR_EL1, 0 without an exception.
    pub esr: u64,
    /// FAR_EL1, 0 without an exception.
    pub far: u64,
    /// The system counter at the crash.
    pub counter: u64,
    /// The counter's frequency in Hz.
    pub counter_hz: u64,
    /// The message; an empty one is allowed.
    pub text: &'a str,
}

impl<'a> Reason<'a> {
    /// Bytes before the text.
    pub const HEADER_LEN: usize = 56;

    /// Writes the payload, the text cut to what fits, and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when not even the fixed part fits.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let room = out.len().saturating_sub(Self::HEADER_LEN);
        let text = self.text.as_bytes();
        let text = valid_prefix(text.get(..room).unwrap_or(text));
        let mut writer = Writer::new(out);
        writer.u32(VERSION)?;
        writer.u32(self.kind.code())?;
        writer.u32(self.cpu)?;
        writer.u32(text.len() as u32)?;
        for value in [self.pc, self.esr, self.far, self.counter, self.counter_hz] {
            writer.u64(value)?;
        }
        writer.put(text.as_bytes())?;
        Ok(writer.offset())
    }

    /// Reads a payload; the text ends where it stops being UTF-8.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`].
    pub fn decode(desc: &'a [u8]) -> Result<Self, Error> {
        let mut reader = payload(desc)?;
        let kind = CrashKind::from_code(reader.u32()?);
        let cpu = reader.u32()?;
        let text_len = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        Ok(Self {
            kind,
            cpu,
            pc: reader.u64()?,
            esr: reader.u64()?,
            far: reader.u64()?,
            counter: reader.u64()?,
            counter_hz: reader.u64()?,
            text: valid_prefix(reader.take(text_len)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Reason<'static> = Reason {
        kind: CrashKind::Exception,
        cpu: 2,
        pc: 0xffff_8000_8000_1234,
        esr: 0x9600_0045,
        far: 0,
        counter: 0x0102,
        counter_hz: 62_500_000,
        text: "null",
    };

    #[test]
    fn reason_has_its_golden_bytes() {
        let mut out = [0xff; 60];
        assert_eq!(SAMPLE.encode(&mut out), Ok(60));
        #[rustfmt::skip]
        assert_eq!(out, [
            1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0,
            0x34, 0x12, 0, 0x80, 0, 0x80, 0xff, 0xff,
            0x45, 0, 0, 0x96, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
            2, 1, 0, 0, 0, 0, 0, 0,
            0xa0, 0xac, 0xb9, 0x03, 0, 0, 0, 0,
            b'n', b'u', b'l', b'l',
        ]);
        assert_eq!(Reason::decode(&out), Ok(SAMPLE));
    }

    #[test]
    fn reason_without_room_for_its_text_is_cut() {
        let mut out = [0; 58];
        assert_eq!(SAMPLE.encode(&mut out), Ok(58));
        assert_eq!(Reason::decode(&out).unwrap().text, "nu");
    }

    #[test]
    fn reason_without_room_for_its_header_is_refused() {
        assert!(SAMPLE.encode(&mut [0; 55]).is_err());
    }

    #[test]
    fn reason_with_text_past_its_end_is_refused() {
        let mut out = [0; 60];
        SAMPLE.encode(&mut out).unwrap();
        out[12] = 5;
        assert_eq!(
            Reason::decode(&out),
            Err(Error::Truncated {
                offset: 56,
                needed: 5,
                have: 4
            })
        );
    }

    #[test]
    fn reason_of_another_version_is_refused() {
        assert_eq!(Reason::decode(&[9, 0, 0, 0]), Err(Error::Version(9)));
    }

    #[test]
    fn crash_kind_unknown_is_kept() {
        assert_eq!(CrashKind::from_code(99).code(), 99);
    }
}
