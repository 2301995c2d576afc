// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry of both kernels: the Image header, the way down to EL1, MMU on, first Rust function.
//!
//! Documentation/arch/arm64/booting.rst is the contract; the assembly stands in boot.s, el2.s
//! and stub.s, which share one set of constants.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::{layout, region};

/// What the boot loader and the CPU told us before Rust ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryState {
    /// Physical address in x0: a DTB if the loader kept the contract.
    pub dtb: u64,
    /// Exception level at which the CPU was entered: 1, 2 or 3.
    pub exception_level: u8,
    /// Physical address at which the image lies.
    pub image: u64,
}

/// What a secondary CPU finds at the physical address in its x0.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct SecondaryArguments {
    /// CPU slot, 1 or more.
    pub(crate) slot: u64,
    /// Top of the CPU's stack unit (virtual).
    pub(crate) stack_top: u64,
    /// Physical address of the TTBR1 root table.
    pub(crate) tables: u64,
}

/// Function id of the one service of the EL3 monitor (a vendor-specific SMC64 call).
pub(crate) const MONITOR_SET_GROUPS: u32 = 0xc700_a1f1;

/// Attribute indirection: 0 normal write-back, 1 Device-nGnRE, 2 normal non-cacheable (Arm ARM D19.2.99).
pub(crate) const MAIR: u64 = 0x44_04_ff;
/// 48-bit halves, 4 KiB granules, inner-shareable write-back walks; IPS is filled in at run time (Arm ARM D19.2.139).
const TCR: u64 = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 16 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;
/// SCTLR_EL1: RES1 bits of Armv8.0.
const SCTLR_EL1_OFF: u64 = 0x30d0_0800;
/// SCTLR_EL1: RES1, I-cache, stack alignment check, D-cache, MMU.
const SCTLR_EL1_ON: u64 = SCTLR_EL1_OFF | 1 << 12 | 1 << 3 | 1 << 2 | 1;
/// Block: AF, inner-shareable, attribute 0, writable, executable at EL1.
const BLOCK_NORMAL_RWX: u64 = 1 << 54 | 1 << 10 | 3 << 8 | 1;
/// The same, read-only.
const BLOCK_NORMAL_RX: u64 = BLOCK_NORMAL_RWX | 1 << 7;

global_asm!(
    include_str!("el2.s"),
    include_str!("system_registers.s"),
    include_str!("boot.s"),
    include_str!("stub.s"),
    IMAGE_FLAGS = const 0b1010_u64,
    CRASH_STACK = const layout::CRASH_STACK,
    EXCEPTION_STACK = const layout::EXCEPTION_STACK,
    GUARD = const layout::GUARD,
    SECONDARY_SLOT = const offset_of!(SecondaryArguments, slot),
    SECONDARY_STACK_TOP = const offset_of!(SecondaryArguments, stack_top),
    SECONDARY_TABLES = const offset_of!(SecondaryArguments, tables),
    SCTLR_EL1_OFF = const SCTLR_EL1_OFF,
    SCTLR_EL1_ON = const SCTLR_EL1_ON,
    SCTLR_EL2_OFF = const 0x30c5_0830_u64,
    HCR_EL2_RW = const 1_u64 << 31,
    CPTR_EL2_NO_TRAPS = const 0x33ff_u64,
    SCR_EL3 = const 0x531_u64,
    SPSR_EL2H = const 0x3c9_u64,
    SPSR_EL1H = const 0x3c5_u64,
    MAIR = const MAIR,
    TCR = const TCR,
    BLOCK_NORMAL_RWX = const BLOCK_NORMAL_RWX,
    BLOCK_NORMAL_RX = const BLOCK_NORMAL_RX,
    MONITOR_SET_GROUPS = const MONITOR_SET_GROUPS,
    STUB_INSTALL = const region::stub::STUB_INSTALL,
    STUB_OPEN = const region::stub::STUB_OPEN,
    STUB_JUMP = const region::stub::STUB_JUMP,
    STUB_STATE = const region::STUB_STATE,
    STATE_CONFIG = const region::STATE_CONFIG,
    HCR_EL2_STUB = const region::stub::HCR_EL2_STUB,
    CONFIG_LAST_HPFAR = const offset_of!(region::stub::StubConfig, last_hpfar),
    CONFIG_LAST_FAR = const offset_of!(region::stub::StubConfig, last_far),
    CONFIG_FAULTS = const offset_of!(region::stub::StubConfig, faults),
    CONFIG_VTTBR = const offset_of!(region::stub::StubConfig, vttbr),
    CONFIG_VTCR = const offset_of!(region::stub::StubConfig, vtcr),
    CONFIG_GICD = const offset_of!(region::stub::StubConfig, gicd),
    CONFIG_GICC = const offset_of!(region::stub::StubConfig, gicc),
    CONFIG_STOP_INTID = const offset_of!(region::stub::StubConfig, stop_intid),
    CONFIG_STOP_FRAMES = const offset_of!(region::stub::StubConfig, stop_frames),
    STOP_FRAME_SIZE = const region::stub::STOP_FRAME_SIZE,
    STOP_FRAME_STATUS = const offset_of!(region::stub::StopFrame, status),
    STOP_FRAME_SYSTEM = const offset_of!(region::stub::StopFrame, system),
    STOP_FRAME_FP = const offset_of!(region::stub::StopFrame, fp),
    STOPPED_AT_EL2 = const region::stub::STOPPED_AT_EL2,
    CONFIG_ARGUMENTS = const offset_of!(region::stub::StubConfig, arguments),
    CONFIG_LOCAL = const offset_of!(region::stub::StubConfig, local),
    CONFIG_HAS_PSCI = const offset_of!(region::stub::StubConfig, has_psci),
    CONFIG_AFFINITY = const offset_of!(region::stub::StubConfig, affinity),
    PARK_WAITING = const region::stub::PARK_WAITING,
    PARK_STARTED = const region::stub::PARK_STARTED,
    PARK_STOPPED = const region::stub::PARK_STOPPED,
    BCM2836_MAILBOX_CLEAR = const crate::bcm2836::MAILBOX_CLEAR,
    AFFINITY_MASK = const 0xff_00ff_ffff_u64,
    MAX_CPUS = const layout::MAX_CPUS,
    spin_table_arguments = sym crate::smp::SPIN_TABLE,
    GICD_IGROUPR = const crate::gic::GICD_IGROUPR,
    PSCI_CPU_ON = const 0xc400_0003_u32,
    PSCI_CPU_ON_32 = const 0x8400_0003_u32,
    PSCI_CPU_OFF = const 0x8400_0002_u32,
    primary_rust = sym primary_rust,
    secondary_rust = sym crate::smp::secondary_rust,
);

unsafe extern "Rust" {
    /// The program's start, defined by [`crate::entry!`].
    safe fn afterimage_machine_main(entry: EntryState) -> !;
}

extern "C" fn primary_rust(dtb: u64, exception_level: u64, image: u64) -> ! {
    let entry = EntryState {
        dtb,
        exception_level: exception_level as u8,
        image,
    };
    crate::percpu::install(0);
    afterimage_machine_main(entry)
}

/// Makes `$main`, a `fn(EntryState) -> !`, the first Rust function of the image; a wrong signature does not compile.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: exactly one image entry is defined per binary (a second one is a duplicate symbol at link time), and
        // the signature is the one that `boot` declares.
        #[unsafe(no_mangle)]
        fn afterimage_machine_main(entry: $crate::boot::EntryState) -> ! {
            const MAIN: fn($crate::boot::EntryState) -> ! = $main;
            MAIN(entry)
        }
    };
}
