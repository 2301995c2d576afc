// SPDX-License-Identifier: MIT OR Apache-2.0
//! The EL2 stub, seen from EL1: its calls, its configuration, and the registers it saves of CPUs it stops.
//!
//! The code stands in stub.s. It is there when the kernel was entered at EL2 and has a crash region.

use core::arch::asm;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicBool, Ordering};

use super::STUB_STATE;
use crate::arch;
use crate::layout::MAX_CPUS;
use crate::system_registers::{self, FpState};

/// First number of the stub's hypervisor calls (vendor-specific, SMC64 form).
pub(crate) const STUB_OPEN: u32 = 0xc600_a1f0;
/// Leaves for the capture kernel.
pub(crate) const STUB_JUMP: u32 = STUB_OPEN + 2;
const STUB_LAST_FAULT: u32 = STUB_OPEN + 3;
const STUB_GROUP0: u32 = STUB_OPEN + 4;
const STUB_START: u32 = STUB_OPEN + 5;
const STUB_PARKED: u32 = STUB_OPEN + 6;
const STUB_PARK: u32 = STUB_OPEN + 7;
/// A call that the stub does not know.
const STUB_UNKNOWN: u32 = STUB_OPEN + 8;
/// Understood by the early EL2 vectors only.
pub(crate) const STUB_INSTALL: u32 = STUB_OPEN + 0xf;

/// HCR_EL2 under the stub: AArch64 at EL1, SMC traps, FIQ taken at EL2, stage 2 on.
pub(crate) const HCR_EL2_STUB: u64 = 1 << 31 | 1 << 19 | 1 << 3 | 1;

/// What the stub reads at `STATE_CONFIG`.
#[repr(C)]
pub(crate) struct StubConfig {
    pub(crate) last_hpfar: u64,
    pub(crate) last_far: u64,
    pub(crate) faults: u64,
    pub(crate) vttbr: u64,
    pub(crate) vtcr: u64,
    /// Physical GICv2 distributor.
    pub(crate) gicd: u64,
    /// Physical GICv2 CPU interface, 0 for system registers.
    pub(crate) gicc: u64,
    pub(crate) stop_intid: u64,
    /// Physical address of the stop frames.
    pub(crate) stop_frames: u64,
    /// Physical bounds of the arguments of secondary CPUs.
    pub(crate) arguments: [u64; 2],
    /// Physical address of a BCM2836's local interrupt controller, 0 where there is none.
    pub(crate) local: u64,
    /// Whether PSCI turns CPUs off; else they are parked.
    pub(crate) has_psci: u64,
    /// Affinity of the CPU of each slot, by which a CPU out of a spin table knows who it is.
    pub(crate) affinity: [u64; MAX_CPUS],
}

/// Registers that a stopped CPU leaves, written by the stub or by the FIQ handler.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct StopFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer in use.
    pub sp: u64,
    /// Interrupted instruction.
    pub pc: u64,
    /// PSTATE.
    pub pstate: u64,
    /// 0 until the CPU has saved; then how it was stopped.
    pub status: u64,
    /// System registers in the order of `system_registers`.
    pub system: [u64; system_registers::COUNT],
    /// Floating-point state, if it was enabled.
    pub fp: FpState,
}

/// [`StopFrame::status`] of a CPU that the stub stopped.
pub const STOPPED_AT_EL2: u64 = 2;
pub(crate) const STOP_FRAME_SIZE: usize = size_of::<StopFrame>();
const _: () = assert!(STOP_FRAME_SIZE < 0x1000 && offset_of!(StopFrame, pc) == 256);

/// Stop frames of all CPUs. Written uncached by the stub; nothing else of the kernel touches these lines.
#[repr(C, align(4096))]
struct StopFrames([core::cell::UnsafeCell<StopFrame>; MAX_CPUS]);

// SAFETY: each frame is written by one CPU (its own) before it publishes `status`, and read by the winner of the crash after.
unsafe impl Sync for StopFrames {}

static STOP_FRAMES: StopFrames = StopFrames(
    [const {
        core::cell::UnsafeCell::new(StopFrame {
            x: [0; 31],
            sp: 0,
            pc: 0,
            pstate: 0,
            status: 0,
            system: [0; system_registers::COUNT],
            fp: FpState::NONE,
        })
    }; MAX_CPUS],
);

/// Physical address of the stop frames.
pub(super) fn stop_frames_physical() -> u64 {
    crate::image::physical(STOP_FRAMES.0.as_ptr().addr() as u64)
}

/// What CPU `slot` has saved: `None` until it has.
pub fn stop_frame(slot: usize) -> Option<StopFrame> {
    let frame = STOP_FRAMES.0.get(slot)?.get();
    // SAFETY: takes an address inside the static frame.
    let status = unsafe { &raw const (*frame).status };
    arch::clean_invalidate(status.addr() as u64, 8);
    // SAFETY: plain data in the static frame.
    if unsafe { status.read_volatile() } == 0 {
        return None;
    }
    // The stub writes the status last; the barrier of this maintenance orders the two reads.
    arch::clean_invalidate(frame.addr() as u64, STOP_FRAME_SIZE as u64);
    // SAFETY: as above.
    Some(unsafe { frame.read_volatile() })
}

