// SPDX-License-Identifier: MIT OR Apache-2.0
//! State on purpose that must not reach the next kernel: firing timers, debug, the PMU, interrupts, LPIs, the UART (E17, E33).
//!
//! For the moment before a provoked crash. Each function masks all of DAIF, so that nothing of it is taken before.

use core::arch::asm;

use crate::{arch, console, gic};

/// Writes a system register.
macro_rules! write_register {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers written here change neither translation nor what code may do; exceptions that they raise are masked.
        unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack, preserves_flags)) }
    }};
}

/// Both timers of EL1 fire, and EL0 may use them.
pub fn fire_timers() {
    arch::mask_all();
    write_register!("cntv_cval_el0", 0);
    write_register!("cntv_ctl_el0", 1);
    write_register!("cntp_cval_el0", 0);
    write_register!("cntp_ctl_el0", 1);
    write_register!("cntkctl_el1", 0x303);
}

/// Asks a hypervisor that takes any `hvc` for it (tests/el2_shim.s) to make an SError pending. Without one `hvc` is undefined.
pub fn raise_serror() {
    // SAFETY: the one that answers clobbers x16 only.
    unsafe { asm!("hvc #0", "isb", out("x16") _, options(nostack)) };
}

/// The same, masked.
pub fn leave_serror() {
    arch::mask_all();
    raise_serror();
}

/// A breakpoint on `code`, a watchpoint on `data`, both for EL1, debug exceptions enabled there.
pub fn enable_debug(code: u64, data: u64) {
    arch::mask_all();
    write_register!("oslar_el1", 0);
    write_register!("dbgbvr0_el1", code & !3);
    // Enabled, at EL1, all four bytes.
    write_register!("dbgbcr0_el1", 0xf << 5 | 1 << 1 | 1);
    write_register!("dbgwvr0_el1", data & !7);
    // Enabled, at EL1, loads and stores, all eight bytes.
    write_register!("dbgwcr0_el1", 0xff << 5 | 3 << 3 | 1 << 1 | 1);
    // MDE and KDE.
    write_register!("mdscr_el1", 1 << 15 | 1 << 13);
}

/// The cycle counter runs, is about to overflow, and that raises an interrupt. Nothing where there is no PMU.
pub fn enable_pmu() {
    arch::mask_all();
    if !arch::has_pmu() {
        return;
    }
    write_register!("pmccntr_el0", u64::MAX - 0x1000);
    write_register!("pmintenset_el1", 1 << 31);
    write_register!("pmcntenset_el0", 1 << 31);
    write_register!("pmuserenr_el0", 0xf);
    // E and LC.
    write_register!("pmcr_el0", 1 << 6 | 1);
}

/// Interrupts are enabled and pending, one is active without having been taken, one was acknowledged and never ended.
pub fn leave_interrupts() {
    arch::mask_all();
    gic::leave_interrupts();
}

/// A GICv3's redistributor takes LPIs, its tables at `tables`: 128 KiB of RAM, aligned to 64 KiB. Nothing on others.
pub fn enable_lpis(tables: u64) {
    arch::mask_all();
    gic::enable_lpis(tables);
}

/// The console's UART raises every interrupt, asks for DMA and loops back what it sends.
pub fn disturb_console() {
    arch::mask_all();
    console::disturb();
}
