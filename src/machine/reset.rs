// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resetting the machine and turning it off: by PSCI, or where there is none by what the board has.
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

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use boot_config::Dtb;

use crate::arch::Deadline;
use crate::bcm2835_pm::Bcm2835Pm;
use crate::mmio::Block;
use crate::mmu::AddressSpace;
use crate::{emergency, psci, watchdog};

/// Bytes of the power management block that are used.
const PM_LEN: u64 = 0x28;
/// Longest wait for a reset.
const RESET_US: u64 = 1_000_000;

/// Virtual address of a BCM2835's power management, 0 without one.
static PM: AtomicU64 = AtomicU64::new(0);

/// Why the machine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// What PSCI answered.
    Psci(psci::Error),
    /// The power management was told to, and nothing happened.
    NothingHappened,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psci(error) => write!(f, "{error}"),
            Self::NothingHappened => f.write_str("the board's power management did nothing"),
        }
    }
}

pub(crate) fn pm() -> Option<Bcm2835Pm<Block>> {
    let base = PM.load(Ordering::Acquire);
    // SAFETY: only `install` stores here, an address at which `map_device` mapped the registers for good.
    (base != 0).then(|| Bcm2835Pm(unsafe { Block::new(base, PM_LEN) }))
}

/// Finds out from the DTB what there is. What is wrong with it is said, and then it counts as absent.
pub fn install(space: &mut AddressSpace, dtb: &Dtb<'_>) {
    match dtb.psci() {
        Ok(found) => psci::install(found.map(|psci| psci.conduit)),
        Err(error) => emergency!("Afterimage: PSCI: {error}\n"),
    }
    match dtb.bcm2835_pm() {
        Ok(None) => {}
        Ok(Some(range)) => match space.map_device(range.start, PM_LEN) {
            Ok(base) => PM.store(base, Ordering::Release),
            Err(error) => emergency!("Afterimage: power management: {error}\n"),
        },
        Err(error) => emergency!("Afterimage: device tree, power management: {error}\n"),
    }
    watchdog::install(space, dtb);
}

/// Resets the machine. Returns only if that is not possible.
///
/// # Errors
/// See [`Error`].
pub fn reset() -> Result<(), Error> {
    match pm().filter(|_| !psci::is_there()) {
        Some(pm) => {
            pm.reset();
            Err(wait())
        }
        None => psci::reset().map_err(Error::Psci),
    }
}

/// Turns the machine off. Returns only if that is not possible.
///
/// # Errors
/// See [`Error`].
pub fn power_off() -> Result<(), Error> {
    match pm().filter(|_| !psci::is_there()) {
        Some(pm) => {
            pm.power_off();
            Err(wait())
        }
        None => psci::power_off().map_err(Error::Psci),
    }
}

fn wait() -> Error {
    let deadline = Deadline::after_us(RESET_US);
    while !deadline.is_past() {
        core::hint::spin_loop();
    }
    Error::NothingHappened
}
