// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who owns Group 0, whose SGI is the stop request (decision 5), and the groups that follow from it.

use core::sync::atomic::{AtomicBool, Ordering};

use arm_gic::InterruptGroup;

use super::STOP_INTID;
use crate::mmio::Block;

static OWNS_GROUP0: AtomicBool = AtomicBool::new(false);

/// Set when Group 0 is not to be asked for.
static IS_LEFT: AtomicBool = AtomicBool::new(false);

/// Does all as where firmware owns Group 0; before [`super::init`].
pub fn leave_group0() {
    IS_LEFT.store(true, Ordering::Release);
}

/// Groups of 32 interrupts of a GICv2: 1; where Group 0 is left alone, 0, which without FIQEn is signalled as IRQ by a GIC of one security
/// state, and is not ours to write by one of two.
pub(super) fn of_others() -> u32 {
    if IS_LEFT.load(Ordering::Acquire) {
        0
    } else {
        u32::MAX
    }
}

/// Whether the stop request can be a Group-0 SGI; known after [`super::init`].
pub fn owns_group0() -> bool {
    OWNS_GROUP0.load(Ordering::Acquire)
}

/// The group of one other interrupt of a GICv2.
pub(super) fn of_other() -> InterruptGroup {
    if IS_LEFT.load(Ordering::Acquire) {
        InterruptGroup::Group0
    } else {
        InterruptGroup::Group1
    }
}

/// Group 0 is ours when IGROUPR can be written and read back.
pub(super) fn probe(registers: Block, register: u64) {
    if IS_LEFT.load(Ordering::Acquire) {
        return;
    }
    let pattern = !(1 << STOP_INTID);
    registers.write(register, pattern);
    OWNS_GROUP0.store(registers.read(register) == pattern, Ordering::Release);
}
