// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a CPU that provokes a crash asks of the other CPUs, which look for it where they idle.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::layout::MAX_CPUS;
use machine::{arch, percpu};

use super::{lockups, secondaries};
use crate::cpus;

/// Longest wait for other CPUs to do what they are asked.
const HELP_US: u64 = 1_000_000;

/// What a CPU can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Take the lock of `lockups`, and idle on with it.
    HoldLock = 1,
    /// Spin with interrupts masked.
    MaskIrq,
    /// Spin with all of DAIF masked.
    MaskAll,
    /// Take the share of `secondaries`' locks, and spin with interrupts masked, as whoever has such a lock does.
    HoldLocks,
}

impl Wish {
    const ALL: [Self; 4] = [
        Self::HoldLock,
        Self::MaskIrq,
        Self::MaskAll,
        Self::HoldLocks,
    ];

    /// Whether a CPU that does it never looks for another wish.
    fn is_for_good(self) -> bool {
        self != Self::HoldLock
    }
}

/// What each CPU is asked for, by `Wish`; 0 for nothing.
static WISHES: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// A bit for each CPU that did what it was asked last.
static DONE: AtomicU64 = AtomicU64::new(0);
/// A bit for each CPU that looks for no wish any more.
static GONE: AtomicU64 = AtomicU64::new(0);

/// Does what this CPU is asked for. By idle CPUs.
pub(super) fn help() {
    let slot = percpu::current_slot();
    let wished = WISHES
        .get(slot)
        .map_or(0, |wish| wish.swap(0, Ordering::AcqRel));
    let Some(wish) = Wish::ALL.into_iter().find(|wish| *wish as u32 == wished) else {
        return;
    };
    match wish {
        Wish::HoldLock => lockups::hold_lock(),
        Wish::MaskIrq => arch::mask_irq(),
        Wish::MaskAll => arch::mask_all(),
        Wish::HoldLocks => {
            arch::mask_irq();
            secondaries::take_share(slot);
        }
    }
    DONE.fetch_or(1 << slot, Ordering::AcqRel);
    if wish.is_for_good() {
        spin()
    }
}

/// Where a CPU stays for good. It writes nothing.
#[inline(never)]
fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// The other CPUs that run and look for wishes, a bit each.
pub(super) fn listening() -> u64 {
    let own = percpu::current_slot();
    let running = (0..cpus::count()).filter(|slot| *slot != own && cpus::is_running(*slot));
    running.fold(0, |mask, slot| mask | 1 << slot) & !GONE.load(Ordering::Acquire)
}

/// Asks the CPUs of `mask` and waits for a bounded time. Returns those that did not do it.
pub(super) fn ask(mask: u64, wish: Wish) -> u64 {
    DONE.fetch_and(!mask, Ordering::AcqRel);
    if wish.is_for_good() {
        GONE.fetch_or(mask, Ordering::AcqRel);
    }
    let asked = WISHES.iter().enumerate();
    for (_, word) in asked.filter(|(slot, _)| mask >> slot & 1 != 0) {
        word.store(wish as u32, Ordering::Release);
    }
    let deadline = arch::Deadline::after_us(HELP_US);
    loop {
        let missing = mask & !DONE.load(Ordering::Acquire);
        if missing == 0 || deadline.is_past() {
            return missing;
        }
        core::hint::spin_loop();
    }
}
