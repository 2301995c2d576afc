// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device trees: the one handed to the capture kernel is sound, and a broken one of the boot loader is never met with silence.

use std::fmt;

use blackbox::{Machine, Running, device_tree, host, matrix, oracle};

/// Lines that the capture kernel's tree may lack: they speak of the crashed kernel's boot.
const MAY_CHANGE: [&str; 4] = ["bootargs", "linux,initrd-", "kaslr-seed", "rng-seed"];

#[test]
fn device_tree_of_the_capture_kernel_round_trips_and_says_what_it_must() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let initrd = dir.path().join("initrd");
    std::fs::write(&initrd, [0x5a; 5000]).expect("a temporary file");
    let machine = Machine::new()
        .cpus(2)
        .initrd(initrd)
        .append("lkdtm=PANIC@150 dump_then=halt");
    let mut running = machine.paused().start();
    let input = device_tree::decompile(&device_tree::handed(&running.memory));
    running.go_on();
    let crashed = oracle::finish(running);

    let region = crashed.region.clone();
    let bytes = crashed
        .running
        .memory
        .read(region.start, (region.end - region.start) as usize);
    let [found] = &device_tree::find_all(&bytes)[..] else {
        panic!("not one device tree in the region")
    };
    let output = device_tree::decompile(found);
    let again = device_tree::decompile(&device_tree::compile(&output.text));
    assert_eq!(again.text, output.text, "round trip");
    let new_warnings: Vec<_> = output.warnings.difference(&input.warnings).collect();
    assert!(
        new_warnings.is_empty(),
        "warnings that the input did not have: {new_warnings:?}"
    );

    let only = |name: &str| match device_tree::values(&output.text, name)[..] {
        [value] => device_tree::cell_pairs(value),
        ref other => panic!("{name} is there {} times", other.len()),
    };
    assert_eq!(
        only("linux,usable-memory-range"),
        [region.start, region.end - region.start]
    );
    let [header, len] = only("linux,elfcorehdr")[..] else {
        panic!("linux,elfcorehdr is no range")
    };
    assert!(
        region.contains(&header) && header + len <= region.end,
        "{header:#x}, {len:#x} bytes"
    );
    assert_eq!(crashed.running.memory.read(header, 4), b"\x7fELF");

    for stale in ["linux,initrd-start", "linux,initrd-end"] {
        assert_eq!(
            device_tree::values(&input.text, stale).len(),
            1,
            "{stale} in the input"
        );
        assert!(
            device_tree::values(&output.text, stale).is_empty(),
            "{stale} is stale"
        );
    }
    assert!(
        !output.text.contains("lkdtm"),
        "the crashed kernel's command line:\n{}",
        output.text
    );
    for seed in ["kaslr-seed", "rng-seed"] {
        let old = device_tree::values(&input.text, seed);
        let new = device_tree::values(&output.text, seed);
        assert!(
            new.iter().all(|value| !old.contains(value)),
            "{seed} is used a second time"
        );
    }
    let is_kept = |line: &&str| !MAY_CHANGE.iter().any(|name| line.trim().starts_with(name));
    let lost = input
        .text
        .lines()
        .filter(is_kept)
        .find(|line| !output.text.contains(line));
    assert_eq!(lost, None, "lost on the way");
}

/// What is done to the boot loader's device tree, and what the console then has to show.
struct Broken {
    name: &'static str,
    edit: Edit,
    /// Each has to appear, in this order.
    shown: &'static [&'static str],
}

enum Edit {
    Bytes(fn(&mut [u8])),
    Source(fn(String) -> String),
    Machine(fn(&Running)),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const REFUSED: &[&str] = &["Afterimage cannot boot", "device tree"];
/// What a machine that came up shows last.
const UP: &str = "idle, with";

fn set_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn word(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4]
        .iter()
        .fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// Offset of the structure block, from the header (Devicetree Specification 5.2).
fn structure(bytes: &[u8]) -> usize {
    word(bytes, 8)
}

fn check(broken: &Broken) {
    let mut running = Machine::new()
        .cpus(2)
        .append("dump_then=halt dump_rounds=1")
        .paused()
        .start();
    match broken.edit {
        Edit::Bytes(edit) => device_tree::edit_bytes(&running, edit),
        Edit::Source(edit) => device_tree::edit_source(&running, edit),
        Edit::Machine(edit) => edit(&running),
    }
    running.go_on();
    let mut from = 0;
    for wanted in broken.shown {
        from = running.console.wait_for_from(wanted, from);
    }
    assert!(running.is_alive(), "QEMU ended");
}

fn bytes(name: &'static str, edit: fn(&mut [u8])) -> Broken {
    Broken {
        name,
        edit: Edit::Bytes(edit),
        shown: REFUSED,
    }
}

fn source(
    name: &'static str,
    shown: &'static [&'static str],
    edit: fn(String) -> String,
) -> Broken {
    Broken {
        name,
        edit: Edit::Source(edit),
        shown,
    }
}

