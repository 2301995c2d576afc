// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crash region: out of reach, and never entered when it is damaged.

use blackbox::{Entry, Machine, Running, host, oracle};
use serde_json::json;

const SYSRQ_CRASH: &[u8] = b"~~~SysRqc";
/// A byte inside the capture kernel's code, behind its header.
const INSIDE_IMAGE: u64 = 0x1234;

#[test]
fn stray_write_to_the_region_is_reported_and_dumped() {
    for entry in [Entry::El1, Entry::El2] {
        let crashed = oracle::crash(
            Machine::new()
                .entry(entry)
                .append("lkdtm=WRITE_CRASHKERNEL@150"),
        );
        let linear = 0xffff_0000_0000_0000 + crashed.region.start;
        let reason = host::info(&crashed.dump.path)["reason"].clone();
        assert_eq!(reason["far"], json!(linear), "{entry:?}");
        let text = reason["text"].as_str().unwrap_or_default();
        assert!(
            text.contains("crash region"),
            "{entry:?}: the reason names the region: {text}"
        );
    }
}

#[test]
fn stray_write_through_a_mapping_is_refused_by_stage_2() {
    let crashed = oracle::crash(
        Machine::new()
            .entry(Entry::El2)
            .append("lkdtm=WRITE_CRASHKERNEL_MAPPED@150"),
    );
    let reason = host::info(&crashed.dump.path)["reason"].clone();
    let text = reason["text"].as_str().unwrap_or_default();
    assert!(text.contains("stage 2"), "the reason names stage 2: {text}");
    assert!(
        text.contains("crash region"),
        "the reason names the region: {text}"
    );
}

/// Boots, damages the byte at `offset` of the region behind the kernel's back, and crashes.
fn damage(entry: Entry, offset: impl Fn(&Running, u64) -> u64) -> Running {
    let running = Machine::new()
        .entry(entry)
        .append("dump_then=halt dump_rounds=1")
        .start();
    running.console.wait_for("idle, with");
    let region = oracle::region(&running.console.text());
    let at = offset(&running, region.start);
    let byte = running.memory.read(at, 1);
    running.memory.write(at, &[byte[0] ^ 0x10]);
    running.console.send(SYSRQ_CRASH);
    running.console.wait_for("--- minimal dump: end");
    running
}

fn assert_minimal_dump(running: &Running) {
    let text = running.console.text();
    assert!(text.contains("it is not entered"), "{text}");
    assert!(
        !text.contains("this is the capture kernel"),
        "a damaged capture kernel was entered:\n{text}"
    );
    let (_, dump) = text
        .split_once("--- minimal dump: begin")
        .expect("the minimal dump");
    for part in [
        "reason sysrq",
        "x0 ",
        "x30",
        "sp 0x",
        "pc 0x",
        "build-id ",
        "stack\n0x",
        "log\n",
    ] {
        let part = part.replace('\n', if dump.contains("\r\n") { "\r\n" } else { "\n" });
        assert!(dump.contains(&part), "{part:?} is not in:\n{dump}");
    }
    assert!(dump.contains("idle, with"), "the log is not in:\n{dump}");
}

#[test]
fn corrupted_capture_image_is_not_entered() {
    for entry in [Entry::El1, Entry::El2] {
        let running = damage(entry, |_, region| region + INSIDE_IMAGE);
        assert_minimal_dump(&running);
    }
}

#[test]
fn corrupted_elf_core_header_is_not_used() {
    let running = damage(Entry::El1, |running, region| {
        let bytes = running.memory.read(region, 0x20_0000);
        // The header lies at a page of its own behind the Image.
        let pages = bytes.chunks_exact(4096);
        let number = pages
            .into_iter()
            .position(|page| page.starts_with(b"\x7fELF"))
            .expect("an ELF core header");
        region + number as u64 * 4096 + 0x48
    });
    assert_minimal_dump(&running);
}

#[test]
fn corrupted_capture_device_tree_is_not_used() {
    let running = damage(Entry::El2, |running, region| {
        let bytes = running.memory.read(region, 0x20_0000);
        let magic = [0xd0, 0x0d, 0xfe, 0xed];
        let number = bytes
            .chunks_exact(4096)
            .position(|page| page.starts_with(&magic))
            .expect("a device tree");
        region + number as u64 * 4096 + 0x80
    });
    assert_minimal_dump(&running);
}
