// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `log` back end: into a ring that survives into the dump, and to the console.
//!
//! Locks are tried for a bounded time: a record that cannot get one goes to the console without, rather than wait for a CPU
//! that may be stopped.

use core::fmt::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};
use machine::arch;
use machine::console::Emergency;
use machine::once_buffer::OnceBuffer;
use spin::Mutex;
use vmcore::log_ring::LogRing;

/// Bytes of the ring, header included.
pub(crate) const RING_LEN: usize = 0x1_0000;

static BYTES: OnceBuffer<[u8; RING_LEN]> = OnceBuffer::new([0; RING_LEN]);
static RING: Mutex<Option<LogRing<'static>>> = Mutex::new(None);
static CONSOLE: Mutex<()> = Mutex::new(());

struct KernelLog;

/// Virtual address of the ring.
pub(crate) fn ring_address() -> u64 {
    BYTES.address()
}

/// Makes the ring and installs the logger.
pub(crate) fn init() {
    if let Some(bytes) = BYTES.take() {
        *RING.lock() = LogRing::init(bytes).ok();
    }
    // An error means that a logger is installed already: it stays.
    if log::set_logger(&KernelLog).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Takes the ring's lock for good: for crashes that are provoked while a CPU has it.
pub(crate) fn keep_ring() {
    core::mem::forget(RING.lock());
}

/// The same for the console's.
pub(crate) fn keep_console() {
    core::mem::forget(CONSOLE.lock());
}

/// A lock, if it comes free within about a millisecond.
fn try_for_a_while<T>(lock: &Mutex<T>) -> Option<spin::MutexGuard<'_, T>> {
    let deadline = arch::Deadline::after_us(1_000);
    loop {
        if let Some(guard) = lock.try_lock() {
            return Some(guard);
        }
        if deadline.is_past() {
            return None;
        }
        core::hint::spin_loop();
    }
}

impl Log for KernelLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        arch::without_irq(|| {
            let us = arch::ticks_to_us(arch::counter());
            // The ring first, and its lock back before the slow console: a CPU that is stopped with it takes the log's last line along.
            if let Some(mut ring) = try_for_a_while(&RING)
                && let Some(ring) = ring.as_mut()
            {
                write_line(ring, us, record);
            }
            let _console = try_for_a_while(&CONSOLE);
            write_line(&mut Emergency, us, record);
        });
    }

    fn flush(&self) {}
}

fn write_line(to: &mut impl Write, us: u64, record: &Record<'_>) {
    let level = match record.level() {
        log::Level::Error => "error: ",
        log::Level::Warn => "warning: ",
        _ => "",
    };
    // Neither sink reports errors.
    let _ = writeln!(
        to,
        "[{:5}.{:06}] {level}{}",
        us / 1_000_000,
        us % 1_000_000,
        record.args()
    );
}

/// Lets `write` have the console to itself, past the ring: for what a program on the other end reads.
pub(crate) fn raw(write: impl FnOnce(&mut Emergency)) {
    arch::without_irq(|| {
        let _console = try_for_a_while(&CONSOLE);
        write(&mut Emergency);
    });
}

/// Writes to the ring only, without waiting: for the crash path.
pub(crate) fn note_in_ring(arguments: fmt::Arguments<'_>) {
    if let Some(mut ring) = RING.try_lock()
        && let Some(ring) = ring.as_mut()
    {
        // The ring takes everything.
        let _ = ring.write_fmt(arguments);
    }
}
