// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Raspberry Pi 3 and 4, as QEMU has them, are asked of their firmware, their pins, and memory that is not the CPUs'.
//!
//! QEMU answers property tags, and keeps the pins' functions; it has no divisor in the mini UART, so no rate is seen here.
#![cfg(test)]

use std::fs;
use std::ops::Range;
use std::time::Duration;

use blackbox::raspberry::{is_there, pi, pi_with};
use blackbox::wait::Deadline;
use blackbox::{host, oracle};
use serde_json::Value;

/// RAM by either tree and QEMU; what is above is the VideoCore's.
const RAM_END: u64 = 0x3c00_0000;

/// RPI_FIRMWARE_CORE_CLK_RATE of QEMU's include/hw/misc/raspberrypi-fw-defs.h or hw/misc/bcm2835_property.c.
const CORE_CLOCK: &str = "console: core clock 350000000 Hz by the firmware\r\n";
/// Functions of pins 10 to 19, by the GPIO block of either board.
const FUNCTIONS: [(u32, u64); 2] = [(3, 0x3f20_0004), (4, 0xfe20_0004)];
/// ALT5 and ALT0 of pins 14 and 15 (BCM2835 ARM Peripherals, sections 6.1 and 6.2), with all others inputs, as at reset.
const MINI_UART: u32 = 0b010 << 12 | 0b010 << 15;
const PL011: u32 = 0b100 << 12 | 0b100 << 15;

/// What is done to a tree's text.
type Edit<'a> = &'a dyn Fn(&str) -> String;

#[test]
fn core_clock_is_asked_of_the_firmware_by_both_kernels() {
    for (number, functions) in FUNCTIONS {
        if !is_there(number) {
            continue;
        }
        let append =
            "lkdtm=PANIC@100 maxcpus=1 dump_then=halt dump_rounds=1 dump_level=31 dump_recheck=0";
        let mut running = pi(number).append(append).start();
        let crashed = running
            .console
            .wait_for_from("Afterimage: this machine has crashed", 0);
        running
            .console
            .wait_for_from("this is the capture kernel", crashed);
        let text = running.console.text();
        let (before, after) = text.split_at(crashed);
        assert!(before.contains(CORE_CLOCK), "Pi {number}: {before}");
        assert!(after.contains(CORE_CLOCK), "Pi {number}: {after}");
        let found = running.read_physical_word(functions);
        assert_eq!(found, MINI_UART, "Pi {number}: {found:#x}");
    }
}

#[test]
fn pl011_of_a_pi_gets_its_clock_and_its_pins() {
    for (number, functions) in FUNCTIONS {
        if !is_there(number) {
            continue;
        }
        let (machine, _tree) = pi_with(number, |text| {
            text.replace("serial1:115200", "serial0:115200")
        });
        let mut running = machine.append("crashkernel=0").start();
        let path = running.dir().join("pl011");
        let deadline = Deadline::after(Duration::from_secs(60));
        let text = deadline.poll(|| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.contains("CPUs run").then_some(text)
        });
        let text = text.unwrap_or_else(|| panic!("Pi {number}: {:?}", fs::read_to_string(&path)));
        assert!(text.contains("console: UART clock "), "Pi {number}: {text}");
        assert!(text.contains(" Hz by the firmware"), "Pi {number}: {text}");
        let found = running.read_physical_word(functions);
        assert_eq!(found, PL011, "Pi {number}: {found:#x}");
    }
}

