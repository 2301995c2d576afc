// SPDX-License-Identifier: MIT OR Apache-2.0
//! Crashes that take a lock, memory, a thread or another CPU.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use machine::arch;
use spin::Mutex;

use super::others::{self, Wish};
use super::{Crash, RETURN};
use crate::threads::{self, Context, Registration};
use crate::watch::{self, Lock};

/// Bytes of the stack of the thread that hangs.
const STACK_LEN: usize = 4096;

static LOCK: Lock<u32> = Lock::new(0);

/// The thread of [`check_in_once`] and [`work_and_say_so`], once it is there.
static THREAD: Mutex<Option<Registration>> = Mutex::new(None);
/// A `ret` on the heap, once it is there.
static CODE: Mutex<&[u8]> = Mutex::new(&[]);

/// Takes the memory that the crash needs, and registers its thread.
pub(super) fn prepare(crash: Crash) {
    match crash {
        Crash::ExecHeap => {
            let code: &[u8] = Vec::from(RETURN).leak();
            arch::without_irq(|| *CODE.lock() = code);
        }
        Crash::HungTask | Crash::LoopTouching => {
            let thread = register();
            arch::without_irq(|| *THREAD.lock() = thread);
        }
        _ => {}
    }
}

pub(super) fn code_on_heap() -> &'static [u8] {
    *CODE.lock()
}

/// Takes the lock for good, if it is free.
pub(super) fn hold_lock() {
    if let Some(guard) = LOCK.try_lock() {
        core::mem::forget(guard);
    }
}

/// Lets all other CPUs spin with interrupts masked, unless they are in a worse state already.
pub(super) fn mask_others() {
    others::ask(others::listening(), Wish::MaskIrq);
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
    let listening = others::listening();
    // The first of them.
    others::ask(listening & listening.wrapping_neg(), Wish::HoldLock);
    core::hint::black_box(*LOCK.lock());
}

/// Lets a thread check in once that never runs.
pub(super) fn check_in_once() {
    if let Some(thread) = THREAD.lock().as_ref() {
        thread.check_in();
    }
}

/// Works for ever, with a lock, and says that it makes progress.
pub(super) fn work_and_say_so() {
    let thread = THREAD.lock();
    loop {
        let mut rounds = LOCK.lock();
        *rounds = core::hint::black_box(rounds.wrapping_add(1));
        drop(rounds);
        watch::touch();
        if let Some(thread) = thread.as_ref() {
            thread.check_in();
        }
    }
}

/// Registers a thread that never runs.
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
