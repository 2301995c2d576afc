// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CPU's system registers and floating-point state, as they go into a dump.
//!
//! Saved by assembly (system_registers.s), by the CPU itself or, when it takes the stop request at EL2, by the stub.
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

/// Registers that are saved.
pub const COUNT: usize = IDS.len();
/// Those of the PMU, at the end, which a CPU may lack.
const PMU_COUNT: usize = 7;
/// Where ID_AA64DFR0_EL1 stands.
const DEBUG_FEATURES: usize = 7;

const fn id(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Encodings in the order that system_registers.s saves them in.
const IDS: [u16; 54] = [
    id(3, 0, 4, 1, 0),  // SP_EL0
    id(3, 4, 4, 1, 0),  // SP_EL1
    id(3, 0, 0, 0, 0),  // MIDR_EL1
    id(3, 0, 0, 0, 5),  // MPIDR_EL1
    id(3, 0, 0, 0, 6),  // REVIDR_EL1
    id(3, 0, 0, 4, 0),  // ID_AA64PFR0_EL1
    id(3, 0, 0, 4, 1),  // ID_AA64PFR1_EL1
    id(3, 0, 0, 5, 0),  // ID_AA64DFR0_EL1
    id(3, 0, 0, 6, 0),  // ID_AA64ISAR0_EL1
    id(3, 0, 0, 6, 1),  // ID_AA64ISAR1_EL1
    id(3, 0, 0, 7, 0),  // ID_AA64MMFR0_EL1
    id(3, 0, 0, 7, 1),  // ID_AA64MMFR1_EL1
    id(3, 0, 0, 7, 2),  // ID_AA64MMFR2_EL1
    id(3, 3, 0, 0, 1),  // CTR_EL0
    id(3, 1, 0, 0, 1),  // CLIDR_EL1
    id(3, 2, 0, 0, 0),  // CSSELR_EL1
    id(3, 0, 1, 0, 0),  // SCTLR_EL1
    id(3, 0, 1, 0, 1),  // ACTLR_EL1
    id(3, 0, 1, 0, 2),  // CPACR_EL1
    id(3, 0, 2, 0, 0),  // TTBR0_EL1
    id(3, 0, 2, 0, 1),  // TTBR1_EL1
    id(3, 0, 2, 0, 2),  // TCR_EL1
    id(3, 0, 4, 0, 0),  // SPSR_EL1
    id(3, 0, 4, 0, 1),  // ELR_EL1
    id(3, 0, 5, 1, 0),  // AFSR0_EL1
    id(3, 0, 5, 1, 1),  // AFSR1_EL1
    id(3, 0, 5, 2, 0),  // ESR_EL1
    id(3, 0, 6, 0, 0),  // FAR_EL1
    id(3, 0, 7, 4, 0),  // PAR_EL1
    id(3, 0, 10, 2, 0), // MAIR_EL1
    id(3, 0, 10, 3, 0), // AMAIR_EL1
    id(3, 0, 12, 0, 0), // VBAR_EL1
    id(3, 0, 12, 1, 0), // ISR_EL1
    id(3, 0, 13, 0, 1), // CONTEXTIDR_EL1
    id(3, 0, 13, 0, 4), // TPIDR_EL1
    id(3, 3, 13, 0, 2), // TPIDR_EL0
    id(3, 3, 13, 0, 3), // TPIDRRO_EL0
    id(3, 0, 14, 1, 0), // CNTKCTL_EL1
    id(3, 3, 14, 0, 0), // CNTFRQ_EL0
    id(3, 3, 14, 0, 1), // CNTPCT_EL0
    id(3, 3, 14, 0, 2), // CNTVCT_EL0
    id(3, 3, 14, 2, 1), // CNTP_CTL_EL0
    id(3, 3, 14, 2, 2), // CNTP_CVAL_EL0
    id(3, 3, 14, 3, 1), // CNTV_CTL_EL0
    id(3, 3, 14, 3, 2), // CNTV_CVAL_EL0
    id(2, 0, 0, 2, 2),  // MDSCR_EL1
    id(2, 0, 1, 1, 4),  // OSLSR_EL1
    id(3, 3, 9, 12, 0), // PMCR_EL0
    id(3, 3, 9, 12, 1), // PMCNTENSET_EL0
    id(3, 3, 9, 14, 3), // PMOVSSET_EL0
    id(3, 3, 9, 12, 5), // PMSELR_EL0
    id(3, 3, 9, 13, 0), // PMCCNTR_EL0
    id(3, 3, 9, 14, 0), // PMUSERENR_EL0
    id(3, 0, 9, 14, 1), // PMINTENSET_EL1
];

/// Registers by encoding (`op0<<14 | op1<<11 | CRn<<7 | CRm<<3 | op2`); encoding 0 marks one that this CPU lacks.
pub type SystemRegisters = [(u16, u64); COUNT];

/// Floating-point and SIMD state.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct FpState {
    /// V0 to V31.
    pub v: [u128; 32],
    /// FPSR.
    pub fpsr: u64,
    /// FPCR.
    pub fpcr: u64,
    is_saved: u64,
}

