// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel: wires machine, DTB and UART to the capture logic.
//!
//! A binary that is nothing else says [`entry!`]; a system kernel that is its own capture kernel hands [`run_in`] to `kernel::entry!`.
#![no_std]
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
#![forbid(unsafe_code)]

use capture::{
    Counter, DumpThen, DumpTo, Inputs, Located, Sizes, Tombstone, Wires, Work, Workspace,
};
use machine::capture_entry::{self, End, Handover, Hooks};
use machine::mmu::AddressSpace;
use machine::{arch, console, emergency, provoke, survivor, watchdog};
use machine::{boot::EntryState, once_buffer::OnceBuffer, way_out::WayOut};
use machine::{room::Room, room::StaticArena};
use wire::lzma::Encoder;

pub use machine;

/// Seconds beyond `dump_timeout=` for which nothing but waiting counts as progress: a line may be stuck for a while, too.
const WAIT_S: u64 = 30;

/// Working memory where the crash region has no more.
static ARENA: StaticArena<{ Sizes::LEAST.total() }> = StaticArena::new();
static WORKSPACE: OnceBuffer<Workspace> = OnceBuffer::new(Workspace::new());
static ENCODER: OnceBuffer<Encoder> = OnceBuffer::new(Encoder::new());

static TOMBSTONE: Tombstone<'static> = Tombstone::new(survivor::words());
static HOOKS: Hooks = Hooks {
    failed: |pc| TOMBSTONE.failed(pc).map_or(End::Restart, end),
    then: || end(TOMBSTONE.then()),
};

/// Makes the binary a capture kernel and nothing else: entry, allocator (there is none) and panic handler.
///
/// `$early_pl011` is the physical address of a PL011 to print on before the DTB is read, if the board has one.
#[macro_export]
macro_rules! entry {
    ($early_pl011:expr) => {
        const _: () = {
            #[global_allocator]
            static HEAP: $crate::machine::no_heap::NoHeap = $crate::machine::no_heap::NoHeap;

            fn afterimage_first(entry: $crate::machine::boot::EntryState) -> ! {
                $crate::run(entry, $early_pl011)
            }
            $crate::machine::entry!(afterimage_first);

            #[panic_handler]
            fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
                $crate::machine::capture_entry::fail(0, format_args!("{info}"))
            }
        };
    };
}

/// Dumps the crashed machine and ends as its command line says.
pub fn run(entry: EntryState, early_pl011: Option<u64>) -> ! {
    match AddressSpace::take(entry.image) {
        Ok(space) => run_in(space, entry, early_pl011),
        // Nothing can be printed without a mapping.
        Err(_) => arch::halt(),
    }
}

/// The same, in the address space that the image has taken already.
pub fn run_in(space: AddressSpace, entry: EntryState, early_pl011: Option<u64>) -> ! {
    let handover = capture_entry::begin(space, entry, early_pl011, &ARENA, &HOOKS);
    capture_entry::leave(dump(handover).map_or(End::Halt, end))
}

const fn end(then: DumpThen) -> End {
    match then {
        DumpThen::Reboot => End::Reboot,
        DumpThen::PowerOff => End::PowerOff,
        DumpThen::Halt | DumpThen::Wait => End::Halt,
    }
}

/// Returns `None` only if it was called before.
fn dump(mut handover: Handover) -> Option<DumpThen> {
    let inputs = Inputs {
        bootargs: handover.dtb.boot_args(),
        elfcorehdr: handover
            .elf_core_header
            .map(|(address, bytes)| Located { address, bytes }),
        memory: handover.memory.as_slice(),
        own: handover.own.as_slice(),
        foreign: handover.foreign.as_slice(),
        counter_hz: arch::counter_hz(),
        entry_ticks: handover.entry_ticks,
    };
    let params = capture::params::parse(inputs.bootargs, |_| {});
    set_watchdog(params.watchdog_s);
    let limit_s = u64::from(params.timeout_s).saturating_add(WAIT_S);
    let mut out = WayOut::open(params.to == DumpTo::Semihosting);
    let mut line = Wires {
        is_perfect: out.is_perfect(),
        write: &mut |bytes| out.write(bytes),
        text: console::try_write,
        read: console::try_read,
        rate: console::baud,
        can_set: console::can_set,
        set_rate: console::set_baud,
        spent: &|work| match work {
            Work::Prompt => watchdog::progress(),
            _ => watchdog::waiting(limit_s),
        },
    };
    let work = WORKSPACE.take()?;
    work.survive(survivor::words(), provoke::write_null);
    let outcome = capture::run(
        &inputs,
        &mut handover.old,
        &mut line,
        &Counter(arch::counter),
        work,
        share_out(&mut handover.room)?,
        ENCODER.take()?,
    );
    Some(outcome.then)
}

/// Obeys `dump_watchdog=`.
fn set_watchdog(seconds: Option<u32>) {
    match seconds {
        None => {}
        Some(0) if watchdog::stop() => emergency!("Afterimage: the watchdog is off\n"),
        Some(0) => {}
        Some(seconds) => {
            // Said first: a watchdog may bite at once.
            emergency!("Afterimage: dump_watchdog={seconds}: ");
            console::drain();
            match watchdog::arm(seconds) {
                Some(period) => emergency!(
                    "the watchdog resets the machine after {period} s without progress\n"
                ),
                None => emergency!("no watchdog is known here\n"),
            }
        }
    }
}

fn share_out(room: &mut Room) -> Option<capture::Room<'static>> {
    let sizes = Sizes::fitting(room.left());
    let [raw, ring, parity] = [sizes.raw, sizes.ring, sizes.parity].map(|len| room.bytes(len));
    let words =
        [sizes.maps, sizes.encoder, sizes.index, sizes.hashes].map(|count| room.words(count));
    capture::Room::new([raw?, ring?, parity?], words)
}
