// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node's tasks: each has a stack, and a place where its registers are while it does not run.
//!
//! A task that has not run yet begins at its entry, with an empty stack; that is how a scheduler makes one.

use alloc::boxed::Box;
use alloc::vec;

use kernel::dump::MarkError;
use kernel::machine::exceptions::CapturedRegisters;
use kernel::threads::{self, Registration};

/// Bytes of a task's stack.
pub const STACK_LEN: usize = 16 << 10;
/// What an unused stack holds, so that its depth can be seen.
pub const PAINT: u8 = 0xa5;
/// PSTATE of a task: EL1 with SP_EL0, interrupts open.
const EL1T: u64 = 0b0100;

/// A task that waits to run.
pub struct Task {
    /// Its registers, in a box of their own: they stay where they are when the task moves.
    pub context: Box<CapturedRegisters>,
    /// Its stack.
    pub stack: Box<[u8]>,
    _registration: Registration,
}

impl Task {
    /// Makes a task, and makes it known to the dump.
    ///
    /// # Errors
    /// The kernel library's table of threads is full.
    pub fn new(name: &str, entry: fn() -> !, argument: u64) -> Result<Self, MarkError> {
        let stack = vec![PAINT; STACK_LEN].into_boxed_slice();
        // x29 and x30 are 0: no one called it, so a backtrace ends here.
        let mut x = [0; 31];
        x[0] = argument;
        let sp = stack.as_ptr_range().end.addr() as u64 & !15;
        let context = Box::new(CapturedRegisters {
            x,
            sp,
            pc: entry as usize as u64,
            pstate: EL1T,
        });
        let registration = threads::register(name, stack.as_ptr_range(), &raw const *context)?;
        Ok(Self {
            context,
            stack,
            _registration: registration,
        })
    }
}

/// Sends what was measured.
#[inline(never)]
pub fn network() -> ! {
    log::info!("the network task runs");
    kernel::idle()
}

/// Measures.
#[inline(never)]
pub fn sampling() -> ! {
    log::info!("the sampling task runs");
    kernel::idle()
}
