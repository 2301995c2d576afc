// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lkdtm=NAME[@MS]`: provokes the crash NAME on CPU `lkdtm_cpu=` (default 0), MS milliseconds after the end of boot; without MS as soon
//! as that CPU polls, which may be during boot.
//!
//! Names are those of Linux's LKDTM, and a few of our own. Crashes happen in thread context, from [`crate::idle`]; a program
//! that never idles gets it from its tick, and so do those whose name ends in `IN_HARDIRQ`.

mod lockups;
mod others;
mod secondaries;

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use machine::{arch, percpu, provoke};
use spin::Mutex;

use crate::params::Params;
use crate::{lkdtm_state, region};

/// How long a program that does not idle is waited for.
const GRACE_MS: u64 = 200;
const NEVER: u64 = u64::MAX;

/// A crash that can be provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Panic,
    /// While the other CPUs spin with interrupts masked.
    PanicStopIrqOff,
    PanicInHardIrq,
    Bug,
    BugInHardIrq,
    Warning,
    Exception,
    AccessNull,
    Unaligned,
    WriteReadOnly,
    WriteKernel,
    ExecData,
    ExecReadOnly,
    ExecStack,
    ExecHeap,
    ExecNull,
    ExhaustStack,
    CorruptStack,
    StackGuardLeading,
    StackGuardTrailing,
    OverflowSigned,
    OverflowUnsigned,
    ArrayBounds,
    Loop,
    /// Ticks come, and the program makes no progress.
    SoftLockup,
    /// Ours: busy for good, and says so: no lockup.
    LoopTouching,
    /// Interrupts are masked for good.
    HardLockup,
    /// Ours: all of DAIF is masked for good.
    HardLockupAll,
    /// A lock taken twice by one CPU.
    SpinLockup,
    /// Ours: a lock that another CPU does not give back.
    SpinLockupHeld,
    /// A thread that checks in once.
    HungTask,
    /// Ours: a stray write to the crash region, not mapped at stage 1.
    WriteRegion,
    /// Ours: the same through a mapping, refused by stage 2.
    WriteRegionMapped,
    /// Ours: registers hold a pattern and the CPU spins; then CPU 0 crashes.
    PatternOpen,
    /// Ours: the same with all of DAIF masked.
    PatternMasked,
    /// Ours: counts in memory with all of DAIF masked; then CPU 0 crashes.
    CountMasked,
    /// Ours: floating point is enabled and holds a pattern; then a write to NULL.
    Fp,
    /// Ours: the same, and the CPU spins with all of DAIF masked; then CPU 0 crashes.
    FpMasked,
    /// Ours: a stray write makes a read-only page writable in the page tables; then a panic.
    CorruptPageTable,
}

const NAMES: [(&str, Crash); 40] = [
    ("PANIC", Crash::Panic),
    ("PANIC_STOP_IRQOFF", Crash::PanicStopIrqOff),
    ("PANIC_IN_HARDIRQ", Crash::PanicInHardIrq),
    ("BUG", Crash::Bug),
    ("BUG_IN_HARDIRQ", Crash::BugInHardIrq),
    ("WARNING", Crash::Warning),
    ("WARNING_MESSAGE", Crash::Warning),
    ("EXCEPTION", Crash::Exception),
    ("ACCESS_NULL", Crash::AccessNull),
    ("UNALIGNED", Crash::Unaligned),
    ("WRITE_RO", Crash::WriteReadOnly),
    ("WRITE_KERN", Crash::WriteKernel),
    ("EXEC_DATA", Crash::ExecData),
    ("EXEC_RODATA", Crash::ExecReadOnly),
    ("EXEC_STACK", Crash::ExecStack),
    ("EXEC_KMALLOC", Crash::ExecHeap),
    ("EXEC_NULL", Crash::ExecNull),
    ("EXHAUST_STACK", Crash::ExhaustStack),
    ("CORRUPT_STACK", Crash::CorruptStack),
    ("STACK_GUARD_PAGE_LEADING", Crash::StackGuardLeading),
    ("STACK_GUARD_PAGE_TRAILING", Crash::StackGuardTrailing),
    ("OVERFLOW_SIGNED", Crash::OverflowSigned),
    ("OVERFLOW_UNSIGNED", Crash::OverflowUnsigned),
    ("ARRAY_BOUNDS", Crash::ArrayBounds),
    ("LOOP", Crash::Loop),
    ("SOFTLOCKUP", Crash::SoftLockup),
    ("LOOP_TOUCHING", Crash::LoopTouching),
    ("HARDLOCKUP", Crash::HardLockup),
    ("HARDLOCKUP_ALL", Crash::HardLockupAll),
    ("SPINLOCKUP", Crash::SpinLockup),
    ("SPINLOCKUP_HELD", Crash::SpinLockupHeld),
    ("HUNG_TASK", Crash::HungTask),
    ("WRITE_CRASHKERNEL", Crash::WriteRegion),
    ("WRITE_CRASHKERNEL_MAPPED", Crash::WriteRegionMapped),
    ("PATTERN", Crash::PatternOpen),
    ("PATTERN_MASKED", Crash::PatternMasked),
    ("COUNT_MASKED", Crash::CountMasked),
    ("FP", Crash::Fp),
    ("FP_MASKED", Crash::FpMasked),
    ("CORRUPT_PGTABLE", Crash::CorruptPageTable),
];

