// SPDX-License-Identifier: MIT OR Apache-2.0
//! System registers, barriers and cache maintenance, each with the barrier its rule asks for.
//!
//! Register accesses of `aarch64-cpu` are `nomem`: they order nothing. Where order matters the barrier stands here.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use core::arch::asm;

/// Reads a system register that `aarch64-cpu` does not name.
macro_rules! read_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: every register this macro is used with is readable at EL1 without a side effect.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Waits for interrupts for ever; for a CPU that has nothing left to do.
pub fn halt() -> ! {
    mask_all();
    loop {
        aarch64_cpu::asm::wfi();
    }
}

/// Wakes CPUs that wait for an event (SEV).
pub(crate) fn send_event() {
    barrier();
    aarch64_cpu::asm::sev();
}

/// Waits for an interrupt, or for anything else that ends a WFI.
pub fn wait_for_interrupt() {
    aarch64_cpu::asm::wfi();
}

/// Masks D, A, I and F.
pub fn mask_all() {
    DAIF.write(DAIF::D::Masked + DAIF::A::Masked + DAIF::I::Masked + DAIF::F::Masked);
}

/// Completes all accesses before this one for every observer.
pub(crate) fn barrier() {
    barrier::dsb(barrier::SY);
}

/// Unmasks A (SError) and F (the stop request) and leaves I as it is.
pub fn unmask_serror_and_stop() {
    // SAFETY: unmasking only lets exceptions be taken; the vectors are installed before any Rust runs.
    unsafe { asm!("msr daifclr, #5", options(nomem, nostack, preserves_flags)) };
}

/// Unmasks A only.
pub fn unmask_serror() {
    // SAFETY: as above.
    unsafe { asm!("msr daifclr, #4", options(nomem, nostack, preserves_flags)) };
}

/// Masks interrupts; F and A stay open.
pub fn mask_irq() {
    // SAFETY: masking has no memory effect.
    unsafe { asm!("msr daifset, #2", options(nostack, preserves_flags)) };
}

/// Unmasks interrupts.
pub fn unmask_irq() {
    // SAFETY: as `unmask_serror_and_stop`.
    unsafe { asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
}

/// Whether interrupts are masked.
pub fn is_irq_masked() -> bool {
    DAIF.is_set(DAIF::I)
}

/// Runs `body` with interrupts masked and puts the mask back.
pub fn without_irq<T>(body: impl FnOnce() -> T) -> T {
    let was_masked = is_irq_masked();
    mask_irq();
    let result = body();
    if !was_masked {
        unmask_irq();
    }
    result
}

/// Counter of the generic timer (CNTVCT; the virtual offset is 0 here), read in order.
pub fn counter() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Ticks of [`counter`] in a second; 1 at least, so that it may divide.
pub fn counter_hz() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// Microseconds that `ticks` last.
pub fn ticks_to_us(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000 / u128::from(counter_hz())).min(u128::from(u64::MAX)) as u64
}

/// A point in time that a wait must not pass.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// `us` microseconds from now.
    pub fn after_us(us: u64) -> Self {
        let ticks = u128::from(us) * u128::from(counter_hz()) / 1_000_000;
        Self(counter().saturating_add(ticks.min(u128::from(u64::MAX)) as u64))
    }

    /// Whether it has passed.
    pub fn is_past(&self) -> bool {
        counter() >= self.0
    }
}

/// MPIDR affinity fields of the running CPU, as PSCI and the DTB name it.
pub fn mpidr_affinity() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

/// Model of a CPU of Arm's: the part number in MIDR_EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPart(pub u16);

impl CpuPart {
    /// Cortex-A53.
    pub const CORTEX_A53: Self = Self(0xd03);
    /// Cortex-A72.
    pub const CORTEX_A72: Self = Self(0xd08);

    /// Of the running CPU.
    pub fn current() -> Self {
        Self((read_register!("midr_el1") >> 4 & 0xfff) as u16)
    }
}

/// Whether this CPU has EL2 (ID_AA64PFR0_EL1.EL2): under QEMU's `secure=on` it need not, though it has EL3.
pub fn has_el2() -> bool {
    read_register!("id_aa64pfr0_el1") >> 8 & 0xf != 0
}

/// Physical address size of this CPU (ID_AA64MMFR0_EL1.PARange), at most 48 bits, as TCR.IPS and VTCR.PS take it.
pub(crate) fn physical_address_range() -> u64 {
    (read_register!("id_aa64mmfr0_el1") & 0xf).min(5)
}

/// Whether this CPU's GIC CPU interface is system registers (ID_AA64PFR0_EL1.GIC).
pub fn has_gic_registers() -> bool {
    read_register!("id_aa64pfr0_el1") >> 24 & 0xf != 0
}

/// Whether this CPU has the architecture's PMU (ID_AA64DFR0_EL1.PMUVer).
pub(crate) fn has_pmu() -> bool {
    !matches!(read_register!("id_aa64dfr0_el1") >> 8 & 0xf, 0 | 0xf)
}

pub(crate) fn read_tpidr_el1() -> u64 {
    TPIDR_EL1.get()
}

/// # Safety
/// `value` must be the address of a `percpu` slot: the vectors read through it.
pub(crate) unsafe fn write_tpidr_el1(value: u64) {
    TPIDR_EL1.set(value);
}

/// Sets TTBR0 and drops its old translations (Arm ARM D8.14: ISB, TLBI, DSB, ISB).
///
/// # Safety
/// `table` must be the physical address of a valid level-0 table, or of a page of zeros.
pub(crate) unsafe fn write_ttbr0(table: u64) {
    barrier::dsb(barrier::ISHST);
    TTBR0_EL1.set(table);
    barrier::isb(barrier::SY);
    flush_tlb_local();
}

/// Drops all EL1 translations of this CPU.
pub(crate) fn flush_tlb_local() {
    // SAFETY: dropping translations only makes the CPU walk the tables again.
    unsafe {
        asm!(
            "dsb nshst",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Drops all EL1 translations of every CPU in the inner-shareable domain.
pub(crate) fn flush_tlb_all() {
    // SAFETY: as `flush_tlb_local`.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi vmalle1is",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Makes new (formerly invalid) descriptors visible to the walker.
pub(crate) fn publish_tables() {
    // SAFETY: barriers.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// Sets SCTLR_EL1.WXN: nothing writable is executable.
///
/// # Safety
/// The running code must not lie in a writable mapping.
pub(crate) unsafe fn forbid_writable_code() {
    SCTLR_EL1.modify(SCTLR_EL1::WXN::Enable);
    barrier::isb(barrier::SY);
    flush_tlb_local();
}

/// Data cache line size in bytes (CTR_EL0.DminLine).
fn cache_line() -> u64 {
    4 << (read_register!("ctr_el0") >> 16 & 0xf)
}

/// Cleans and invalidates `start..start + bytes` (virtual) to the point of coherency.
pub fn clean_invalidate(start: u64, bytes: u64) {
    let line = cache_line();
    let mut address = start & !(line - 1);
    let end = start.saturating_add(bytes);
    while address < end {
        // SAFETY: cleaning writes back what the cache holds; it changes no value a program can see. An unmapped address
        // faults like a load would, and callers pass mapped ranges.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address = address.saturating_add(line);
    }
    // SAFETY: barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Invalidates the whole instruction cache in the inner-shareable domain.
pub fn invalidate_instructions() {
    // SAFETY: instructions are fetched again from memory.
    unsafe {
        asm!(
            "dsb ish",
            "ic ialluis",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}
