// SPDX-License-Identifier: MIT OR Apache-2.0
//! The unwinder on a real arm64 program with a stack made by hand.

use std::collections::HashMap;

use afterimage::symbols::Symbols;
use afterimage::unwind::{End, Found, Memory, Registers, walk};

const STACK: u64 = 0x5000_0000;

struct Words(HashMap<u64, u64>);

impl Memory for Words {
    fn read_u64(&self, address: u64) -> Option<u64> {
        self.0.get(&address).copied()
    }
}

struct Program {
    symbols: Symbols,
    at: HashMap<&'static str, u64>,
    _dir: tempfile::TempDir,
}

fn program() -> Program {
    let dir = tempfile::tempdir().expect("directory");
    let elf = crate::program::build_program(dir.path(), "0102030405060708");
    let names = ["vector", "leaf", "middle", "plain", "outer", "_start"];
    let at = names.map(|name| (name, crate::program::address(&elf, name)));
    Program {
        symbols: Symbols::open(&elf).expect("symbols"),
        at: HashMap::from(at),
        _dir: dir,
    }
}

/// The stack below `leaf`: middle (CFI), plain (no CFI), outer (CFI), _start. Values are return addresses.
fn stack(program: &Program) -> HashMap<u64, u64> {
    let at = &program.at;
    HashMap::from([
        (STACK, STACK + 32),
        (STACK + 8, at["plain"] + 12),
        (STACK + 32, STACK + 48),
        (STACK + 40, at["outer"] + 12),
        (STACK + 48, 0),
        (STACK + 56, at["_start"] + 4),
    ])
}

fn in_leaf(program: &Program) -> Registers {
    let mut x = [0; 31];
    x[29] = STACK;
    x[30] = program.at["middle"] + 12;
    Registers::new(&x, STACK, program.at["leaf"] + 4)
}

fn names(
    program: &Program,
    memory: HashMap<u64, u64>,
    start: Registers,
) -> (Vec<String>, Vec<Found>, End) {
    let (frames, end) = walk(&program.symbols, &Words(memory), start);
    let names = frames.iter().map(|f| {
        let sources = program.symbols.source_frames(f.lookup_address());
        sources
            .first()
            .and_then(|s| s.function.clone())
            .unwrap_or_default()
    });
    (
        names.collect(),
        frames.iter().map(|f| f.found).collect(),
        end,
    )
}

#[test]
fn cfi_then_frame_pointer_then_cfi_reaches_the_start() {
    let program = program();
    let (names, found, end) = names(&program, stack(&program), in_leaf(&program));
    assert_eq!(names, ["leaf", "middle", "plain", "outer", "_start"]);
    assert_eq!(found[3], Found::FramePointer);
    assert_eq!(end, End::Outermost);
}

#[test]
fn exception_frame_restores_the_interrupted_function() {
    let program = program();
    let frame = STACK - 0x200;
    let mut memory = stack(&program);
    memory.insert(frame + 152, 0x1919);
    memory.insert(frame + 232, STACK);
    memory.insert(frame + 240, program.at["middle"] + 12);
    memory.insert(frame + 248, STACK);
    memory.insert(frame + 256, program.at["leaf"] + 4);
    let start = Registers::new(&[0; 31], frame, program.at["vector"] + 4);
    let (names, found, end) = names(&program, memory, start);
    assert_eq!(
        names,
        ["vector", "leaf", "middle", "plain", "outer", "_start"]
    );
    assert_eq!(found[1], Found::Interrupted);
    assert_eq!(end, End::Outermost);
}

#[test]
fn exception_frame_below_a_function_without_tables_is_found() {
    let program = program();
    let frame = STACK - 0x200;
    let mut memory = stack(&program);
    memory.extend([
        // plain, called by the handler, has no tables; its frame record leads to the entry's x29.
        (frame - 64, frame + 288),
        (frame - 56, program.at["vector"] + 8),
        (frame + 232, STACK),
        (frame + 240, program.at["middle"] + 12),
        (frame + 248, STACK),
        (frame + 256, program.at["leaf"] + 4),
    ]);
    let mut x = [0; 31];
    x[29] = frame - 64;
    let start = Registers::new(&x, frame - 64, program.at["plain"] + 12);
    let (names, _, end) = names(&program, memory, start);
    let expected = [
        "plain", "vector", "leaf", "middle", "plain", "outer", "_start",
    ];
    assert_eq!(names, expected);
    assert_eq!(end, End::Outermost);
}

#[test]
fn jump_to_nowhere_continues_from_lr_as_a_guess() {
    let program = program();
    let mut start = in_leaf(&program);
    start.pc = 0x10;
    let (names, found, _) = names(&program, stack(&program), start);
    assert_eq!(names[1..], ["middle", "plain", "outer", "_start"]);
    assert_eq!(found[1], Found::LinkRegister);
}

#[test]
fn corrupt_return_address_is_where_it_stops() {
    let program = program();
    let mut memory = stack(&program);
    memory.insert(STACK + 8, 0xdead_beef_0000);
    let (names, _, end) = names(&program, memory, in_leaf(&program));
    assert_eq!(names, ["leaf", "middle", ""]);
    assert_eq!(end, End::NotCode(0xdead_beef_0000));
}

#[test]
fn missing_stack_page_is_named() {
    let program = program();
    let mut memory = stack(&program);
    memory.remove(&(STACK + 8));
    let (_, _, end) = names(&program, memory, in_leaf(&program));
    assert_eq!(end, End::NoMemory(STACK + 8));
}

#[test]
fn frame_pointer_loop_ends() {
    let program = program();
    let mut memory = stack(&program);
    memory.insert(STACK + 32, STACK);
    memory.insert(STACK + 40, program.at["plain"] + 12);
    let (names, _, end) = names(&program, memory, in_leaf(&program));
    assert!(names.len() < 10);
    assert_eq!(end, End::Loop);
}
