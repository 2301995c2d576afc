// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `info` tells of the CPUs' system registers and floating-point registers.

use serde_json::{Value, json};
use vmcore::afterimage_notes::SysRegId;

use crate::contents::Contents;

/// Registers in a line.
const IN_A_LINE: usize = 3;

fn name(id: SysRegId) -> String {
    // MRS takes this form of any register.
    let SysRegId(code) = id;
    id.name().map_or_else(
        || {
            format!(
                "S{}_{}_C{}_C{}_{}",
                code >> 14 & 3,
                code >> 11 & 7,
                code >> 7 & 15,
                code >> 3 & 15,
                code & 7
            )
        },
        str::to_owned,
    )
}

/// Returns the system registers of each CPU, a few a line.
#[must_use]
pub fn sysreg_lines(contents: &Contents<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (cpu, level, values) in &contents.sysregs {
        for part in values.chunks(IN_A_LINE) {
            let part = part
                .iter()
                .map(|r| format!("{} {:#x}", name(r.id), r.value));
            let part: Vec<String> = part.collect();
            lines.push(format!("CPU {cpu} EL{level}: {}", part.join(", ")));
        }
    }
    let without = contents.stops.iter().filter(|stop| {
        let mut with = contents.sysregs.iter();
        !with.any(|(cpu, _, _)| *cpu == stop.cpu)
    });
    lines.extend(without.map(|stop| format!("CPU {}: none ({})", stop.cpu, stop.status.name())));
    lines
}

/// Returns the same for `--json`.
#[must_use]
pub fn sysregs_json(contents: &Contents<'_>) -> Vec<Value> {
    let of_cpu = contents.sysregs.iter().map(|(cpu, level, values)| {
        let named = values.iter().map(|r| (name(r.id), json!(r.value)));
        let named: serde_json::Map<String, Value> = named.collect();
        json!({ "cpu": cpu, "el": level, "values": named })
    });
    of_cpu.collect()
}

/// Returns which CPUs had floating point enabled, a line each.
#[must_use]
pub fn fp_lines(contents: &Contents<'_>) -> Vec<String> {
    let lines = contents.fp.iter().map(|(pid, fp)| {
        let [v0, v1, ..] = fp.v;
        format!(
            "pid {pid}: fpsr {:#x}, fpcr {:#x}, v0 {v0:#x}, v1 {v1:#x}; gdb shows all",
            fp.fpsr, fp.fpcr
        )
    });
    lines.collect()
}

/// Returns the floating-point registers for `--json`; vectors in hexadecimal, since numbers there have 64 bits at most.
#[must_use]
pub fn fp_json(contents: &Contents<'_>) -> Vec<Value> {
    let of_pid = contents.fp.iter().map(|(pid, fp)| {
        let vectors: Vec<String> = fp.v.iter().map(|v| format!("{v:#x}")).collect();
        json!({ "pid": pid, "fpsr": fp.fpsr, "fpcr": fp.fpcr, "v": vectors })
    });
    of_pid.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::afterimage_notes::{CpuStop, StopStatus, SysReg};

    #[test]
    fn registers_without_a_name_have_the_one_that_mrs_takes() {
        assert_eq!(name(SysRegId::new(3, 0, 15, 2, 1)), "S3_0_C15_C2_1");
        assert_eq!(name(SysRegId::ESR_EL1), "ESR_EL1");
    }

    #[test]
    fn cpu_without_registers_is_named_with_its_stop() {
        let contents = Contents {
            sysregs: vec![(
                0,
                1,
                vec![SysReg {
                    id: SysRegId::ESR_EL1,
                    value: 0x56,
                }],
            )],
            stops: vec![CpuStop {
                cpu: 1,
                status: StopStatus::NotResponding,
                mpidr: 1,
                waited_us: 5,
                is_off_confirmed: false,
                is_parked: false,
            }],
            ..Contents::default()
        };
        assert_eq!(
            sysreg_lines(&contents),
            ["CPU 0 EL1: ESR_EL1 0x56", "CPU 1: none (not-responding)"]
        );
    }
}
