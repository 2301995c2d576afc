// SPDX-License-Identifier: MIT OR Apache-2.0
//! Warnings and taint: logged, counted, and fatal where the command line says so (K42, K43).

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmcore::Error;
use vmcore::afterimage_notes::{CrashKind, TAINT as TAINT_NOTE, Taint};
use vmcore::notes::{AFTERIMAGE, NoteWriter};

use crate::crash;

/// Taint flag that the program sets for reasons of its own, as in Linux (TAINT_USER, bit 6, `U`).
pub const TAINT_USER: u64 = 1 << 6;
/// Taint flag of a warning, as in Linux (TAINT_WARN, bit 9, `W`).
pub const TAINT_WARN: u64 = 1 << 9;
/// Taint flag of a soft lockup that was no crash, as in Linux (TAINT_SOFTLOCKUP, bit 14, `L`).
pub const TAINT_SOFTLOCKUP: u64 = 1 << 14;

static PANIC_ON_WARN: AtomicBool = AtomicBool::new(false);
static PANIC_ON_TAINT: AtomicU64 = AtomicU64::new(0);
static TAINT: AtomicU64 = AtomicU64::new(0);

/// Sets what is fatal.
pub(crate) fn set_policy(panic_on_warn: bool, panic_on_taint: u64) {
    PANIC_ON_WARN.store(panic_on_warn, Ordering::Release);
    PANIC_ON_TAINT.store(panic_on_taint, Ordering::Release);
}

/// Forgets what is fatal: called on entry to the crash path, so that a warning there starts no crash of its own (E03).
pub(crate) fn disarm() {
    PANIC_ON_WARN.store(false, Ordering::Release);
    PANIC_ON_TAINT.store(0, Ordering::Release);
}

/// Sets taint flags (Linux's, bits 0 to 19); crashes when one that is set is fatal.
pub fn add_taint(flags: u64) {
    let all = TAINT.fetch_or(flags, Ordering::AcqRel) | flags;
    if all & PANIC_ON_TAINT.load(Ordering::Acquire) != 0 {
        PANIC_ON_TAINT.store(0, Ordering::Release);
        let registers = machine::exceptions::capture_registers();
        let registers = crash::notes::registers(&registers);
        crash::die(
            CrashKind::Taint,
            &registers,
            None,
            format_args!("panic_on_taint: {}", Taint { flags: all }),
        )
    }
}

/// The taint flags set so far.
pub fn taint() -> u64 {
    TAINT.load(Ordering::Acquire)
}

/// Prints the taint flags, if there are any. In the crash path.
pub(crate) fn print_taint() {
    let flags = taint();
    if flags != 0 {
        machine::emergency!("  {}\n", Taint { flags });
    }
}

/// Writes the TAINT note, if there are any flags. In the crash path.
pub(crate) fn write_note(writer: &mut NoteWriter<'_>) -> Result<(), Error> {
    let flags = taint();
    if flags == 0 {
        return Ok(());
    }
    writer.note_with(AFTERIMAGE, TAINT_NOTE, |desc| Taint { flags }.encode(desc))
}

/// What [`crate::warn!`] calls.
#[inline(never)]
pub fn warned(what: fmt::Arguments<'_>) {
    // Before it is told: who reads of it finds the flag.
    TAINT.fetch_or(TAINT_WARN, Ordering::AcqRel);
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
