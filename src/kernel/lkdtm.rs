// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lkdtm=NAME[@MS]`: provokes the crash NAME, MS milliseconds after boot, on CPU `lkdtm_cpu=` (default 0).
//!
//! Names are those of Linux's LKDTM, and a few of our own. Crashes happen in thread context, from [`crate::idle`]; a program
//! that never idles gets it from its tick.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use machine::{arch, percpu, provoke};
use spin::Mutex;

use crate::params::Params;
use crate::region;

/// How long a program that does not idle is waited for.
const GRACE_MS: u64 = 200;
const NEVER: u64 = u64::MAX;

/// A crash that can be provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Panic,
    Bug,
    Warning,
    Exception,
    AccessNull,
    Unaligned,
    WriteReadOnly,
    ExecData,
    ExhaustStack,
    CorruptStack,
    Loop,
    /// Ours: a stray write to the crash region, not mapped at stage 1.
    WriteRegion,
    /// Ours: the same through a mapping, refused by stage 2.
    WriteRegionMapped,
    /// Ours: registers hold a pattern and the CPU spins; then CPU 0 crashes.
    PatternOpen,
    /// Ours: the same with all of DAIF masked.
    PatternMasked,
}

const NAMES: [(&str, Crash); 15] = [
    ("PANIC", Crash::Panic),
    ("BUG", Crash::Bug),
    ("WARNING", Crash::Warning),
    ("EXCEPTION", Crash::Exception),
    ("ACCESS_NULL", Crash::AccessNull),
    ("UNALIGNED", Crash::Unaligned),
    ("WRITE_RO", Crash::WriteReadOnly),
    ("EXEC_DATA", Crash::ExecData),
    ("EXHAUST_STACK", Crash::ExhaustStack),
    ("CORRUPT_STACK", Crash::CorruptStack),
    ("LOOP", Crash::Loop),
    ("WRITE_CRASHKERNEL", Crash::WriteRegion),
    ("WRITE_CRASHKERNEL_MAPPED", Crash::WriteRegionMapped),
    ("PATTERN", Crash::PatternOpen),
    ("PATTERN_MASKED", Crash::PatternMasked),
];

static PLANNED: Mutex<Option<Crash>> = Mutex::new(None);
static CPU: AtomicUsize = AtomicUsize::new(0);
/// Counter value at which it is due.
static DUE: AtomicU64 = AtomicU64::new(NEVER);
static DONE: AtomicBool = AtomicBool::new(false);

/// Value that register n of a pattern holds, minus n.
pub(crate) const PATTERN: u64 = 0x5a5a_0000_c0de_0000;

/// Takes the parameter. An unknown name is logged with the known ones.
pub(crate) fn plan(params: &Params<'_>) {
    let Some(provoked) = params.lkdtm else { return };
    let Some((_, crash)) = NAMES.iter().find(|(name, _)| *name == provoked.name) else {
        log::warn!("lkdtm={}: there is no such crash", provoked.name);
        return;
    };
    arch::without_irq(|| *PLANNED.lock() = Some(*crash));
    CPU.store(provoked.cpu, Ordering::Release);
    let ticks = u128::from(provoked.after_ms) * u128::from(arch::counter_hz()) / 1000;
    DUE.store(
        arch::counter().saturating_add(ticks.min(u128::from(u64::MAX)) as u64),
        Ordering::Release,
    );
}

/// Provokes the crash when it is due on this CPU. In thread context.
pub(crate) fn poll() {
    if is_due(0) {
        start();
    }
}

/// The same from the tick, when no thread polled for a while.
pub(crate) fn tick() {
    if is_due(GRACE_MS) {
        start();
    }
}

fn is_due(grace_ms: u64) -> bool {
    let due = DUE.load(Ordering::Relaxed);
    if due == NEVER || percpu::current_slot() != CPU.load(Ordering::Relaxed) {
        return false;
    }
    let grace = grace_ms.saturating_mul(arch::counter_hz()) / 1000;
    arch::counter() >= due.saturating_add(grace) && !DONE.swap(true, Ordering::AcqRel)
}

fn start() {
    let planned = arch::without_irq(|| *PLANNED.lock());
    if let Some(crash) = planned {
        log::info!(
            "lkdtm: provoking {crash:?} on CPU {}",
            percpu::current_slot()
        );
        prepare_request(crash);
    }
}

// Three named calls above each crash, so that a backtrace has something to show.

#[inline(never)]
fn prepare_request(crash: Crash) {
    handle_request(core::hint::black_box(crash));
    core::hint::black_box(());
}

#[inline(never)]
fn handle_request(crash: Crash) {
    provoke_crash(core::hint::black_box(crash));
    core::hint::black_box(());
}

#[inline(never)]
fn provoke_crash(crash: Crash) {
    match crash {
        Crash::Panic => panic!("lkdtm: PANIC"),
        Crash::Bug => provoke::breakpoint(),
        Crash::Warning => crate::warn!("lkdtm: WARNING"),
        Crash::Exception => provoke::undefined_instruction(),
        Crash::AccessNull => provoke::write_null(),
        Crash::Unaligned => provoke::unaligned_exclusive(),
        Crash::WriteReadOnly => provoke::write_read_only(),
        Crash::ExecData => provoke::execute_data(),
        Crash::ExhaustStack => {
            core::hint::black_box(provoke::exhaust_stack());
        }
        Crash::CorruptStack => provoke::corrupt_stack(),
        Crash::Loop => endless_loop(),
        Crash::WriteRegion => {
            if let Some(region) = region::active() {
                provoke::write_to_region(&region);
            }
        }
        Crash::WriteRegionMapped => {
            region::with_space(provoke::write_to_mapped_region);
        }
        Crash::PatternOpen => provoke::spin_with_pattern(PATTERN, false),
        Crash::PatternMasked => provoke::spin_with_pattern(PATTERN, true),
    }
    // A fault that did not come is itself a finding.
    log::error!("lkdtm: {crash:?} did not crash");
    core::hint::black_box(());
}

#[inline(never)]
fn endless_loop() {
    let mut rounds = 0_u64;
    loop {
        rounds = core::hint::black_box(rounds.wrapping_add(1));
    }
}
