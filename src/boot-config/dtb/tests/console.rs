// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which UART is the console when `stdout-path` does not say it.

use super::*;
use crate::dtb::UartModel;

/// Two PL011s, the first of them disabled, two 16550s; `serial0` is the second 16550; `bootargs` as given.
fn ports(bootargs: &str) -> Vec<u8> {
    let port = |blob: Blob, name: &str, compatible: &str, at: u32| {
        blob.begin(name)
            .text("compatible", compatible)
            .cells("reg", &[0, at, 0, 0x100])
    };
    let blob = board()
        .begin("chosen")
        .text("bootargs", bootargs)
        .end()
        .begin("aliases")
        .text("serial0", "/serial@4000")
        .end();
    let blob = port(blob, "serial@1000", "arm,pl011", 0x1000)
        .text("status", "disabled")
        .end();
    let blob = port(blob, "serial@2000", "arm,pl011", 0x2000).end();
    let blob = port(blob, "serial@3000", "ns16550a", 0x3000)
        .cells("reg-shift", &[2])
        .cells("reg-io-width", &[4])
        .cells("clock-frequency", &[24_000_000])
        .end();
    port(blob, "serial@4000", "snps,dw-apb-uart", 0x4000)
        .end()
        .finish()
}

/// Address, kind and rate of the console under `bootargs`.
fn console_of(bootargs: &str) -> Option<(u64, UartModel, Option<u32>)> {
    let blob = ports(bootargs);
    let console = Dtb::validate(&blob).unwrap().console().unwrap();
    console.map(|it| (it.registers.start, it.model, it.baud))
}

#[test]
fn console_parameter_names_a_port_of_its_kind() {
    use UartModel::{Ns16550, Pl011};
    // The alias of number 0 is a 16550, so the first PL011 that is not disabled is meant.
    let found = console_of("console=ttyAMA0,921600n8");
    assert_eq!(found, Some((0x2000, Pl011, Some(921_600))));
    assert_eq!(console_of("console=ttyS0"), Some((0x4000, Ns16550, None)));
    assert_eq!(console_of("console=ttyS1"), Some((0x4000, Ns16550, None)));
    let last = console_of("console=ttyS0 console=tty0 console=ttyAMA0,115200 quiet");
    assert_eq!(last, Some((0x2000, Pl011, Some(115_200))));
}

#[test]
fn console_parameter_of_no_port_falls_back_to_the_first_serial_port() {
    for bootargs in [
        "",
        "console=ttyAMA1",
        "console=ttyS99",
        "console=ttyS4294967296",
        "console=ttyS",
        "console=ttySx",
        "console=ttyS00000000000000000000",
        "console=hvc0",
        "earlycon",
        "earlycon=efifb",
        "-- console=ttyAMA0",
    ] {
        let found = console_of(bootargs);
        assert_eq!(
            found,
            Some((0x4000, UartModel::Ns16550, None)),
            "{bootargs}"
        );
    }
}

#[test]
fn address_on_the_command_line_needs_no_node() {
    let blob = board()
        .begin("chosen")
        .text("bootargs", "earlycon=uart8250,mmio32,0xff130000,115200n8")
        .end()
        .finish();
    let console = Dtb::validate(&blob).unwrap().console().unwrap().unwrap();
    assert_eq!(console.model, UartModel::Ns16550);
    assert_eq!(console.registers, range(0xff13_0000, 0x20));
    assert_eq!((console.register_shift, console.register_width), (2, 4));
    assert_eq!((console.baud, console.clock_hz), (Some(115_200), None));
    assert!(!console.is_compatible("ns16550a"));
}

#[test]
fn address_at_the_end_of_memory_is_no_console() {
    let blob = board()
        .begin("chosen")
        .text("bootargs", "earlycon=pl011,0xfffffffffffff000")
        .end()
        .finish();
    let console = Dtb::validate(&blob).unwrap().console().unwrap();
    assert!(console.is_none_or(|it| it.registers.end > it.registers.start));
}

#[test]
fn stdout_path_wins_over_the_command_line() {
    let blob = board()
        .begin("chosen")
        .text("bootargs", "console=ttyS0 earlycon=pl011,0x9000000")
        .text("stdout-path", "/serial@1000")
        .end()
        .begin("serial@1000")
        .text("compatible", "acme,uart")
        .cells("reg", &[0, 0x1000, 0, 0x40])
        .end()
        .finish();
    let console = Dtb::validate(&blob).unwrap().console().unwrap().unwrap();
    assert_eq!(
        (console.registers.start, console.model),
        (0x1000, UartModel::Other)
    );
}
