// SPDX-License-Identifier: MIT OR Apache-2.0
//! The note buffers: one for each CPU, one for the machine. They lie in kernel RAM, as in Linux; the ELF core header names them
//! by physical address before the crash, and they are filled in the crash path.

use machine::exceptions::CapturedRegisters;
use machine::layout::MAX_CPUS;
use spin::Mutex;
use vmcore::afterimage_notes as notes;
use vmcore::notes::{AFTERIMAGE, CORE, NoteWriter, Notes};
use vmcore::registers::{NT_PRSTATUS, PrStatus};
use vmcore::{Error, Registers};

/// Bytes for one CPU's notes.
const CPU_LEN: usize = 0x800;
/// Bytes for the machine-wide notes.
const MACHINE_LEN: usize = 0x4000;

/// A buffer at an address that is known before the crash.
#[repr(C, align(64))]
struct Buffer<const N: usize>([u8; N]);

static CPU_NOTES: [Mutex<Buffer<CPU_LEN>>; MAX_CPUS] =
    [const { Mutex::new(Buffer([0; CPU_LEN])) }; MAX_CPUS];
static MACHINE_NOTES: Mutex<Buffer<MACHINE_LEN>> = Mutex::new(Buffer([0; MACHINE_LEN]));

/// Calls `each` with physical address and length of every buffer: CPUs in order, then the machine's.
pub(crate) fn each_buffer(
    mut each: impl FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    for slot in CPU_NOTES.iter().take(machine::percpu::capacity()) {
        let address = core::ptr::from_ref(&slot.lock().0).addr() as u64;
        each(machine::image::physical(address), CPU_LEN as u64)?;
    }
    let address = core::ptr::from_ref(&MACHINE_NOTES.lock().0).addr() as u64;
    each(machine::image::physical(address), MACHINE_LEN as u64)
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

/// Writes the notes of CPU `slot`: NT_PRSTATUS, and its system registers when they are known. Once per CPU; a second call,
/// or a buffer that a stopped CPU was writing, leaves what is there.
pub(crate) fn write_cpu(slot: usize, at: &Registers, system: Option<&[(u16, u64)]>) {
    let Some(mut buffer) = CPU_NOTES.get(slot).and_then(Mutex::try_lock) else {
        return;
    };
    if buffer.0.first().is_some_and(|byte| *byte != 0) {
        return;
    }
    // A note that does not fit is left out; the buffer is large enough for both.
    let _ = fill_cpu(&mut buffer.0, slot, at, system);
}

fn fill_cpu(
    out: &mut [u8],
    slot: usize,
    at: &Registers,
    system: Option<&[(u16, u64)]>,
) -> Result<(), Error> {
    let mut writer = NoteWriter::new(out)?;
    let status = PrStatus {
        signal: 0,
        pid: slot as u32 + 1,
        registers: *at,
    };
    writer.note_with(CORE, NT_PRSTATUS, |desc| status.encode(desc))?;
    let Some(system) = system else { return Ok(()) };
    writer.note_with(AFTERIMAGE, notes::SYSREGS, |desc| {
        let mut list = notes::new_sysregs(desc, slot as u32, 1)?;
        for (id, value) in system {
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

/// Number of buffers: each CPU's, then the machine's.
pub(super) fn buffers() -> usize {
    machine::percpu::capacity().saturating_add(1)
}

/// Calls `read` with physical address and bytes of buffer `number`, up to the last note. Nothing when there is no note, or it is
/// being written.
pub(super) fn with_buffer(number: usize, read: impl FnOnce(u64, &[u8])) {
    let is_machine = number.saturating_add(1) == buffers();
    if is_machine {
        if let Some(buffer) = MACHINE_NOTES.try_lock() {
            read_notes(&buffer.0, read);
        }
    } else if let Some(buffer) = CPU_NOTES.get(number).and_then(Mutex::try_lock) {
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
