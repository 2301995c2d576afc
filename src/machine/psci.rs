// SPDX-License-Identifier: MIT OR Apache-2.0
//! PSCI (Arm DEN 0022): starting and stopping CPUs, reset, power off, through crate `smccc`.
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

use boot_config::dtb::Conduit;
use core::sync::atomic::{AtomicU8, Ordering};
use smccc::psci;
use smccc::{Hvc, Smc};

/// What PSCI answered, when it was no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No PSCI on this machine.
    Absent,
    /// The firmware's answer.
    Firmware(psci::Error),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Absent => f.write_str("this machine has no PSCI"),
            Self::Firmware(error) => write!(f, "PSCI: {error}"),
        }
    }
}

/// 0 none, 1 hvc, 2 smc.
static CONDUIT: AtomicU8 = AtomicU8::new(0);

/// Sets the conduit that the DTB names.
pub fn install(conduit: Option<Conduit>) {
    let value = match conduit {
        None => 0,
        Some(Conduit::Hvc) => 1,
        Some(Conduit::Smc) => 2,
    };
    CONDUIT.store(value, Ordering::Release);
}

/// Whether the machine has PSCI.
pub fn is_there() -> bool {
    CONDUIT.load(Ordering::Acquire) != 0
}

macro_rules! call {
    ($function:ident($($argument:expr),*)) => {
        match CONDUIT.load(Ordering::Acquire) {
            1 => psci::$function::<Hvc>($($argument),*).map_err(Error::Firmware),
            2 => psci::$function::<Smc>($($argument),*).map_err(Error::Firmware),
            _ => Err(Error::Absent),
        }
    };
}

/// Starts the CPU `mpidr` at physical address `entry` with `context` in x0.
///
/// # Errors
/// What PSCI answered.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), Error> {
    call!(cpu_on(mpidr, entry, context))
}

/// Turns the calling CPU off. Returns only if PSCI refuses.
///
/// # Errors
/// What PSCI answered.
pub fn cpu_off() -> Result<(), Error> {
    call!(cpu_off())
}

/// Whether the CPU `mpidr` is off.
///
/// # Errors
/// What PSCI answered.
pub fn is_off(mpidr: u64) -> Result<bool, Error> {
    Ok(call!(affinity_info(mpidr, psci::LowestAffinityLevel::All))? == psci::AffinityState::Off)
}

/// Resets the machine. Returns only if PSCI refuses.
///
/// # Errors
/// What PSCI answered.
pub fn reset() -> Result<(), Error> {
    call!(system_reset())
}

/// Turns the machine off. Returns only if PSCI refuses.
///
/// # Errors
/// What PSCI answered.
pub fn power_off() -> Result<(), Error> {
    call!(system_off())
}
