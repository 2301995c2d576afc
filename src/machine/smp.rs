// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting the other CPUs.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::arch;
use crate::boot::SecondaryArguments;
use crate::layout::MAX_CPUS;
use crate::ram::ReleaseWord;
use crate::region::stub;

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

/// Affinity of each slot's CPU; [`NO_CPU`] for none.
static AFFINITIES: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(NO_CPU) }; MAX_CPUS];
const NO_CPU: u64 = u64::MAX;

/// Affinity and physical address of the arguments of each CPU that a spin table sends to `spin_table_entry`, which reads this with its
/// MMU off.
#[repr(C, align(64))]
pub(crate) struct SpinTable([[AtomicU64; 2]; MAX_CPUS]);
pub(crate) static SPIN_TABLE: SpinTable =
    SpinTable([const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS]);

/// Notes which CPU is which, before the crash region is protected: the stub tells CPUs apart by this.
pub fn set_affinity(slot: usize, mpidr: u64) {
    if let Some(place) = AFFINITIES.get(slot) {
        place.store(mpidr, Ordering::Release);
    }
}

pub(crate) fn affinities() -> [u64; MAX_CPUS] {
    AFFINITIES.each_ref().map(|it| it.load(Ordering::Acquire))
}

/// How a CPU is started.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// By PSCI's CPU_ON.
    Psci,
    /// By the word that it polls.
    SpinTable(ReleaseWord),
}

/// Longest wait for a CPU to come from its spin table to the region.
const GATHER_US: u64 = 1_000_000;

/// Has the CPU of `slot` leave its boot loader's spin table for the stub's, in the crash region, out of this kernel's reach. Nothing happens
/// without a stub.
///
/// # Errors
/// It did not come.
pub fn gather(slot: usize, release: ReleaseWord) -> Result<(), StartError> {
    let Some(pen) = stub::pen_entry() else {
        return Ok(());
    };
    release.release(pen);
    let deadline = arch::Deadline::after_us(GATHER_US);
    while !stub::is_waiting(slot) {
        if deadline.is_past() {
            return Err(StartError::NotGathered);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Starts the CPU `mpidr` as `slot`, with its own stacks and the live tables; it runs `entry(slot)`.
///
/// # Errors
/// No stacks for the slot, or what PSCI or the stub answered.
pub fn start(
    slot: usize,
    mpidr: u64,
    method: Method,
    entry: fn(usize) -> !,
) -> Result<(), StartError> {
    unsafe extern "C" {
        fn secondary_entry();
        fn spin_table_entry();
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
    let address = crate::image::physical(address);
    let release = match method {
        Method::Psci => {
            return crate::psci::cpu_on(mpidr, entry_physical, address).map_err(StartError::Psci);
        }
        Method::SpinTable(release) => release,
    };
    if stub::is_installed() {
        return match stub::start(address, entry_physical) {
            true => Ok(()),
            false => Err(StartError::NotGathered),
        };
    }
    if let Some([affinity, arguments]) = SPIN_TABLE.0.get(slot) {
        affinity.store(mpidr, Ordering::Release);
        arguments.store(address, Ordering::Release);
    }
    let table = core::ptr::from_ref(&SPIN_TABLE).addr() as u64;
    arch::clean_invalidate(table, size_of::<SpinTable>() as u64);
    let entry = (spin_table_entry as *const ()).addr() as u64;
    release.release(crate::image::physical(entry));
    Ok(())
}

/// Why a CPU was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// More CPUs than the image has stacks for.
    NoStacks {
        /// Slot asked for.
        slot: usize,
    },
    /// It does not wait in the crash region.
    NotGathered,
    /// What PSCI answered.
    Psci(crate::psci::Error),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoStacks { slot } => {
                write!(f, "CPU slot {slot}: this image has no stacks for it")
            }
            Self::NotGathered => f.write_str("it did not come from its spin table to the stub"),
            Self::Psci(error) => write!(f, "{error}"),
        }
    }
}
