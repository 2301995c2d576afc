// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done with the memory-mapped registers of a GICv3 beside the driver crate (Arm IHI 0069): finding a CPU's redistributor, and
//! leaving it quiet. Its distributor has a GICv2's registers for this.
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

use crate::registers::Registers;

/// Bytes of a redistributor; one of a GICv4 has as many more (GICR_TYPER.VLPIS).
pub(crate) const REDISTRIBUTOR_LEN: u64 = 0x2_0000;
/// The SGI and PPI frame of a redistributor lies behind its control frame.
pub(crate) const GICR_SGI_FRAME: u64 = 0x1_0000;
pub(crate) const GICR_CTLR: u64 = 0;
pub(crate) const GICR_TYPER: u64 = 8;
const GICR_TYPER_HIGH: u64 = 0xc;
const GICR_TYPER_VLPIS: u32 = 1 << 1;
const GICR_TYPER_LAST: u32 = 1 << 4;
pub(crate) const GICR_CTLR_ENABLE_LPIS: u32 = 1;
const GICR_CTLR_RWP: u32 = 1 << 3;

// The same in a GICv2's distributor.
const GICD_ICENABLER: u64 = 0x180;
const GICD_ICPENDR: u64 = 0x280;
const GICD_ICACTIVER: u64 = 0x380;

/// Offset of the register for the interrupts from 32 × `word` on.
pub(crate) const fn register_at(frame: u64, register: u64, word: u64) -> u64 {
    frame
        .wrapping_add(register)
        .wrapping_add(word.wrapping_mul(4))
}

/// Disables 32 interrupts; none of them stays active or pending.
pub(crate) fn quiesce_word(registers: &impl Registers, frame: u64, word: u64) {
    for register in [GICD_ICENABLER, GICD_ICACTIVER, GICD_ICPENDR] {
        registers.write(register_at(frame, register, word), u32::MAX);
    }
}

/// Offset of the redistributor of the CPU with this affinity (MPIDR_EL1) in a run of `span` bytes of them.
pub(crate) fn find_redistributor(all: &impl Registers, span: u64, mpidr: u64) -> Option<u64> {
    // Aff3 to Aff0, one byte each.
    let affinity = ((mpidr >> 32 & 0xff) << 24 | (mpidr & 0xff_ffff)) as u32;
    let mut offset = 0_u64;
    while offset.checked_add(REDISTRIBUTOR_LEN)? <= span {
        if all.read(offset.checked_add(GICR_TYPER_HIGH)?) == affinity {
            return Some(offset);
        }
        let kind = all.read(offset.checked_add(GICR_TYPER)?);
        if kind & GICR_TYPER_LAST != 0 {
            return None;
        }
        let frames = if kind & GICR_TYPER_VLPIS != 0 { 2 } else { 1 };
        offset = offset.checked_add(REDISTRIBUTOR_LEN.checked_mul(frames)?)?;
    }
    None
}

/// Has a redistributor write its pending LPIs out now, instead of under the next kernel's hands, while `may_wait`. Some never let go of them
/// (GICR_CTLR.EnableLPIs); then the note of the controller's state says so.
pub(crate) fn stop_lpis(redistributor: &impl Registers, mut may_wait: impl FnMut() -> bool) {
    let control = redistributor.read(GICR_CTLR);
    if control & GICR_CTLR_ENABLE_LPIS == 0 {
        return;
    }
    redistributor.write(GICR_CTLR, control & !GICR_CTLR_ENABLE_LPIS);
    while redistributor.read(GICR_CTLR) & GICR_CTLR_RWP != 0 && may_wait() {
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::fake::Fake;

    /// Redistributors of CPUs 0 to 3 of cluster 0 and one of cluster 1, the third with a GICv4's frames; GICR_TYPER as in IHI 0069, 12.11.34.
    fn redistributors() -> (Fake, u64) {
        let all = Fake::default();
        let mut at = 0;
        for (number, affinity) in [0, 1, 2, 3, 0x100].into_iter().enumerate() {
            let has_vlpis = number == 2;
            let last = u32::from(number == 4) << 4;
            all.set(
                at + 8,
                (number as u32) << 8 | last | u32::from(has_vlpis) << 1,
            );
            all.set(at + 0xc, affinity);
            at += if has_vlpis { 0x4_0000 } else { 0x2_0000 };
        }
        (all, at)
    }

    #[test]
    fn redistributor_is_found_by_affinity_behind_frames_of_a_gic_v4() {
        let (all, span) = redistributors();
        for (mpidr, offset) in [
            // With the bits of MPIDR_EL1 that are no affinity: RES1, MT.
            (0x8000_0000, Some(0)),
            (0x8100_0100, Some(0xa_0000)),
            (2, Some(0x4_0000)),
            (3, Some(0x8_0000)),
            (4, None),
            (1 << 32, None),
        ] {
            assert_eq!(find_redistributor(&&all, span, mpidr), offset, "{mpidr:#x}");
        }
    }

    #[test]
    fn search_ends_with_the_last_one_and_with_the_span() {
        let (all, span) = redistributors();
        all.set(0x2_0008, 1 << 4);
        assert_eq!(find_redistributor(&&all, span, 3), None);
        let (all, _) = redistributors();
        assert_eq!(find_redistributor(&&all, 0x8_0000, 3), None);
        assert_eq!(find_redistributor(&&all, 0, 0), None);
    }

    #[test]
    fn own_interrupts_are_quiet_in_their_frame() {
        let redistributor = Fake::default();
        quiesce_word(&&redistributor, GICR_SGI_FRAME, 0);
        let cleared = [0x1_0180, 0x1_0380, 0x1_0280].map(|register| (register, u32::MAX));
        assert_eq!(*redistributor.written.borrow(), cleared);
    }

    #[test]
    fn lpis_are_turned_off_and_waited_for_within_bounds() {
        let redistributor = Fake::default();
        redistributor.set(GICR_CTLR, 0);
        stop_lpis(&&redistributor, || panic!("nothing to wait for"));
        assert!(redistributor.written.borrow().is_empty());
        redistributor.set(GICR_CTLR, GICR_CTLR_ENABLE_LPIS | GICR_CTLR_RWP);
        let mut waits = 0;
        stop_lpis(&&redistributor, || {
            waits += 1;
            waits < 3
        });
        assert_eq!(*redistributor.written.borrow(), [(0, GICR_CTLR_RWP)]);
        assert_eq!(waits, 3);
    }
}
