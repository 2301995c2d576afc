// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crash path, in the order of decision 4: win, stop the others, notes, quiesce, open the region, check, leave.
//!
//! Nothing here allocates, waits without bound, or takes a lock that it does not get at once. The first thing printed is a
//! constant string.
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

pub(crate) mod after;
mod chain;
mod dry_run;
mod minimal;
pub(crate) mod notes;
mod stop;
mod wire_dump;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use machine::exceptions::{
    CapturedRegisters, TrapFrame, capture_registers, continue_on_crash_stack,
};
use machine::system_registers::{self, SystemRegisters};
use machine::{arch, emergency, intc, timer, watchdog};
use spin::Mutex;
use vmcore::afterimage_notes::{
    self as payloads, CrashKind, KernelInfo, ListWriter, Phase, Reason, Timing,
};
use vmcore::notes::{AFTERIMAGE, NoteWriter};
use vmcore::{Error, Registers};

use crate::fault::{self, Place};
pub use crate::load::LoadError;
use crate::region;
pub use crate::region::ChangeError;
use crate::{cpus, dump, load, threads, warn, watch};
pub use dry_run::{TestReport, test};

pub(crate) use stop::stop_this_cpu;

/// Longest text of a reason; the rest is cut.
const TEXT_LEN: usize = 512;
const NOBODY: usize = usize::MAX;

/// Slot of the CPU that won the crash.
static WINNER: AtomicUsize = AtomicUsize::new(NOBODY);
/// Whether the other CPUs have been started, so that they have to be stopped.
static READY: AtomicBool = AtomicBool::new(false);
/// Counter at each phase, by `Phase` code.
static PHASES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
/// What happened; written by the winner before it changes stacks.
static CRASH: Mutex<Option<Crash>> = Mutex::new(None);

#[derive(Clone, Copy)]
struct Crash {
    kind: CrashKind,
    slot: usize,
    registers: Registers,
    system: SystemRegisters,
    esr: u64,
    far: u64,
    text: Text,
}

/// Text of bounded length, cut at the end.
#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; TEXT_LEN],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self {
            bytes: [0; TEXT_LEN],
            len: 0,
        }
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or(&[]);
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => bytes
                .get(..error.valid_up_to())
                .and_then(|valid| core::str::from_utf8(valid).ok())
                .unwrap_or(""),
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or(&mut []);
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = from;
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }
}

/// The state of crash dumping, as `kexec_crash_loaded` and `kexec_crash_size` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether a capture kernel is armed.
    pub is_loaded: bool,
    /// Bytes of the crash region, 0 without one.
    pub region_bytes: u64,
    /// Physical address of the region.
    pub region_start: u64,
    /// Whether stage 2 guards the region, too.
    pub has_stub: bool,
}

/// Tells what would happen at a crash.
#[must_use]
pub fn status() -> Status {
    let region = region::active();
    Status {
        is_loaded: load::is_loaded(),
        region_bytes: region.map_or(0, |region| region.end().saturating_sub(region.start())),
        region_start: region.map_or(0, |region| region.start()),
        has_stub: machine::region::stub::is_installed(),
    }
}

/// Crashes on purpose.
pub fn trigger(reason: &str) -> ! {
    let registers = capture_registers();
    die(
        CrashKind::Api,
        &notes::registers(&registers),
        None,
        format_args!("{reason}"),
    )
}

/// Gives up the low end of the crash region, so that `bytes` are left. Only while nothing is loaded.
///
/// # Errors
/// See [`ChangeError`].
pub fn shrink(bytes: u64) -> Result<(), ChangeError> {
    if load::is_loaded() {
        return Err(ChangeError::Loaded);
    }
    let freed = region::with_region(|region, space| {
        let current = region.end().saturating_sub(region.start());
        if bytes == 0 || bytes >= current || !bytes.is_multiple_of(machine::layout::BLOCK_SIZE) {
            return Err(ChangeError::Size {
                wanted: bytes,
                current,
            });
        }
        region.shrink(space, bytes).map_err(ChangeError::Region)
    })?;
    if let Err(error) = freed.give_to(&crate::HEAP) {
        log::warn!("{error}");
    }
    Ok(())
}

