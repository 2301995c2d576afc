// SPDX-License-Identifier: MIT OR Apache-2.0
//! Valid blobs that do not say what is needed, or say it badly.

use super::*;
use crate::range::RangeError;
use std::format;

#[test]
fn missing_nodes_are_named() {
    let blob = Blob::new().finish();
    let dtb = Dtb::validate(&blob).unwrap();
    assert_eq!(
        dtb.ram().unwrap_err(),
        DtbError::MissingNode { node: "/memory" }
    );
    assert_eq!(
        dtb.cpus::<1>().unwrap_err(),
        DtbError::MissingNode { node: "/cpus" }
    );
    assert!(dtb.console().unwrap().is_none());
    assert_eq!(
        (dtb.gic(), dtb.psci(), dtb.arch_timer()),
        (Ok(None), Ok(None), Ok(None))
    );
    assert_eq!(
        (dtb.boot_args(), dtb.initrd(), dtb.crash_region()),
        (&b""[..], Ok(None), Ok(None))
    );
}

#[test]
fn wrong_cells_are_rejected() {
    let blob = Blob::new()
        .cells("#address-cells", &[4])
        .memory(0x4000_0000, 0x1000)
        .finish();
    let error = DtbError::BadCells {
        property: "reg",
        address: 4,
        size: 1,
    };
    assert_eq!(Dtb::validate(&blob).unwrap().ram(), Err(error));
    let blob = Blob::new()
        .cells("#address-cells", &[1, 1])
        .memory(0, 0x1000)
        .finish();
    let error = Dtb::validate(&blob).unwrap().ram().unwrap_err();
    assert!(matches!(
        error,
        DtbError::BadLength {
            property: "#address-cells",
            len: 8,
            ..
        }
    ));
}

#[test]
fn reg_that_is_no_multiple_of_its_cells_is_rejected() {
    let blob = Blob::new()
        .cells("#address-cells", &[2])
        .memory(0x4000_0000, 0x1000)
        .finish();
    let error = Dtb::validate(&blob).unwrap().ram().unwrap_err();
    assert!(matches!(
        error,
        DtbError::BadLength {
            property: "reg",
            len: 16,
            ..
        }
    ));
}

#[test]
fn ram_that_wraps_around_is_rejected() {
    let blob = Blob::new()
        .two_cells()
        .memory(u64::MAX - 1, 0x1000)
        .finish();
    let cause = RangeError::Overflow {
        start: u64::MAX - 1,
        len: 0x1000,
    };
    let error = DtbError::BadRange {
        property: "reg",
        cause,
    };
    assert_eq!(Dtb::validate(&blob).unwrap().ram(), Err(error));
}

#[test]
fn ram_of_disabled_and_empty_entries_is_left_out() {
    let blob = board()
        .memory(0, 0)
        .begin("memory@0")
        .text("device_type", "memory")
        .text("status", "disabled")
        .cells("reg", &[0, 0, 0, 0x1000])
        .end()
        .finish();
    let ram = Dtb::validate(&blob).unwrap().ram().unwrap();
    assert_eq!(ram.as_slice(), [range(0x4000_0000, 0x800_0000)]);
}

#[test]
fn more_ram_ranges_than_fit_are_rejected() {
    let blob = (0..=MAX_RAM_RANGES as u64).fold(Blob::new().two_cells(), |blob, n| {
        blob.memory(n << 32, 0x1000)
    });
    let error = DtbError::TooMany {
        what: "RAM ranges",
        capacity: MAX_RAM_RANGES,
    };
    assert_eq!(Dtb::validate(&blob.finish()).unwrap().ram(), Err(error));
}

#[test]
fn interrupt_parent_that_is_not_there_is_rejected() {
    let blob = board()
        .begin("timer")
        .text("compatible", "arm,armv8-timer")
        .cells("interrupt-parent", &[7])
        .cells("interrupts", &[1, 13, 4, 1, 14, 4])
        .end()
        .finish();
    let result = Dtb::validate(&blob).unwrap().arch_timer();
    assert_eq!(result, Err(DtbError::PhandleNotFound { phandle: 7 }));
}

#[test]
fn interrupt_parent_that_loops_ends() {
    // A controller that names itself, and one whose cells make no sense.
    let blob = board()
        .begin("a")
        .cells("phandle", &[1])
        .cells("interrupt-parent", &[1])
        .cells("interrupts", &[0, 1, 4])
        .end()
        .finish();
    let dtb = Dtb::validate(&blob).unwrap();
    assert_eq!(dtb.interrupt(&dtb.node("/a").unwrap(), 0), Ok(None));
}

