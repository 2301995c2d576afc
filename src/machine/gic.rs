// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupt controller: GICv2 and GICv3 through `arm-gic`, and what a crash needs beside it.
//!
//! Kernel interrupts are Group 1, taken as IRQ. The stop request is a Group-0 SGI, taken as FIQ, at EL2 when there is a
//! stub (decision 5). Whether Group 0 is ours is probed; where firmware owns it the stop request is a Group-1 SGI.
//! Sources: Arm IHI 0048 (GICv2), IHI 0069 (GICv3). What a crash does takes no lock and waits for nothing.

mod groups;
mod provoke;
mod quiesce;
mod state;

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use arm_gic::gicv2::GicV2;
use arm_gic::gicv3::{GicCpuInterface, GicV3, Group, SecureIntGroup};
use arm_gic::{IntId, InterruptGroup, Trigger, UniqueMmioPointer};

use crate::arch;
use crate::gic_v2::{self, GicV2 as V2, Groups};
use crate::gic_v3::{self, GICR_SGI_FRAME, REDISTRIBUTOR_LEN};
use crate::layout::MAX_CPUS;
use crate::mmio::Block;
use crate::mmu::{AddressSpace, MapError};

pub(crate) use crate::gic_v2::GICD_IGROUPR;
pub use groups::{leave_group0, owns_group0};
pub(crate) use provoke::{enable_lpis, leave_interrupts};
pub use quiesce::{quiesce, quiesce_own};
pub use state::{each_register, version};

/// Interrupt id of the stop request, an SGI.
pub const STOP_INTID: u32 = gic_v2::STOP_INTID;

const DISTRIBUTOR_LEN: u64 = 0x1_0000;
const V2_DISTRIBUTOR_LEN: u64 = 0x1000;
const CPU_INTERFACE_LEN: u64 = 0x1000;

/// Where the interrupt controller's registers are (physical).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// GICv2: distributor, CPU interface.
    V2 {
        /// Distributor.
        distributor: u64,
        /// CPU interface.
        cpu_interface: u64,
    },
    /// GICv3 or 4: distributor, first redistributor of a contiguous run.
    V3 {
        /// Distributor.
        distributor: u64,
        /// First redistributor.
        redistributor: u64,
        /// Bytes of redistributors.
        redistributor_len: u64,
    },
}

/// Why the interrupt controller could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Its registers could not be mapped.
    Map(MapError),
    /// No redistributor names this CPU.
    NoRedistributor {
        /// The CPU's affinity.
        mpidr: u64,
    },
    /// `arm-gic` refused.
    Driver,
    /// An interrupt id that does not exist.
    InterruptId(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => write!(f, "interrupt controller: {error}"),
            Self::NoRedistributor { mpidr } => write!(f, "no GIC redistributor for CPU {mpidr:#x}"),
            Self::Driver => f.write_str("the GIC driver refused its registers"),
            Self::InterruptId(id) => write!(f, "interrupt {id} does not exist"),
        }
    }
}

/// Virtual addresses, 0 when absent. Written once by `map`.
static DISTRIBUTOR: AtomicU64 = AtomicU64::new(0);
static CPU_INTERFACE: AtomicU64 = AtomicU64::new(0);
/// Distributor and CPU interface of a GICv2.
static V2_PHYSICAL: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static REDISTRIBUTOR: AtomicU64 = AtomicU64::new(0);
static REDISTRIBUTOR_SPAN: AtomicU64 = AtomicU64::new(0);
static OWN_REDISTRIBUTOR: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

fn block(address: &AtomicU64, len: u64) -> Option<Block> {
    let base = address.load(Ordering::Acquire);
    // SAFETY: only `map` and `find_redistributor` store here, addresses that `map_device` mapped for good.
    (base != 0).then(|| unsafe { Block::new(base, len) })
}