/// Replaces the capture kernel by `image`, an arm64 Image. With room for two copies one of them, old or new, is armed at every moment;
/// without, a crash meanwhile ends in the minimal dump.
///
/// # Errors
/// See [`LoadError`]. What was armed may be so no more: see [`status`].
pub fn load(image: &[u8]) -> Result<(), LoadError> {
    load::replace(image, &[])
}

/// Replaces the capture kernel by `image` with the initial RAM disk `initrd`, as `kexec -p --initrd` does: Linux, for instance. There is no
/// second copy then, because Linux works in the rest of the region.
///
/// # Errors
/// As [`load`].
pub fn load_with_initrd(image: &[u8], initrd: &[u8]) -> Result<(), LoadError> {
    load::replace(image, initrd)
}

/// Unloads the capture kernel: a crash then ends in the minimal dump.
///
/// # Errors
/// There is no region, or it could not be mapped.
pub fn unload() -> Result<(), ChangeError> {
    load::unload()
}

/// From here on other CPUs run and have to be stopped.
pub(crate) fn ready() {
    READY.store(true, Ordering::Release);
}

/// The panic handler's way in.
pub(crate) fn panicked(registers: CapturedRegisters, info: &core::panic::PanicInfo<'_>) -> ! {
    let registers = notes::registers(&registers);
    match info.location() {
        Some(at) => die(
            CrashKind::Panic,
            &registers,
            None,
            format_args!("panicked at {at}: {}", info.message()),
        ),
        None => die(
            CrashKind::Panic,
            &registers,
            None,
            format_args!("panicked: {}", info.message()),
        ),
    }
}

/// A synchronous exception or SError that nobody asked for.
pub(crate) fn faulted(frame: &TrapFrame, kind: CrashKind, what: fmt::Arguments<'_>) -> ! {
    let registers = notes::registers(&CapturedRegisters::from(frame));
    die(kind, &registers, Some((frame.esr, frame.far)), what)
}

/// Crashes with these registers.
pub(crate) fn die(
    kind: CrashKind,
    registers: &Registers,
    fault: Option<(u64, u64)>,
    what: fmt::Arguments<'_>,
) -> ! {
    arch::mask_all();
    let slot = machine::percpu::current_slot();
    if let Err(winner) = WINNER.compare_exchange(NOBODY, slot, Ordering::AcqRel, Ordering::Acquire)
    {
        if winner != slot {
            stop::lose(registers);
        }
        chain::crash_in_crash_path(registers, fault, what);
    }
    reach(Phase::Fault);
    reach(Phase::Won);
    crate::HEAP.close();
    warn::disarm();
    let (esr, far) = fault.unwrap_or((0, 0));
    let system = system_registers::read();
    let registers = *registers;
    let text = Text::new();
    // First without the text: formatting it runs the program's code, which may crash itself.
    store(Crash {
        kind,
        slot,
        registers,
        system,
        esr,
        far,
        text,
    });
    let mut text = Text::new();
    // `Text` takes everything.
    let _ = text.write_fmt(what);
    store(Crash {
        kind,
        slot,
        registers,
        system,
        esr,
        far,
        text,
    });
    continue_on_crash_stack(on_crash_stack, 0)
}

fn store(crash: Crash) {
    if let Some(mut place) = CRASH.try_lock() {
        *place = Some(crash);
    }
}

extern "C" fn on_crash_stack(_: u64) -> ! {
    if READY.load(Ordering::Acquire) {
        intc::send_stop();
    }
    emergency!("\n\nAfterimage: this machine has crashed\n");
    let crash = CRASH.try_lock().and_then(|crash| *crash);
    let Some(crash) = crash else {
        chain::leave(None)
    };
    // While the others stop.
    if let Some(seconds) = watchdog::take_over() {
        emergency!("  a watchdog runs: it resets the machine after {seconds} s without progress\n");
    }
    print_summary(&crash);
    fault::at(Place::Stop);
    let stops = stop::wait_for_others(crash.slot);
    watch::print_accused();
    reach(Phase::Stopped);
    // The last line of the log, now that nobody else writes to it.
    crate::logger::note_in_ring(format_args!(
        "crash on CPU {}: {}: {}\n",
        crash.slot,
        crash.kind.name(),
        crash.text.as_str()
    ));

    notes::write_cpu(crash.slot, &crash.registers, Some(&crash.system));
    notes::write_interrupts();
    reach(Phase::Notes);
    intc::quiesce();
    timer::stop();
    reach(Phase::Quiesced);
    fault::at(Place::Notes);
    notes::write_machine(|writer| write_machine_notes(writer, &crash, &stops));
    fault::at(Place::Leave);
    chain::leave(Some(&crash))
}

