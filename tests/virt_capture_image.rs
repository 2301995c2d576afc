// SPDX-License-Identifier: MIT OR Apache-2.0
//! The capture Image: from the boot loader's initrd, damaged in each way, and booted by itself.

use std::fmt;
use std::fs;
use std::path::Path;

use blackbox::machine::Running;
use blackbox::{Machine, artefacts, device_tree, matrix, oracle};

/// Fields of an arm64 Image's header (Documentation/arch/arm64/booting.rst).
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
const MAGIC: usize = 56;

struct Damaged {
    name: &'static str,
    damage: fn(&mut Vec<u8>),
    /// What the error says.
    shown: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn set(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn capture_image() -> Vec<u8> {
    fs::read(artefacts::image("capture.Image")).expect("capture.Image")
}

fn boot_with_initrd(image: &[u8], dir: &Path, append: &str) -> Running {
    let path = dir.join("initrd");
    fs::write(&path, image).expect("a temporary file");
    Machine::new()
        .initrd(path)
        .append("capture=initrd dump_then=halt")
        .append(append)
        .start()
}

#[test]
fn capture_image_of_the_initrd_dumps() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let running = boot_with_initrd(&capture_image(), dir.path(), "lkdtm=PANIC@150 dump_level=0");
    let crashed = oracle::finish(running);
    oracle::assert_nothing_is_missing(&crashed);
}

#[test]
fn capture_image_that_cannot_be_loaded_is_named_and_the_machine_boots_on() {
    let rows = [
        Damaged {
            name: "wrong magic",
            damage: |image| image[MAGIC] ^= 1,
            shown: "magic",
        },
        Damaged {
            name: "big-endian",
            damage: |image| image[FLAGS] |= 1,
            shown: "big-endian",
        },
        Damaged {
            name: "too large",
            damage: |image| set(image, IMAGE_SIZE, 3 << 20),
            shown: "0x300000",
        },
        Damaged {
            name: "size that wraps",
            damage: |image| set(image, IMAGE_SIZE, u64::MAX - 0xfff),
            shown: "0xffff",
        },
        Damaged {
            name: "image_size zero",
            damage: |image| set(image, IMAGE_SIZE, 0),
            shown: "image_size",
        },
        Damaged {
            name: "file longer than image_size",
            damage: |image| set(image, IMAGE_SIZE, 0x1000),
            shown: "0x1000",
        },
        Damaged {
            name: "text offset outside",
            damage: |image| set(image, TEXT_OFFSET, 0x40_0000),
            shown: "0x",
        },
        Damaged {
            name: "shorter than a header",
            damage: |image| image.truncate(40),
            shown: "40 bytes",
        },
        Damaged {
            name: "not an Image at all",
            damage: |image| image.fill(0x5a),
            shown: "magic",
        },
    ];
    matrix::for_each(&rows, |row| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut image = capture_image();
        (row.damage)(&mut image);
        let running = boot_with_initrd(&image, dir.path(), "");
        running.console.wait_for("idle, with");
        let text = running.console.text();
        let error = text
            .lines()
            .find(|line| line.contains("no capture kernel is loaded:"));
        assert!(
            error.is_some_and(|line| line.contains(row.shown)),
            "{:?} is not in {error:?} of\n{text}",
            row.shown
        );
        assert!(!text.contains("capture kernel armed"), "{text}");
    });
}

/// The capture Image, booted by QEMU as if it were the kernel.
fn capture_alone(append: &str) -> Machine {
    Machine::new()
        .kernel(artefacts::image("capture.Image"))
        .append(append)
        .append("dump_then=halt dump_rounds=1")
}

fn wait_for_halt(running: &Running) {
    let end = running
        .console
        .wait_for_from("this is the capture kernel", 0);
    running.console.wait_for_from("Afterimage: halted", end);
}

/// Receives what came on the line; registers may be missing, memory may not.
fn receive(running: &Running) -> blackbox::dump::Dump {
    let (recording, vmcore) = (
        running.dir().join("recording"),
        running.dir().join("vmcore"),
    );
    fs::write(&recording, running.console.bytes()).expect("a recording");
    let done = blackbox::host::receive(&recording, &vmcore, &oracle::elf());
    assert!(
        matches!(done.status.code(), Some(0 | 3)),
        "{}\n{}",
        done.stderr,
        running.console.transcript()
    );
    blackbox::dump::Dump::open(&vmcore)
}

#[test]
fn capture_image_booted_by_itself_says_so_and_dumps_ram() {
    let running = capture_alone("dump_level=0").start();
    wait_for_halt(&running);
    let text = running.console.text();
    assert!(text.contains("no elfcorehdr"), "{text}");
    let covered = receive(&running).covered();
    let bytes: u64 = covered.iter().map(|range| range.end - range.start).sum();
    // All but the capture kernel's own image.
    assert!(bytes > (128 << 20) - (2 << 20), "{covered:x?}");
}

/// What `linux,elfcorehdr` points at in a hand-made hand-over.
struct CoreHeader {
    name: &'static str,
    address: u64,
    len: u64,
    bytes: Vec<u8>,
    /// What the console says of it.
    shown: &'static str,
}

impl fmt::Display for CoreHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Where the hand-made header lies: outside of all that QEMU loads.
const HEADER_AT: u64 = 0x4600_0000;

