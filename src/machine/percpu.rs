// SPDX-License-Identifier: MIT OR Apache-2.0
//! Per-CPU data, reached through TPIDR_EL1, and the stacks of each CPU.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::layout::{CRASH_STACK, EXCEPTION_STACK, GUARD, MAX_CPUS, STACK_OVERHEAD};

/// What a CPU knows of itself. The vectors read `crash_stack_top`.
#[repr(C)]
#[derive(Debug)]
pub struct PerCpu {
    /// Top of the crash stack (virtual).
    pub crash_stack_top: u64,
    /// CPU slot: 0 for the first CPU, then in DTB order.
    pub slot: usize,
}

/// Virtual addresses of one CPU's stacks, each `bottom..top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stacks {
    /// SP_EL0 at start.
    pub thread: (u64, u64),
    /// SP_EL1 at start.
    pub exception: (u64, u64),
    /// Top is where the crash path starts.
    pub crash: (u64, u64),
}

unsafe extern "C" {
    static stacks_begin: u8;
    static first_stack_top: u8;
    static stacks_end: u8;
}

/// Bytes of one CPU's stacks, guards included.
fn unit_len() -> usize {
    (&raw const first_stack_top).addr() - (&raw const stacks_begin).addr()
}

static SLOTS: [PerCpuSlot; MAX_CPUS] = [const { PerCpuSlot::new() }; MAX_CPUS];

#[repr(C)]
struct PerCpuSlot {
    crash_stack_top: AtomicU64,
    slot: AtomicU64,
}

impl PerCpuSlot {
    const fn new() -> Self {
        Self {
            crash_stack_top: AtomicU64::new(0),
            slot: AtomicU64::new(0),
        }
    }
}

const _: () = assert!(size_of::<PerCpuSlot>() == size_of::<PerCpu>());

/// Number of CPUs that this image has stacks for.
pub fn capacity() -> usize {
    let bytes = (&raw const stacks_end).addr() - (&raw const stacks_begin).addr();
    (bytes / unit_len()).min(MAX_CPUS)
}

/// The stacks of `slot`, or `None` past [`capacity`].
pub fn stacks(slot: usize) -> Option<Stacks> {
    if slot >= capacity() {
        return None;
    }
    let unit = (&raw const stacks_begin).addr() + slot * unit_len();
    let thread_len = unit_len() - STACK_OVERHEAD;
    let thread = unit + GUARD;
    let exception = thread + thread_len + GUARD;
    let crash = exception + EXCEPTION_STACK + GUARD;
    let span = |bottom: usize, len: usize| (bottom as u64, (bottom + len) as u64);
    Some(Stacks {
        thread: span(thread, thread_len),
        exception: span(exception, EXCEPTION_STACK),
        crash: span(crash, CRASH_STACK),
    })
}

/// Makes `slot` the identity of the running CPU. Slots past the capacity are not started by `smp`.
pub(crate) fn install(slot: usize) {
    let top = stacks(slot).map_or(0, |stacks| stacks.crash.1);
    if let Some(entry) = SLOTS.get(slot) {
        entry.crash_stack_top.store(top, Ordering::Relaxed);
        entry.slot.store(slot as u64, Ordering::Relaxed);
        // SAFETY: the slot is static; only this module and the vectors interpret TPIDR_EL1.
        unsafe { crate::arch::write_tpidr_el1(core::ptr::from_ref(entry).addr() as u64) };
    }
}

/// This CPU's data. Slot 0's when a corrupted TPIDR_EL1 names none of ours.
pub fn current() -> PerCpu {
    let address = crate::arch::read_tpidr_el1();
    let entry = SLOTS
        .iter()
        .find(|entry| core::ptr::from_ref(*entry).addr() as u64 == address)
        .unwrap_or(&SLOTS[0]);
    PerCpu {
        crash_stack_top: entry.crash_stack_top.load(Ordering::Relaxed),
        slot: entry.slot.load(Ordering::Relaxed) as usize,
    }
}

/// Number of the running CPU's slot.
pub fn current_slot() -> usize {
    current().slot
}
