// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a capture kernel does before and after its work: opens what it was handed, and leaves as it was told.
//!
//! Everything it knows comes from its DTB and the ELF core header. Nothing outside its own region is written.
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

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use boot_config::{Dtb, PhysRange};
use vmcore::{PhysRange as DumpRange, crc32c};

use crate::blob;
use crate::boot::EntryState;
use crate::foreign::Foreign;
use crate::layout::PHYSICAL_LIMIT;
use crate::mmu::AddressSpace;
use crate::old_memory::{OldMemory, Readable};
use crate::room::{Room, StaticArena};
use crate::{arch, console, emergency, exceptions, image, reset, restart, room, watchdog};

/// Longest ELF core header that is believed: 65,535 program headers and more.
const MAX_CORE_HEADER: u64 = 4 << 20;
/// RAM ranges that are handed on.
pub const MAX_RANGES: usize = 32;

/// What the crashed kernel handed over, opened and bounded.
pub struct Handover {
    /// This kernel's DTB.
    pub dtb: Dtb<'static>,
    /// Physical address and bytes of the ELF core header, when there is one that can be read.
    pub elf_core_header: Option<(u64, &'static [u8])>,
    /// RAM of the machine.
    pub memory: Ranges,
    /// This kernel's own memory.
    pub own: Ranges,
    /// Memory that others than the CPUs use: not to be read.
    pub foreign: Foreign,
    /// The crashed machine's memory.
    pub old: OldMemory,
    /// Memory to work in.
    pub room: Room,
    /// The system counter at this kernel's first Rust instruction.
    pub entry_ticks: u64,
}

/// A few ranges.
#[derive(Clone, Copy, Debug)]
pub struct Ranges {
    ranges: [DumpRange; MAX_RANGES],
    len: usize,
}

impl Ranges {
    fn new() -> Self {
        Self {
            ranges: [DumpRange::default(); MAX_RANGES],
            len: 0,
        }
    }

    fn push(&mut self, range: PhysRange) {
        if let (Some(slot), Ok(range)) = (
            self.ranges.get_mut(self.len),
            DumpRange::new(range.start, range.len()),
        ) {
            *slot = range;
            self.len = self.len.saturating_add(1);
        } else {
            emergency!("Afterimage: range {range} is one too many and is left out\n");
        }
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[DumpRange] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }
}

/// How a capture kernel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is started anew, after a failure of its own.
    Restart,
    /// It resets the machine.
    Reboot,
    /// It turns the machine off.
    PowerOff,
    /// It stops for ever, memory untouched.
    Halt,
}

/// What the capture kernel does with failures of its own.
#[derive(Debug)]
pub struct Hooks {
    /// Takes note of a failure at this program counter (0 for a panic) and says what follows. Prints nothing.
    pub failed: fn(pc: u64) -> End,
    /// Says what follows where it cannot be started anew.
    pub then: fn() -> End,
}

static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(core::ptr::null_mut());
/// Checksum of code and constants at entry, when the crashed kernel has just checked them.
static CODE: AtomicU32 = AtomicU32::new(0);
/// Physical address in x0 at entry.
static DTB: AtomicU64 = AtomicU64::new(0);

/// Brings the capture kernel up. Says what is wrong, and halts, when there is no DTB to work by. `arena` becomes the room to work
/// in unless the crash region has more.
pub fn begin<const N: usize>(
    space: AddressSpace,
    entry: EntryState,
    early_pl011: Option<u64>,
    arena: &'static StaticArena<N>,
    hooks: &'static Hooks,
) -> Handover {
    CODE.store(crc32c(image::constant_bytes()), Ordering::Release);
    DTB.store(entry.dtb, Ordering::Release);
    HOOKS.store(core::ptr::from_ref(hooks).cast_mut(), Ordering::Release);
    let arena = arena.take().unwrap_or_default();
    bring_up(space, entry, early_pl011, arena)
}

/// Whether the running image is at work as a capture kernel.
pub fn is_running() -> bool {
    !HOOKS.load(Ordering::Acquire).is_null()
}