static STUB_INSTALLED: AtomicBool = AtomicBool::new(false);
/// Whether the EL2 stub runs under this kernel.
pub fn is_installed() -> bool {
    STUB_INSTALLED.load(Ordering::Acquire)
}

/// Moves EL2 from the early vectors to the stub at physical address `stub`, under the stage-2 tables at `stage_two`.
pub(super) fn install(stub: u64, stage_two: u64) {
    let stack = stub + STUB_STATE + 0x100;
    let mut result = u64::from(STUB_INSTALL);
    // SAFETY: the early vectors at EL2 know this call. The stub lies in the region, cleaned to PoC, its state behind
    // it; the tables map everything but the region, which EL1 does not use.
    unsafe {
        asm!("hvc #0", inout("x0") result, inout("x1") stub => _, inout("x2") stage_two => _,
            inout("x3") stack => _, inout("x4") stage_two_control() => _, out("x9") _, options(nostack));
    }
    STUB_INSTALLED.store(result == 0, Ordering::Release);
}

/// VTCR_EL2.
pub(super) fn stage_two_control() -> u64 {
    // T0SZ 25 (512 GiB), start at level 1, write-back inner-shareable walks, 4 KiB, PS as the CPU has it.
    25 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | arch::physical_address_range() << 16 | 1 << 31
}

fn call_stub(function: u32) -> (u64, u64, u64) {
    call_stub_with(function, 0, 0)
}

fn call_stub_with(function: u32, mut x1: u64, mut x2: u64) -> (u64, u64, u64) {
    let mut x0 = u64::from(function);
    // SAFETY: the stub's calls change x0 to x3 and, for OPEN and CLOSE, whether EL1 reaches the region, which EL1 maps
    // only while it is open. START runs this image's own entry on another CPU.
    unsafe {
        asm!("hvc #0", inout("x0") x0, inout("x1") x1, inout("x2") x2, out("x3") _, options(nostack))
    };
    (x0, x1, x2)
}

/// Turns stage 2 on or off on this CPU; nothing without a stub.
pub(super) fn set_stage_two(on: bool) {
    if is_installed() {
        call_stub(if on { STUB_OPEN + 1 } else { STUB_OPEN });
    }
}

/// Whether the stub answers a call that it does not know as it has to: NOT_SUPPORTED.
pub(super) fn answers() -> bool {
    call_stub(STUB_UNKNOWN).0 == u64::MAX
}

/// What a CPU without PSCI says of itself: nothing yet, it waits to be started, it was started, it has been stopped for good.
pub(crate) const PARK_WAITING: u64 = 1;
pub(crate) const PARK_STARTED: u64 = 2;
pub(crate) const PARK_STOPPED: u64 = 3;

fn park_state(slot: usize) -> u64 {
    call_stub_with(STUB_PARKED, slot as u64, 0).0
}

/// Whether the CPU of `slot` waits in the region to be started.
pub(crate) fn is_waiting(slot: usize) -> bool {
    is_installed() && park_state(slot) == PARK_WAITING
}

/// Whether the CPU of `slot` has come to the loop in the region that it never leaves.
pub fn is_parked(slot: usize) -> bool {
    is_installed() && park_state(slot) == PARK_STOPPED
}

/// Parks this CPU in the region for good, its registers saved and its interrupts quiet. Returns only without a stub.
pub fn park() {
    if is_installed() {
        call_stub(STUB_PARK);
    }
}

/// Starts a waiting CPU at `entry` with `arguments` in x0, both physical. Returns whether the stub agreed.
pub(crate) fn start(arguments: u64, entry: u64) -> bool {
    call_stub_with(STUB_START, arguments, entry).0 == 0
}

/// Where a spin table sends a CPU so that it waits in the region. `None` without a stub.
pub(crate) fn pen_entry() -> Option<u64> {
    unsafe extern "C" {
        static stub_begin: u8;
        static stub_pen: u8;
    }
    let offset = (&raw const stub_pen)
        .addr()
        .checked_sub((&raw const stub_begin).addr())?;
    let region = super::active().filter(|_| is_installed())?;
    Some(region.supervisor() + super::STUB + offset as u64)
}

/// Enables Group 0 interrupts on this CPU through the stub.
pub(crate) fn enable_group0_at_el2() {
    call_stub(STUB_GROUP0);
}

/// An access that stage 2 refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedAccess {
    /// Page of the intermediate physical address.
    pub physical: u64,
    /// Virtual address.
    pub virtual_address: u64,
}

/// The last access that stage 2 refused, if there was one.
pub fn last_refused_access() -> Option<RefusedAccess> {
    if !is_installed() {
        return None;
    }
    let (physical, virtual_address, count) = call_stub(STUB_LAST_FAULT);
    (count != 0).then_some(RefusedAccess {
        physical,
        virtual_address,
    })
}