const _: () = assert!(size_of::<FpState>() == 544);

impl FpState {
    pub(crate) const NONE: Self = Self {
        v: [0; 32],
        fpsr: 0,
        fpcr: 0,
        is_saved: 0,
    };

    /// The state, if floating point was enabled.
    pub fn saved(&self) -> Option<&Self> {
        (self.is_saved != 0).then_some(self)
    }
}

/// Gives saved values their encodings.
pub fn named(values: &[u64; COUNT]) -> SystemRegisters {
    let version = values
        .get(DEBUG_FEATURES)
        .map_or(0, |value| value >> 8 & 0xf);
    let has_pmu = !matches!(version, 0 | 0xf);
    let mut named = [(0, 0); COUNT];
    let there = if has_pmu { COUNT } else { COUNT - PMU_COUNT };
    let pairs = IDS.iter().zip(values).take(there);
    for (place, (id, value)) in named.iter_mut().zip(pairs) {
        *place = (*id, *value);
    }
    named
}

#[cfg(target_os = "none")]
mod save {
    use super::{COUNT, FpState, SystemRegisters, named};

    unsafe extern "C" {
        fn system_registers_save(to: *mut u64);
        fn fp_registers_save(to: *mut FpState);
    }

    /// This CPU's system registers.
    pub fn read() -> SystemRegisters {
        let mut values = [0; COUNT];
        // SAFETY: the assembly writes one word for each of the COUNT registers at most, and changes no register but those that
        // a call may.
        unsafe { system_registers_save(values.as_mut_ptr()) };
        named(&values)
    }

    /// This CPU's floating-point state; `saved()` of it is `None` where that is not enabled. Neither kernel's own code uses it.
    pub fn read_fp() -> FpState {
        let mut state = FpState::NONE;
        // SAFETY: the assembly writes the fields of the struct, or nothing.
        unsafe { fp_registers_save(&raw mut state) };
        state
    }
}
#[cfg(target_os = "none")]
pub use save::{read, read_fp};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_a_pmu_are_there_only_with_one() {
        let mut values = [7; COUNT];
        for (version, count) in [(0, COUNT - PMU_COUNT), (0xf, COUNT - PMU_COUNT), (4, COUNT)] {
            values[DEBUG_FEATURES] = version << 8;
            let named = named(&values);
            assert_eq!(named.iter().filter(|(id, _)| *id != 0).count(), count);
        }
    }

    #[test]
    fn floating_point_not_saved_is_none() {
        let mut state = FpState::NONE;
        assert!(state.saved().is_none());
        state.is_saved = 1;
        assert!(state.saved().is_some());
    }

    #[test]
    fn id_registers_stand_where_they_are_looked_for() {
        assert_eq!(IDS[DEBUG_FEATURES], id(3, 0, 0, 5, 0));
        let mut ids = IDS;
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "twice");
    }
}
