// SPDX-License-Identifier: MIT OR Apache-2.0
//! The SYSREGS note: system registers of one CPU, by encoding.

use super::Entries;
use super::list::{Entry, ListWriter};
use crate::Error;
use crate::cursor::{Reader, Writer};

/// A system register's encoding: `op0 << 14 | op1 << 11 | CRn << 7 | CRm << 3 | op2`, as in MRS and in KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysRegId(pub u32);

impl SysRegId {
    /// Returns the encoding of these fields, each cut to its width.
    #[must_use]
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7))
    }
}

/// Names encodings; the numbers are those of the Arm Architecture Reference Manual (DDI 0487), section D24.
macro_rules! register_names {
    ($($name:ident = $op0:literal, $op1:literal, $crn:literal, $crm:literal, $op2:literal;)+) => {
        impl SysRegId {
            $(
                #[doc = concat!("The register ", stringify!($name), ".")]
                pub const $name: Self = Self::new($op0, $op1, $crn, $crm, $op2);
            )+

            /// Returns the register's name, when this version knows it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)+
                    _ => None,
                }
            }

            /// All registers that have a name here.
            pub const NAMED: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

register_names! {
    MIDR_EL1 = 3, 0, 0, 0, 0;
    MPIDR_EL1 = 3, 0, 0, 0, 5;
    REVIDR_EL1 = 3, 0, 0, 0, 6;
    ID_AA64PFR0_EL1 = 3, 0, 0, 4, 0;
    ID_AA64PFR1_EL1 = 3, 0, 0, 4, 1;
    ID_AA64DFR0_EL1 = 3, 0, 0, 5, 0;
    ID_AA64ISAR0_EL1 = 3, 0, 0, 6, 0;
    ID_AA64ISAR1_EL1 = 3, 0, 0, 6, 1;
    ID_AA64MMFR0_EL1 = 3, 0, 0, 7, 0;
    ID_AA64MMFR1_EL1 = 3, 0, 0, 7, 1;
    ID_AA64MMFR2_EL1 = 3, 0, 0, 7, 2;
    CTR_EL0 = 3, 3, 0, 0, 1;
    CLIDR_EL1 = 3, 1, 0, 0, 1;
    CSSELR_EL1 = 3, 2, 0, 0, 0;
    SCTLR_EL1 = 3, 0, 1, 0, 0;
    ACTLR_EL1 = 3, 0, 1, 0, 1;
    CPACR_EL1 = 3, 0, 1, 0, 2;
    TTBR0_EL1 = 3, 0, 2, 0, 0;
    TTBR1_EL1 = 3, 0, 2, 0, 1;
    TCR_EL1 = 3, 0, 2, 0, 2;
    SPSR_EL1 = 3, 0, 4, 0, 0;
    ELR_EL1 = 3, 0, 4, 0, 1;
    SP_EL0 = 3, 0, 4, 1, 0;
    SPSEL = 3, 0, 4, 2, 0;
    CURRENTEL = 3, 0, 4, 2, 2;
    ICC_PMR_EL1 = 3, 0, 4, 6, 0;
    DAIF = 3, 3, 4, 2, 1;
    SP_EL1 = 3, 4, 4, 1, 0;
    AFSR0_EL1 = 3, 0, 5, 1, 0;
    AFSR1_EL1 = 3, 0, 5, 1, 1;
    ESR_EL1 = 3, 0, 5, 2, 0;
    ERRIDR_EL1 = 3, 0, 5, 3, 0;
    DISR_EL1 = 3, 0, 12, 1, 1;
    FAR_EL1 = 3, 0, 6, 0, 0;
    PAR_EL1 = 3, 0, 7, 4, 0;
    PMCR_EL0 = 3, 3, 9, 12, 0;
    PMCNTENSET_EL0 = 3, 3, 9, 12, 1;
    PMSELR_EL0 = 3, 3, 9, 12, 5;
    PMCCNTR_EL0 = 3, 3, 9, 13, 0;
    PMUSERENR_EL0 = 3, 3, 9, 14, 0;
    PMINTENSET_EL1 = 3, 0, 9, 14, 1;
    PMOVSSET_EL0 = 3, 3, 9, 14, 3;
    MAIR_EL1 = 3, 0, 10, 2, 0;
    AMAIR_EL1 = 3, 0, 10, 3, 0;
    VBAR_EL1 = 3, 0, 12, 0, 0;
    ICC_RPR_EL1 = 3, 0, 12, 11, 3;
    ICC_CTLR_EL1 = 3, 0, 12, 12, 4;
    ICC_SRE_EL1 = 3, 0, 12, 12, 5;
    ICC_IGRPEN0_EL1 = 3, 0, 12, 12, 6;
    ICC_IGRPEN1_EL1 = 3, 0, 12, 12, 7;
    ICC_HPPIR1_EL1 = 3, 0, 12, 12, 2;
    ICC_AP0R0_EL1 = 3, 0, 12, 8, 4;
    ICC_AP1R0_EL1 = 3, 0, 12, 9, 0;
    ISR_EL1 = 3, 0, 12, 1, 0;
    CONTEXTIDR_EL1 = 3, 0, 13, 0, 1;
    TPIDR_EL1 = 3, 0, 13, 0, 4;
    TPIDR_EL0 = 3, 3, 13, 0, 2;
    TPIDRRO_EL0 = 3, 3, 13, 0, 3;
    CNTKCTL_EL1 = 3, 0, 14, 1, 0;
    CNTFRQ_EL0 = 3, 3, 14, 0, 0;
    CNTPCT_EL0 = 3, 3, 14, 0, 1;
    CNTVCT_EL0 = 3, 3, 14, 0, 2;
    CNTP_CTL_EL0 = 3, 3, 14, 2, 1;
    CNTP_CVAL_EL0 = 3, 3, 14, 2, 2;
    CNTV_CTL_EL0 = 3, 3, 14, 3, 1;
    CNTV_CVAL_EL0 = 3, 3, 14, 3, 2;
    MDSCR_EL1 = 2, 0, 0, 2, 2;
    OSLSR_EL1 = 2, 0, 1, 1, 4;
    HCR_EL2 = 3, 4, 1, 1, 0;
    ESR_EL2 = 3, 4, 5, 2, 0;
    FAR_EL2 = 3, 4, 6, 0, 0;
    HPFAR_EL2 = 3, 4, 6, 0, 4;
    ELR_EL2 = 3, 4, 4, 0, 1;
    SPSR_EL2 = 3, 4, 4, 0, 0;
}

/// A register and its value.
///
/// Layout, 16 bytes: encoding u32, reserved u32, value u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysReg {
    /// Which register.
    pub id: SysRegId,
    /// What it held.
    pub value: u64,
}

