// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the stub would do its part at a crash, asked while nothing has crashed.

use super::{CrashRegion, IDENTITY, stub};
use crate::arch;
use crate::exceptions::copy_guarded;

impl CrashRegion {
    /// Whether the stub answers a call, and stage 2 refuses a read of the region that stage 1 maps. `true` without a stub.
    ///
    /// With interrupts masked: TTBR0 is the crash path's for a moment.
    pub fn is_stub_good(&self) -> bool {
        if !stub::is_installed() {
            return true;
        }
        // SAFETY: the identity tables were built in the region by `prepare`; the walker does not need the region to be mapped
        // at stage 2 to fault on it.
        unsafe { arch::write_ttbr0(self.page(IDENTITY.first)) };
        let mut bytes = Aligned([0; 16]);
        let is_refused = copy_guarded(&mut bytes.0, self.start()).is_err();
        crate::mmu::empty_ttbr0();
        is_refused && stub::answers()
    }
}

#[repr(C, align(16))]
struct Aligned([u8; 16]);
