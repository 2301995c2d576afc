// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaving the interrupt controller quiet for the next kernel (E17).
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

use super::state::{GICC_APR0, GICC_NSAPR0, GICR_CTLR};
use super::{
    GICC_CTLR, GICD_CTLR, GICD_IGROUPR, GICR_SGI_FRAME, OWN_REDISTRIBUTOR, REDISTRIBUTOR_LEN,
    block, cpu_interface, distributor, lines,
};
use crate::mmio::Block;

const GICD_ICENABLER: u64 = 0x180;
const GICD_ICPENDR: u64 = 0x280;
const GICD_ICACTIVER: u64 = 0x380;
pub(super) const GICR_CTLR_ENABLE_LPIS: u32 = 1;
const GICR_CTLR_RWP: u32 = 1 << 3;
/// Longest wait for a redistributor to have written its pending LPIs out.
const LPIS_US: u64 = 10_000;

/// Clears, masks and disables everything that this CPU can reach: nothing active or pending is left to the next
/// kernel (E17). In the crash path: no lock, and no wait but a short one for LPIs.
pub fn quiesce() {
    let Some(distributor) = distributor() else {
        return;
    };
    let first = u64::from(cpu_interface().is_none());
    for word in first..=lines(distributor) {
        quiesce_word(distributor, 0, word);
    }
    if let Some(interface) = cpu_interface() {
        distributor.write(GICD_CTLR, 0);
        // As at reset (IHI 0048, 4.3.4): Linux never writes the groups of a GICv2, and enables Group 0 only. On a GICv3 it writes them all.
        for word in 0..=lines(distributor) {
            distributor.write(register_at(0, GICD_IGROUPR, word), 0);
        }
        interface.write(GICC_APR0, 0);
        interface.write(GICC_NSAPR0, 0);
        interface.write(GICC_CTLR, 0);
    } else {
        for own in &OWN_REDISTRIBUTOR {
            if let Some(redistributor) = block(own, REDISTRIBUTOR_LEN) {
                quiesce_word(redistributor, GICR_SGI_FRAME, 0);
                stop_lpis(redistributor);
            }
        }
        distributor.write(GICD_CTLR, distributor.read(GICD_CTLR) & !0b111);
        // SAFETY: clears this CPU's active priorities (ICC_AP1R0, ICC_AP0R0) and its group enables; no memory effect.
        unsafe {
            asm!(
                "msr S3_0_C12_C9_0, xzr",
                "msr S3_0_C12_C8_4, xzr",
                "msr S3_0_C12_C12_7, xzr",
                "msr S3_0_C12_C12_6, xzr",
                "isb",
                options(nostack)
            );
        }
    }
}

/// Leaves the interrupts of this CPU alone, before it turns itself off, as [`quiesce`] does for the CPU that crashed: on a GICv2 no other CPU
/// reaches them.
pub fn quiesce_own() {
    if let (Some(distributor), Some(_)) = (distributor(), cpu_interface()) {
        quiesce_word(distributor, 0, 0);
        distributor.write(GICD_IGROUPR, 0);
    }
}

/// Offset of the register for the interrupts from 32 × `word` on.
pub(super) const fn register_at(frame: u64, register: u64, word: u64) -> u64 {
    frame
        .wrapping_add(register)
        .wrapping_add(word.wrapping_mul(4))
}

fn quiesce_word(registers: Block, frame: u64, word: u64) {
    for register in [GICD_ICENABLER, GICD_ICACTIVER, GICD_ICPENDR] {
        registers.write(register_at(frame, register, word), u32::MAX);
    }
}

/// Has a redistributor write its pending LPIs out now, instead of under the next kernel's hands. Some never let go of them
/// (IHI 0069, GICR_CTLR.EnableLPIs); then the note of the controller's state says so.
fn stop_lpis(redistributor: Block) {
    let control = redistributor.read(GICR_CTLR);
    if control & GICR_CTLR_ENABLE_LPIS == 0 {
        return;
    }
    redistributor.write(GICR_CTLR, control & !GICR_CTLR_ENABLE_LPIS);
    let deadline = crate::arch::Deadline::after_us(LPIS_US);
    while redistributor.read(GICR_CTLR) & GICR_CTLR_RWP != 0 && !deadline.is_past() {
        core::hint::spin_loop();
    }
}
