// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting the other CPUs.

use core::sync::atomic::{AtomicPtr, Ordering};

use crate::arch;
use crate::boot::SecondaryArguments;
use crate::layout::MAX_CPUS;

static ENTRY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// First Rust function of a secondary CPU, on its own stacks with the kernel's tables.
pub(crate) extern "C" fn secondary_rust(slot: u64) -> ! {
    crate::percpu::install(slot as usize);
    let entry = ENTRY.load(Ordering::Acquire);
    if entry.is_null() {
        arch::halt();
    }
    crate::mmu::enter_address_space();
    // SAFETY: only `start` stores here, and it stores a `fn(usize) -> !`.
    let entry = unsafe { core::mem::transmute::<*mut (), fn(usize) -> !>(entry) };
    entry(slot as usize)
}

static ARGUMENTS: [spin::Mutex<SecondaryArguments>; MAX_CPUS] = [const {
    spin::Mutex::new(SecondaryArguments {
        slot: 0,
        stack_top: 0,
        tables: 0,
    })
}; MAX_CPUS];

/// Physical bounds of all CPUs' arguments, which the stub checks.
pub(crate) fn arguments_physical() -> [u64; 2] {
    let bounds = ARGUMENTS.as_ptr_range();
    [bounds.start.addr(), bounds.end.addr()].map(|address| crate::image::physical(address as u64))
}

/// Starts the CPU `mpidr` as `slot`, with its own stacks and the live tables; it runs `entry(slot)`.
///
/// # Errors
/// No stacks for the slot, or what PSCI answered.
pub fn start(slot: usize, mpidr: u64, entry: fn(usize) -> !) -> Result<(), StartError> {
    unsafe extern "C" {
        fn secondary_entry();
    }
    let stacks = crate::percpu::stacks(slot).ok_or(StartError::NoStacks { slot })?;
    let arguments = ARGUMENTS.get(slot).ok_or(StartError::NoStacks { slot })?;
    let mut arguments = arguments.lock();
    *arguments = SecondaryArguments {
        slot: slot as u64,
        stack_top: stacks.crash.1,
        tables: crate::mmu::root_table(),
    };
    ENTRY.store(entry as *mut (), Ordering::Release);
    // The CPU reads this with its MMU off.
    let address = core::ptr::from_ref(&*arguments).addr() as u64;
    arch::clean_invalidate(address, size_of::<SecondaryArguments>() as u64);
    let entry_physical = crate::image::physical((secondary_entry as *const ()).addr() as u64);
    crate::psci::cpu_on(mpidr, entry_physical, crate::image::physical(address))
        .map_err(StartError::Psci)
}

/// Why a CPU was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// More CPUs than the image has stacks for.
    NoStacks {
        /// Slot asked for.
        slot: usize,
    },
    /// What PSCI answered.
    Psci(crate::psci::Error),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoStacks { slot } => {
                write!(f, "CPU slot {slot}: this image has no stacks for it")
            }
            Self::Psci(error) => write!(f, "{error}"),
        }
    }
}