/// An ELF core header with these program headers: type, physical address, length.
fn core_header(segments: &[(u32, u64, u64)], claimed: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_CORE, EM_AARCH64, version; entry, phoff, shoff; flags; ehsize, phentsize, phnum, shentsize, shnum, shstrndx.
    bytes.extend([4_u16, 183].iter().flat_map(|half| half.to_le_bytes()));
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0_u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(
        [64_u16, 56, claimed, 0, 0, 0]
            .iter()
            .flat_map(|half| half.to_le_bytes()),
    );
    for (kind, address, len) in segments {
        // type, flags; offset, vaddr, paddr, filesz, memsz, align.
        bytes.extend([*kind, 7].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(
            [*address, *address, *address, *len, *len, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
    }
    bytes
}

#[test]
fn elf_core_header_that_is_broken_is_survived_and_memory_is_dumped() {
    let (load, note) = (1, 4);
    let ram = (load, 0x4000_0000, 0x20_0000);
    let at = |name, shown, bytes| CoreHeader {
        name,
        address: HEADER_AT,
        len: 0x1000,
        bytes,
        shown,
    };
    let rows = [
        at(
            "zeros",
            "elfcorehdr at 0x46000000 not believed: bad magic 0x0",
            Vec::new(),
        ),
        at(
            "noise",
            "elfcorehdr at 0x46000000 not believed: bad magic 0xda3c9e00",
            (0..4096_u32)
                .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
        ),
        at(
            "more program headers than there is room for",
            "32767 elf program headers at offset 0x40 leave the 4096 bytes",
            core_header(&[ram], 0x7fff),
        ),
        at(
            "memory that is not there",
            "memory 0x3000000000..0x3100000000 is RAM for 0x0 bytes only",
            core_header(&[(load, 0x30_0000_0000, 1 << 32), ram], 2),
        ),
        at(
            "memory that wraps",
            "program header 0 left out: range at 0xfffffffffffff000 of 0x100000 bytes wraps",
            core_header(&[(load, u64::MAX - 0xfff, 0x10_0000), ram], 2),
        ),
        at(
            "notes that are not there",
            "notes of segment 0 (0x1000 bytes at 0x3000000000) dropped from offset 0x0: not readable",
            core_header(&[(note, 0x30_0000_0000, 0x1000), ram], 2),
        ),
        at(
            "notes of 4 GiB",
            "no registers of the crashed CPU were found",
            core_header(&[(note, 0x4500_0000, 1 << 32), ram], 2),
        ),
        at(
            "notes of noise",
            "notes of segment 0 (0x1000 bytes at 0x40200000) dropped from offset 0x0: not readable",
            core_header(&[(note, 0x4020_0000, 0x1000), ram], 2),
        ),
        at(
            "notes of no length",
            "no registers of the crashed CPU were found",
            core_header(&[(note, 0x4500_0000, 0), ram], 2),
        ),
        at(
            "notes that are zeros",
            "no registers of the crashed CPU were found",
            core_header(&[(note, 0x4500_0000, 0x1000), ram], 2),
        ),
        at(
            "memory where the UART is",
            "memory 0x9000000..0x9001000 is RAM for 0x0 bytes only",
            core_header(&[(load, 0x0900_0000, 0x1000), ram], 2),
        ),
        at(
            "memory from the interrupt controller to RAM",
            "memory 0x8000000..0x41000000 is RAM for 0x1000000 bytes only",
            core_header(&[(load, 0x0800_0000, 0x3900_0000)], 1),
        ),
        at(
            "the same memory a hundred times",
            "no registers of the crashed CPU were found",
            core_header(&[ram; 70], 70),
        ),
        CoreHeader {
            name: "no RAM there",
            address: 0x30_0000_0000,
            len: 0x1000,
            bytes: Vec::new(),
            shown: "linux,elfcorehdr 0x3000000000..0x3000001000: nothing can be read at 0x3000000000",
        },
        CoreHeader {
            name: "length of 0",
            address: HEADER_AT,
            len: 0,
            bytes: Vec::new(),
            shown: "device tree, linux,elfcorehdr: linux,elfcorehdr at",
        },
        CoreHeader {
            name: "length of 2 GiB",
            address: HEADER_AT,
            len: 2 << 30,
            bytes: Vec::new(),
            shown: "linux,elfcorehdr 0x46000000..0xc6000000 has an impossible length",
        },
    ];
    matrix::for_each(&rows, |row| {
        let mut running = capture_alone("").paused().start();
        let pair = |value: u64| format!("{:#x} {:#x}", value >> 32, value & 0xffff_ffff);
        device_tree::edit_source(&running, |text| {
            let properties = format!(
                "chosen {{\n\t\tlinux,elfcorehdr = <{} {}>;\n\t\tlinux,usable-memory-range = <0x0 0x40200000 0x0 0x200000>;",
                pair(row.address),
                pair(row.len)
            );
            text.replacen("chosen {", &properties, 1)
        });
        if !row.bytes.is_empty() {
            running.memory.write(HEADER_AT, &row.bytes);
        }
        running.go_on();
        wait_for_halt(&running);
        let text = running.console.text();
        assert!(!text.contains("itself failed"), "{text}");
        assert!(
            text.contains(row.shown),
            "{:?} is not in\n{text}",
            row.shown
        );
        let covered = receive(&running).covered();
        assert!(
            covered.iter().any(|range| range.contains(&0x4000_0000)),
            "RAM in {covered:x?}"
        );
    });
}
