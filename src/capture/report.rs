// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report in plain text that precedes the first frame.
//!
//! Whoever watches with a terminal only, or has a log of the console, still learns what crashed, and how to get the rest.

use core::fmt;

use vmcore::afterimage_notes::FallbackLevel;
use vmcore::elf_core::CoreHeader;
use vmcore::linux::Vmcoreinfo;
use vmcore::registers::PrStatus;
use vmcore::{PhysMemory, Registers, page_tables};

use crate::Line;
use crate::facts::Facts;
use crate::frames;
use crate::params::Params;
use crate::text::Text;
use crate::translate::read_virtual;

/// Bytes of text before the first frame at most: half a second at 115200 baud.
pub(crate) const REPORT_BYTES: usize = 6 * 1024;

/// Bytes of the crash's message that are shown: it must not crowd out the registers.
const MESSAGE_BYTES: usize = 512;

/// Bytes of a line of VMCOREINFO that are shown.
const VALUE_BYTES: usize = 96;

/// CPUs that are listed with a line each.
const LISTED_CPUS: usize = 16;

/// Wrong mappings that are listed; `info` lists more.
const LISTED_MAPPINGS: u32 = 4;

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes what is known of the crash.
pub(crate) fn write(
    facts: &Facts<'_>,
    header: Option<&CoreHeader<'_>>,
    memory: &mut impl PhysMemory,
    params: &Params,
    text: &mut Text<'_, impl Line>,
) {
    text.say_complaints_left();
    write_reason(facts, text);
    write_fallback(facts, text);
    match facts.crashed_cpu() {
        Some(cpu) => {
            write_registers(&cpu, facts.reason.is_some(), text);
            if let Some(header) = header {
                write_return_addresses(&cpu.registers, header, memory, text);
            }
        }
        None => text.say(format_args!(
            "Afterimage: no registers of the crashed CPU were found"
        )),
    }
    if let Some(build_id) = facts.build_id {
        text.say(format_args!("build ID: {}", Hex(build_id)));
    }
    write_cpus(facts, text);
    write_page_tables(facts, memory, text);
    let Params { level, then, .. } = params;
    text.say(format_args!("Afterimage: dump level {level}, then {then}"));
}

fn write_reason(facts: &Facts<'_>, text: &mut Text<'_, impl Line>) {
    if let Some(reason) = facts.reason {
        let end = reason.text.floor_char_boundary(MESSAGE_BYTES);
        let message = reason.text.get(..end).unwrap_or_default();
        text.say(format_args!(
            "crash: {} on CPU {}: {}",
            reason.kind.name(),
            reason.cpu,
            message
        ));
        text.say(format_args!(
            "pc {:#018x} esr {:#010x} far {:#018x}",
            reason.pc, reason.esr, reason.far
        ));
    } else if let Some(note) = facts.vmcoreinfo {
        let info = Vmcoreinfo::new(note);
        let of = |name| {
            let text = info.text(name).unwrap_or("unknown");
            let end = text.floor_char_boundary(VALUE_BYTES);
            text.get(..end).unwrap_or_default()
        };
        text.say(format_args!(
            "crash: of a Linux kernel, release {}, at Unix time {}",
            of("OSRELEASE"),
            of("CRASHTIME")
        ));
        text.say(format_args!("build ID: {}", of("BUILD-ID")));
    } else {
        text.say(format_args!("crash: reason not recorded"));
    }
}

fn write_fallback(facts: &Facts<'_>, text: &mut Text<'_, impl Line>) {
    if let Some(fallback) = facts.fallback
        && fallback.level == FallbackLevel::SecondCopy
    {
        let [first, second] = fallback.copies.map(|copy| copy.name());
        text.say(format_args!(
            "Afterimage: this is the second copy of the capture kernel (first: {first}, second: {second})"
        ));
    }
}

fn write_registers(cpu: &PrStatus, is_crashed: bool, text: &mut Text<'_, impl Line>) {
    let who = if is_crashed {
        "crashed CPU"
    } else {
        "first CPU that ran a process (the crashed one is not recorded)"
    };
    text.say(format_args!("registers of the {who}, pid {}:", cpu.pid));
    let Registers { x, sp, pc, pstate } = cpu.registers;
    let (rows, rest) = x.as_chunks::<4>();
    for (row, [a, b, c, d]) in rows.iter().enumerate() {
        let first = row.saturating_mul(4);
        text.say(format_args!(
            "x{first:<2} {a:016x} {b:016x} {c:016x} {d:016x}"
        ));
    }
    if let [a, b, c] = rest {
        text.say(format_args!("x28 {a:016x} {b:016x} {c:016x}"));
    }
    text.say(format_args!(
        "sp  {sp:016x} pc {pc:016x} pstate {pstate:08x}"
    ));
}

fn write_return_addresses(
    registers: &Registers,
    header: &CoreHeader<'_>,
    memory: &mut impl PhysMemory,
    text: &mut Text<'_, impl Line>,
) {
    let [.., frame, link] = registers.x;
    text.say(format_args!(
        "return addresses: {:#x} (pc) {link:#x} (lr)",
        registers.pc
    ));
    let read = |address| read_virtual(header, memory, address);
    let end = frames::return_addresses(frame, read, |address| {
        text.say(format_args!("  {address:#x}"))
    });
    text.say(format_args!("  end: {end}"));
}

