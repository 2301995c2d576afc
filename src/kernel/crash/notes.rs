// SPDX-License-Identifier: MIT OR Apache-2.0
//! The note buffers: one for each CPU, one for the machine, one for its interrupt controller. They lie in kernel RAM, as in Linux; the ELF core header names them
//! by physical address before the crash, and they are filled in the crash path.

use machine::exceptions::CapturedRegisters;
use machine::gic;
use machine::layout::MAX_CPUS;
use machine::mmu::EXPECTED_MAX;
use machine::region::stub::StopFrame;
use machine::system_registers::{self, FpState, SystemRegisters};
use spin::Mutex;
use vmcore::afterimage_notes::{self as notes, ListWriter};
use vmcore::notes::{AFTERIMAGE, CORE, NoteWriter, Notes};
use vmcore::registers::{FpRegisters, NT_FPREGSET, NT_PRSTATUS, PrStatus};
use vmcore::{Error, Registers};

/// Bytes for one CPU's notes.
const CPU_LEN: usize = 0x1000;
/// Bytes for the machine-wide notes.
const MACHINE_LEN: usize = 0x4000;
/// Bytes for the state of the interrupt controller.
const INTERRUPTS_LEN: usize = 0x4000;

/// A buffer at an address that is known before the crash.
#[repr(C, align(64))]
struct Buffer<const N: usize>([u8; N]);

static CPU_NOTES: [Mutex<Buffer<CPU_LEN>>; MAX_CPUS] =
    [const { Mutex::new(Buffer([0; CPU_LEN])) }; MAX_CPUS];
static MACHINE_NOTES: Mutex<Buffer<MACHINE_LEN>> = Mutex::new(Buffer([0; MACHINE_LEN]));
static INTERRUPT_NOTES: Mutex<Buffer<INTERRUPTS_LEN>> = Mutex::new(Buffer([0; INTERRUPTS_LEN]));

/// Calls `each` with physical address and length of every buffer: CPUs in order, then the machine's two.
pub(crate) fn each_buffer(
    mut each: impl FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    for slot in CPU_NOTES.iter().take(machine::percpu::capacity()) {
        let address = core::ptr::from_ref(&slot.lock().0).addr() as u64;
        each(machine::image::physical(address), CPU_LEN as u64)?;
    }
    let address = core::ptr::from_ref(&MACHINE_NOTES.lock().0).addr() as u64;
    each(machine::image::physical(address), MACHINE_LEN as u64)?;
    let address = core::ptr::from_ref(&INTERRUPT_NOTES.lock().0).addr() as u64;
    each(machine::image::physical(address), INTERRUPTS_LEN as u64)
}

/// Registers in the form of a note.
pub(crate) fn registers(captured: &CapturedRegisters) -> Registers {
    Registers {
        x: captured.x,
        sp: captured.sp,
        pc: captured.pc,
        pstate: captured.pstate,
    }
}

/// Writes the notes of CPU `slot`: NT_PRSTATUS, its system registers, and NT_FPREGSET where it is the running CPU and floating
/// point was enabled. Once per CPU; a second call, or a buffer that a stopped CPU was writing, leaves what is there.
pub(crate) fn write_cpu(slot: usize, at: &Registers, system: Option<&SystemRegisters>) {
    // Our own code uses no floating point, so that what is in it is the program's.
    let is_own = slot == machine::percpu::current_slot();
    let fp = is_own.then(system_registers::read_fp);
    write(slot, at, system, fp.as_ref().and_then(FpState::saved));
}

/// The same from what the stub saved.
pub(crate) fn write_stopped_cpu(slot: usize, at: &Registers, frame: &StopFrame) {
    let system = system_registers::named(&frame.system);
    write(slot, at, Some(&system), frame.fp.saved());
}

fn write(slot: usize, at: &Registers, system: Option<&SystemRegisters>, fp: Option<&FpState>) {
    let Some(mut buffer) = CPU_NOTES.get(slot).and_then(Mutex::try_lock) else {
        return;
    };
    if buffer.0.first().is_some_and(|byte| *byte != 0) {
        return;
    }
    // A note that does not fit is left out; the buffer is large enough for all.
    let _ = fill_cpu(&mut buffer.0, slot, at, system, fp);
}

fn fill_cpu(
    out: &mut [u8],
    slot: usize,
    at: &Registers,
    system: Option<&SystemRegisters>,
    fp: Option<&FpState>,
) -> Result<(), Error> {
    let mut writer = NoteWriter::new(out)?;
    let status = PrStatus {
        signal: 0,
        pid: (slot as u32).saturating_add(1),
        registers: *at,
    };
    writer.note_with(CORE, NT_PRSTATUS, |desc| status.encode(desc))?;
    // Directly behind the registers: that is how gdb knows whose they are.
    if let Some(fp) = fp {
        let fp = FpRegisters {
            v: fp.v,
            fpsr: fp.fpsr as u32,
            fpcr: fp.fpcr as u32,
        };
        writer.note_with(CORE, NT_FPREGSET, |desc| fp.encode(desc))?;
    }
    let Some(system) = system else { return Ok(()) };
    writer.note_with(AFTERIMAGE, notes::SYSREGS, |desc| {
        let mut list = notes::new_sysregs(desc, slot as u32, 1)?;
        for (id, value) in system.iter().filter(|(id, _)| *id != 0) {
            list.push(&notes::SysReg {
                id: notes::SysRegId(u32::from(*id)),
                value: *value,
            })?;
        }
        list.finish()
    })
}

