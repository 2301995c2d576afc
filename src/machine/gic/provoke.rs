// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts left behind on purpose, for `provoke_state`.

use super::state::{GICD_ISACTIVER, GICD_ISENABLER, GICD_ISPENDR, GICR_PENDBASER, GICR_PROPBASER};
use super::{
    DISTRIBUTOR, GICR_SGI_FRAME, OWN_REDISTRIBUTOR, REDISTRIBUTOR_LEN, acknowledge, block,
    cpu_interface, distributor,
};
use crate::arch;
use crate::gic_v2::{GICD_CTLR, GICD_ITARGETSR, GICD_SGIR};
use crate::gic_v3::{GICR_CTLR, GICR_CTLR_ENABLE_LPIS};

/// Shared interrupts 40 to 47 enabled and pending, 48 active.
const PENDING: u32 = 0xff << 8;
const ACTIVE: u32 = 1 << 16;
/// A private interrupt that is made pending, taken, and not ended.
const TAKEN: u32 = 3;

/// See `provoke_state::leave_interrupts`.
pub(crate) fn leave_interrupts() {
    let Some(distributor) = distributor() else {
        return;
    };
    distributor.write(GICD_ISACTIVER + 4, ACTIVE);
    distributor.write(GICD_ISENABLER + 4, PENDING);
    if cpu_interface().is_some() {
        let own = distributor.read(GICD_ITARGETSR) & 0xff;
        for word in 0..2 {
            distributor.write(GICD_ITARGETSR + 40 + 4 * word, own * 0x0101_0101);
        }
        // To this CPU only.
        distributor.write(GICD_SGIR, 2 << 24 | 1 << 15 | TAKEN);
    } else if let Some(own) = OWN_REDISTRIBUTOR
        .get(crate::percpu::current_slot())
        .and_then(|own| block(own, REDISTRIBUTOR_LEN))
    {
        own.write(GICR_SGI_FRAME + GICD_ISENABLER, 1 << TAKEN);
        own.write(GICR_SGI_FRAME + GICD_ISPENDR, 1 << TAKEN);
    }
    // It is signalled within a moment.
    let deadline = arch::Deadline::after_us(1000);
    while acknowledge().is_none() && !deadline.is_past() {}
    distributor.write(GICD_ISPENDR + 4, PENDING);
    let _is_done = distributor.read(GICD_CTLR);
}

/// See `provoke_state::enable_lpis`.
pub(crate) fn enable_lpis(tables: u64) {
    if cpu_interface().is_some() || DISTRIBUTOR.load(core::sync::atomic::Ordering::Acquire) == 0 {
        return;
    }
    let own = OWN_REDISTRIBUTOR.get(crate::percpu::current_slot());
    let Some(own) = own.and_then(|own| block(own, REDISTRIBUTOR_LEN)) else {
        return;
    };
    // 14 bits of interrupt ids; configuration table first, pending table behind 64 KiB (IHI 0069, 12.11).
    let properties = tables | 13;
    let pending = tables + 0x1_0000;
    for (register, value) in [(GICR_PROPBASER, properties), (GICR_PENDBASER, pending)] {
        own.write(register, value as u32);
        own.write(register + 4, (value >> 32) as u32);
    }
    own.write(GICR_CTLR, own.read(GICR_CTLR) | GICR_CTLR_ENABLE_LPIS);
}
