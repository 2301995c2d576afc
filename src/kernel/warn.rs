// SPDX-License-Identifier: MIT OR Apache-2.0
//! Warnings and taint: logged, counted, and fatal where the command line says so (K42, K43).

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmcore::afterimage_notes::CrashKind;

use crate::crash;

/// Taint flag of a warning, as in Linux (TAINT_WARN, bit 9).
pub const TAINT_WARN: u64 = 1 << 9;

static PANIC_ON_WARN: AtomicBool = AtomicBool::new(false);
static PANIC_ON_TAINT: AtomicU64 = AtomicU64::new(0);
static TAINT: AtomicU64 = AtomicU64::new(0);

/// Sets what is fatal.
pub(crate) fn set_policy(panic_on_warn: bool, panic_on_taint: u64) {
    PANIC_ON_WARN.store(panic_on_warn, Ordering::Release);
    PANIC_ON_TAINT.store(panic_on_taint, Ordering::Release);
}

/// Sets taint flags; crashes when one of them is fatal.
pub fn add_taint(flags: u64) {
    TAINT.fetch_or(flags, Ordering::AcqRel);
    if flags & PANIC_ON_TAINT.load(Ordering::Acquire) != 0 {
        let registers = machine::exceptions::capture_registers();
        let registers = crash::notes::registers(&registers);
        crash::die(
            CrashKind::Taint,
            &registers,
            None,
            format_args!("tainted, {flags:#x}"),
        )
    }
}

/// The taint flags set so far.
pub fn taint() -> u64 {
    TAINT.load(Ordering::Acquire)
}

/// What [`crate::warn!`] calls.
#[inline(never)]
pub fn warned(what: fmt::Arguments<'_>) {
    log::warn!("WARNING: {what}");
    // Cleared first: a warning in the crash path must not start another crash (E03).
    if PANIC_ON_WARN.swap(false, Ordering::AcqRel) {
        let registers = machine::exceptions::capture_registers();
        crash::die(
            CrashKind::Warn,
            &crash::notes::registers(&registers),
            None,
            what,
        )
    }
    add_taint(TAINT_WARN);
}

/// Warns of a state that should not be; a crash under `panic_on_warn`.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)*) => {
        $crate::warn::warned(format_args!($($argument)*))
    };
}
