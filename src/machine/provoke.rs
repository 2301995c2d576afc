// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults on purpose, for the crashes of Linux's LKDTM (drivers/misc/lkdtm) and for tests of the region's protection.
//!
//! Each function faults before it returns; that is what it is for. They are safe to call in the sense that the fault is taken by
//! this kernel's own handlers, which never return to the caller.

use core::arch::{asm, global_asm};
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::layout::LINEAR_BASE;
use crate::mmu::{AddressSpace, MapError};
use crate::region::CrashRegion;

global_asm!(include_str!("provoke.s"));

unsafe extern "C" {
    fn lkdtm_data_area();
    fn lkdtm_unaligned_exclusive(address: *const u64) -> u64;
    fn lkdtm_corrupt_stack();
    fn lkdtm_pattern(seed: u64, mask_all: u64) -> !;
    fn lkdtm_fp_pattern(seed: u64);
}

/// Writes to address 0.
#[inline(never)]
pub fn write_null() {
    write_to(0);
}

/// Writes to the first byte of `region` in the linear map, where nothing is mapped.
#[inline(never)]
pub fn write_to_region(region: &CrashRegion) {
    write_to(LINEAR_BASE + region.start());
}

/// Maps the first page of the region in use writable at stage 1 and writes to it: only stage 2 stands before it.
///
/// # Errors
/// The mapping failed.
#[inline(never)]
pub fn write_to_mapped_region(space: &mut AddressSpace) -> Result<(), MapError> {
    let address = crate::region::map_for_refusal_test(space)?;
    write_to(address);
    Ok(())
}

/// Writes eight bytes to `address`.
#[inline(never)]
fn write_to(address: u64) {
    // SAFETY: meant to fault; every address this is called with is unmapped or read-only. If it does not fault, the caller
    // reports that the protection failed.
    unsafe { asm!("str {}, [{}]", in(reg) 0xc0de_c0de_u64, in(reg) address, options(nostack)) };
}

/// Executes an undefined instruction (`udf #0`).
#[inline(never)]
pub fn undefined_instruction() {
    // SAFETY: traps; nothing else happens.
    unsafe { asm!("udf #0", options(nostack)) };
}

/// Executes `brk`, as `BUG()` does.
#[inline(never)]
pub fn breakpoint() {
    // SAFETY: traps; nothing else happens.
    unsafe { asm!("brk #0x800", options(nostack)) };
}

/// Loads exclusively from an address that is not aligned.
#[inline(never)]
pub fn unaligned_exclusive() {
    let words = [1_u64, 2];
    // SAFETY: the function faults on its only load, whose bytes lie inside `words`.
    black_box(unsafe { lkdtm_unaligned_exclusive(words.as_ptr()) });
}

/// Writes to read-only data.
#[inline(never)]
pub fn write_read_only() {
    static READ_ONLY: u64 = 0x1234_5678;
    write_to((&raw const READ_ONLY).addr() as u64);
}

/// Writes to the kernel's own code.
#[inline(never)]
pub fn write_kernel() {
    write_to(write_null as *const () as u64);
}

/// Writes below the running CPU's thread stack, or above it.
#[inline(never)]
pub fn write_beside_stack(is_below: bool) {
    if let Some(stacks) = crate::percpu::stacks(crate::percpu::current_slot()) {
        let (bottom, top) = stacks.thread;
        write_to(if is_below { bottom - 8 } else { top });
    }
}

/// Calls address 0.
#[inline(never)]
pub fn execute_null() {
    call(0);
}

/// Calls the bytes of some data, which no page with data lets happen.
#[inline(never)]
pub fn execute_bytes(data: &[u8]) {
    call(data.as_ptr().addr() as u64);
}

/// Calls `address`.
#[inline(never)]
fn call(address: u64) {
    // SAFETY: meant to fault on the first instruction; every address this is called with is unmapped or data, which is never
    // executable. The register that a call changes is named.
    unsafe { asm!("blr {}", in(reg) address, out("x30") _, options(nostack)) };
    black_box(());
}

/// Calls code in a data page.
#[inline(never)]
pub fn execute_data() {
    // SAFETY: faults on the first instruction, in a page that is never executable.
    unsafe { lkdtm_data_area() };
    black_box(());
}

/// Recurses until the stack ends.
#[inline(never)]
pub fn exhaust_stack() -> u64 {
    recurse(0)
}

#[inline(never)]
#[expect(
    unconditional_recursion,
    reason = "ends at the guard page, which is the point"
)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    recurse(depth + 1) + black_box(frame[(depth % 32) as usize])
}

/// Returns through an overwritten frame record.
#[inline(never)]
pub fn corrupt_stack() {
    // SAFETY: returns to an address that is not mapped and never comes back.
    unsafe { lkdtm_corrupt_stack() };
    black_box(());
}

/// Fills x0 to x30 and SP with `seed + n` and spins, with all of DAIF masked or open. `seed` is a multiple of 16.
///
/// This CPU's timers are off, so that no interrupt but the request to stop finds it anywhere else than in the loop.
pub fn spin_with_pattern(seed: u64, is_masked: bool) -> ! {
    crate::timer::stop();
    // SAFETY: never returns; the lost stack is this CPU's own. Exceptions are taken on SP_EL1, which stays good.
    unsafe { lkdtm_pattern(seed & !15, u64::from(is_masked)) }
}

/// Enables floating point on this CPU, as a program may that uses it, and fills its registers: both halves of Vn hold `seed + n`.
pub fn fill_fp_registers(seed: u64) {
    // SAFETY: this program is compiled without floating point, so that nobody loses a value.
    unsafe { lkdtm_fp_pattern(seed) }
}

/// Counts in memory with all of DAIF masked, as a CPU does that cannot be stopped without a stub.
pub fn count_with_everything_masked() -> ! {
    /// Tests find it by its name.
    // SAFETY: no other symbol of either kernel has this name.
    #[unsafe(no_mangle)]
    static LKDTM_COUNTER: AtomicU64 = AtomicU64::new(0);
    crate::timer::stop();
    crate::arch::mask_all();
    loop {
        LKDTM_COUNTER.fetch_add(1, Ordering::Relaxed);
    }
}
