// SPDX-License-Identifier: MIT OR Apache-2.0
//! What resets a board or watches it, where that is a device of its own.

use super::Dtb;
use super::error::DtbError;
use crate::range::PhysRange;

impl Dtb<'_> {
    /// Returns the power management of a BCM2835 or a successor, which resets the chip; `None` without one.
    ///
    /// # Errors
    /// Whatever is wrong with its registers.
    pub fn bcm2835_pm(&self) -> Result<Option<PhysRange>, DtbError> {
        self.registers_of("brcm,bcm2835-pm-wdt")
    }

    /// Returns the first watchdog of a Nuvoton NPCM7xx or NPCM8xx (nuvoton,npcm-wdt.yaml); `None` without one.
    ///
    /// # Errors
    /// Whatever is wrong with its registers.
    pub fn npcm_watchdog(&self) -> Result<Option<PhysRange>, DtbError> {
        self.registers_of("nuvoton,npcm750-wdt")
    }
}
