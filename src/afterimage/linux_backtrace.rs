// SPDX-License-Identifier: MIT OR Apache-2.0
//! Backtraces of a crashed Linux with nothing but its dump; a vmlinux adds where in the source each frame is.

use std::fmt::Write as _;

use vmcore::Registers;
use vmcore::linux::{End, Frames, VirtualMemory, Vmcoreinfo};

use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::linux_symbols::LinuxSymbols;
use crate::symbols::Symbols;

/// Bytes of an instruction: a return address lies behind the call.
const INSTRUCTION: u64 = 4;

/// What the addresses of the dump are called.
struct Names<'a> {
    /// The dump's own symbols.
    symbols: LinuxSymbols,
    /// The vmlinux, and how far KASLR moved it.
    source: Option<(&'a Symbols, u64)>,
}

/// Returns the backtrace of each CPU as text, with the lines of `vmlinux` where there is one.
#[must_use]
pub fn linux_report(
    core: &CoreFile,
    info: &Vmcoreinfo<'_>,
    contents: &Contents<'_>,
    vmlinux: Option<&Symbols>,
) -> String {
    let mut out = String::new();
    let symbols = LinuxSymbols::read(core, info).unwrap_or_else(|error| {
        put(&mut out, format_args!("no symbols: {error}"));
        LinuxSymbols::default()
    });
    let source = vmlinux.and_then(|vmlinux| match info.hexadecimal("KERNELOFFSET") {
        Ok(offset) => Some((vmlinux, offset)),
        Err(error) => {
            put(&mut out, format_args!("no source lines: {error}"));
            None
        }
    });
    let names = Names { symbols, source };
    for (cpu, status) in contents.cpus() {
        put(
            &mut out,
            format_args!("CPU {cpu} (process {}):", status.pid),
        );
        put_frames(&mut out, core, info, &names, &status.registers);
    }
    out
}

fn put_frames(
    out: &mut String,
    core: &CoreFile,
    info: &Vmcoreinfo<'_>,
    names: &Names<'_>,
    registers: &Registers,
) {
    let mut memory = match VirtualMemory::new(info, core) {
        Ok(memory) => memory,
        Err(error) => {
            let pc = name(names, registers.pc, false);
            put(out, format_args!("#0  {:#018x} in {pc}", registers.pc));
            put(out, format_args!("Backtrace stopped: {error}"));
            return;
        }
    };
    let mut frames = Frames::new(info, registers);
    let mut number = 0_u32;
    while let Some(address) = frames.next(&mut memory) {
        let name = name(names, address, number > 0);
        put(out, format_args!("#{number:<2} {address:#018x} in {name}"));
        number = number.saturating_add(1);
    }
    match frames.end() {
        End::Outermost => {}
        End::User => put(out, format_args!("Backtrace stopped: user space")),
        End::Unreadable { record, error } => put(
            out,
            format_args!("Backtrace stopped: cannot read the frame record at {record:#x}: {error}"),
        ),
        End::Misaligned(record) => put(
            out,
            format_args!(
                "Backtrace stopped: no frame record can be at {record:#x} (corrupt stack?)"
            ),
        ),
        End::Unknown { record, kind } => put(
            out,
            format_args!(
                "Backtrace stopped: frame record at {record:#x} of unknown kind {kind:#x}"
            ),
        ),
        End::Loop(record) => put(
            out,
            format_args!(
                "Backtrace stopped: frame record at {record:#x} inner to this frame (corrupt stack?)"
            ),
        ),
        End::TooDeep => put(
            out,
            format_args!("Backtrace stopped: more than {number} frames"),
        ),
    }
}

fn name(names: &Names<'_>, address: u64, is_return: bool) -> String {
    let unknown = || "?? (in no kernel symbol: a module?)".to_owned();
    let described = names.symbols.describe(address, is_return);
    let mut name = described.unwrap_or_else(unknown);
    if let Some((vmlinux, offset)) = names.source {
        let back = if is_return { INSTRUCTION } else { 0 };
        let linked = address.wrapping_sub(offset).wrapping_sub(back);
        let frames = vmlinux.source_frames(linked);
        if let Some((file, line)) = frames.into_iter().rev().find_map(|frame| frame.location) {
            name.push_str(&format!(" at {file}:{line}"));
        }
    }
    name
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump_file::{DumpFile, Mapping};
    use crate::note_bytes::NoteBytes;
    use vmcore::PhysRange;
    use vmcore::registers::PrStatus;

    /// What is printed of a dump with this VMCOREINFO note, one CPU, and a page of zeros.
    fn printed(note: &str) -> String {
        let dir = tempfile::tempdir().expect("directory");
        let ram = PhysRange {
            start: 0x4000_0000,
            end: 0x4000_1000,
        };
        let mut dump = DumpFile::create(&dir.path().join("part"), &[ram]).expect("create");
        dump.store(ram.start, &[0; 0x1000]).expect("store");
        let mut notes = NoteBytes::default();
        let mut status = PrStatus {
            pid: 42,
            ..PrStatus::default()
        };
        status.registers.pc = 0xffff_8000_8123_4568;
        status.registers.x[29] = 0xffff_8000_8000_0010;
        status.registers.pstate = 0x3c5;
        notes.add_status(&status);
        notes.add(b"VMCOREINFO", 0, note.as_bytes());
        let map = Mapping {
            vaddr: 0,
            paddr: ram.start,
            len: ram.len(),
        };
        let path = dir.path().join("core");
        dump.finish(&[map], notes.as_bytes(), &path, true)
            .expect("finish");
        let core = CoreFile::open(&path).expect("a core");
        let contents = Contents::of(core.note_bytes());
        linux_report(&core, contents.linux().expect("a note"), &contents, None)
    }

    #[test]
    fn note_that_says_nothing_leaves_the_program_counter_and_the_reason() {
        assert_eq!(
            printed("OSRELEASE=5.4.0\n"),
            "no symbols: vmcoreinfo has no PAGESIZE\nCPU 0 (process 42):\n\
             #0  0xffff800081234568 in ?? (in no kernel symbol: a module?)\n\
             Backtrace stopped: vmcoreinfo has no PAGESIZE\n"
        );
    }

    #[test]
    fn record_that_is_not_mapped_ends_the_backtrace_with_its_address() {
        let note = "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffff800080000000\nNUMBER(VA_BITS)=48\n\
            NUMBER(kimage_voffset)=0xffff800040000000\n";
        assert_eq!(
            printed(note),
            "no symbols: vmcoreinfo has no SYMBOL(kallsyms_names)\nCPU 0 (process 42):\n\
             #0  0xffff800081234568 in ?? (in no kernel symbol: a module?)\n\
             Backtrace stopped: cannot read the frame record at 0xffff800080000010: virtual address \
             0xffff800080000010 is not mapped: descriptor 0x0 at level 0\n"
        );
    }
}
