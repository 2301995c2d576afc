// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints a backtrace the way gdb does.

use std::fmt::Write as _;

use vmcore::Registers as CpuRegisters;

use crate::symbols::Symbols;
use crate::terminal::harmless;
use crate::unwind::{End, Found, Frame, Memory, Registers, walk};

/// Converts a note's registers to what the unwinder walks with.
#[must_use]
pub fn start_of(registers: &CpuRegisters) -> Registers {
    Registers::new(&registers.x, registers.sp, registers.pc)
}

/// Returns the backtrace from `registers`, a line per function, inlined ones included.
#[must_use]
pub fn render(symbols: Option<&Symbols>, memory: &dyn Memory, registers: &CpuRegisters) -> String {
    let start = start_of(registers);
    let Some(symbols) = symbols else {
        return render_addresses(memory, registers);
    };
    let (frames, end) = walk(symbols, memory, start);
    let mut out = String::new();
    let mut number = 0_usize;
    for frame in &frames {
        put_frame(&mut out, symbols, frame, &mut number);
    }
    match end {
        End::Outermost => {}
        End::NoMemory(at) => put(
            &mut out,
            format_args!("Backtrace stopped: Cannot access memory at address {at:#x}"),
        ),
        End::NotCode(pc) => put(
            &mut out,
            format_args!("Backtrace stopped: {pc:#x} is no code (corrupt stack?)"),
        ),
        End::Loop => put(
            &mut out,
            format_args!("Backtrace stopped: previous frame inner to this frame (corrupt stack?)"),
        ),
        End::TooDeep => put(
            &mut out,
            format_args!("Backtrace stopped: more than {} frames", frames.len()),
        ),
        End::BadTable(pc) => put(
            &mut out,
            format_args!("Backtrace stopped: unwind table for {pc:#x} is unusable"),
        ),
    }
    out
}

/// Returns the names of the functions in one line, innermost first; without symbols the addresses.
#[must_use]
pub fn function_chain(
    symbols: Option<&Symbols>,
    memory: &dyn Memory,
    registers: &CpuRegisters,
) -> String {
    let Some(symbols) = symbols else {
        return format!(
            "{:#x} < {:#x} (no matching ELF)",
            registers.pc, registers.x[30]
        );
    };
    let (frames, _) = walk(symbols, memory, start_of(registers));
    chain_of(symbols, &frames)
}

/// Returns the names of the functions of a walk in one line, innermost first.
#[must_use]
pub fn chain_of(symbols: &Symbols, frames: &[Frame]) -> String {
    let names: Vec<String> = frames
        .iter()
        .flat_map(
            |frame| match symbols.source_frames(frame.lookup_address()) {
                sources if sources.is_empty() => vec![format!("{:#x}", frame.registers.pc)],
                sources => sources
                    .into_iter()
                    .map(|s| harmless(s.function.as_deref().unwrap_or("??")))
                    .collect(),
            },
        )
        .collect();
    names.join(" < ")
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn put_frame(out: &mut String, symbols: &Symbols, frame: &Frame, number: &mut usize) {
    let mark = match frame.found {
        Found::LinkRegister => "  (a guess, from LR: the PC above is no code)",
        Found::Stopped | Found::Unwound | Found::Interrupted | Found::FramePointer => "",
    };
    let pc = frame.registers.pc;
    let sources = symbols.source_frames(frame.lookup_address());
    if sources.is_empty() {
        put(out, format_args!("#{number:<2} {pc:#018x} in ?? (){mark}"));
        *number = number.saturating_add(1);
        return;
    }
    for (depth, source) in sources.iter().enumerate() {
        let name = harmless(source.function.as_deref().unwrap_or("??"));
        let place = source
            .location
            .as_ref()
            .map_or_else(String::new, |(file, line)| {
                format!(" at {}:{line}", harmless(file))
            });
        // As in gdb, callers that the code was inlined into have no address of their own.
        if depth == 0 {
            put(
                out,
                format_args!("#{number:<2} {pc:#018x} in {name} (){place}{mark}"),
            );
        } else {
            put(out, format_args!("#{number:<2} {name} (){place}"));
        }
        *number = number.saturating_add(1);
    }
}

/// Without symbols: PC, LR, then the frame pointer chain.
fn render_addresses(memory: &dyn Memory, registers: &CpuRegisters) -> String {
    let mut out = String::new();
    put(&mut out, format_args!("#0  {:#018x}", registers.pc));
    let [.., fp, lr] = registers.x;
    put(&mut out, format_args!("#1  {lr:#018x}  (LR)"));
    let mut fp = fp;
    for number in 2..crate::unwind::MAX_FRAMES {
        let (Some(caller), Some(address)) =
            (memory.read_u64(fp), memory.read_u64(fp.wrapping_add(8)))
        else {
            break;
        };
        if address == 0 {
            break;
        }
        put(&mut out, format_args!("#{number:<2} {address:#018x}"));
        // The chain leads to higher addresses; anything else is a loop or rubbish.
        if caller <= fp {
            break;
        }
        fp = caller;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Words(HashMap<u64, u64>);

    impl Memory for Words {
        fn read_u64(&self, address: u64) -> Option<u64> {
            self.0.get(&address).copied()
        }
    }

    fn registers(pc: u64, fp: u64, lr: u64) -> CpuRegisters {
        let mut registers = CpuRegisters {
            pc,
            ..CpuRegisters::default()
        };
        registers.x[29] = fp;
        registers.x[30] = lr;
        registers
    }

    #[test]
    fn addresses_follow_the_frame_pointers() {
        let memory = Words(HashMap::from([
            (0x1000, 0x1020),
            (0x1008, 0xaa),
            (0x1020, 0),
            (0x1028, 0xbb),
        ]));
        let text = render(None, &memory, &registers(0x10, 0x1000, 0x20));
        assert_eq!(
            text,
            "#0  0x0000000000000010\n#1  0x0000000000000020  (LR)\n#2  0x00000000000000aa\n#3  0x00000000000000bb\n"
        );
    }

    #[test]
    fn looping_frame_pointers_end() {
        let memory = Words(HashMap::from([(0x1000, 0x1000), (0x1008, 0xaa)]));
        let text = render(None, &memory, &registers(0x10, 0x1000, 0x20));
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn unreadable_frame_pointer_leaves_pc_and_lr() {
        let text = render(None, &Words(HashMap::new()), &registers(0x10, 0x1000, 0x20));
        assert_eq!(text.lines().count(), 2);
    }
}
