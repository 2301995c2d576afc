// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller, of either kind: a GIC, or what a BCM2836 has.
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

use core::sync::atomic::{AtomicU64, Ordering};

use crate::bcm2836::Bcm2836;
use crate::mmio::Block;
use crate::mmu::AddressSpace;
use crate::{arch, gic};

pub use crate::gic::{Error, STOP_INTID};

/// Where the interrupt controller's registers are (physical).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// A GIC.
    Gic(gic::Location),
    /// The two controllers of a BCM2836; the second one is for devices.
    Bcm2836 {
        /// The local controller.
        local: u64,
        /// The shared controller, if the DTB has it.
        shared: Option<u64>,
    },
}

/// Bytes of the local controller's registers, and of the shared one's.
const LOCAL_LEN: u64 = 0x100;
const SHARED_LEN: u64 = 0x200;

/// Virtual addresses of a BCM2836's controllers, 0 when absent, and the physical one of the first. Written once by `map`.
static LOCAL: AtomicU64 = AtomicU64::new(0);
static SHARED: AtomicU64 = AtomicU64::new(0);
static LOCAL_PHYSICAL: AtomicU64 = AtomicU64::new(0);

fn bcm2836() -> Option<Bcm2836<Block>> {
    let block = |address: &AtomicU64, len| {
        let base = address.load(Ordering::Acquire);
        // SAFETY: only `map` stores here, addresses that `map_device` mapped for good.
        (base != 0).then(|| unsafe { Block::new(base, len) })
    };
    Some(Bcm2836 {
        local: block(&LOCAL, LOCAL_LEN)?,
        shared: block(&SHARED, SHARED_LEN),
    })
}

/// Number of the running core: the chip has one cluster.
fn core_number() -> u64 {
    arch::mpidr_affinity() & 0xff
}

/// Physical address of a BCM2836's local controller, 0 without one.
pub(crate) fn bcm2836_physical() -> u64 {
    LOCAL_PHYSICAL.load(Ordering::Acquire)
}

/// Maps the registers.
///
/// # Errors
/// The page tables are used up or an address cannot be mapped.
pub fn map(space: &mut AddressSpace, location: Location) -> Result<(), Error> {
    match location {
        Location::Gic(location) => gic::map(space, location),
        Location::Bcm2836 { local, shared } => {
            if let Some(shared) = shared {
                let mapped = space.map_device(shared, SHARED_LEN).map_err(Error::Map)?;
                SHARED.store(mapped, Ordering::Release);
            }
            let mapped = space.map_device(local, LOCAL_LEN).map_err(Error::Map)?;
            LOCAL_PHYSICAL.store(local, Ordering::Release);
            LOCAL.store(mapped, Ordering::Release);
            Ok(())
        }
    }
}

/// Sets up what all CPUs share. On the first CPU, before [`init_cpu`].
///
/// # Errors
/// See [`Error`].
pub fn init() -> Result<(), Error> {
    match bcm2836() {
        // A boot loader may have left something on.
        Some(chip) => {
            chip.quiesce();
            Ok(())
        }
        None => gic::init(),
    }
}

/// Sets up this CPU's part.
///
/// # Errors
/// See [`Error`].
pub fn init_cpu() -> Result<(), Error> {
    match bcm2836() {
        Some(chip) => {
            chip.init_core(core_number());
            Ok(())
        }
        None => gic::init_cpu(),
    }
}

/// Enables an interrupt on this CPU, or a shared one towards this CPU (on a BCM2836 towards the first one).
///
/// # Errors
/// The id does not exist, or the driver refused.
pub fn enable(intid: u32, is_edge: bool) -> Result<(), Error> {
    match bcm2836() {
        Some(chip) if chip.exists(intid) => {
            chip.enable(core_number(), intid);
            Ok(())
        }
        Some(_) => Err(Error::InterruptId(intid)),
        None => gic::enable(intid, is_edge),
    }
}

/// Takes the next interrupt (on a GICv2 it may be the stop request, too); `None` when it was spurious.
pub fn acknowledge() -> Option<u32> {
    match bcm2836() {
        Some(chip) => chip.pending(core_number()),
        None => gic::acknowledge(),
    }
}

/// Ends an interrupt.
pub fn end(intid: u32) {
    if bcm2836().is_none() {
        gic::end(intid);
    }
}

/// Takes and ends what was taken as FIQ, at EL1. Returns its id.
pub fn take_fiq() -> Option<u32> {
    match bcm2836() {
        Some(chip) => chip.take_stop(core_number()).then_some(STOP_INTID),
        None => gic::take_group0(),
    }
}

/// Asks all other CPUs to stop.
pub fn send_stop() {
    match bcm2836() {
        Some(chip) => {
            // What was written before is visible first.
            arch::barrier();
            chip.send_stop(core_number());
        }
        None => gic::send_stop(),
    }
}

/// Clears, masks and disables everything that this CPU can reach. In the crash path: no lock, and no wait but a short one for LPIs.
pub fn quiesce() {
    match bcm2836() {
        Some(chip) => chip.quiesce(),
        None => gic::quiesce(),
    }
}

/// Leaves the interrupts of this CPU alone, before it turns itself off. Those of a BCM2836 the CPU that crashed reaches, too.
pub fn quiesce_own() {
    if bcm2836().is_none() {
        gic::quiesce_own();
    }
}