fn bring_up(
    mut space: AddressSpace,
    entry: EntryState,
    early_pl011: Option<u64>,
    arena: &'static mut [u8],
) -> Handover {
    let entry_ticks = arch::counter();
    console::install_early(&mut space, early_pl011);
    exceptions::install(&HANDLERS);
    arch::unmask_serror();
    let dtb = match blob::open_dtb(&mut space, entry.dtb) {
        Ok(dtb) => dtb,
        Err(error) => give_up(&error),
    };
    if let Err(error) = console::install_from_dtb(&mut space, &dtb) {
        emergency!("Afterimage: console: {error}\n");
    }
    reset::install(&mut space, &dtb);
    if let Some(seconds) = watchdog::take_over() {
        emergency!(
            "Afterimage: a watchdog runs: it resets the machine after {seconds} s without progress\n"
        );
    }

    let mut readable = Readable::new();
    let mut memory = Ranges::new();
    match dtb.ram() {
        Ok(ram) => {
            for range in ram.iter() {
                let end = range.end.min(PHYSICAL_LIMIT);
                if end < range.end {
                    emergency!("Afterimage: RAM {range} reaches beyond what can be mapped: cut\n");
                }
                let Ok(range) = PhysRange::new(range.start.min(end), end) else {
                    continue;
                };
                memory.push(range);
                // A full set leaves ranges out, which then are unreadable and recorded as such.
                let _ = readable.insert(range);
            }
        }
        Err(error) => emergency!("Afterimage: device tree, memory: {error}\n"),
    }
    let mut own = Ranges::new();
    match dtb.usable_memory() {
        Ok(usable) => usable.iter().for_each(|range| own.push(range)),
        Err(error) => emergency!("Afterimage: device tree, linux,usable-memory-range: {error}\n"),
    }
    // Our image is ours in any case.
    let image = crate::image::range();
    if !own
        .as_slice()
        .iter()
        .any(|range| range.contains(image.start))
    {
        emergency!(
            "Afterimage: linux,usable-memory-range does not hold this kernel; only its image is taken as its own\n"
        );
        own.push(image);
    }
    for range in own.as_slice() {
        let _ = readable.subtract(PhysRange {
            start: range.start,
            end: range.end,
        });
    }

    let foreign = Foreign::find(&mut space, &dtb, own.as_slice());
    for region in foreign.as_slice() {
        let _ = readable.subtract(PhysRange {
            start: region.pa,
            end: region.pa.saturating_add(region.len),
        });
    }

    let elf_core_range = dtb.elf_core_header().unwrap_or_else(|error| {
        emergency!("Afterimage: device tree, linux,elfcorehdr: {error}\n");
        None
    });
    let elf_core_header = elf_core_range.and_then(|range| open_core_header(&mut space, range));
    let blob = PhysRange {
        start: entry.dtb,
        end: entry.dtb.saturating_add(dtb.as_bytes().len() as u64),
    };
    let room = room::carve(
        &mut space,
        &dtb,
        &[blob, elf_core_range.unwrap_or(PhysRange::EMPTY)],
        arena,
    );
    let old = match OldMemory::new(space, readable) {
        Ok(old) => old,
        Err(error) => give_up(&error),
    };
    Handover {
        dtb,
        elf_core_header,
        memory,
        own,
        foreign,
        old,
        room,
        entry_ticks,
    }
}

fn open_core_header(space: &mut AddressSpace, range: PhysRange) -> Option<(u64, &'static [u8])> {
    if range.is_empty() || range.len() > MAX_CORE_HEADER {
        emergency!("Afterimage: linux,elfcorehdr {range} has an impossible length\n");
        return None;
    }
    match blob::open(space, range.start, range.len()) {
        Ok(bytes) => Some((range.start, bytes)),
        Err(error) => {
            emergency!("Afterimage: linux,elfcorehdr {range}: {error}\n");
            None
        }
    }
}

static HANDLERS: exceptions::Handlers = exceptions::Handlers {
    synchronous: |frame, _| failed(frame),
    irq: |_| {},
    fiq: |_| {},
    serror: tolerate,
};

/// SErrors that are outlived: ones that the crashed kernel left pending (E16).
const TOLERATED: u32 = 8;

fn tolerate(frame: &mut exceptions::TrapFrame) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if COUNT.fetch_add(1, Ordering::Relaxed) >= TOLERATED {
        failed(frame);
    }
    emergency!(
        "Afterimage: an SError was pending, ESR {:#010x}\n",
        frame.esr
    );
}

fn failed(frame: &mut exceptions::TrapFrame) {
    fail(
        frame.pc,
        format_args!(
            "pc {:#018x} esr {:#010x} far {:#018x}",
            frame.pc, frame.esr, frame.far
        ),
    )
}

/// Ends the capture kernel after a failure of its own at `pc` (0 when that is not known), as its hooks say.
pub fn fail(pc: u64, what: fmt::Arguments<'_>) -> ! {
    arch::mask_all();
    let hooks = HOOKS.load(Ordering::Acquire);
    // First, because printing itself may be what fails: failures are counted, so that there is an end to them.
    // SAFETY: only `begin` stores here, and what it stores is a `&'static Hooks`.
    let hooks = unsafe { hooks.as_ref() };
    let mut end = hooks.map_or(End::Reboot, |hooks| (hooks.failed)(pc));
    emergency!("\nAfterimage: the capture kernel itself failed\n");
    emergency!("  {what}\n");
    if end == End::Restart && crc32c(image::constant_bytes()) != CODE.load(Ordering::Acquire) {
        emergency!("Afterimage: its code is not what was entered: it is not started again\n");
        end = hooks.map_or(End::Reboot, |hooks| (hooks.then)());
    }
    emergency!("Afterimage: next: {end:?}\n");
    leave(end)
}

/// Set once an end has been begun.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the capture kernel.
pub fn leave(end: End) -> ! {
    // What ends the machine may fail itself, an SMC that nobody takes for instance; it would so again and again.
    let is_again = end != End::Restart && IS_ENDING.swap(true, Ordering::AcqRel);
    match if is_again { End::Halt } else { end } {
        End::Restart => {
            console::drain();
            restart::restart(DTB.load(Ordering::Acquire))
        }
        End::Reboot => reboot(),
        End::PowerOff => power_off(),
        End::Halt => halt(),
    }
}

fn give_up(error: &dyn core::fmt::Display) -> ! {
    emergency!("\nAfterimage: no dump is possible: {error}\n");
    halt()
}

/// Resets the machine; halts, and says so, where that is not possible.
pub fn reboot() -> ! {
    console::drain();
    if let Err(error) = reset::reset() {
        emergency!("Afterimage: cannot reboot: {error}\n");
    }
    halt()
}

/// Turns the machine off; halts, and says so, where that is not possible.
pub fn power_off() -> ! {
    console::drain();
    if let Err(error) = reset::power_off() {
        emergency!("Afterimage: cannot power off: {error}\n");
    }
    halt()
}

/// Stops for ever, memory untouched; a watchdog would end that and is turned off.
pub fn halt() -> ! {
    watchdog::stop();
    emergency!("Afterimage: halted\n");
    console::drain();
    arch::halt()
}
