// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lockup detection: hard and soft lockups of a CPU, and threads that do not check in. [`Lock`] finds the locks among them.
//!
//! | finds | how | on by itself |
//! |---|---|---|
//! | hard lockup | the next CPU counts its own ticks while this one takes none | with two CPUs |
//! | soft lockup | a CPU counts its ticks since its last [`touch`] or round of [`crate::idle`] | from the first of them on |
//! | hung task | CPU 0 counts its ticks since a thread's last check-in | from the first check-in on |
//! | spin lockup | a CPU that waits for a [`Lock`] finds itself as its holder, or waits too long | for each [`Lock`] |
//!
//! There is no scheduler that could tell work from a hang, so the last three take a word of the program: what never said that it
//! makes progress is not judged. All count ticks that were taken, never the counter: a machine that a debugger or its
//! hypervisor held takes none, and has nothing to answer for when it goes on.

mod lock;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use machine::exceptions::{CapturedRegisters, TrapFrame};
use machine::layout::MAX_CPUS;
use machine::{emergency, percpu};
use vmcore::afterimage_notes::CrashKind;

use crate::interrupts::TICK_US;
use crate::threads::{self, MAX_THREADS};
use crate::{cpus, crash, warn};

pub use lock::{Lock, LockGuard};

/// What the command line says of lockups; names and defaults of times are Linux's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// `watchdog_thresh=`: seconds to a hard lockup, twice that to a soft one; 0 looks for neither.
    pub(crate) thresh_s: u32,
    /// `nosoftlockup` makes it false.
    pub(crate) has_soft: bool,
    /// `hung_task_timeout_secs=`; 0 looks for none.
    pub(crate) hung_task_s: u32,
    /// `hardlockup_panic=`: whether a hard lockup is a crash, or only a warning.
    pub(crate) hard_panics: bool,
    /// `softlockup_panic=`.
    pub(crate) soft_panics: bool,
    /// `hung_task_panic=`.
    pub(crate) hung_panics: bool,
}

impl Policy {
    /// Linux's times. Unlike Linux's, each find is a crash: nobody looks at a firmware's console, and the dump tells the rest.
    pub(crate) const DEFAULT: Self = Self {
        thresh_s: 10,
        has_soft: true,
        hung_task_s: 120,
        hard_panics: true,
        soft_panics: true,
        hung_panics: true,
    };
    /// Largest `watchdog_thresh=`, as in Linux.
    pub(crate) const MAX_THRESH_S: u64 = 60;
    /// Largest `hung_task_timeout_secs=`: a day.
    pub(crate) const MAX_HUNG_TASK_S: u64 = 86_400;
}

/// What has not been asked to be watched.
const UNWATCHED: u32 = u32::MAX;

/// One kind of lockup: after how many ticks, and whether it is a crash.
struct Limit {
    ticks: AtomicU32,
    panics: AtomicBool,
}

impl Limit {
    const fn off() -> Self {
        Self {
            ticks: AtomicU32::new(0),
            panics: AtomicBool::new(false),
        }
    }

    fn set(&self, seconds: u32, panics: bool) {
        let ticks = u64::from(seconds) * 1_000_000 / TICK_US;
        self.ticks.store(
            ticks.min(u64::from(UNWATCHED - 1)) as u32,
            Ordering::Relaxed,
        );
        self.panics.store(panics, Ordering::Relaxed);
    }