/// Registers that the notes of CPU `slot` hold.
pub(crate) fn saved_registers(slot: usize) -> Option<Registers> {
    let buffer = CPU_NOTES.get(slot)?.try_lock()?;
    let status = Notes::new(&buffer.0).find(|note| note.is(CORE, NT_PRSTATUS))?;
    PrStatus::decode(status.desc)
        .ok()
        .map(|status| status.registers)
}

/// Adds to the machine-wide buffer, behind what stands there. Nothing when it is being written.
pub(super) fn append_machine(add: impl FnOnce(&mut NoteWriter<'_>) -> Result<(), Error>) {
    let Some(mut buffer) = MACHINE_NOTES.try_lock() else {
        return;
    };
    let mut written = Notes::new(&buffer.0);
    written.by_ref().for_each(drop);
    let end = written.offset().next_multiple_of(4);
    let Some(room) = buffer.0.get_mut(end..) else {
        return;
    };
    if let Ok(mut writer) = NoteWriter::new(room) {
        // What does not fit is missing; what was written before stands.
        let _ = add(&mut writer);
    }
}

/// Number of buffers, in the order of [`each_buffer`].
pub(super) fn buffers() -> usize {
    machine().saturating_add(2)
}

/// Number of the machine-wide buffer; the interrupt controller's follows.
pub(super) fn machine() -> usize {
    machine::percpu::capacity()
}

/// Calls `read` with physical address and bytes of buffer `number`, up to the last note. Nothing when there is no note, or it is
/// being written.
pub(super) fn with_buffer(number: usize, read: impl FnOnce(u64, &[u8])) {
    match number.checked_sub(machine()) {
        None => try_read(CPU_NOTES.get(number), read),
        Some(0) => try_read(Some(&MACHINE_NOTES), read),
        Some(_) => try_read(Some(&INTERRUPT_NOTES), read),
    }
}

fn try_read<const N: usize>(buffer: Option<&Mutex<Buffer<N>>>, read: impl FnOnce(u64, &[u8])) {
    if let Some(buffer) = buffer.and_then(Mutex::try_lock) {
        read_notes(&buffer.0, read);
    }
}

fn read_notes(bytes: &[u8], read: impl FnOnce(u64, &[u8])) {
    let mut notes = Notes::new(bytes);
    notes.by_ref().for_each(drop);
    let used = bytes.get(..notes.offset()).unwrap_or_default();
    if !used.is_empty() {
        read(machine::image::physical(bytes.as_ptr().addr() as u64), used);
    }
}

/// Fills the machine-wide buffer.
pub(crate) fn write_machine(fill: impl FnOnce(&mut NoteWriter<'_>) -> Result<(), Error>) {
    let Some(mut buffer) = MACHINE_NOTES.try_lock() else {
        return;
    };
    if let Ok(mut writer) = NoteWriter::new(&mut buffer.0) {
        // What did not fit is missing; what was written before stands.
        let _ = fill(&mut writer);
    }
}

/// Writes what the kernel has mapped, as it keeps account of it: the tables themselves may be what broke.
pub(super) fn encode_mappings(desc: &mut [u8]) -> Result<usize, Error> {
    let mut mappings = [notes::Mapping::default(); EXPECTED_MAX];
    let mut count = 0_usize;
    let is_all = machine::mmu::each_expected(|mapping| {
        if let Some(place) = mappings.get_mut(count) {
            *place = *mapping;
            count = count.saturating_add(1);
        }
    });
    // While somebody maps something, the account cannot be read: then nothing is said.
    let is_all = is_all.unwrap_or(false);
    let mut list = ListWriter::new(desc, u64::from(is_all))?;
    for mapping in mappings.iter().take(count) {
        list.push(mapping)?;
    }
    list.finish()
}

/// Writes what the interrupt controller has enabled, pending and active; to be called before it is quieted.
pub(crate) fn write_interrupts() {
    let Some(mut buffer) = INTERRUPT_NOTES.try_lock() else {
        return;
    };
    let Ok(mut writer) = NoteWriter::new(&mut buffer.0) else {
        return;
    };
    // Without a controller there is nothing to say.
    let Some(version) = gic::version() else {
        return;
    };
    let _ = writer.note_with(AFTERIMAGE, notes::GIC, |desc| {
        let mut list = ListWriter::new(desc, version)?;
        let mut result = Ok(());
        gic::each_register(|register| {
            if result.is_ok() {
                result = list.push(&register);
            }
        });
        // What did not fit is missing; what was written before stands.
        list.finish()
    });
}
