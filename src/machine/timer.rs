// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generic timer's virtual timer (Arm ARM D12), used as the periodic tick.

use aarch64_cpu::registers::*;

use crate::arch;

/// Raises the timer's interrupt `us` microseconds from now.
pub fn arm_after_us(us: u64) {
    let ticks = u128::from(us) * u128::from(arch::counter_hz()) / 1_000_000;
    let at = arch::counter().saturating_add(ticks.min(u128::from(u64::MAX)) as u64);
    CNTV_CVAL_EL0.set(at);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
}

/// Stops both timers of this CPU.
pub fn stop() {
    CNTV_CTL_EL0.set(0);
    CNTP_CTL_EL0.set(0);
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}
