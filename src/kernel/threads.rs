// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program's own threads: registered with their saved registers, they appear in gdb and in `afterimage bt --all`.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

pub use machine::exceptions::CapturedRegisters as Context;
use machine::exceptions::copy_guarded;
use spin::Mutex;
use vmcore::afterimage_notes::{ListWriter, NAME_LEN, Thread, name_field};
use vmcore::{Error, Registers};

use crate::dump::{self, Mark, MarkError};
use crate::watch;

/// The most threads at a time.
pub const MAX_THREADS: usize = 24;

#[derive(Clone, Copy)]
struct Entry {
    id: u32,
    name: [u8; NAME_LEN],
    context: u64,
}

static THREADS: Mutex<[Option<Entry>; MAX_THREADS]> = Mutex::new([None; MAX_THREADS]);
static NEXT_ID: AtomicU32 = AtomicU32::new(0);

/// A registered thread; it is forgotten when this is dropped.
#[derive(Debug)]
#[must_use = "the thread is forgotten when this is dropped"]
pub struct Registration {
    slot: usize,
    _stack: Mark,
}

impl Registration {
    /// Says that this thread makes progress. From the first call on, a thread that does not call it for
    /// `hung_task_timeout_secs=` seconds is a hung task.
    pub fn check_in(&self) {
        watch::check_in(self.slot);
    }

    /// Takes the thread out of the watch, until it checks in again: it waits for something that may take its time.
    pub fn check_out(&self) {
        watch::forget(self.slot);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        watch::forget(self.slot);
        machine::arch::without_irq(|| {
            if let Some(entry) = THREADS.lock().get_mut(self.slot) {
                *entry = None;
            }
        });
    }
}

/// Registers a thread: its name, its stack (sent early in a dump), and where its registers are saved while it does not run.
/// The registers are read at the crash, with a guard.
///
/// # Errors
/// All entries are in use, or the stack is no RAM of this kernel.
pub fn register(
    name: &str,
    stack: Range<*const u8>,
    context: *const Context,
) -> Result<Registration, MarkError> {
    let stack = dump::also(stack, name)?;
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    machine::arch::without_irq(|| {
        let mut threads = THREADS.lock();
        let (slot, entry) = threads
            .iter_mut()
            .enumerate()
            .find(|(_, entry)| entry.is_none())
            .ok_or(MarkError::Full)?;
        *entry = Some(Entry {
            id,
            name: name_field(name),
            context: context.addr() as u64,
        });
        Ok(Registration {
            slot,
            _stack: stack,
        })
    })
}

/// Name of the thread in `slot`; empty when there is none, or it cannot be told now.
pub(crate) fn name(slot: usize) -> [u8; NAME_LEN] {
    THREADS
        .try_lock()
        .and_then(|threads| threads.get(slot).copied().flatten())
        .map_or([0; NAME_LEN], |entry| entry.name)
}

/// Takes the list's lock for good: for crashes that are provoked while a CPU has it.
pub(crate) fn keep_list() {
    core::mem::forget(THREADS.lock());
}

/// Writes the THREADS payload. In the crash path.
pub(crate) fn encode(out: &mut [u8]) -> Result<usize, Error> {
    let mut list = ListWriter::new(out, 0)?;
    if let Some(threads) = THREADS.try_lock() {
        for thread in threads.iter().flatten() {
            if let Some(registers) = saved(thread.context) {
                list.push(&Thread {
                    id: thread.id,
                    name: thread.name,
                    registers,
                })?;
            }
        }
    }
    list.finish()
}

/// The registers saved at a virtual address, if they can be read.
fn saved(context: u64) -> Option<Registers> {
    let mut words = Words([0; SAVED_LEN]);
    // Loads are made in pairs of words: the first aligned pair at or below, cut to what was asked.
    let start = context & !15;
    copy_guarded(&mut words.0, start).ok()?;
    let mut values = [0_u64; 34];
    let skip = (context - start) as usize;
    for (number, value) in values.iter_mut().enumerate() {
        let at = number.checked_mul(8)?.checked_add(skip)?;
        *value = u64::from_le_bytes(*words.0.get(at..)?.first_chunk()?);
    }
    let mut x = [0; 31];
    x.copy_from_slice(values.get(..31)?);
    Some(Registers {
        x,
        sp: values[31],
        pc: values[32],
        pstate: values[33],
    })
}

/// 34 registers and room to align them.
const SAVED_LEN: usize = 34 * 8 + 16;

#[repr(C, align(16))]
struct Words([u8; SAVED_LEN]);