#[test]
fn console_of_a_pi_does_without_the_firmware() {
    const MAILBOX: &str = "compatible = \"brcm,bcm2835-mbox\"";
    let without = |text: &str| text.replace(MAILBOX, "compatible = \"none\"");
    for (number, functions) in FUNCTIONS {
        if !is_there(number) {
            continue;
        }
        // Plain memory above the tree's RAM: it reads as neither full nor empty, and nothing in it is an answer.
        let high = if number == 3 { "" } else { "0 " };
        let silent = format!(
            "mailbox@3c100000 {{ {MAILBOX}; reg = <{high}0x3c100000 0x40>; }};\n\tchosen {{"
        );
        let silent = |text: &str| without(text).replacen("chosen {", &silent, 1);
        // An address that the bus does not pass on.
        let lost = |text: &str| text.replace("reg = <0x7e00b880 0x40>", "reg = <0x10000 0x40>");
        let cases: [(Edit<'_>, Option<&str>); 3] = [
            (&without, None),
            (&silent, Some("the firmware does not answer")),
            (&lost, Some("device tree: ")),
        ];
        for (edit, says) in cases {
            let (machine, _tree) = pi_with(number, edit);
            let mut running = machine.append("maxcpus=1").start();
            running.console.wait_for("1 CPUs run");
            let text = running.console.text();
            let said = text.lines().find(|line| line.starts_with("console:"));
            let wanted =
                says.map(|why| format!("console: core clock not known, its rate stays: {why}"));
            assert_eq!(said.is_some(), wanted.is_some(), "Pi {number}: {text}");
            let wanted = wanted.unwrap_or_default();
            assert!(
                said.unwrap_or_default().starts_with(&wanted),
                "Pi {number}: {said:?}"
            );
            assert_eq!(
                running.read_physical_word(functions),
                MINI_UART,
                "Pi {number}"
            );
        }
    }
}

/// Memory that others use, as `info` tells it.
fn foreign(info: &Value) -> Vec<(String, Range<u64>)> {
    let list = info["foreign"].as_array().expect("a list");
    let number = |value: &Value| value.as_u64().expect("an address");
    let one = |it: &Value| {
        let name = it["name"].as_str().expect("a name").to_owned();
        (name, number(&it["start"])..number(&it["end"]))
    };
    list.iter().map(one).collect()
}

/// A tree whose `/chosen` has framebuffers of these addresses and lengths.
fn with_framebuffers(text: &str, framebuffers: &[(u32, u32)]) -> String {
    let nodes = framebuffers.iter().map(|(start, len)| {
        format!("framebuffer@{start:x} {{ compatible = \"simple-framebuffer\"; reg = <{start:#x} {len:#x}>; }};")
    });
    let nodes: String = nodes.collect();
    let cells = "#address-cells = <1>; #size-cells = <1>; ranges;";
    let end = text
        .find("chosen {")
        .map(|at| at + text[at..].find("};").expect("its end"));
    let end = end.expect("/chosen");
    format!("{} {cells} {nodes} {}", &text[..end], &text[end..])
}

#[test]
fn memory_of_the_videocore_and_framebuffers_are_left_out_and_named() {
    for number in [3, 4] {
        if !is_there(number) {
            continue;
        }
        // In RAM, and not of whole pages; above it.
        let (machine, _tree) = pi_with(number, |text| {
            with_framebuffers(text, &[(0x1000_0800, 0x10_0000), (0x3d00_0000, 0x1000)])
        });
        let crashed = oracle::crash(machine.append("lkdtm=PANIC@100 maxcpus=1 dump_recheck=0"));
        let info = host::info(&crashed.dump.path);
        let shown = 0x1000_0000..0x1010_1000_u64;
        let wanted = [
            ("VideoCore", RAM_END..0x4000_0000),
            ("framebuffer", shown.clone()),
            ("framebuffer", 0x3d00_0000..0x3d00_1000),
        ];
        let wanted = wanted.map(|(name, range)| (name.to_owned(), range));
        assert_eq!(foreign(&info), wanted, "Pi {number}");
        let is_apart = |range: &Range<u64>| range.end <= shown.start || range.start >= shown.end;
        let covered = crashed.dump.covered();
        assert!(covered.iter().all(is_apart), "Pi {number}: {covered:x?}");
        let gaps: Vec<Range<u64>> = crashed
            .dump
            .gaps()
            .into_iter()
            .map(|gap| gap.range)
            .collect();
        assert!(gaps.iter().all(is_apart), "Pi {number}: {gaps:x?}");
        // What lies beside it is told of.
        let described = |at: u64| covered.iter().chain(&gaps).any(|range| range.contains(&at));
        assert!(
            described(shown.start - 1) && described(shown.end),
            "Pi {number}"
        );
        for line in [
            "Afterimage: memory 0x3c000000..0x40000000 is not read: VideoCore\r\n",
            "Afterimage: memory 0x10000000..0x10101000 is not read: framebuffer\r\n",
        ] {
            assert!(
                crashed.report.contains(line),
                "Pi {number}: {}",
                crashed.report
            );
        }
        let text = host::info_text(&crashed.dump.path);
        let line = text.lines().find(|line| line.contains("VideoCore"));
        let line = line.unwrap_or_else(|| panic!("Pi {number}: {text}"));
        assert!(line.contains("0x3c000000..0x40000000 (64.0 MiB)"), "{line}");
    }
}

#[test]
fn framebuffers_that_cannot_be_cost_no_memory_of_a_dump() {
    if !is_there(3) {
        return;
    }
    // Without length; at the end of RAM, where the crash region would be; most of the RAM.
    let (machine, _tree) = pi_with(3, |text| {
        with_framebuffers(
            text,
            &[
                (0x1000_0000, 0),
                (RAM_END as u32 - 0x1000, 0x1000),
                (0x10_0000, 0x3000_0000),
            ],
        )
    });
    let crashed = oracle::crash(machine.append("lkdtm=PANIC@100 maxcpus=1 dump_recheck=0"));
    let info = host::info(&crashed.dump.path);
    let names: Vec<String> = foreign(&info).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["VideoCore", "framebuffer"]);
    assert!(
        crashed.region.end <= RAM_END - 0x1000,
        "{:x?}",
        crashed.region
    );
    let doubts = crashed
        .report
        .matches("memory of framebuffer not believed:");
    assert_eq!(doubts.count(), 2, "{}", crashed.report);
    assert!(
        crashed
            .report
            .contains("0x100000..0x30100000 is most of the RAM"),
        "{}",
        crashed.report
    );
    let described = crashed.dump.covered().len() + crashed.dump.gaps().len();
    assert!(described > 1);
}
