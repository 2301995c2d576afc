// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `info` tells of the interrupt controller: which interrupts were enabled, pending or active when the kernel crashed.
//!
//! Offsets are those of the GIC's distributor (IHI 0048 and IHI 0069); a redistributor's second frame has the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vmcore::afterimage_notes::{GicPart, GicRegister, SysRegId};

use crate::contents::Contents;

/// The second frame of a redistributor.
const SGI_FRAME: u32 = 0x1_0000;
/// Registers of a bit each, and what the bit says.
const GROUP: u32 = 0x80;
const ENABLED: u32 = 0x100;
const PENDING: u32 = 0x200;
const ACTIVE: u32 = 0x300;
/// A byte each.
const PRIORITY: u32 = 0x400;
/// Interrupts that there can be without LPIs.
const INTERRUPTS: u32 = 1024;
/// Those that each CPU has of its own.
const PRIVATE: u32 = 32;

/// An interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Interrupt {
    is_group1: bool,
    is_enabled: bool,
    is_pending: bool,
    is_active: bool,
    priority: u8,
}

impl Interrupt {
    const fn is_of_interest(&self) -> bool {
        self.is_enabled || self.is_pending || self.is_active
    }

    fn state(&self) -> String {
        let words = [
            (self.is_enabled, "enabled"),
            (self.is_pending, "pending"),
            (self.is_active, "active"),
        ];
        let words = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Interrupts by CPU (`None` for those that all share) and number.
type Interrupts = BTreeMap<(Option<u32>, u32), Interrupt>;

fn interrupts(registers: &[GicRegister]) -> Interrupts {
    let mut found = Interrupts::new();
    for register in registers {
        let offset = match register.part {
            GicPart::Distributor => register.offset,
            GicPart::Redistributor if register.offset >= SGI_FRAME => {
                register.offset.wrapping_sub(SGI_FRAME)
            }
            _ => continue,
        };
        take(&mut found, register.cpu, offset, register.value);
    }
    found.retain(|_, interrupt| interrupt.is_of_interest());
    found
}

/// Takes in a register of 32 bits or 4 bytes.
fn take(found: &mut Interrupts, cpu: u32, offset: u32, value: u64) {
    let mut at = |number: u32, set: &dyn Fn(&mut Interrupt)| {
        if number < INTERRUPTS {
            let owner = (number < PRIVATE).then_some(cpu);
            set(found.entry((owner, number)).or_default());
        }
    };
    if (PRIORITY..PRIORITY + INTERRUPTS).contains(&offset) {
        for (number, priority) in (offset - PRIORITY..).zip(value.to_le_bytes()).take(4) {
            at(number, &|interrupt| interrupt.priority = priority);
        }
        return;
    }
    let base = offset & !0x7f;
    let first = (offset & 0x7f).saturating_mul(8);
    for bit in (0..32).filter(|bit| value >> bit & 1 != 0) {
        let number = first.saturating_add(bit);
        at(number, &|interrupt| match base {
            GROUP => interrupt.is_group1 = true,
            ENABLED => interrupt.is_enabled = true,
            PENDING => interrupt.is_pending = true,
            ACTIVE => interrupt.is_active = true,
            _ => {}
        });
    }
}

/// Returns the name of a register that is no interrupt's.
fn name(register: &GicRegister) -> Option<&'static str> {
    match (register.part, register.offset) {
        (GicPart::Distributor, 0) => Some("GICD_CTLR"),
        (GicPart::Distributor, 4) => Some("GICD_TYPER"),
        (GicPart::Redistributor, 0) => Some("GICR_CTLR"),
        (GicPart::Redistributor, 8) => Some("GICR_TYPER"),
        (GicPart::Redistributor, 0x14) => Some("GICR_WAKER"),
        (GicPart::Redistributor, 0x70) => Some("GICR_PROPBASER"),
        (GicPart::Redistributor, 0x78) => Some("GICR_PENDBASER"),
        (GicPart::CpuInterface, 0) => Some("GICC_CTLR"),
        (GicPart::CpuInterface, 4) => Some("GICC_PMR"),
        (GicPart::CpuInterface, 8) => Some("GICC_BPR"),
        (GicPart::CpuInterface, 0x14) => Some("GICC_RPR"),
        (GicPart::CpuInterface, 0x18) => Some("GICC_HPPIR"),
        (GicPart::CpuInterface, 0xd0) => Some("GICC_APR0"),
        (GicPart::CpuInterface, 0xe0) => Some("GICC_NSAPR0"),
        (GicPart::SystemRegister, encoding) => SysRegId(encoding).name(),
        _ => None,
    }
}

/// Returns the interrupts that were enabled, pending or active, a line each, and the controller's other registers.
#[must_use]
pub fn interrupt_lines(contents: &Contents<'_>) -> Vec<String> {
    let Some((version, registers)) = &contents.gic else {
        return Vec::new();
    };
    let named = registers.iter().filter_map(|register| {
        let name = name(register)?;
        Some(format!("CPU {} {name} {:#x}", register.cpu, register.value))
    });
    let named: Vec<String> = named.collect();
    let mut lines: Vec<String> = named
        .chunks(3)
        .map(|part| format!("GICv{version}: {}", part.join(", ")))
        .collect();
    for ((cpu, number), interrupt) in interrupts(registers) {
        let whose = cpu.map_or_else(String::new, |cpu| format!(" of CPU {cpu}"));
        lines.push(format!(
            "{number}{whose}: {}, group {}, priority {:#04x}",
            interrupt.state(),
            u8::from(interrupt.is_group1),
            interrupt.priority
        ));
    }
    lines
}

/// Returns the same for `--json`; null when the dump does not say.
#[must_use]
pub fn interrupts_json(contents: &Contents<'_>) -> Value {
    let Some((version, registers)) = &contents.gic else {
        return Value::Null;
    };
    let list = interrupts(registers);
    let list = list.iter().map(|((cpu, number), interrupt)| {
        json!({
            "number": number, "cpu": cpu, "group": u8::from(interrupt.is_group1), "priority": interrupt.priority,
            "enabled": interrupt.is_enabled, "pending": interrupt.is_pending, "active": interrupt.is_active,
        })
    });
    let others = registers.iter().filter_map(|register| {
        let name = name(register)?;
        Some(json!({ "name": name, "cpu": register.cpu, "value": register.value }))
    });
    json!({
        "version": version,
        "interrupts": list.collect::<Vec<_>>(),
        "registers": others.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(part: GicPart, cpu: u32, offset: u32, value: u64) -> GicRegister {
        GicRegister {
            part,
            cpu,
            offset,
            value,
        }
    }

    fn contents(registers: Vec<GicRegister>) -> Contents<'static> {
        Contents {
            gic: Some((3, registers)),
            ..Contents::default()
        }
    }

    #[test]
    fn interrupt_of_a_cpu_and_a_shared_one_are_told() {
        let lines = interrupt_lines(&contents(vec![
            register(GicPart::Redistributor, 1, SGI_FRAME + ENABLED, 1 << 27),
            register(GicPart::Redistributor, 1, SGI_FRAME + PENDING, 1 << 27),
            register(
                GicPart::Redistributor,
                1,
                SGI_FRAME + PRIORITY + 24,
                0x8000_0000,
            ),
            register(GicPart::Distributor, 0, ACTIVE + 4, 2),
            register(GicPart::Distributor, 0, GROUP + 4, 2),
            register(GicPart::SystemRegister, 0, 0xc230, 0xf0),
        ]));
        assert_eq!(
            lines,
            [
                "GICv3: CPU 0 ICC_PMR_EL1 0xf0",
                "33: active, group 1, priority 0x00",
                "27 of CPU 1: enabled, pending, group 0, priority 0x80",
            ]
        );
    }

    #[test]
    fn registers_that_make_no_sense_are_left_out() {
        let odd = contents(vec![
            register(GicPart::Distributor, 0, u32::MAX, u64::MAX),
            register(GicPart::Redistributor, 0, 0x100, u64::MAX),
            register(GicPart::Other(77), 0, ENABLED, u64::MAX),
        ]);
        assert_eq!(interrupts_json(&odd)["interrupts"], json!([]));
        assert!(interrupt_lines(&Contents::default()).is_empty());
        assert_eq!(interrupts_json(&Contents::default()), Value::Null);
    }
}