fn distributor() -> Option<Block> {
    let is_v2 = CPU_INTERFACE.load(Ordering::Acquire) != 0;
    block(
        &DISTRIBUTOR,
        if is_v2 {
            V2_DISTRIBUTOR_LEN
        } else {
            DISTRIBUTOR_LEN
        },
    )
}

fn cpu_interface() -> Option<Block> {
    block(&CPU_INTERFACE, CPU_INTERFACE_LEN)
}

/// A GICv2's registers; `None` with another controller.
fn v2() -> Option<V2<Block>> {
    Some(V2 {
        distributor: distributor()?,
        interface: cpu_interface()?,
    })
}

/// Physical addresses of a GICv2's distributor and CPU interface, 0 for GICv3.
pub(crate) fn v2_physical() -> [u64; 2] {
    V2_PHYSICAL.each_ref().map(|it| it.load(Ordering::Acquire))
}

/// Maps the registers.
///
/// # Errors
/// The page tables are used up or an address cannot be mapped.
pub fn map(space: &mut AddressSpace, location: Location) -> Result<(), Error> {
    match location {
        Location::V2 {
            distributor,
            cpu_interface,
        } => {
            let mapped = space
                .map_device(distributor, V2_DISTRIBUTOR_LEN)
                .map_err(Error::Map)?;
            let interface = space
                .map_device(cpu_interface, CPU_INTERFACE_LEN)
                .map_err(Error::Map)?;
            for (place, physical) in V2_PHYSICAL.iter().zip([distributor, cpu_interface]) {
                place.store(physical, Ordering::Release);
            }
            CPU_INTERFACE.store(interface, Ordering::Release);
            DISTRIBUTOR.store(mapped, Ordering::Release);
        }
        Location::V3 {
            distributor,
            redistributor,
            redistributor_len,
        } => {
            let span = redistributor_len.min(2 * REDISTRIBUTOR_LEN * MAX_CPUS as u64);
            let distributor = space
                .map_device(distributor, DISTRIBUTOR_LEN)
                .map_err(Error::Map)?;
            let first = space.map_device(redistributor, span).map_err(Error::Map)?;
            REDISTRIBUTOR.store(first, Ordering::Release);
            REDISTRIBUTOR_SPAN.store(span, Ordering::Release);
            DISTRIBUTOR.store(distributor, Ordering::Release);
        }
    }
    Ok(())
}

/// Hands all interrupts to the non-secure side, through the monitor that boot.s leaves at EL3 (an ELF boot under `secure=on`).
pub fn adopt_from_el3(location: Location) {
    let Some(registers) = distributor() else {
        return;
    };
    let words = gic_v2::lines(&registers) + 1;
    let (distributor, redistributor, interface) = match location {
        Location::V2 {
            distributor,
            cpu_interface,
        } => (distributor, 0, cpu_interface),
        Location::V3 {
            distributor,
            redistributor,
            ..
        } => (distributor, redistributor + GICR_SGI_FRAME, 0),
    };
    // SAFETY: the monitor writes the group registers of these blocks, which the DTB names, and changes x0, x9 and x10.
    unsafe {
        asm!("smc #0", inout("x0") u64::from(crate::boot::MONITOR_SET_GROUPS) => _, in("x1") distributor,
            inout("x2") words => _, in("x3") redistributor, in("x4") interface, out("x9") _, out("x10") _,
            options(nostack));
    }
}

