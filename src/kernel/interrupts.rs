// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel does with exceptions and interrupts.

use core::sync::atomic::{AtomicU32, Ordering};

use boot_config::Dtb;
use machine::exceptions::{Handlers, TrapFrame};
use machine::layout::{LINEAR_BASE, WINDOW_BASE};
use machine::{arch, console, intc, percpu, region, timer};
use vmcore::afterimage_notes::{CrashKind, StopStatus};

use crate::{crash, lkdtm, sysrq, watch};

/// Period of the tick on each CPU.
pub(crate) const TICK_US: u64 = 10_000;
const NO_INTERRUPT: u32 = u32::MAX;

static TIMER_INTID: AtomicU32 = AtomicU32::new(NO_INTERRUPT);
static CONSOLE_INTID: AtomicU32 = AtomicU32::new(NO_INTERRUPT);

/// Installed before anything else can fault.
pub(crate) static HANDLERS: Handlers = Handlers {
    synchronous,
    irq,
    fiq,
    serror,
};

/// Sets up the boot CPU's interrupts: tick and console.
pub(crate) fn init_boot_cpu(dtb: &Dtb<'_>) -> Result<(), intc::Error> {
    intc::init_cpu()?;
    if let Ok(Some(arch_timer)) = dtb.arch_timer()
        && let Some(interrupt) = arch_timer.virtual_
    {
        TIMER_INTID.store(interrupt.intid, Ordering::Release);
    }
    if let Ok(Some(found)) = dtb.console()
        && let Some(interrupt) = found.interrupt
    {
        let is_edge = interrupt.trigger == boot_config::dtb::Trigger::Edge;
        match intc::enable(interrupt.intid, is_edge) {
            Ok(()) => {
                CONSOLE_INTID.store(interrupt.intid, Ordering::Release);
                console::enable_receive_interrupt();
            }
            Err(error) => log::warn!("console: {error}; no SysRq"),
        }
    }
    start_tick();
    arch::unmask_irq();
    Ok(())
}

/// Starts the running CPU's tick.
pub(crate) fn start_tick() {
    let intid = TIMER_INTID.load(Ordering::Acquire);
    if intid == NO_INTERRUPT {
        return;
    }
    if let Err(error) = intc::enable(intid, false) {
        log::error!("timer: {error}");
        return;
    }
    timer::arm_after_us(TICK_US);
}

fn irq(frame: &mut TrapFrame) {
    let Some(intid) = intc::acknowledge() else {
        return;
    };
    if intid == intc::STOP_INTID {
        crash::stop_this_cpu(frame, StopStatus::StoppedByIrq);
    }
    if intid == TIMER_INTID.load(Ordering::Relaxed) {
        timer::arm_after_us(TICK_US);
        intc::end(intid);
        watch::tick(frame);
        lkdtm::tick();
    } else if intid == CONSOLE_INTID.load(Ordering::Relaxed) {
        console::acknowledge_receive_interrupt();
        intc::end(intid);
        while let Some(received) = console::read() {
            sysrq::received(received);
        }
    } else {
        intc::end(intid);
        log::warn!("interrupt {intid} has no handler");
    }
}

fn fiq(frame: &mut TrapFrame) {
    match intc::take_fiq() {
        Some(intc::STOP_INTID) => crash::stop_this_cpu(frame, StopStatus::StoppedByFiq),
        Some(intid) => log::warn!("FIQ {intid} has no handler"),
        None => {}
    }
}

fn serror(frame: &mut TrapFrame) {
    crash::faulted(
        frame,
        CrashKind::SError,
        format_args!("SError, ESR {:#010x}", frame.esr),
    )
}

fn synchronous(frame: &mut TrapFrame, nested: bool) {
    let (esr, far) = (frame.esr, frame.far);
    let class = esr >> 26 & 0x3f;
    let is_abort = matches!(class, 0x20 | 0x21 | 0x24 | 0x25);
    if is_abort
        && esr & 0x3f == 0x10
        && let Some(refused) = region::stub::last_refused_access()
        && refused.virtual_address == far
    {
        crash::faulted(
            frame,
            CrashKind::RegionProtection,
            format_args!(
                "stage 2 refused an access to the crash region, physical page {:#x}",
                refused.physical
            ),
        );
    }
    if is_abort && is_in_crash_region(far) {
        crash::faulted(
            frame,
            CrashKind::RegionProtection,
            format_args!("access to the crash region at {far:#x}, which is not mapped"),
        );
    }
    if let Some((slot, name)) = guard_page(far).filter(|_| is_abort) {
        crash::faulted(
            frame,
            CrashKind::StackOverflow,
            format_args!("CPU {slot} ran out of its {name} stack (guard page at {far:#x})"),
        );
    }
    let place = if nested {
        " while handling another exception"
    } else {
        ""
    };
    if is_abort {
        crash::faulted(
            frame,
            CrashKind::Exception,
            format_args!(
                "{} at {far:#x}{place} ({})",
                class_name(class),
                fault_name(esr & 0x3f)
            ),
        );
    }
    crash::faulted(
        frame,
        CrashKind::Exception,
        format_args!("{}{place}", class_name(class)),
    )
}

/// Whether a virtual address is the crash region's place in the linear map.
fn is_in_crash_region(address: u64) -> bool {
    let Some(region) = region_bounds() else {
        return false;
    };
    address
        .checked_sub(LINEAR_BASE)
        .is_some_and(|physical| address < WINDOW_BASE && region.contains(&physical))
}

fn region_bounds() -> Option<core::ops::Range<u64>> {
    crate::region::active().map(|region| region.start()..region.end())
}

/// The stack whose guard page holds `address`.
fn guard_page(address: u64) -> Option<(usize, &'static str)> {
    let guard = machine::layout::GUARD as u64;
    (0..percpu::capacity()).find_map(|slot| {
        let stacks = percpu::stacks(slot)?;
        let named = [
            ("thread", stacks.thread),
            ("exception", stacks.exception),
            ("crash", stacks.crash),
        ];
        let hit = named
            .iter()
            .find(|(_, (bottom, _))| (bottom.saturating_sub(guard)..*bottom).contains(&address));
        hit.map(|(name, _)| (slot, *name))
    })
}

/// Exception class in words (Arm ARM D19.2.37, ESR_ELx.EC).
fn class_name(class: u64) -> &'static str {
    match class {
        0x00 => "undefined instruction",
        0x07 => "floating point is not enabled",
        0x0e => "illegal execution state",
        0x15 => "SVC",
        0x18 => "trapped system register",
        0x20 | 0x21 => "instruction abort",
        0x22 => "PC is not aligned",
        0x24 | 0x25 => "data abort",
        0x26 => "SP is not aligned",
        0x30..=0x35 => "debug exception",
        0x3c => "BRK",
        _ => "synchronous exception",
    }
}

/// Fault status in words (Arm ARM D19.2.37, ISS of aborts).
fn fault_name(status: u64) -> &'static str {
    match status {
        0x00..=0x03 => "address size fault",
        0x04..=0x07 => "translation fault",
        0x08..=0x0b => "access flag fault",
        0x0c..=0x0f => "permission fault",
        0x10 => "external abort",
        0x11 => "tag check fault",
        0x14..=0x17 => "external abort on a table walk",
        0x21 => "alignment fault",
        0x30 => "TLB conflict",
        0x35 => "unsupported exclusive or atomic access",
        _ => "fault",
    }
}
