// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of their stacks the crash path and the capture kernel have used: what is not zero any more, counted from the top.
//!
//! QEMU's RAM is zero at first, and nothing else lies there.

use std::path::Path;

use crate::memory::{Memory, PAGE};
use crate::{artefacts, symbols};

/// Sizes and order in a CPU's stacks, from the top down: crash stack, guard, exception stack, guard (machine::layout).
const CRASH_STACK: usize = 0x7000;
const EXCEPTION_STACK: usize = 0x5000;
const GUARD: usize = 0x1000;
/// Where QEMU loads the kernel.
const KERNEL_PA: u64 = 0x4020_0000;

/// Bytes of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackUse {
    /// Between the lowest byte that was written and the top.
    pub used: usize,
    /// In all.
    pub size: usize,
}

/// Returns the use of the crash stack of CPU `slot` of the kernel.
///
/// # Panics
/// The kernel is not built.
#[must_use]
pub fn crash_stack(memory: &Memory, slot: u64) -> StackUse {
    let unit = Unit::of(&artefacts::image("kernel.elf"));
    let top = unit.top(slot, KERNEL_PA);
    use_of(memory, top, CRASH_STACK)
}

/// Returns the use of the exception stack of CPU `slot` of the kernel: where what faults in the crash path begins.
///
/// # Panics
/// The kernel is not built.
#[must_use]
pub fn exception_stack(memory: &Memory, slot: u64) -> StackUse {
    let unit = Unit::of(&artefacts::image("kernel.elf"));
    let top = unit.top(slot, KERNEL_PA) - (CRASH_STACK + GUARD) as u64;
    use_of(memory, top, EXCEPTION_STACK)
}

/// Returns the use of the stack that the capture kernel runs on, where its Image lies at physical address `image`.
///
/// # Panics
/// The capture kernel is not built.
#[must_use]
pub fn capture_stack(memory: &Memory, image: u64) -> StackUse {
    let unit = Unit::of(&artefacts::image("capture.elf"));
    let above = CRASH_STACK + GUARD + EXCEPTION_STACK + GUARD;
    let size = unit.len as usize - above - GUARD;
    use_of(memory, unit.top(0, image) - above as u64, size)
}

/// Where a program's stacks lie.
struct Unit {
    /// First byte of the first CPU's, from the start of the image.
    begin: u64,
    /// Bytes of one CPU's.
    len: u64,
}

impl Unit {
    fn of(elf: &Path) -> Self {
        let at = |name| symbols::address_of(elf, name);
        Self {
            begin: at("stacks_begin") - at("image_begin"),
            len: at("first_stack_top") - at("stacks_begin"),
        }
    }

    fn top(&self, slot: u64, image: u64) -> u64 {
        image + self.begin + (slot + 1) * self.len
    }
}

fn use_of(memory: &Memory, top: u64, size: usize) -> StackUse {
    assert_eq!(top % PAGE, 0, "the end of a stack");
    let bytes = memory.read(top - size as u64, size);
    let untouched = bytes.iter().take_while(|byte| **byte == 0).count();
    StackUse {
        used: size - untouched,
        size,
    }
}
