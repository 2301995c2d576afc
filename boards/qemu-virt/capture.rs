// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture kernel on QEMU virt: wires machine, DTB and UART to the capture logic.
#![no_std]
#![no_main]

use machine::arena::Arena;
use machine::boot::EntryState;
use machine::capture_entry::{self, Handover};
use machine::once_buffer::OnceBuffer;
use machine::room::StaticArena;
use machine::{arch, console, emergency};
use wire::codec::DeflateEncoder;

machine::entry!(main);

/// Deflate's tables; the one allocation of this kernel, bounded.
#[global_allocator]
static ARENA: Arena<0x5_8000> = Arena::new();
/// Working memory where the crash region has no more.
static ROOM: StaticArena<0> = StaticArena::new();
static WORKSPACE: OnceBuffer<capture::Workspace> = OnceBuffer::new(capture::Workspace::new());

/// Effort of the encoder: 1 (fast) to 10 (small).
const LEVEL: u8 = 6;

struct Uart;

impl capture::Line for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<(), capture::Error> {
        match console::write_raw(bytes) {
            accepted if accepted == bytes.len() => Ok(()),
            accepted => Err(capture::Error::LineStuck {
                accepted,
                offered: bytes.len(),
            }),
        }
    }
}

struct Counter;

impl capture::Clock for Counter {
    fn ticks(&self) -> u64 {
        arch::counter()
    }
}

fn main(entry: EntryState) -> ! {
    let Handover {
        dtb,
        elf_core_header,
        memory,
        own,
        mut old,
        room: _,
    } = capture_entry::begin(entry, Some(0x0900_0000), &ROOM);
    let inputs = capture::Inputs {
        bootargs: dtb.boot_args(),
        elfcorehdr: elf_core_header.map(|(address, bytes)| capture::Located { address, bytes }),
        memory: memory.as_slice(),
        own: own.as_slice(),
        counter_hz: arch::counter_hz(),
    };
    let then = match WORKSPACE.take() {
        Some(work) => {
            let mut encoder = DeflateEncoder::new(LEVEL);
            let outcome = capture::run(&inputs, &mut old, &mut Uart, &Counter, work, &mut encoder);
            if let Err(error) = outcome.totals {
                emergency!("Afterimage: the dump ended early: {error}\n");
            }
            outcome.then
        }
        None => capture::DumpThen::Halt,
    };
    match then {
        capture::DumpThen::Reboot => capture_entry::reboot(),
        capture::DumpThen::PowerOff => capture_entry::power_off(),
        capture::DumpThen::Halt | capture::DumpThen::Wait => capture_entry::halt(),
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    emergency!("\nAfterimage: the capture kernel itself failed: {info}\n");
    capture_entry::reboot()
}
