// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel on QEMU virt: wires machine, DTB and UART to the capture logic.
#![no_std]
#![no_main]

use capture::{Counter, DumpThen, DumpTo, Inputs, Located, Sizes, Wires, Workspace};
use machine::boot::EntryState;
use machine::capture_entry::{self, Handover};
use machine::no_heap::NoHeap;
use machine::once_buffer::OnceBuffer;
use machine::room::{Room, StaticArena};
use machine::way_out::WayOut;
use machine::{arch, console, emergency};
use wire::lzma::Encoder;

machine::entry!(main);

#[global_allocator]
static HEAP: NoHeap = NoHeap;
/// Working memory where the crash region has no more.
static ARENA: StaticArena<{ Sizes::LEAST.total() }> = StaticArena::new();
static WORKSPACE: OnceBuffer<Workspace> = OnceBuffer::new(Workspace::new());
static ENCODER: OnceBuffer<Encoder> = OnceBuffer::new(Encoder::new());

fn main(entry: EntryState) -> ! {
    let handover = capture_entry::begin(entry, Some(0x0900_0000), &ARENA);
    match dump(handover).unwrap_or(DumpThen::Halt) {
        DumpThen::Reboot => capture_entry::reboot(),
        DumpThen::PowerOff => capture_entry::power_off(),
        DumpThen::Halt | DumpThen::Wait => capture_entry::halt(),
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
        counter_hz: arch::counter_hz(),
    };
    let to = capture::params::parse(inputs.bootargs, |_| {}).to;
    let mut out = WayOut::open(to == DumpTo::Semihosting);
    let is_perfect = out.is_perfect();
    let mut line = Wires {
        write: &mut |bytes| out.write(bytes),
        text: console::try_write,
        read: console::try_read,
        is_perfect,
        rate: console::baud,
        can_set: console::can_set,
        set_rate: console::set_baud,
    };
    let outcome = capture::run(
        &inputs,
        &mut handover.old,
        &mut line,
        &Counter(arch::counter),
        WORKSPACE.take()?,
        share_out(&mut handover.room)?,
        ENCODER.take()?,
    );
    if let Err(error) = outcome.totals {
        emergency!("Afterimage: the dump ended early: {error}\n");
    }
    Some(outcome.then)
}

fn share_out(room: &mut Room) -> Option<capture::Room<'static>> {
    let sizes = Sizes::fitting(room.left());
    let [raw, ring, parity] = [sizes.raw, sizes.ring, sizes.parity].map(|len| room.bytes(len));
    let words = [sizes.maps, sizes.encoder, sizes.index].map(|count| room.words(count));
    capture::Room::new([raw?, ring?, parity?], words)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    emergency!("\nAfterimage: the capture kernel itself failed: {info}\n");
    capture_entry::reboot()
}
