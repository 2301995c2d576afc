// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CPU's registers and the notes that carry them: NT_PRSTATUS, NT_FPREGSET.
//!
//! Layouts are Linux's `struct elf_prstatus` and `struct user_fpsimd_state` for arm64, which gdb's AArch64 core
//! reader expects to the byte.

use crate::Error;
use crate::cursor::{Reader, Writer};

/// Note type of [`PrStatus`], under the name `CORE`.
pub const NT_PRSTATUS: u32 = 1;
/// Note type of [`FpRegisters`], under the name `CORE`.
pub const NT_FPREGSET: u32 = 2;
/// Bytes of an NT_PRSTATUS payload; gdb takes no other size.
pub const PRSTATUS_LEN: usize = 392;
/// Bytes of an NT_FPREGSET payload.
pub const FPREGSET_LEN: usize = 528;
/// Bytes of [`Registers`] in any note: 34 words.
pub const REGISTERS_LEN: usize = 272;

/// pr_cursig lies after the three words of pr_info.
const CURSIG_OFFSET: usize = 12;
/// pr_pid follows pr_sigpend and pr_sighold.
const PID_OFFSET: usize = 32;
/// pr_reg follows the four ids and four times.
const REG_OFFSET: usize = 112;

/// The general registers, in the order of pr_reg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// x0 to x30.
    pub x: [u64; 31],
    /// The stack pointer that the code at `pc` used.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// The process state, as in SPSR_EL1.
    pub pstate: u64,
}

impl Registers {
    pub(crate) fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        for value in self.x {
            writer.u64(value)?;
        }
        writer.u64(self.sp)?;
        writer.u64(self.pc)?;
        writer.u64(self.pstate)
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let mut x = [0; 31];
        for value in &mut x {
            *value = reader.u64()?;
        }
        Ok(Self {
            x,
            sp: reader.u64()?,
            pc: reader.u64()?,
            pstate: reader.u64()?,
        })
    }
}

/// An NT_PRSTATUS payload: what is used of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrStatus {
    /// pr_pid: CPU number + 1 for a CPU, from 1001 for a thread; unique in a file, because gdb wants it so.
    pub pid: u32,
    /// pr_cursig: the signal gdb reports, 0 for none.
    pub signal: u16,
    /// pr_reg.
    pub registers: Registers,
}

impl PrStatus {
    /// Writes the payload and returns its length, [`PRSTATUS_LEN`].
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.zeros(CURSIG_OFFSET)?;
        writer.u16(self.signal)?;
        writer.zeros(PID_OFFSET - CURSIG_OFFSET - 2)?;
        writer.u32(self.pid)?;
        writer.zeros(REG_OFFSET - PID_OFFSET - 4)?;
        self.registers.put(&mut writer)?;
        writer.zeros(PRSTATUS_LEN - REG_OFFSET - REGISTERS_LEN)?;
        Ok(writer.offset())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::BadValue`] when its length is another than [`PRSTATUS_LEN`].
    pub fn decode(desc: &[u8]) -> Result<Self, Error> {
        if desc.len() != PRSTATUS_LEN {
            return Err(Error::BadValue {
                offset: 0,
                value: desc.len() as u64,
            });
        }
        let mut reader = Reader::new(desc);
        reader.take(CURSIG_OFFSET)?;
        let signal = reader.u16()?;
        reader.take(PID_OFFSET - CURSIG_OFFSET - 2)?;
        let pid = reader.u32()?;
        reader.take(REG_OFFSET - PID_OFFSET - 4)?;
        Ok(Self {
            pid,
            signal,
            registers: Registers::take(&mut reader)?,
        })
    }
}

/// An NT_FPREGSET payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FpRegisters {
    /// V0 to V31.
    pub v: [u128; 32],
    /// The floating-point status register.
    pub fpsr: u32,
    /// The floating-point control register.
    pub fpcr: u32,
}

impl FpRegisters {
    /// Writes the payload and returns its length, [`FPREGSET_LEN`].
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        for value in self.v {
            writer.u128(value)?;
        }
        writer.u32(self.fpsr)?;
        writer.u32(self.fpcr)?;
        writer.zeros(FPREGSET_LEN - 32 * 16 - 8)?;
        Ok(writer.offset())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::BadValue`] when its length is another than [`FPREGSET_LEN`].
    pub fn decode(desc: &[u8]) -> Result<Self, Error> {
        if desc.len() != FPREGSET_LEN {
            return Err(Error::BadValue {
                offset: 0,
                value: desc.len() as u64,
            });
        }
        let mut reader = Reader::new(desc);
        let mut v = [0; 32];
        for value in &mut v {
            *value = reader.u128()?;
        }
        Ok(Self {
            v,
            fpsr: reader.u32()?,
            fpcr: reader.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PrStatus {
        let x = core::array::from_fn(|n| 0x1000 + n as u64);
        PrStatus {
            pid: 3,
            signal: 11,
            registers: Registers {
                x,
                sp: 0x5050,
                pc: 0x9090,
                pstate: 0x3c5,
            },
        }
    }

    #[test]
    fn prstatus_fields_lie_at_linux_offsets() {
        let mut out = [0xff; PRSTATUS_LEN];
        assert_eq!(sample().encode(&mut out), Ok(392));
        assert_eq!(out[12..14], 11_u16.to_le_bytes());
        assert_eq!(out[32..36], 3_u32.to_le_bytes());
        assert_eq!(out[112..120], 0x1000_u64.to_le_bytes());
        assert_eq!(out[112 + 30 * 8..112 + 31 * 8], 0x101e_u64.to_le_bytes());
        assert_eq!(out[112 + 31 * 8..112 + 32 * 8], 0x5050_u64.to_le_bytes());
        assert_eq!(out[112 + 32 * 8..112 + 33 * 8], 0x9090_u64.to_le_bytes());
        assert_eq!(out[112 + 33 * 8..384], 0x3c5_u64.to_le_bytes());
        assert_eq!(out[384..], [0; 8]);
    }

    #[test]
    fn prstatus_round_trips() {
        let mut out = [0xff; PRSTATUS_LEN];
        sample().encode(&mut out).unwrap();
        assert_eq!(PrStatus::decode(&out), Ok(sample()));
    }

    #[test]
    fn prstatus_of_other_size_is_refused() {
        assert_eq!(
            PrStatus::decode(&[0; 391]),
            Err(Error::BadValue {
                offset: 0,
                value: 391
            })
        );
        assert_eq!(
            PrStatus::decode(&[0; 393]),
            Err(Error::BadValue {
                offset: 0,
                value: 393
            })
        );
    }

    #[test]
    fn prstatus_into_short_buffer_is_refused() {
        assert!(sample().encode(&mut [0; 391]).is_err());
    }

    #[test]
    fn fpregset_round_trips_at_528_bytes() {
        let registers = FpRegisters {
            v: core::array::from_fn(|n| n as u128),
            fpsr: 0x11,
            fpcr: 0x22,
        };
        let mut out = [0xff; FPREGSET_LEN];
        assert_eq!(registers.encode(&mut out), Ok(528));
        assert_eq!(out[512..520], [0x11, 0, 0, 0, 0x22, 0, 0, 0]);
        assert_eq!(FpRegisters::decode(&out), Ok(registers));
    }

    #[test]
    fn fpregset_of_other_size_is_refused() {
        assert!(FpRegisters::decode(&[0; 520]).is_err());
    }
}
