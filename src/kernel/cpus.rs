// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPUs: which there are, starting them, and what an idle one does.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use boot_config::dtb::EnableMethod;
use boot_config::{Dtb, DtbError, MemoryMap};
use machine::layout::MAX_CPUS;
use machine::ram::ReleaseWord;
use machine::smp::Method;
use machine::{arch, intc, percpu, smp};
use spin::Mutex;

use crate::{fault, interrupts, lkdtm, watch};

/// Longest wait for a CPU to come up.
const START_US: u64 = 1_000_000;
const NO_CPU: u64 = u64::MAX;

/// Affinity of each slot's CPU. Slot 0 is the CPU that booted, then in DTB order.
static AFFINITY: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(NO_CPU) }; MAX_CPUS];
/// Counter tick at which each CPU came up; 0 until then.
static RUNNING: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(1);
/// One bit for each CPU that was asked to start: it may run from then on.
static STARTED: AtomicU64 = AtomicU64::new(1);
/// What idle CPUs work on: each counts its rounds, for everyone to see in a dump.
static IDLE_ROUNDS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// How each slot's CPU is started; `None` when it cannot be.
static METHOD: Mutex<[Option<Method>; MAX_CPUS]> = Mutex::new([None; MAX_CPUS]);

/// Reads the CPUs from the DTB.
pub(crate) fn list(dtb: &Dtb<'_>, map: &MemoryMap) -> Result<(), DtbError> {
    let own = arch::mpidr_affinity();
    AFFINITY[0].store(own, Ordering::Release);
    RUNNING[0].store(1, Ordering::Release);
    let cpus = dtb.cpus::<64>()?;
    let others = cpus.iter().filter(|cpu| cpu.mpidr != own);
    smp::set_affinity(0, own);
    let mut methods = METHOD.lock();
    let places = AFFINITY.iter().zip(methods.iter_mut()).enumerate();
    for ((slot, (affinity, method)), cpu) in places.skip(1).zip(others) {
        affinity.store(cpu.mpidr, Ordering::Release);
        smp::set_affinity(slot, cpu.mpidr);
        *method = match cpu.enable_method {
            EnableMethod::Psci => Some(Method::Psci),
            EnableMethod::SpinTable { release } => {
                ReleaseWord::at(map, release.0).map(Method::SpinTable)
            }
            EnableMethod::Unknown => None,
        };
        if method.is_none() {
            log::warn!(
                "CPU {slot} ({:#x}) cannot be started: {:?} is no way here",
                cpu.mpidr,
                cpu.enable_method
            );
        }
    }
    let total = cpus.len().saturating_add(cpus.missed());
    COUNT.store(total.clamp(1, MAX_CPUS), Ordering::Release);
    if total > MAX_CPUS {
        log::warn!("{total} CPUs, of which {MAX_CPUS} are used");
    }
    Ok(())
}

/// Starts all CPUs up to `most` in all. Returns how many run.
pub(crate) fn start_all(most: usize) -> usize {
    let wanted = count().min(most).min(percpu::capacity());
    let methods = *METHOD.lock();
    // All of them, wanted or not: what polls this kernel's memory would run at EL2 whatever is written there.
    for (slot, method) in methods.iter().enumerate() {
        if let Some(Method::SpinTable(release)) = method
            && let Err(error) = smp::gather(slot, *release)
        {
            log::error!("CPU {slot}: {error}");
        }
    }
    let mut running = 1;
    for slot in 1..wanted {
        let (Some(mpidr), Some(Some(method))) = (mpidr(slot), methods.get(slot)) else {
            continue;
        };
        STARTED.fetch_or(1 << slot, Ordering::AcqRel);
        if let Err(error) = smp::start(slot, mpidr, *method, secondary) {
            log::error!("CPU {slot} ({mpidr:#x}) was not started: {error}");
            continue;
        }
        let deadline = arch::Deadline::after_us(START_US);
        while !is_running(slot) && !deadline.is_past() {
            core::hint::spin_loop();
        }
        if is_running(slot) {
            running += 1;
        } else {
            log::error!("CPU {slot} ({mpidr:#x}) was started and did not come up");
        }
    }
    running
}

/// Affinity of the CPU in `slot`.
pub(crate) fn mpidr(slot: usize) -> Option<u64> {
    if slot >= count() {
        return None;
    }
    AFFINITY
        .get(slot)
        .map(|affinity| affinity.load(Ordering::Acquire))
        .filter(|affinity| *affinity != NO_CPU)
}

/// Whether the CPU in `slot` was asked to start.
pub(crate) fn is_started(slot: usize) -> bool {
    STARTED.load(Ordering::Acquire) >> slot & 1 != 0
}

/// Whether the CPU in `slot` came up.
pub(crate) fn is_running(slot: usize) -> bool {
    RUNNING
        .get(slot)
        .is_some_and(|since| since.load(Ordering::Acquire) != 0)
}

/// CPUs that the DTB names, at most [`MAX_CPUS`].
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

fn secondary(slot: usize) -> ! {
    arch::unmask_serror_and_stop();
    if let Err(error) = intc::init_cpu() {
        log::error!("CPU {slot}: {error}");
    }
    interrupts::start_tick();
    if let Some(since) = RUNNING.get(slot) {
        since.store(arch::counter(), Ordering::Release);
    }
    arch::unmask_irq();
    idle()
}

/// The program that does nothing: says so, and waits for something to crash it. A board's own kernel runs it.
pub fn idle_main(boot: crate::Boot) -> ! {
    log::info!(
        "idle, with {} MiB of RAM; SysRq h for help",
        boot.ram_bytes() >> 20
    );
    idle()
}

/// What a CPU does when the program has nothing for it: counts its rounds and waits for interrupts.
pub fn idle() -> ! {
    loop {
        if let Some(rounds) = IDLE_ROUNDS.get(percpu::current_slot()) {
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        watch::idled();
        lkdtm::poll();
        fault::poll();
        arch::wait_for_interrupt();
    }
}