fn print_summary(crash: &Crash) {
    let registers = &crash.registers;
    emergency!(
        "  {} on CPU {}: {}\n",
        crash.kind.name(),
        crash.slot,
        crash.text.as_str()
    );
    emergency!(
        "  pc {:#018x} lr {:#018x} sp {:#018x} pstate {:#010x}\n  esr {:#010x} far {:#018x}\n",
        registers.pc,
        registers.x[30],
        registers.sp,
        registers.pstate,
        crash.esr,
        crash.far
    );
    warn::print_taint();
}

fn write_machine_notes(
    writer: &mut NoteWriter<'_>,
    crash: &Crash,
    stops: &stop::Stops,
) -> Result<(), Error> {
    let reason = Reason {
        kind: crash.kind,
        cpu: crash.slot as u32,
        pc: crash.registers.pc,
        esr: crash.esr,
        far: crash.far,
        counter: phase_ticks(Phase::Fault),
        counter_hz: arch::counter_hz(),
        text: crash.text.as_str(),
    };
    writer.note_with(AFTERIMAGE, payloads::REASON, |desc| reason.encode(desc))?;
    writer.note(AFTERIMAGE, payloads::BUILD_ID, machine::image::build_id())?;
    warn::write_note(writer)?;
    writer.note_with(AFTERIMAGE, payloads::STOP, |desc| {
        let mut list = ListWriter::new(desc, 0)?;
        for stop in stops.iter() {
            list.push(stop)?;
        }
        list.finish()
    })?;
    let image = machine::image::range();
    let kernel = KernelInfo {
        cpu_count: cpus::count() as u32,
        link_va: machine::image::bounds().begin,
        image_pa: image.start,
        image_size: image.len(),
        linear_base: machine::layout::LINEAR_BASE,
        ttbr1: machine::mmu::root_table(),
        tcr: register_value(&crash.system, TCR_EL1),
        granule: machine::layout::PAGE_SIZE as u32,
    };
    writer.note_with(AFTERIMAGE, payloads::KERNEL, |desc| kernel.encode(desc))?;
    writer.note_with(AFTERIMAGE, payloads::REGIONS, dump::encode_regions)?;
    writer.note_with(AFTERIMAGE, payloads::THREADS, threads::encode)?;
    writer.note_with(AFTERIMAGE, payloads::MAPPINGS, notes::encode_mappings)?;
    write_timings(
        writer,
        &[
            Phase::Fault,
            Phase::Won,
            Phase::Stopped,
            Phase::Notes,
            Phase::Quiesced,
        ],
    )
}

fn write_timings(writer: &mut NoteWriter<'_>, phases: &[Phase]) -> Result<(), Error> {
    writer.note_with(AFTERIMAGE, payloads::TIMINGS, |desc| {
        let mut list = ListWriter::new(desc, arch::counter_hz())?;
        for &phase in phases {
            list.push(&Timing {
                phase,
                ticks: phase_ticks(phase),
            })?;
        }
        list.finish()
    })
}

/// TCR_EL1 as `system_registers` encodes it.
const TCR_EL1: u16 = 3 << 14 | 2 << 7 | 2;

fn register_value(system: &[(u16, u64)], id: u16) -> u64 {
    system
        .iter()
        .find(|(found, _)| *found == id)
        .map_or(0, |(_, value)| *value)
}

fn reach(phase: Phase) {
    if let Some(slot) = PHASES.get(phase.code() as usize) {
        slot.store(arch::counter(), Ordering::Relaxed);
    }
}

fn phase_ticks(phase: Phase) -> u64 {
    PHASES
        .get(phase.code() as usize)
        .map_or(0, |slot| slot.load(Ordering::Relaxed))
}