/// Sets the distributor up, and probes who owns Group 0. On the first CPU, before [`init_cpu`].
///
/// # Errors
/// No redistributor for this CPU, or what the driver refused.
pub fn init() -> Result<(), Error> {
    if distributor().is_none() {
        return Ok(());
    }
    if let Some(v2) = v2() {
        groups::set(v2.init(groups::is_left()));
    } else {
        let own = find_redistributor()?;
        with_v3(|gic, cpu| {
            gic.setup(cpu);
            Ok(())
        })?;
        if !groups::is_left() && gic_v2::owns_group0(&own, GICR_SGI_FRAME + GICD_IGROUPR) {
            groups::set(Groups::Both);
        }
        with_v3(|gic, _| {
            if owns_group0() {
                gic.gicd_set_control(arm_gic::gicv3::registers::GicdCtlr::EnableGrp0);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Sets this CPU's interface up.
///
/// # Errors
/// No redistributor for this CPU, or what the driver refused.
pub fn init_cpu() -> Result<(), Error> {
    if distributor().is_none() {
        return Ok(());
    }
    if let Some(v2) = v2() {
        v2.init_own_groups(groups::get());
        with_v2(|gic| {
            gic.set_interrupt_priority(IntId::sgi(STOP_INTID), 0);
            gic.enable_interrupt(IntId::sgi(STOP_INTID), true)
                .map_err(|_| Error::Driver)
        })?;
        v2.init_interface(groups::get());
    } else {
        find_redistributor()?;
        with_v3(|gic, cpu| {
            gic.init_cpu(cpu);
            let group = if owns_group0() {
                Group::Secure(SecureIntGroup::Group0)
            } else {
                Group::Group1NS
            };
            gic.set_group(IntId::sgi(STOP_INTID), Some(cpu), group)
                .map_err(|_| Error::Driver)?;
            gic.set_interrupt_priority(IntId::sgi(STOP_INTID), Some(cpu), 0)
                .map_err(|_| Error::Driver)?;
            gic.enable_interrupt(IntId::sgi(STOP_INTID), Some(cpu), true)
                .map_err(|_| Error::Driver)
        })?;
        GicCpuInterface::set_priority_mask(0xff);
        GicCpuInterface::enable_group1(true);
        if owns_group0() {
            if crate::region::stub::is_installed() {
                crate::region::stub::enable_group0_at_el2();
            } else {
                GicCpuInterface::enable_group0(true);
            }
        }
    }
    Ok(())
}

/// Enables an interrupt (Group 1) on this CPU, or a shared one towards this CPU.
///
/// # Errors
/// The id does not exist, or the driver refused.
pub fn enable(intid: u32, is_edge: bool) -> Result<(), Error> {
    let id = interrupt_id(intid)?;
    let trigger = if is_edge {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    if let Some(v2) = v2() {
        with_v2(|gic| {
            gic.set_group(id, groups::of_other());
            gic.set_interrupt_priority(id, 0x80);
            Ok(())
        })?;
        if intid >= 32 {
            v2.target_own(intid);
            with_v2(|gic| {
                gic.set_trigger(id, trigger);
                Ok(())
            })?;
        }
        with_v2(|gic| gic.enable_interrupt(id, true).map_err(|_| Error::Driver))
    } else {
        with_v3(|gic, cpu| {
            gic.set_group(id, Some(cpu), Group::Group1NS)
                .map_err(|_| Error::Driver)?;
            gic.set_interrupt_priority(id, Some(cpu), 0x80)
                .map_err(|_| Error::Driver)?;
            gic.set_trigger(id, Some(cpu), trigger)
                .map_err(|_| Error::Driver)?;
            gic.enable_interrupt(id, Some(cpu), true)
                .map_err(|_| Error::Driver)
        })
    }
}

/// Takes the next Group-1 interrupt (on a GICv2 it may be the stop request, too); `None` when it was spurious.
pub fn acknowledge() -> Option<u32> {
    match v2() {
        Some(v2) => v2.acknowledge(),
        None => GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)
            .map(u32::from)
            .filter(|id| *id < gic_v2::SPECIAL),
    }
}

/// Ends a Group-1 interrupt.
pub fn end(intid: u32) {
    match v2() {
        Some(v2) => v2.end(intid),
        None => {
            if let Ok(id) = interrupt_id(intid) {
                GicCpuInterface::end_interrupt(id, InterruptGroup::Group1);
            }
        }
    }
}

/// Takes and ends a Group-0 interrupt, at EL1. Returns its id.
pub fn take_group0() -> Option<u32> {
    match v2() {
        Some(v2) => v2.take(),
        None => {
            let id = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group0)?;
            GicCpuInterface::end_interrupt(id, InterruptGroup::Group0);
            Some(u32::from(id)).filter(|id| *id < gic_v2::SPECIAL)
        }
    }
}

/// Asks all other CPUs to stop.
pub fn send_stop() {
    if let Some(v2) = v2() {
        v2.send_stop(groups::get());
    } else if distributor().is_some() {
        // IRM: all but self (IHI 0069, 12.2.14 and 12.2.20). Under the stub these writes trap and are done there.
        let value = 1_u64 << 40 | u64::from(STOP_INTID) << 24;
        if owns_group0() {
            // SAFETY: sends an interrupt, touches no memory; the barrier makes what was written before visible first.
            unsafe {
                asm!("dsb ishst", "msr S3_0_C12_C11_7, {}", "isb", in(reg) value, options(nostack))
            };
        } else {
            // SAFETY: as above.
            unsafe {
                asm!("dsb ishst", "msr S3_0_C12_C11_5, {}", "isb", in(reg) value, options(nostack))
            };
        }
    }
}

/// Finds the redistributor whose affinity is this CPU's.
fn find_redistributor() -> Result<Block, Error> {
    let mpidr = arch::mpidr_affinity();
    let no_redistributor = Error::NoRedistributor { mpidr };
    let span = REDISTRIBUTOR_SPAN.load(Ordering::Acquire);
    let all = block(&REDISTRIBUTOR, span).ok_or(no_redistributor)?;
    let offset = gic_v3::find_redistributor(&all, span, mpidr).ok_or(no_redistributor)?;
    let slot = crate::percpu::current_slot();
    let own = OWN_REDISTRIBUTOR.get(slot).ok_or(no_redistributor)?;
    own.store(all.base() + offset, Ordering::Release);
    block(own, REDISTRIBUTOR_LEN).ok_or(no_redistributor)
}

fn interrupt_id(intid: u32) -> Result<IntId, Error> {
    match intid {
        0..16 => Ok(IntId::sgi(intid)),
        16..32 => Ok(IntId::ppi(intid - 16)),
        32..1020 => Ok(IntId::spi(intid - 32)),
        _ => Err(Error::InterruptId(intid)),
    }
}

/// Configuration goes through the driver crate, one CPU at a time.
static CONFIGURING: spin::Mutex<()> = spin::Mutex::new(());

fn with_v2<T>(body: impl FnOnce(&mut GicV2<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let _guard = CONFIGURING.lock();
    let (distributor, interface) = (
        distributor().ok_or(Error::Driver)?,
        cpu_interface().ok_or(Error::Driver)?,
    );
    // SAFETY: both blocks are mapped as devices; under the lock there is one driver.
    let mut gic = unsafe { GicV2::new(distributor.base() as *mut _, interface.base() as *mut _) };
    body(&mut gic)
}

fn with_v3<T>(body: impl FnOnce(&mut GicV3<'_>, usize) -> Result<T, Error>) -> Result<T, Error> {
    let _guard = CONFIGURING.lock();
    let own = block(
        OWN_REDISTRIBUTOR
            .get(crate::percpu::current_slot())
            .ok_or(Error::Driver)?,
        REDISTRIBUTOR_LEN,
    );
    let own =
        core::ptr::NonNull::new(own.ok_or(Error::Driver)?.base() as *mut _).ok_or(Error::Driver)?;
    let distributor = core::ptr::NonNull::new(distributor().ok_or(Error::Driver)?.base() as *mut _);
    // SAFETY: mapped as a device; under the lock there is one driver.
    let distributor = unsafe { UniqueMmioPointer::new(distributor.ok_or(Error::Driver)?) };
    // SAFETY: as above. The driver is told of one redistributor, this CPU's, so its index is 0.
    let mut gic = unsafe { GicV3::new(distributor, own, 1) }.map_err(|_| Error::Driver)?;
    body(&mut gic, 0)
}
