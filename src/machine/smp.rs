// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting the other CPUs.

use core::sync::atomic::{AtomicPtr, Ordering};

use crate::arch;

static ENTRY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// First Rust function of a secondary CPU, on its own stacks with the kernel's tables.
pub(crate) extern "C" fn secondary_rust(slot: u64) -> ! {
    crate::percpu::install(slot as usize);
    let entry = ENTRY.load(Ordering::Acquire);
    if entry.is_null() {
        arch::halt();
    }
    crate::mmu::enter_address_space();
    // SAFETY: only `set_entry` stores here, and it stores a `fn(usize) -> !`.
    let entry = unsafe { core::mem::transmute::<*mut (), fn(usize) -> !>(entry) };
    entry(slot as usize)
}
