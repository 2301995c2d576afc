// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lkdtm_secondaries=idle|masked|locks`: what the other CPUs are put into just before a provoked crash.
//!
//! `masked`: a loop with all of DAIF masked. `locks`: a loop with interrupts masked and a share of the locks that the crash path, the log
//! or the heap want. Where somebody has to ask for the crash, or to find it, CPU 0 stays as it is.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::others::{self, Wish};
use crate::watch::Lock;
use crate::{logger, threads};

const NAMES: [(&str, Option<Wish>); 3] = [
    ("idle", None),
    ("masked", Some(Wish::MaskAll)),
    ("locks", Some(Wish::HoldLocks)),
];

/// Takes each lock for good. Dealt out to the CPUs in this order, over and over.
const LOCKS: [fn(); 5] = [
    logger::keep_ring,
    logger::keep_console,
    keep_heap,
    threads::keep_list,
    keep_lock,
];

/// The state, by its place in [`NAMES`].
static PLANNED: AtomicU32 = AtomicU32::new(0);
/// A bit for each CPU that the locks are dealt out to.
static HOLDERS: AtomicU64 = AtomicU64::new(0);
/// A program's lock.
static LOCK: Lock<()> = Lock::new(());

/// Takes the parameter; an unknown state is logged, and means idle.
pub(super) fn plan(name: &str) {
    match NAMES.iter().position(|(known, _)| *known == name) {
        Some(place) => PLANNED.store(place as u32, Ordering::Release),
        None if name.is_empty() => {}
        None => log::warn!(
            "lkdtm_secondaries={name}: there is no such state; known are: idle, masked, locks"
        ),
    }
}

/// Puts the other CPUs into the planned state and waits, for a bounded time, until they are in it. `keeps_boot_cpu` leaves CPU 0 out.
pub(super) fn engage(keeps_boot_cpu: bool) {
    let planned = PLANNED.load(Ordering::Acquire) as usize;
    let Some((name, Some(wish))) = NAMES.get(planned) else {
        return;
    };
    let asked = others::listening() & !u64::from(keeps_boot_cpu);
    HOLDERS.store(asked, Ordering::Release);
    let missing = others::ask(asked, *wish);
    // Where locks are held this finds its way past the log, to the console.
    log::info!(
        "lkdtm_secondaries={name}: {} CPUs are in it",
        (asked & !missing).count_ones()
    );
    if missing != 0 {
        log::error!("lkdtm_secondaries={name}: CPUs {missing:#b} did not come to it");
    }
}

/// Takes this CPU's share of the locks.
pub(super) fn take_share(slot: usize) {
    let holders = HOLDERS.load(Ordering::Acquire);
    let before = holders & (1_u64 << slot).wrapping_sub(1);
    let (first, step) = (before.count_ones(), holders.count_ones());
    let mine = LOCKS.iter().skip(first as usize);
    mine.step_by(step.max(1) as usize).for_each(|take| take());
}

fn keep_heap() {
    crate::HEAP.keep_lock();
}

fn keep_lock() {
    core::mem::forget(LOCK.lock());
}
