// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exceptions at EL1: the frame they leave, who is told, and reads that may abort.
//!
//! The vectors stand in exceptions.s. A program installs its [`Handlers`] once; until then every exception is printed on
//! the emergency console and the CPU halts.
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use core::arch::global_asm;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::percpu::PerCpu;

/// Registers of the interrupted code; exceptions.s fills it, offset by offset.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer of the interrupted code.
    pub sp: u64,
    /// ELR_EL1: where it was.
    pub pc: u64,
    /// SPSR_EL1.
    pub pstate: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// Frame record (x29, PC), so that a frame-pointer walk continues in the interrupted code.
    record: [u64; 2],
}

const _: () = assert!(size_of::<TrapFrame>() == 304 && size_of::<TrapFrame>().is_multiple_of(16));
const _: () = assert!(offset_of!(TrapFrame, sp) == 248 && offset_of!(TrapFrame, pc) == 256);
const _: () = assert!(offset_of!(TrapFrame, esr) == 272);

/// General registers of a piece of code that is not in an exception.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CapturedRegisters {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// PSTATE as SPSR would show it.
    pub pstate: u64,
}

const _: () = assert!(offset_of!(CapturedRegisters, pc) == 256);

impl From<&TrapFrame> for CapturedRegisters {
    fn from(frame: &TrapFrame) -> Self {
        Self {
            x: frame.x,
            sp: frame.sp,
            pc: frame.pc,
            pstate: frame.pstate,
        }
    }
}

/// The four kinds of exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Caused by the instruction at PC.
    Synchronous,
    /// Ordinary interrupt (Group 1).
    Irq,
    /// Fast interrupt (Group 0): the request to stop.
    Fiq,
    /// Asynchronous external abort.
    SError,
}

/// What a program does with exceptions. Each function may change the frame; it is restored when they return.
#[derive(Clone, Copy, Debug)]
pub struct Handlers {
    /// A synchronous exception that was no guarded read. `nested`: it came while another was being handled.
    pub synchronous: fn(frame: &mut TrapFrame, nested: bool),
    /// An interrupt.
    pub irq: fn(frame: &mut TrapFrame),
    /// A stop request.
    pub fiq: fn(frame: &mut TrapFrame),
    /// An SError that was no guarded read.
    pub serror: fn(frame: &mut TrapFrame),
}

static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(core::ptr::null_mut());

/// Installs the program's handlers.
pub fn install(handlers: &'static Handlers) {
    HANDLERS.store(core::ptr::from_ref(handlers).cast_mut(), Ordering::Release);
}

global_asm!(
    include_str!("exceptions.s"),
    FRAME_SIZE = const size_of::<TrapFrame>(),
    FRAME_RECORD = const offset_of!(TrapFrame, record),
    PERCPU_CRASH_STACK_TOP = const offset_of!(PerCpu, crash_stack_top),
    handler = sym exception_handler,
);

unsafe extern "C" {
    static guarded_begin: u8;
    static guarded_end: u8;
    static guarded_fault: u8;
    static semihosting_hlt: u8;
    static semihosting_absent: u8;
    fn guarded_copy(to: *mut u8, from: *const u8, bytes: usize) -> u64;
    fn guarded_is_zero(from: *const u8, bytes: usize) -> u64;
    #[link_name = "capture_registers"]
    fn capture_registers_raw(to: *mut CapturedRegisters);
    fn call_on_stack(top: u64, function: extern "C" fn(u64) -> !, argument: u64) -> !;
}