#[test]
fn interrupt_number_out_of_range_is_rejected() {
    let blob = board()
        .begin("a")
        .cells("phandle", &[1])
        .text("compatible", "arm,gic-400")
        .cells("#interrupt-cells", &[3])
        .cells("interrupt-parent", &[1])
        .cells("interrupts", &[1, 16, 4])
        .end()
        .finish();
    let dtb = Dtb::validate(&blob).unwrap();
    let error = dtb.interrupt(&dtb.node("/a").unwrap(), 0).unwrap_err();
    assert!(matches!(
        error,
        DtbError::BadValue {
            property: "interrupts",
            ..
        }
    ));
}

#[test]
fn aliases_that_name_each_other_end() {
    let blob = board()
        .begin("aliases")
        .text("serial0", "serial1")
        .text("serial1", "serial0")
        .end()
        .begin("chosen")
        .text("stdout-path", "serial0:9600")
        .end()
        .finish();
    let error = Dtb::validate(&blob).unwrap().console().unwrap_err();
    assert_eq!(
        error,
        DtbError::MissingNode {
            node: "stdout-path"
        }
    );
}

#[test]
fn console_behind_a_bus_without_ranges_is_rejected() {
    let blob = board()
        .begin("chosen")
        .text("linux,stdout-path", "/spi/uart@10")
        .end()
        .begin("spi")
        .two_cells()
        .begin("uart@10")
        .cells("reg", &[0, 0x10, 0, 4])
        .end()
        .end()
        .finish();
    let error = Dtb::validate(&blob).unwrap().console().unwrap_err();
    assert_eq!(error, DtbError::Untranslatable { address: 0x10 });
}

#[test]
fn console_falls_back_to_the_first_serial_port() {
    let blob = board()
        .begin("aliases")
        .text("serial0", "/uart@900")
        .end()
        .begin("uart@900")
        .cells("reg", &[0, 0x900, 0, 4])
        .end()
        .finish();
    let console = Dtb::validate(&blob).unwrap().console().unwrap().unwrap();
    assert_eq!(
        (console.path, console.registers),
        ("serial0", range(0x900, 4))
    );
}

#[test]
fn initrd_without_an_end_is_rejected() {
    let blob = board()
        .begin("chosen")
        .cells("linux,initrd-start", &[1])
        .end()
        .finish();
    let error = DtbError::MissingProperty {
        node: "/chosen",
        property: "linux,initrd-end",
    };
    assert_eq!(Dtb::validate(&blob).unwrap().initrd(), Err(error));
}

#[test]
fn elf_core_header_alone_is_rejected() {
    let blob = board()
        .begin("chosen")
        .cells("linux,elfcorehdr", &[0, 0x5000, 0, 0x1000])
        .end()
        .finish();
    let dtb = Dtb::validate(&blob).unwrap();
    let property = "linux,usable-memory-range";
    assert_eq!(
        dtb.kdump_info(),
        Err(DtbError::MissingProperty {
            node: "/chosen",
            property
        })
    );
}

#[test]
fn usable_memory_that_is_empty_is_rejected() {
    let blob = board()
        .begin("chosen")
        .cells("linux,usable-memory-range", &[0, 1, 0, 0])
        .end()
        .finish();
    let error = Dtb::validate(&blob).unwrap().usable_memory().unwrap_err();
    assert!(matches!(
        error,
        DtbError::BadValue {
            property: "linux,usable-memory-range",
            ..
        }
    ));
}

#[test]
fn cpu_with_an_impossible_affinity_is_rejected() {
    let blob = board()
        .begin("cpus")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[0])
        .begin("cpu@80000000")
        .cells("reg", &[0x8000_0000])
        .end()
        .end()
        .finish();
    let error = Dtb::validate(&blob).unwrap().cpus::<4>().unwrap_err();
    assert!(matches!(
        error,
        DtbError::BadValue {
            property: "reg",
            ..
        }
    ));
}

#[test]
fn psci_with_an_unknown_method_is_rejected() {
    let blob = board()
        .begin("psci")
        .text("compatible", "arm,psci-0.2")
        .text("method", "svc")
        .end()
        .finish();
    let error = Dtb::validate(&blob).unwrap().psci().unwrap_err();
    assert!(matches!(
        error,
        DtbError::BadValue {
            property: "method",
            ..
        }
    ));
}

#[test]
fn error_text_names_offset_and_value() {
    let text = format!(
        "{}",
        DtbError::BadToken {
            offset: 0x40,
            token: 5
        }
    );
    assert_eq!(text, "token 0x5 at 0x40 does not belong there");
}