    /// Counts one more tick; true at the tick that reaches the limit, once until the count starts again.
    fn is_reached(&self, count: &AtomicU32) -> bool {
        let now = count.load(Ordering::Relaxed);
        let limit = self.ticks.load(Ordering::Relaxed);
        // The limit is below UNWATCHED, so a count never becomes that.
        if now == UNWATCHED || limit == 0 || now > limit {
            return false;
        }
        // Fails when the count was started again in between, which is what is waited for.
        let is_counted = count
            .compare_exchange(now, now + 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        is_counted && now + 1 == limit
    }

    fn seconds(&self) -> u64 {
        u64::from(self.ticks.load(Ordering::Relaxed)) * TICK_US / 1_000_000
    }
}

static HARD: Limit = Limit::off();
static SOFT: Limit = Limit::off();
static HUNG: Limit = Limit::off();

/// Ticks that each CPU took; they wrap.
static TICKS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// The same as its watcher last saw it, and how many ticks the watcher took since.
static SEEN: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
static STILL: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];
/// Ticks of each CPU since it was last touched.
static UNTOUCHED: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(UNWATCHED) }; MAX_CPUS];
/// Ticks of CPU 0 since each thread last checked in.
static NOT_IN: [AtomicU32; MAX_THREADS] = [const { AtomicU32::new(UNWATCHED) }; MAX_THREADS];
/// The CPU that a crash is about, when it is not the one that found it.
static ACCUSED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Says that this CPU makes progress. From the first call on, a CPU that neither touches nor idles for twice `watchdog_thresh=`
/// seconds is a soft lockup. A program that masks interrupts for long calls it there, too.
pub fn touch() {
    idled();
    if let Some(ticks) = TICKS.get(percpu::current_slot()) {
        ticks.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same, without a word about interrupts: a CPU that idles takes them, or is stuck.
pub(crate) fn idled() {
    if let Some(count) = UNTOUCHED.get(percpu::current_slot()) {
        count.store(0, Ordering::Relaxed);
    }
}

/// Ticks that CPU `slot` took; they wrap.
fn ticks_of(slot: usize) -> u32 {
    TICKS
        .get(slot)
        .map_or(0, |ticks| ticks.load(Ordering::Relaxed))
}

/// Watches the thread in `slot` from now on.
pub(crate) fn check_in(slot: usize) {
    if let Some(count) = NOT_IN.get(slot) {
        count.store(0, Ordering::Relaxed);
    }
}

/// Watches the thread in `slot` no more.
pub(crate) fn forget(slot: usize) {
    if let Some(count) = NOT_IN.get(slot) {
        count.store(UNWATCHED, Ordering::Relaxed);
    }
}

/// Sets what is looked for.
pub(crate) fn set_policy(policy: &Policy) {
    HARD.set(policy.thresh_s, policy.hard_panics);
    let soft_s = if policy.has_soft {
        policy.thresh_s * 2
    } else {
        0
    };
    SOFT.set(soft_s, policy.soft_panics);
    HUNG.set(policy.hung_task_s, policy.hung_panics);
}

/// Says in the log what is looked for, once it is known how many CPUs run.
pub(crate) fn announce(running: usize) {
    let hard = if running < 2 { 0 } else { HARD.seconds() };
    log::info!(
        "watchdog: hard lockup after {hard} s, soft lockup {} s, hung task {} s (0: not looked for)",
        SOFT.seconds(),
        HUNG.seconds()
    );
}

/// What each CPU looks at in its tick; `frame` is what the tick interrupted.
pub(crate) fn tick(frame: &TrapFrame) {
    let slot = percpu::current_slot();
    if let Some(ticks) = TICKS.get(slot) {
        ticks.fetch_add(1, Ordering::Relaxed);
    }
    if UNTOUCHED
        .get(slot)
        .is_some_and(|count| SOFT.is_reached(count))
    {
        found(
            &SOFT,
            CrashKind::SoftLockup,
            frame,
            format_args!(
                "soft lockup: CPU {slot} takes ticks, but neither idled nor called watch::touch() for {} s",
                SOFT.seconds()
            ),
        );
        warn::add_taint(warn::TAINT_SOFTLOCKUP);
    }
    if let Some(other) = next_running(slot)
        && is_stuck(other)
    {
        if HARD.panics.load(Ordering::Relaxed) {
            ACCUSED.store(other, Ordering::Relaxed);
        }
        found(
            &HARD,
            CrashKind::HardLockup,
            frame,
            format_args!(
                "hard lockup: CPU {other} took no tick for {} s (found by CPU {slot})",
                HARD.seconds()
            ),
        );
    }
    if slot == 0 {
        look_at_threads(frame);
    }
}

/// The running CPU that `slot` watches, as in Linux's buddy detector.
fn next_running(slot: usize) -> Option<usize> {
    let count = cpus::count();
    (1..count)
        .map(|step| (slot + step) % count)
        .find(|other| cpus::is_running(*other))
}

/// Whether CPU `other` has now taken no tick for as long as the limit says.
fn is_stuck(other: usize) -> bool {
    let (Some(ticks), Some(seen), Some(still)) =
        (TICKS.get(other), SEEN.get(other), STILL.get(other))
    else {
        return false;
    };
    let now = ticks.load(Ordering::Relaxed);
    if seen.swap(now, Ordering::Relaxed) != now {
        still.store(0, Ordering::Relaxed);
    }
    HARD.is_reached(still)
}

fn look_at_threads(frame: &TrapFrame) {
    for (thread, count) in NOT_IN.iter().enumerate() {
        if HUNG.is_reached(count) {
            let name = threads::name(thread);
            found(
                &HUNG,
                CrashKind::HungTask,
                frame,
                format_args!(
                    "hung task: thread {thread} \"{}\" did not check in for {} s",
                    vmcore::afterimage_notes::name_text(&name),
                    HUNG.seconds()
                ),
            );
        }
    }
}

/// Crashes, or warns, as the policy says.
fn found(limit: &Limit, kind: CrashKind, frame: &TrapFrame, what: core::fmt::Arguments<'_>) {
    if limit.panics.load(Ordering::Relaxed) {
        let registers = crash::notes::registers(&CapturedRegisters::from(frame));
        crash::die(kind, &registers, None, what)
    }
    log::error!("{what}");
}

/// In the crash path, after the stop: where the CPU was that the crash is about.
pub(crate) fn print_accused() {
    let slot = ACCUSED.load(Ordering::Relaxed);
    if slot >= MAX_CPUS {
        return;
    }
    match crash::notes::saved_registers(slot) {
        Some(at) => emergency!(
            "  CPU {slot} was at pc {:#018x} lr {:#018x} sp {:#018x} pstate {:#010x}\n",
            at.pc,
            at.x[30],
            at.sp,
            at.pstate
        ),
        None => emergency!("  CPU {slot} left no registers\n"),
    }
}
