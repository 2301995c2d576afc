// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel on QEMU virt: wires machine, DTB and UART to the capture logic.
#![no_std]
#![no_main]

use capture::{Counter, DumpThen, DumpTo, Inputs, Located, Sizes, Tombstone, Wires, Workspace};
use machine::capture_entry::{self, End, Handover, Hooks};
use machine::{arch, console, provoke, room::Room, room::StaticArena, survivor};
use machine::{boot::EntryState, no_heap::NoHeap, once_buffer::OnceBuffer, way_out::WayOut};
use wire::lzma::Encoder;

machine::entry!(main);

#[global_allocator]
static HEAP: NoHeap = NoHeap;
/// Working memory where the crash region has no more.
static ARENA: StaticArena<{ Sizes::LEAST.total() }> = StaticArena::new();
static WORKSPACE: OnceBuffer<Workspace> = OnceBuffer::new(Workspace::new());
static ENCODER: OnceBuffer<Encoder> = OnceBuffer::new(Encoder::new());

fn main(entry: EntryState) -> ! {
    let handover = capture_entry::begin(entry, Some(0x0900_0000), &ARENA, &HOOKS);
    capture_entry::leave(dump(handover).map_or(End::Halt, end))
}

const fn end(then: DumpThen) -> End {
    match then {
        DumpThen::Reboot => End::Reboot,
        DumpThen::PowerOff => End::PowerOff,
        DumpThen::Halt | DumpThen::Wait => End::Halt,
    }
}

static TOMBSTONE: Tombstone<'static> = Tombstone::new(survivor::words());
static HOOKS: Hooks = Hooks {
    failed: |pc| TOMBSTONE.failed(pc).map_or(End::Restart, end),
    then: || end(TOMBSTONE.then()),
};

/// Returns `None` only if it was called before.
fn dump(mut handover: Handover) -> Option<DumpThen> {
    let inputs = Inputs {
        bootargs: handover.dtb.boot_args(),
        elfcorehdr: handover
            .elf_core_header
            .map(|(address, bytes)| Located { address, bytes }),
        memory: handover.memory.as_slice(),
        own: handover.own.as_slice(),
        counter_hz: arch::counter_hz(),
        entry_ticks: handover.entry_ticks,
    };
    let to = capture::params::parse(inputs.bootargs, |_| {}).to;
    let mut out = WayOut::open(to == DumpTo::Semihosting);
    let mut line = Wires {
        is_perfect: out.is_perfect(),
        write: &mut |bytes| out.write(bytes),
        text: console::try_write,
        read: console::try_read,
        rate: console::baud,
        can_set: console::can_set,
        set_rate: console::set_baud,
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

fn share_out(room: &mut Room) -> Option<capture::Room<'static>> {
    let sizes = Sizes::fitting(room.left());
    let [raw, ring, parity] = [sizes.raw, sizes.ring, sizes.parity].map(|len| room.bytes(len));
    let words =
        [sizes.maps, sizes.encoder, sizes.index, sizes.hashes].map(|count| room.words(count));
    capture::Room::new([raw?, ring?, parity?], words)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    capture_entry::fail(0, format_args!("{info}"))
}