/// Says which mappings are not what the kernel had set up.
fn write_page_tables(
    facts: &Facts<'_>,
    memory: &mut impl PhysMemory,
    text: &mut Text<'_, impl Line>,
) {
    let Some((root, is_all)) = facts.page_tables() else {
        return;
    };
    let mut count = 0_u32;
    let is_done = page_tables::check(memory, root, facts.mappings(), is_all, &mut |wrong| {
        count = count.saturating_add(1);
        if count <= LISTED_MAPPINGS {
            text.say(format_args!("page tables: {wrong}"));
        }
    });
    if count > LISTED_MAPPINGS {
        text.say(format_args!(
            "page tables: {count} mappings are wrong in all"
        ));
    }
    if !is_done {
        text.say(format_args!("page tables: not looked at to the end"));
    }
}

fn write_cpus(facts: &Facts<'_>, text: &mut Text<'_, impl Line>) {
    for stop in facts.stops().take(LISTED_CPUS) {
        let confirmed = match (stop.is_off_confirmed, stop.is_parked) {
            (true, _) => ", off",
            (false, true) => ", parked",
            (false, false) => "",
        };
        text.say(format_args!(
            "CPU {}: {} after {} us{confirmed}",
            stop.cpu,
            stop.status.name(),
            stop.waited_us
        ));
    }
    if facts.reason.is_none() {
        for (number, cpu) in facts.cpus().take(LISTED_CPUS).enumerate() {
            let Registers { sp, pc, .. } = cpu.registers;
            text.say(format_args!(
                "CPU note {number}: pid {} pc {pc:#x} sp {sp:#x}",
                cpu.pid
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec::Vec;
    use vmcore::elf_core::CoreHeaderWriter;
    use vmcore::notes::NoteWriter;
    use vmcore::phys_memory::SliceMemory;

    fn report(notes: &[u8], ram: &[u8]) -> String {
        let mut header = [0; 512];
        let mut writer = CoreHeaderWriter::new(&mut header);
        writer
            .load(0x1_0000, 0x4000_0000, ram.len() as u64)
            .unwrap();
        writer.finish().unwrap();
        let header = CoreHeader::parse(&header).unwrap();
        let mut line = Vec::new();
        let mut text = Text::new(&mut line, REPORT_BYTES);
        let facts = Facts::decode(notes, &mut text);
        let mut memory = SliceMemory {
            base: 0x4000_0000,
            bytes: ram,
        };
        write(
            &facts,
            Some(&header),
            &mut memory,
            &Params::default(),
            &mut text,
        );
        text.finish().unwrap();
        String::from_utf8(line).unwrap()
    }

    fn linux_notes() -> Vec<u8> {
        let mut notes = std::vec![0; 2048];
        let mut writer = NoteWriter::new(&mut notes).unwrap();
        let mut registers = Registers {
            pc: 0xabcd,
            sp: 0x1_0000,
            ..Registers::default()
        };
        registers.x[29] = 0x1_0010;
        let cpu = PrStatus {
            pid: 12,
            signal: 0,
            registers,
        };
        writer.note_with("CORE", 1, |out| cpu.encode(out)).unwrap();
        writer
            .note("VMCOREINFO", 0, b"OSRELEASE=6.12\nCRASHTIME=17\n")
            .unwrap();
        notes
    }

    #[test]
    fn report_of_linux_names_release_and_return_addresses() {
        let mut ram = std::vec![0; 4096];
        ram[0x10..0x18].copy_from_slice(&0x1_0020_u64.to_le_bytes());
        ram[0x18..0x20].copy_from_slice(&0x4444_u64.to_le_bytes());
        let text = report(&linux_notes(), &ram);
        assert!(text.contains("release 6.12, at Unix time 17\r\n"), "{text}");
        assert!(
            text.contains("0xabcd (pc) 0x0 (lr)\r\n  0x4444\r\n  end: outermost frame"),
            "{text}"
        );
        assert!(
            text.contains("x28 0000000000000000 0000000000010010 0000000000000000"),
            "{text}"
        );
    }

    #[test]
    fn report_without_notes_says_so() {
        let text = report(&[], &[0; 4096]);
        assert!(text.contains("reason not recorded"), "{text}");
        assert!(text.contains("no registers"), "{text}");
        assert!(text.ends_with("dump level 17, then reboot\r\n"), "{text}");
    }

    #[test]
    fn report_of_an_endless_message_still_shows_the_rest() {
        let text = std::vec![b'x'; 8192];
        let reason = vmcore::afterimage_notes::Reason {
            kind: vmcore::afterimage_notes::CrashKind::Panic,
            cpu: 0,
            pc: 1,
            esr: 0x9600_0046,
            far: 0x10,
            counter: 0,
            counter_hz: 0,
            text: core::str::from_utf8(&text).unwrap(),
        };
        let mut notes = std::vec![0; 16384];
        let mut writer = NoteWriter::new(&mut notes).unwrap();
        writer
            .note_with("AFTERIMAGE", vmcore::afterimage_notes::REASON, |out| {
                reason.encode(out)
            })
            .unwrap();
        let text = report(&notes, &[0; 4096]);
        assert!(
            text.contains("esr 0x96000046 far 0x0000000000000010\r\n"),
            "{text}"
        );
        assert!(text.len() < 1024, "{text}");
    }
}