#[test]
fn device_tree_with_broken_bytes_is_refused_with_a_reason() {
    let rows = [
        bytes("cut in the structure block by its size", |dtb| {
            let cut = structure(dtb) + 0x200;
            set_word(dtb, 4, cut as u32);
        }),
        bytes(
            "cut in the structure block by a transfer that ended",
            |dtb| {
                let from = structure(dtb) + 0x400;
                dtb[from..].fill(0);
            },
        ),
        bytes("size of 4 GiB", |dtb| set_word(dtb, 4, u32::MAX)),
        bytes("size of 0", |dtb| set_word(dtb, 4, 0)),
        bytes("size of 3 MiB", |dtb| set_word(dtb, 4, 3 << 20)),
        bytes("structure block behind the end", |dtb| {
            set_word(dtb, 8, 0x7fff_fff0)
        }),
        bytes("structure block longer than the blob", |dtb| {
            set_word(dtb, 36, 0x7fff_fff0)
        }),
        bytes("strings behind the end", |dtb| {
            set_word(dtb, 12, 0x7fff_fff0)
        }),
        bytes("reservations behind the end", |dtb| {
            set_word(dtb, 16, 0x7fff_fff8)
        }),
        bytes("version of the future", |dtb| {
            set_word(dtb, 20, 1000);
            set_word(dtb, 24, 1000);
        }),
        bytes("structure that never ends", |dtb| {
            let end = structure(dtb) + word(dtb, 36) - 4;
            // FDT_NOP where FDT_END was.
            set_word(dtb, end, 4);
        }),
        bytes("nodes that never end", |dtb| {
            let (start, len) = (structure(dtb), word(dtb, 36));
            // FDT_NOP for every FDT_END_NODE.
            for at in (start..start + len).step_by(4) {
                if word(dtb, at) == 2 {
                    set_word(dtb, at, 4);
                }
            }
        }),
        bytes("property longer than the blob", |dtb| {
            let (start, len) = (structure(dtb), word(dtb, 36));
            let property = (start..start + len)
                .step_by(4)
                .find(|at| word(dtb, *at) == 3)
                .expect("a property");
            set_word(dtb, property + 4, 0x7fff_ffff);
        }),
        bytes("other magic", |dtb| set_word(dtb, 0, 0xd00d_feee)),
    ];
    matrix::for_each(&rows, check);
}

#[test]
fn x0_that_is_no_device_tree_is_refused_with_a_reason() {
    let row = |name, edit| Broken {
        name,
        edit: Edit::Machine(edit),
        shown: &["Afterimage cannot boot", "0x"],
    };
    let rows = [
        row("not aligned", |running| {
            device_tree::hand_address(&running.memory, 0x4400_0004)
        }),
        row("zeros", |running| {
            device_tree::hand_address(&running.memory, 0x4700_0000)
        }),
        row("no memory at all", |running| {
            device_tree::hand_address(&running.memory, 0x30_0000_0000)
        }),
        row("beyond what the CPU can address", |running| {
            device_tree::hand_address(&running.memory, 0xffff_ffff_ffff_fff8)
        }),
        row("raspi's 0x100", |running| {
            device_tree::hand_address(&running.memory, 0x100)
        }),
    ];
    matrix::for_each(&rows, check);
}

#[test]
fn device_tree_without_what_booting_needs_is_refused_with_a_reason() {
    let rows = [
        source("no memory node", REFUSED, |text| {
            device_tree::without_node(&text, "memory@40000000")
        }),
        source("address cells of 9", REFUSED, |text| {
            text.replacen("#address-cells = <0x02>", "#address-cells = <0x09>", 1)
        }),
        source("size cells of 0", REFUSED, |text| {
            text.replacen("#size-cells = <0x02>", "#size-cells = <0x00>", 1)
        }),
        source("memory that wraps", REFUSED, |text| {
            text.replace(
                "<0x00 0x40000000 0x00 0x8000000>",
                "<0xffffffff 0xfffff000 0x00 0x8000000>",
            )
        }),
        source("memory of half a cell", REFUSED, |text| {
            text.replace("<0x00 0x40000000 0x00 0x8000000>", "<0x00 0x40000000 0x00>")
        }),
        source("psci method of another make", REFUSED, |text| {
            text.replace("method = \"hvc\"", "method = \"avc\"")
        }),
        source(
            "memory that does not hold the kernel",
            &["Afterimage cannot boot", "memory"],
            |text| {
                text.replace(
                    "<0x00 0x40000000 0x00 0x8000000>",
                    "<0x00 0x44000000 0x00 0x4000000>",
                )
            },
        ),
    ];
    matrix::for_each(&rows, check);
}

#[test]
fn device_tree_without_something_else_boots_with_less() {
    let rows = [
        source("no psci node", &["1 CPUs run", UP], |text| {
            device_tree::without_node(&text, "psci")
        }),
        source("no chosen node", &[UP], |text| {
            device_tree::without_node(&text, "chosen")
        }),
        source("console that does not exist", &[UP], |text| {
            text.replace(
                "stdout-path = \"/pl011@9000000\"",
                "stdout-path = \"/pl011@8000\"",
            )
        }),
        source("console that is an alias of itself", &[UP], |text| {
            text.replace("serial0 = \"/pl011@9000000\"", "serial0 = \"serial0\"")
                .replace(
                    "stdout-path = \"/pl011@9000000\"",
                    "stdout-path = \"serial0\"",
                )
        }),
        source(
            "interrupt controller of another make",
            &["no interrupt controller", UP],
            |text| text.replace("arm,cortex-a15-gic", "acme,gic"),
        ),
        source("two CPUs of one number", &[UP], |text| {
            let (before, after) = text.split_once("cpu@1 {").expect("a second CPU");
            format!(
                "{before}cpu@1 {{{}",
                after.replacen("reg = <0x01>", "reg = <0x00>", 1)
            )
        }),
    ];
    matrix::for_each(&rows, check);
}

/// Nothing wakes an idle CPU there, so the crash comes before the first wait.
#[test]
fn device_tree_without_interrupt_controller_still_dumps() {
    let mut running = Machine::new()
        .append("lkdtm=PANIC dump_then=halt")
        .paused()
        .start();
    device_tree::edit_source(&running, |text| {
        text.replace("arm,cortex-a15-gic", "acme,gic")
    });
    running.go_on();
    let crashed = oracle::finish(running);
    let (verdict, status) = host::verify(&crashed.dump.path);
    assert_eq!((verdict["whole"].as_bool(), status), (Some(true), Some(0)));
}
