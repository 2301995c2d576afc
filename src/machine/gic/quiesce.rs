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

use super::{GICR_SGI_FRAME, OWN_REDISTRIBUTOR, REDISTRIBUTOR_LEN, block, distributor, v2};
use crate::arch::Deadline;
use crate::gic_v2::{GICD_CTLR, lines};
use crate::gic_v3::{quiesce_word, stop_lpis};

/// Longest wait for a redistributor to have written its pending LPIs out.
const LPIS_US: u64 = 10_000;

/// Clears, masks and disables everything that this CPU can reach: nothing active or pending is left to the next
/// kernel (E17). In the crash path: no lock, and no wait but a short one for LPIs.
pub fn quiesce() {
    if let Some(v2) = v2() {
        v2.quiesce();
    } else if let Some(distributor) = distributor() {
        for word in 1..=lines(&distributor) {
            quiesce_word(&distributor, 0, word);
        }
        for own in &OWN_REDISTRIBUTOR {
            if let Some(redistributor) = block(own, REDISTRIBUTOR_LEN) {
                quiesce_word(&redistributor, GICR_SGI_FRAME, 0);
                let deadline = Deadline::after_us(LPIS_US);
                stop_lpis(&redistributor, || !deadline.is_past());
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
    if let Some(v2) = v2() {
        v2.quiesce_own();
    }
}
