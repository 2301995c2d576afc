// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fault=PLACE[:panic|abort|warn]`: a fault injected into loading or into the crash path itself, once, for tests of what follows.
//!
//! Places inside a crash need a crash to come to them (`lkdtm=`); the others provoke it themselves, from [`crate::idle`].

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use machine::{arch, percpu, provoke};

use crate::load;

/// When a place that provokes its fault itself does so, in microseconds after the boot CPU first idled.
const AFTER_US: u64 = 50_000;
/// CPUs that crash at once.
const PAIR: [usize; 2] = [1, 2];

/// Where the fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before the first capture kernel is loaded, early in boot.
    BeforeLoad = 1,
    /// While a copy is being filled, at boot or when the capture kernel is replaced.
    Load,
    /// Between arming the first new copy and the second, when the capture kernel is replaced.
    Switch,
    /// In the `Display` of a panic's message.
    Message,
    /// Where the crash path stops the other CPUs.
    Stop,
    /// Where the crash path writes the machine's notes.
    Notes,
    /// Where the crash path leaves.
    Leave,
    /// On two CPUs at the same moment.
    Pair,
}

const NAMES: [(&str, Place, bool); 9] = [
    ("before-load", Place::BeforeLoad, false),
    ("load", Place::Load, false),
    ("reload", Place::Load, true),
    ("switch", Place::Switch, true),
    ("message", Place::Message, true),
    ("stop", Place::Stop, false),
    ("notes", Place::Notes, false),
    ("leave", Place::Leave, false),
    ("pair", Place::Pair, true),
];

/// A write to NULL, a panic, a warning (which `panic_on_warn` would make a crash).
const KINDS: [&str; 3] = ["abort", "panic", "warn"];

/// Number of the place, 0 for none; once the fault was made, too.
static PLACE: AtomicUsize = AtomicUsize::new(0);
/// The place that idle CPUs provoke the fault of; 0 for none.
static PROVOKED: AtomicUsize = AtomicUsize::new(0);
/// The kind of the fault, by its place in [`KINDS`].
static KIND: AtomicUsize = AtomicUsize::new(0);
/// Counter value from which idle CPUs provoke it; 0 until the boot CPU idles.
static DUE: AtomicU64 = AtomicU64::new(0);

/// Takes the parameter; false when it names no place or no kind of fault.
pub(crate) fn plan(value: &str) -> bool {
    let (name, kind) = value.split_once(':').unwrap_or((value, "abort"));
    let found = NAMES.iter().find(|(known, ..)| *known == name);
    let kind = KINDS.iter().position(|known| *known == kind);
    let (Some((_, place, is_provoked)), Some(kind)) = (found, kind) else {
        return false;
    };
    KIND.store(kind, Ordering::Relaxed);
    let word = if *is_provoked { &PROVOKED } else { &PLACE };
    word.store(*place as usize, Ordering::Release);
    true
}

/// Makes the fault if it is to be made here, once.
pub(crate) fn at(place: Place) {
    let number = place as usize;
    if PLACE
        .compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        return;
    }
    match KIND.load(Ordering::Relaxed) {
        1 => panic!("fault injected: {place:?}"),
        2 => crate::warn!("fault injected: {place:?}"),
        _ => provoke::write_null(),
    }
}

/// Provokes what is due on this CPU. In thread context.
pub(crate) fn poll() {
    let (provoked, cpu) = (PROVOKED.load(Ordering::Acquire), percpu::current_slot());
    if provoked == 0 {
        return;
    }
    // The boot CPU idles once everything else is up.
    if DUE.load(Ordering::Acquire) == 0 {
        if cpu == 0 {
            let ticks = AFTER_US.saturating_mul(arch::counter_hz()) / 1_000_000;
            DUE.store(arch::counter().saturating_add(ticks), Ordering::Release);
        }
        return;
    }
    if arch::counter() < DUE.load(Ordering::Acquire) {
        return;
    }
    if provoked == Place::Pair as usize {
        if PAIR.contains(&cpu) {
            crash_at_once();
        }
        return;
    }
    if cpu != 0 || PROVOKED.swap(0, Ordering::AcqRel) == 0 {
        return;
    }
    PLACE.store(provoked, Ordering::Release);
    if provoked == Place::Message as usize {
        panic!("a message that faults: {}", Faulty);
    }
    match load::embedded().and_then(|image| load::replace(&image, &[])) {
        Ok(()) => log::error!("fault injected: replacing the capture kernel went well"),
        Err(error) => log::error!("fault injected: replacing the capture kernel: {error}"),
    }
}

/// Both CPUs come here, wait for the same tick of the counter, and crash.
fn crash_at_once() {
    static ARRIVED: AtomicUsize = AtomicUsize::new(0);
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    arch::without_irq(|| {
        // As long as a CPU takes to come here from its idle wait.
        let patience = arch::Deadline::after_us(1_000_000);
        while ARRIVED.load(Ordering::Acquire) < PAIR.len() && !patience.is_past() {
            core::hint::spin_loop();
        }
        provoke::write_null();
    });
}

/// Faults when it is printed.
struct Faulty;

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        at(Place::Message);
        f.write_str("it did not")
    }
}