impl Crash {
    fn is_in_interrupt(self) -> bool {
        matches!(self, Self::PanicInHardIrq | Self::BugInHardIrq)
    }

    fn is_with_everything_masked(self) -> bool {
        matches!(
            self,
            Self::HardLockupAll | Self::PatternMasked | Self::CountMasked | Self::FpMasked
        )
    }

    /// Whether CPU 0 has to find it, to help with it, or to take the request for a crash (or for a word, where the machine runs on).
    fn needs_boot_cpu(self) -> bool {
        matches!(
            self,
            Self::Warning
                | Self::Loop
                | Self::LoopTouching
                | Self::HardLockup
                | Self::HardLockupAll
                | Self::SpinLockupHeld
                | Self::HungTask
                | Self::WriteRegionMapped
                | Self::PatternOpen
                | Self::PatternMasked
                | Self::CountMasked
                | Self::FpMasked
        )
    }
}

/// The names, for a message.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = NAMES.iter();
        if let Some((first, _)) = names.next() {
            f.write_str(first)?;
        }
        names.try_for_each(|(name, _)| write!(f, ", {name}"))
    }
}

static PLANNED: Mutex<Option<Crash>> = Mutex::new(None);
static CPU: AtomicUsize = AtomicUsize::new(0);
/// Counter value at which it is due.
static DUE: AtomicU64 = AtomicU64::new(NEVER);
/// Ticks from the end of boot until it is due.
static AFTER: AtomicU64 = AtomicU64::new(NEVER);
static DONE: AtomicBool = AtomicBool::new(false);
static IS_IN_INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Value that register n of a pattern holds, minus n.
pub(crate) const PATTERN: u64 = 0x5a5a_0000_c0de_0000;

/// Takes the parameter. An unknown name is logged.
pub(crate) fn plan(params: &Params<'_>) {
    lkdtm_state::plan(params.lkdtm_state);
    secondaries::plan(params.lkdtm_secondaries);
    let Some(provoked) = params.lkdtm else { return };
    let Some((_, crash)) = NAMES.iter().find(|(name, _)| *name == provoked.name) else {
        log::warn!(
            "lkdtm={}: there is no such crash; known are: {Names}",
            provoked.name
        );
        return;
    };
    arch::without_irq(|| *PLANNED.lock() = Some(*crash));
    CPU.store(provoked.cpu, Ordering::Release);
    IS_IN_INTERRUPT.store(crash.is_in_interrupt(), Ordering::Release);
    match provoked.after_ms {
        Some(ms) => {
            let ticks = u128::from(ms) * u128::from(arch::counter_hz()) / 1000;
            let ticks = ticks.min(u128::from(NEVER - 1)) as u64;
            AFTER.store(ticks, Ordering::Release);
        }
        None => DUE.store(0, Ordering::Release),
    }
}

/// All CPUs run: from here on the time of the crash is counted.
pub(crate) fn boot_is_over() {
    let after = AFTER.load(Ordering::Acquire);
    if after != NEVER {
        DUE.store(arch::counter().saturating_add(after), Ordering::Release);
    }
}

/// Provokes the crash when it is due on this CPU. In thread context.
pub(crate) fn poll() {
    others::help();
    if !IS_IN_INTERRUPT.load(Ordering::Relaxed) && is_due(0) {
        start();
    }
}

