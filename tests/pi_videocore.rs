// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Raspberry Pi 3 and 4, as QEMU has them, are asked of their firmware, and their pins.
//!
//! QEMU answers property tags, and keeps the pins' functions; it has no divisor in the mini UART, so no rate is seen here.
#![cfg(test)]

use std::fs;
use std::time::Duration;

use blackbox::raspberry::{is_there, pi, pi_with};
use blackbox::wait::Deadline;

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
            (&lost, Some("device tree, mailbox")),
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