extern "C" fn exception_handler(frame: &mut TrapFrame, kind: u64) {
    let kind_of_four = match kind & 3 {
        0 => Kind::Synchronous,
        1 => Kind::Irq,
        2 => Kind::Fiq,
        _ => Kind::SError,
    };
    if matches!(kind_of_four, Kind::Synchronous | Kind::SError) && is_guarded(frame.pc) {
        frame.pc = (&raw const guarded_fault).addr() as u64;
        return;
    }
    if kind_of_four == Kind::Synchronous && frame.pc == (&raw const semihosting_hlt).addr() as u64 {
        frame.pc = (&raw const semihosting_absent).addr() as u64;
        return;
    }
    let installed = HANDLERS.load(Ordering::Acquire);
    // SAFETY: only `install` stores here, and what it stores is a `&'static Handlers`.
    match unsafe { installed.as_ref() } {
        Some(handlers) if kind < 8 => match kind_of_four {
            Kind::Synchronous => (handlers.synchronous)(frame, kind >= 4),
            Kind::Irq => (handlers.irq)(frame),
            Kind::Fiq => (handlers.fiq)(frame),
            Kind::SError => (handlers.serror)(frame),
        },
        _ => report_and_halt(frame, kind),
    }
}

fn is_guarded(pc: u64) -> bool {
    let begin = (&raw const guarded_begin).addr() as u64;
    let end = (&raw const guarded_end).addr() as u64;
    (begin..end).contains(&pc)
}

fn report_and_halt(frame: &TrapFrame, kind: u64) -> ! {
    crate::emergency!("\nUnexpected exception\n");
    crate::emergency!(
        "  vector {kind} pc {:#018x} lr {:#018x} sp {:#018x}\n  esr {:#010x} far {:#018x} pstate {:#x}\n",
        frame.pc,
        frame.x[30],
        frame.sp,
        frame.esr,
        frame.far,
        frame.pstate
    );
    crate::arch::halt()
}

/// A load that aborted: nothing was changed in the destination past the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted;

/// Copies `to.len()` bytes from the virtual address `from`; a load that aborts ends the copy.
///
/// # Errors
/// [`Aborted`] when a load faulted, or when `from` or the length is no multiple of 16.
pub fn copy_guarded(to: &mut [u8], from: u64) -> Result<(), Aborted> {
    let destination = to.as_mut_ptr();
    if to.is_empty()
        || !to.len().is_multiple_of(16)
        || !from.is_multiple_of(16)
        || !destination.addr().is_multiple_of(8)
    {
        return Err(Aborted);
    }
    // SAFETY: 1. `destination` is valid for `to.len()` bytes. 2. Loads may fault anywhere: the handler then resumes at
    // `guarded_fault`. 3. Raw loads of memory that no Rust reference of this program covers have no aliasing rules.
    let result = unsafe { guarded_copy(destination, from as *const u8, to.len()) };
    if result == 0 { Ok(()) } else { Err(Aborted) }
}

/// Whether the `bytes` bytes at virtual address `from` are all zero.
///
/// # Errors
/// As [`copy_guarded`]; `bytes` must be a multiple of 64.
pub fn is_zero_guarded(from: u64, bytes: usize) -> Result<bool, Aborted> {
    if bytes == 0 || !bytes.is_multiple_of(64) || !from.is_multiple_of(16) {
        return Err(Aborted);
    }
    // SAFETY: as in `copy_guarded`, without a destination.
    match unsafe { guarded_is_zero(from as *const u8, bytes) } {
        0 => Ok(false),
        2 => Ok(true),
        _ => Err(Aborted),
    }
}

/// The caller's registers; PC is the instruction after the call.
#[inline(always)]
pub fn capture_registers() -> CapturedRegisters {
    let mut registers = core::mem::MaybeUninit::<CapturedRegisters>::uninit();
    // SAFETY: the assembly writes every field of the struct behind the pointer and nothing else.
    unsafe { capture_registers_raw(registers.as_mut_ptr()) };
    // SAFETY: written just now, whole.
    unsafe { registers.assume_init() }
}

/// Goes on with `function(argument)` at the top of this CPU's crash stack, where it never returns from.
pub fn continue_on_crash_stack(function: extern "C" fn(u64) -> !, argument: u64) -> ! {
    let top = crate::percpu::current().crash_stack_top;
    // SAFETY: the crash stack belongs to this CPU alone and only code that never returns runs on it.
    unsafe { call_on_stack(top, function, argument) }
}
