// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting the running image anew, at its entry and with its DTB, as whoever loaded it did.
//!
//! Code and constants are not loaded again; initialised data is what it was, from the copy that boot keeps.
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

use crate::{arch, image};

unsafe extern "C" {
    static early_l0_low: u8;
    fn restart_image();
}

/// Enters the image at its physical address with the MMU off and the physical address `dtb` in x0. Works from any context.
pub(crate) fn restart(dtb: u64) -> ! {
    arch::mask_all();
    // SAFETY: this CPU is the only one that runs the image, all exceptions are masked, and what follows reads BSS only.
    unsafe { image::restore_data() };
    let bounds = image::bounds();
    // What survives has to be in memory, and no dirty line may come back over what boot writes with the MMU off.
    arch::clean_invalidate(bounds.begin, bounds.bss_end.saturating_sub(bounds.begin));
    let early = image::physical((&raw const early_l0_low).addr() as u64);
    // SAFETY: boot built the early identity map there, in BSS that nothing else uses.
    unsafe { arch::write_ttbr0(early) };
    let entry = image::physical((restart_image as *const ()).addr() as u64);
    // SAFETY: 1. The early identity map maps the code executable at its physical address. 2. It never returns. 3. x0 is what
    // the image was entered with.
    unsafe {
        asm!("br {}", in(reg) entry, in("x0") dtb, options(noreturn, nostack));
    }
}
