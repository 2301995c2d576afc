// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small arm64 program, built at test time.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Exception entry with CFI of a signal frame (PC in DWARF register 32), a chain of calls, and one without any CFI.
const PROGRAM: &str = r#"
//! A program to unwind.
#![no_std]
#![no_main]

core::arch::global_asm!(
    ".cfi_sections .debug_frame",
    ".global vector, leaf, middle, outer, plain, _start",
    ".type vector, %function", ".type leaf, %function", ".type middle, %function",
    ".type outer, %function", ".type plain, %function", ".type _start, %function",
    // The frame: x0 to x30, SP, PC from the CFA up.
    "vector:", ".cfi_startproc", ".cfi_signal_frame", ".cfi_def_cfa sp, 0",
    ".cfi_offset x19, 152", ".cfi_offset x29, 232", ".cfi_offset x30, 240",
    // DW_CFA_offset_extended_sf: PC (32) lies 256 bytes above the CFA, -64 units of the data alignment factor -4.
    ".cfi_offset sp, 248", ".cfi_escape 0x11, 0x20, 0x40",
    "add x29, sp, #288", "bl plain", "nop", ".cfi_endproc", ".size vector, . - vector",
    "leaf:", ".cfi_startproc", "nop", "str xzr, [x0]", "ret", ".cfi_endproc", ".size leaf, . - leaf",
    "middle:", ".cfi_startproc", "stp x29, x30, [sp, #-32]!", ".cfi_def_cfa_offset 32",
    ".cfi_offset x29, -32", ".cfi_offset x30, -24", "mov x29, sp", "bl leaf", "ldp x29, x30, [sp], #32", "ret",
    ".cfi_endproc", ".size middle, . - middle",
    "plain:", "stp x29, x30, [sp, #-16]!", "mov x29, sp", "bl middle", "ldp x29, x30, [sp], #16", "ret",
    ".size plain, . - plain",
    "outer:", ".cfi_startproc", "stp x29, x30, [sp, #-16]!", ".cfi_def_cfa_offset 16",
    ".cfi_offset x29, -16", ".cfi_offset x30, -8", "mov x29, sp", "bl plain", "ldp x29, x30, [sp], #16", "ret",
    ".cfi_endproc", ".size outer, . - outer",
    "_start:", ".cfi_startproc", ".cfi_undefined x30", "bl outer", "b .", ".cfi_endproc", ".size _start, . - _start",
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
"#;

/// Builds the program in `dir` with this build ID flag, and returns its path.
pub(crate) fn build_program(dir: &Path, build_id: &str) -> PathBuf {
    let source = dir.join("program.rs");
    let elf = dir.join(format!("program-{build_id}.elf"));
    std::fs::write(&source, PROGRAM).expect("source");
    let status = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--target",
            "aarch64-unknown-none-softfloat",
            "-g",
            "-C",
            "panic=abort",
        ])
        .args([
            "-C",
            "link-arg=-Ttext=0x40200000",
            "-C",
            &format!("link-arg=--build-id=0x{build_id}"),
        ])
        .arg(&source)
        .arg("-o")
        .arg(&elf)
        .status()
        .expect("rustc starts");
    assert!(
        status.success(),
        "the target aarch64-unknown-none-softfloat is needed (rust-toolchain.toml)"
    );
    elf
}

/// Returns the address of a symbol.
pub(crate) fn address(elf: &Path, name: &str) -> u64 {
    use object::{Object as _, ObjectSymbol as _};
    let data = std::fs::read(elf).expect("elf");
    let file = object::File::parse(&*data).expect("elf");
    let symbol = file.symbols().find(|s| s.name() == Ok(name));
    symbol.expect("symbol").address()
}

/// Returns address and bytes of the program's segments.
pub(crate) fn segments(elf: &Path) -> Vec<(u64, Vec<u8>)> {
    use object::{Object as _, ObjectSegment as _};
    let data = std::fs::read(elf).expect("elf");
    let file = object::File::parse(&*data).expect("elf");
    let part = |segment: object::Segment<'_, '_>| {
        (segment.address(), segment.data().expect("data").to_vec())
    };
    file.segments().map(part).collect()
}
