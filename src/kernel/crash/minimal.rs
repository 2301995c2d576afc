// SPDX-License-Identifier: MIT OR Apache-2.0
//! The minimal dumper, when no capture kernel can be entered: reason, registers, stacks and log as text, then as frames.
//!
//! Text first: it needs no host command, and is what a log of the console holds. Memory is read with a guard: what cannot be read is left out, and said so.

use machine::emergency;
use machine::own_memory::OwnMemory;
use vmcore::log_ring::LogReader;
use vmcore::{PhysMemory, Registers};

use super::{Crash, notes, wire_dump};
use crate::logger;

/// Bytes of each stack that are printed, from its stack pointer up.
const STACK_BYTES: u64 = 2048;
/// Bytes of a line.
const LINE: u64 = 32;

/// Prints and sends what can be saved without a capture kernel, the crashing CPU first; `why` says why there is none.
pub(super) fn dump(crash: Option<&Crash>, why: &str) {
    let slot = crash.map_or_else(machine::percpu::current_slot, |crash| crash.slot);
    emergency!("\n--- minimal dump: begin\n");
    match crash {
        Some(crash) => emergency!("reason {}: {}\n", crash.kind.name(), crash.text.as_str()),
        None => emergency!("reason not recorded\n"),
    }
    emergency!("build-id ");
    for byte in machine::image::build_id() {
        emergency!("{byte:02x}");
    }
    emergency!("\n");
    let others = (0..machine::percpu::capacity()).filter(|other| *other != slot);
    for cpu in core::iter::once(slot).chain(others) {
        if let Some(registers) = notes::saved_registers(cpu) {
            dump_cpu(cpu, &registers);
        }
    }
    emergency!("log\n");
    dump_log();
    emergency!("--- minimal dump: end of the text; frames for `afterimage receive` follow\n");
    wire_dump::send(slot, why);
    emergency!("\n--- minimal dump: end\n");
}

fn dump_cpu(cpu: usize, registers: &Registers) {
    emergency!("cpu {cpu}\n");
    for (number, value) in registers.x.iter().enumerate() {
        let end = if number % 4 == 3 { '\n' } else { ' ' };
        emergency!("x{number:<2} {value:#018x}{end}");
    }
    emergency!(
        "\nsp {:#018x} pc {:#018x} pstate {:#010x}\nstack\n",
        registers.sp,
        registers.pc,
        registers.pstate
    );
    dump_stack(registers.sp);
}

/// Hex lines of the stack at virtual address `sp`.
fn dump_stack(sp: u64) {
    let image = machine::image::bounds();
    let sp = sp & !15;
    let top = (0..machine::percpu::capacity())
        .filter_map(machine::percpu::stacks)
        .flat_map(|stacks| [stacks.thread, stacks.exception, stacks.crash])
        .find(|(bottom, top)| (*bottom..*top).contains(&sp))
        .map(|(_, top)| top);
    let Some(top) = top else {
        emergency!("sp lies in no stack of this kernel\n");
        return;
    };
    let end = top.min(sp.saturating_add(STACK_BYTES)).min(image.end);
    let mut at = sp;
    while at < end {
        let mut line = [0_u8; LINE as usize];
        let physical = machine::image::physical(at);
        if crate::dump::is_secret(physical, LINE) {
            emergency!("{at:#018x}: held back, secret\n");
            at = at.saturating_add(LINE);
            continue;
        }
        match OwnMemory.read(physical, &mut line) {
            Ok(()) => {
                emergency!("{at:#018x}:");
                for byte in line {
                    emergency!(" {byte:02x}");
                }
                emergency!("\n");
            }
            Err(error) => emergency!("{at:#018x}: {error}\n"),
        }
        at = at.saturating_add(LINE);
    }
}

fn dump_log() {
    let physical = machine::image::physical(logger::ring_address());
    let mut memory = OwnMemory;
    let mut reader = match LogReader::open(&mut memory, physical, logger::RING_LEN as u64) {
        Ok(reader) => reader,
        Err(error) => {
            emergency!("the log cannot be read: {error}\n");
            return;
        }
    };
    reader.keep_last(8192);
    let mut part = [0_u8; 128];
    // Bounded by what the ring can hold.
    for _ in 0..logger::RING_LEN.div_ceil(part.len().max(1)) {
        match reader.read(&mut memory, &mut part) {
            Ok(0) | Err(_) => break,
            Ok(len) => {
                for byte in part.get(..len).unwrap_or(&[]) {
                    match byte {
                        b'\n' => emergency!("\n"),
                        0x20..0x7f => emergency!("{}", *byte as char),
                        _ => emergency!("."),
                    }
                }
            }
        }
    }
}
