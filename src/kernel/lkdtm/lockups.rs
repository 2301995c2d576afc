// SPDX-License-Identifier: MIT OR Apache-2.0
//! Crashes that take a lock, a thread or another CPU.

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::{AtomicU32, Ordering};

use machine::arch;

use crate::threads::{self, Context, Registration};
use crate::watch::{self, Lock};

/// Bytes of the stack of the thread that hangs.
const STACK_LEN: usize = 4096;
/// Longest wait for other CPUs to do what they are asked.
const HELP_US: u64 = 1_000_000;

static LOCK: Lock<u32> = Lock::new(0);

/// What idle CPUs are asked to do.
static WISH: AtomicU32 = AtomicU32::new(NOTHING);
const NOTHING: u32 = 0;
const HOLD_LOCK: u32 = 1;
const MASK_IRQ: u32 = 2;
/// CPUs that did it.
static DONE: AtomicU32 = AtomicU32::new(0);

/// Does what the CPU that provokes a crash asked for. By idle CPUs.
pub(super) fn help() {
    match WISH.load(Ordering::Acquire) {
        HOLD_LOCK => {
            if let Some(guard) = LOCK.try_lock() {
                core::mem::forget(guard);
                DONE.fetch_add(1, Ordering::AcqRel);
            }
        }
        MASK_IRQ => {
            arch::mask_irq();
            DONE.fetch_add(1, Ordering::AcqRel);
            loop {
                core::hint::spin_loop();
            }
        }
        _ => {}
    }
}

/// Waits, for a bounded time, until `count` CPUs did it.
fn ask(wish: u32, count: u32) {
    WISH.store(wish, Ordering::Release);
    let deadline = arch::Deadline::after_us(HELP_US);
    while DONE.load(Ordering::Acquire) < count && !deadline.is_past() {
        core::hint::spin_loop();
    }
}

/// Lets all other CPUs spin with interrupts masked.
pub(super) fn mask_others() {
    let running = (0..crate::cpus::count()).filter(|slot| crate::cpus::is_running(*slot));
    ask(MASK_IRQ, running.count().saturating_sub(1) as u32);
}

#[inline(never)]
pub(super) fn take_twice() {
    let mut first = LOCK.lock();
    *first += 1;
    let second = LOCK.lock();
    core::hint::black_box((*first, *second));
}

#[inline(never)]
pub(super) fn take_what_another_holds() {
    ask(HOLD_LOCK, 1);
    core::hint::black_box(*LOCK.lock());
}

/// Registers a thread that never runs, and lets it check in once.
pub(super) fn check_in_once() {
    if let Some(thread) = register() {
        thread.check_in();
        core::mem::forget(thread);
    }
}

/// Works for ever, with a lock, and says that it makes progress.
pub(super) fn work_and_say_so() {
    let thread = register();
    loop {
        let mut rounds = LOCK.lock();
        *rounds = core::hint::black_box(rounds.wrapping_add(1));
        drop(rounds);
        watch::touch();
        if let Some(thread) = &thread {
            thread.check_in();
        }
    }
}

fn register() -> Option<Registration> {
    let stack = Box::leak(vec![0_u8; STACK_LEN].into_boxed_slice());
    let mut x = [0; 31];
    x[0] = super::PATTERN;
    let context: &Context = Box::leak(Box::new(Context {
        x,
        sp: stack.as_ptr_range().end.addr() as u64,
        pc: hung_task as *const () as u64,
        pstate: 4,
    }));
    threads::register("lkdtm", stack.as_ptr_range(), context)
        .inspect_err(|error| log::error!("lkdtm: {error}"))
        .ok()
}

/// Where the thread says that it is.
#[inline(never)]
fn hung_task() -> ! {
    crate::idle()
}