impl Entry for SysReg {
    const LEN: usize = 16;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.id.0)?;
        writer.u32(0)?;
        writer.u64(self.value)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let id = SysRegId(reader.u32()?);
        reader.u32()?;
        Ok(Self {
            id,
            value: reader.u64()?,
        })
    }
}

/// Starts the SYSREGS payload of CPU number `cpu`, which ran at exception level `el`.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn new_sysregs(out: &mut [u8], cpu: u32, el: u32) -> Result<ListWriter<'_, SysReg>, Error> {
    ListWriter::new(out, u64::from(el) << 32 | u64::from(cpu))
}

/// Returns the CPU number and exception level of a SYSREGS payload.
#[must_use]
pub fn cpu_of(entries: &Entries<'_, SysReg>) -> (u32, u32) {
    let argument = entries.argument();
    (argument as u32, (argument >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysregs_have_their_golden_bytes() {
        let mut out = [0xff; 40];
        let mut list = new_sysregs(&mut out, 3, 1).unwrap();
        list.push(&SysReg {
            id: SysRegId::ESR_EL1,
            value: 0x9600_0045,
        })
        .unwrap();
        assert_eq!(list.finish(), Ok(40));
        assert_eq!(out[..8], [1, 0, 0, 0, 1, 0, 0, 0]);
        #[rustfmt::skip]
        assert_eq!(out[12..], [
            16, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0,
            0x90, 0xc2, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 0x96, 0, 0, 0, 0,
        ]);
        let mut entries = Entries::<SysReg>::decode(&out).unwrap();
        assert_eq!(cpu_of(&entries), (3, 1));
        assert_eq!(entries.next().unwrap().id.name(), Some("ESR_EL1"));
    }

    #[test]
    fn register_encoding_is_the_mrs_field() {
        // MRS x0, ESR_EL1 is 0xd5385200: bits 5 to 20 are op0 to op2.
        assert_eq!(SysRegId::ESR_EL1.0, 0xd538_5200 >> 5 & 0xffff);
    }

    #[test]
    fn register_names_are_unambiguous() {
        let mut ids = std::vec::Vec::from(SysRegId::NAMED);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), SysRegId::NAMED.len());
    }

    #[test]
    fn register_without_a_name_has_none() {
        assert_eq!(SysRegId(0).name(), None);
    }
}
