// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading out what the interrupt controller has enabled, pending and active, for a dump. In the crash path: no lock, no wait.
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

use core::arch::asm;

use vmcore::afterimage_notes::{GicPart, GicRegister};

use super::{OWN_REDISTRIBUTOR, block, cpu_interface, distributor};
use crate::gic_v2::{
    GICC_APR0, GICC_CTLR, GICC_NSAPR0, GICC_PMR, GICD_CTLR, GICD_IGROUPR, GICD_TYPER, lines,
};
use crate::gic_v3::{GICR_CTLR, GICR_SGI_FRAME, GICR_TYPER, REDISTRIBUTOR_LEN, register_at};
use crate::mmio::Block;

pub(super) const GICD_ISENABLER: u64 = 0x100;
pub(super) const GICD_ISPENDR: u64 = 0x200;
pub(super) const GICD_ISACTIVER: u64 = 0x300;
const GICD_IPRIORITYR: u64 = 0x400;
/// Registers of a bit for each interrupt.
const BITS: [u64; 4] = [GICD_IGROUPR, GICD_ISENABLER, GICD_ISPENDR, GICD_ISACTIVER];
const GICR_WAKER: u64 = 0x14;
pub(super) const GICR_PROPBASER: u64 = 0x70;
pub(super) const GICR_PENDBASER: u64 = 0x78;
const GICC_BPR: u64 = 8;
const GICC_RPR: u64 = 0x14;
const GICC_HPPIR: u64 = 0x18;

/// Version of the controller, 2 or 3; `None` without one.
pub fn version() -> Option<u64> {
    distributor()?;
    Some(if cpu_interface().is_some() { 2 } else { 3 })
}

/// Calls `each` with every register that says something of an interrupt; of those that are there for each interrupt, with those
/// that are not 0. The CPU interface is the running CPU's.
pub fn each_register(mut each: impl FnMut(GicRegister)) {
    let Some(distributor) = distributor() else {
        return;
    };
    let own = crate::percpu::current_slot() as u32;
    let mut say = |part, cpu, offset: u64, value: u64| {
        each(GicRegister {
            part,
            cpu,
            offset: offset as u32,
            value,
        });
    };
    for register in [GICD_CTLR, GICD_TYPER] {
        let value = u64::from(distributor.read(register));
        say(GicPart::Distributor, own, register, value);
    }
    let words = if cpu_interface().is_some() { 0 } else { 1 }..=lines(&distributor);
    each_interrupt_word(distributor, 0, words, |offset, value| {
        say(GicPart::Distributor, own, offset, value);
    });
    if let Some(interface) = cpu_interface() {
        for register in [
            GICC_CTLR,
            GICC_PMR,
            GICC_BPR,
            GICC_RPR,
            GICC_HPPIR,
            GICC_APR0,
            GICC_NSAPR0,
        ] {
            let value = u64::from(interface.read(register));
            say(GicPart::CpuInterface, own, register, value);
        }
        return;
    }
    for (cpu, place) in OWN_REDISTRIBUTOR.iter().enumerate() {
        let Some(registers) = block(place, REDISTRIBUTOR_LEN) else {
            continue;
        };
        let cpu = cpu as u32;
        for register in [GICR_CTLR, GICR_TYPER, GICR_WAKER] {
            let value = u64::from(registers.read(register));
            say(GicPart::Redistributor, cpu, register, value);
        }
        for register in [GICR_PROPBASER, GICR_PENDBASER] {
            let high = u64::from(registers.read(register.wrapping_add(4))) << 32;
            let value = high | u64::from(registers.read(register));
            say(GicPart::Redistributor, cpu, register, value);
        }
        each_interrupt_word(registers, GICR_SGI_FRAME, 0..=0, |offset, value| {
            say(GicPart::Redistributor, cpu, offset, value);
        });
    }
    for (encoding, value) in cpu_interface_registers() {
        say(GicPart::SystemRegister, own, u64::from(encoding), value);
    }
}

/// Calls `say` with the words that are not 0, of 32 interrupts each.
fn each_interrupt_word(
    registers: Block,
    frame: u64,
    words: core::ops::RangeInclusive<u64>,
    mut say: impl FnMut(u64, u64),
) {
    for word in words {
        for bits in BITS {
            let offset = register_at(frame, bits, word);
            let value = u64::from(registers.read(offset));
            if value != 0 {
                say(offset, value);
            }
        }
        for priorities in 0..8 {
            let offset = register_at(frame, GICD_IPRIORITYR, word.wrapping_mul(8) | priorities);
            let value = u64::from(registers.read(offset));
            if value != 0 {
                say(offset, value);
            }
        }
    }
}

/// ICC registers, by encoding. Under the stub those of Group 0 and the priorities are the virtual ones (FMO).
fn cpu_interface_registers() -> [(u16, u64); 9] {
    macro_rules! register {
        ($name:literal, $crn:literal, $crm:literal, $op2:literal) => {{
            let value: u64;
            // SAFETY: readable at EL1 without a side effect (IHI 0069, 12.2); only called on a GICv3.
            unsafe {
                asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags))
            };
            (3 << 14 | $crn << 7 | $crm << 3 | $op2, value)
        }};
    }
    [
        register!("S3_0_C4_C6_0", 4, 6, 0),     // ICC_PMR_EL1
        register!("S3_0_C12_C11_3", 12, 11, 3), // ICC_RPR_EL1
        register!("S3_0_C12_C12_4", 12, 12, 4), // ICC_CTLR_EL1
        register!("S3_0_C12_C12_5", 12, 12, 5), // ICC_SRE_EL1
        register!("S3_0_C12_C12_6", 12, 12, 6), // ICC_IGRPEN0_EL1
        register!("S3_0_C12_C12_7", 12, 12, 7), // ICC_IGRPEN1_EL1
        register!("S3_0_C12_C12_2", 12, 12, 2), // ICC_HPPIR1_EL1
        register!("S3_0_C12_C8_4", 12, 8, 4),   // ICC_AP0R0_EL1
        register!("S3_0_C12_C9_0", 12, 9, 0),   // ICC_AP1R0_EL1
    ]
}