/// The same from the tick, when no thread polled for a while.
pub(crate) fn tick() {
    let grace_ms = if IS_IN_INTERRUPT.load(Ordering::Relaxed) {
        0
    } else {
        GRACE_MS
    };
    if is_due(grace_ms) {
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
        // Before another CPU may have the heap's lock.
        lockups::prepare(crash);
        secondaries::engage(crash.needs_boot_cpu());
        if crash.is_with_everything_masked() {
            // Before it is announced: who reads that may ask for a crash at once.
            arch::mask_all();
        }
        log::info!(
            "lkdtm: provoking {crash:?} on CPU {}",
            percpu::current_slot()
        );
        lkdtm_state::leave();
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
        Crash::PanicStopIrqOff => {
            lockups::mask_others();
            panic!("lkdtm: PANIC_STOP_IRQOFF")
        }
        Crash::PanicInHardIrq => panic!("lkdtm: PANIC_IN_HARDIRQ"),
        Crash::Bug | Crash::BugInHardIrq => provoke::breakpoint(),
        Crash::Warning => crate::warn!("lkdtm: WARNING"),
        Crash::Exception => provoke::undefined_instruction(),
        Crash::AccessNull => provoke::write_null(),
        Crash::Unaligned => provoke::unaligned_exclusive(),
        Crash::WriteReadOnly => provoke::write_read_only(),
        Crash::WriteKernel => provoke::write_kernel(),
        Crash::ExecData => provoke::execute_data(),
        Crash::ExecReadOnly => provoke::execute_bytes(&RETURN),
        Crash::ExecStack => provoke::execute_bytes(&core::hint::black_box(RETURN)),
        Crash::ExecHeap => provoke::execute_bytes(lockups::code_on_heap()),
        Crash::ExecNull => provoke::execute_null(),
        Crash::ExhaustStack => {
            core::hint::black_box(provoke::exhaust_stack());
        }
        Crash::CorruptStack => provoke::corrupt_stack(),
        Crash::StackGuardLeading => provoke::write_beside_stack(true),
        Crash::StackGuardTrailing => provoke::write_beside_stack(false),
        Crash::OverflowSigned => overflow_signed(core::hint::black_box(i32::MAX)),
        Crash::OverflowUnsigned => overflow_unsigned(core::hint::black_box(u32::MAX)),
        Crash::ArrayBounds => read_past_array(core::hint::black_box(8)),
        Crash::Loop | Crash::SoftLockup => endless_loop(),
        Crash::LoopTouching => lockups::work_and_say_so(),
        Crash::HardLockup => {
            arch::mask_irq();
            endless_loop()
        }
        Crash::HardLockupAll => {
            arch::mask_all();
            endless_loop()
        }
        Crash::SpinLockup => lockups::take_twice(),
        Crash::SpinLockupHeld => lockups::take_what_another_holds(),
        Crash::HungTask => lockups::check_in_once(),
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
        Crash::CountMasked => provoke::count_with_everything_masked(),
        Crash::CorruptPageTable => {
            let page = machine::mmu::corrupt_read_only_page();
            panic!("lkdtm: CORRUPT_PGTABLE at {page:x?}")
        }
        Crash::Fp => write_null_with_fp(),
        Crash::FpMasked => {
            provoke::fill_fp_registers(PATTERN);
            log::info!("lkdtm: floating-point registers are filled");
            provoke::spin_with_pattern(PATTERN, true);
        }
    }
    if !matches!(crash, Crash::Warning | Crash::HungTask) {
        // A fault that did not come is itself a finding.
        log::error!("lkdtm: {crash:?} did not crash");
    }
    core::hint::black_box(());
}

/// Not inlined: merged with another write, its place in the source would be that one's.
#[inline(never)]
fn write_null_with_fp() {
    provoke::fill_fp_registers(PATTERN);
    provoke::write_null();
}

/// A `ret` as data.
static RETURN: [u8; 4] = 0xd65f_03c0_u32.to_le_bytes();

#[inline(never)]
fn endless_loop() {
    let mut rounds = 0_u64;
    loop {
        rounds = core::hint::black_box(rounds.wrapping_add(1));
    }
}

// The kernel's release profile checks both.

#[inline(never)]
#[expect(clippy::arithmetic_side_effects, reason = "overflows on purpose")]
fn overflow_signed(value: i32) {
    core::hint::black_box(value + 1);
}

#[inline(never)]
#[expect(clippy::arithmetic_side_effects, reason = "overflows on purpose")]
fn overflow_unsigned(value: u32) {
    core::hint::black_box(value + 1);
}

#[inline(never)]
#[expect(clippy::indexing_slicing, reason = "reads past the end on purpose")]
fn read_past_array(index: usize) {
    core::hint::black_box([0_u8; 8][index]);
}
