// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of reading whole boards, and of blobs that nothing can be done with.

use super::exercise::exercise;
use super::testing::{Blob, PI, VIRT, config, dtc};
use super::*;
use crate::range::{PhysAddr, PhysRange, RangeError};
use proptest::prelude::*;
use std::format;
use std::sync::LazyLock;
use std::vec::Vec;

static VIRT_BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| dtc("dts", "dtb", VIRT.as_bytes()).0);
static PI_BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| dtc("dts", "dtb", PI.as_bytes()).0);

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::from_len(start, len).unwrap()
}

/// A blob of one root node with two-cell addresses and RAM, for tests that add what is wrong.
fn board() -> Blob {
    Blob::new().two_cells().memory(0x4000_0000, 0x800_0000)
}

fn rejected(blob: Vec<u8>) -> DtbError {
    Dtb::validate(&blob).unwrap_err()
}

fn patched(offset: usize, word: u32) -> Vec<u8> {
    let mut blob = board().finish();
    blob[offset..offset + 4].copy_from_slice(&word.to_be_bytes());
    blob
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn virt_board_is_read() {
    let dtb = Dtb::validate(&VIRT_BLOB).unwrap();
    assert_eq!(dtb.model(), Some("linux,dummy-virt"));
    assert!(dtb.is_compatible("linux,dummy-virt"));
    assert_eq!(
        dtb.ram().unwrap().as_slice(),
        [range(0x4000_0000, 0x800_0000)]
    );
    assert_eq!(dtb.boot_args(), b"crashkernel=2M lkdtm=PANIC");
    assert_eq!(dtb.initrd(), Ok(Some(range(0x4800_0000, 0x10_0000))));
    assert_eq!(dtb.kdump_info(), Ok(None));
    let psci = Psci {
        conduit: Conduit::Hvc,
        version: PsciVersion::V1_0,
    };
    assert_eq!(dtb.psci(), Ok(Some(psci)));
    let gic = Gic::V2 {
        distributor: range(0x800_0000, 0x1_0000),
        cpu_interface: range(0x801_0000, 0x1_0000),
    };
    assert_eq!(dtb.gic(), Ok(Some(gic)));
    let level = |intid| {
        Some(Interrupt {
            intid,
            trigger: Trigger::Level,
        })
    };
    let timer = dtb.arch_timer().unwrap().unwrap();
    assert_eq!(
        (timer.physical, timer.virtual_, timer.hypervisor),
        (level(30), level(27), level(26))
    );
    let console = dtb.console().unwrap().unwrap();
    assert!(console.is_compatible("arm,pl011"));
    assert_eq!(console.registers, range(0x900_0000, 0x1000));
    assert_eq!((console.baud, console.clock_hz), (None, Some(24_000_000)));
    assert_eq!(console.interrupt, level(33));
    let cpus = dtb.cpus::<8>().unwrap();
    let expected = [0, 1].map(|mpidr| Cpu {
        mpidr,
        enable_method: EnableMethod::Psci,
    });
    assert!(cpus.iter().eq(expected));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn pi_board_is_read_through_its_bus() {
    let dtb = Dtb::validate(&PI_BLOB).unwrap();
    let ram = [
        range(0, 0x3c00_0000),
        range(0x4000_0000, 0x8000_0000),
        range(1 << 32, 1 << 32),
    ];
    assert_eq!(dtb.ram().unwrap().as_slice(), ram);
    assert!(dtb.memory_reservations().eq([Ok(range(0, 0x1000))]));
    let nvram = ReservedRegion {
        name: "nvram@1000000",
        range: range(0x100_0000, 0x1000),
        is_no_map: true,
    };
    assert!(dtb.reserved_memory().unwrap().iter().eq([nvram]));
    let console = dtb.console().unwrap().unwrap();
    assert_eq!(
        (console.path, console.options, console.baud),
        ("serial0", "115200n8", Some(115_200))
    );
    assert_eq!(console.registers, range(0xfe20_1000, 0x200));
    assert_eq!(
        console.interrupt.map(|interrupt| interrupt.intid),
        Some(153)
    );
    let gic = Gic::V2 {
        distributor: range(0xff84_1000, 0x1000),
        cpu_interface: range(0xff84_2000, 0x2000),
    };
    assert_eq!(dtb.gic(), Ok(Some(gic)));
    let cpus = dtb.cpus::<1>().unwrap();
    let release = PhysAddr(0xd8);
    let first = Cpu {
        mpidr: 0,
        enable_method: EnableMethod::SpinTable { release },
    };
    assert_eq!((cpus.first(), cpus.missed()), (Some(first), 1));
    assert_eq!(dtb.psci(), Ok(None));
}

#[test]
fn gic_v3_with_two_redistributor_regions_is_read() {
    let blob = board()
        .begin("intc@8000000")
        .text("compatible", "arm,gic-v3")
        .cells("#redistributor-regions", &[2])
        .cells(
            "reg",
            &[
                0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x20_0000, 1, 0, 0, 0x2_0000,
            ],
        )
        .end()
        .finish();
    let Some(Gic::V3 {
        distributor,
        redistributors,
    }) = Dtb::validate(&blob).unwrap().gic().unwrap()
    else {
        panic!("a GICv3 is there");
    };
    assert_eq!(distributor, range(0x800_0000, 0x1_0000));
    assert!(
        redistributors
            .iter()
            .eq([range(0x80a_0000, 0x20_0000), range(1 << 32, 0x2_0000)])
    );
}

#[test]
fn blob_in_a_longer_slice_is_cut_to_its_size() {
    let mut blob = board().finish();
    let len = blob.len();
    blob.resize(len + 4096, 0xff);
    assert_eq!(Dtb::validate(&blob).unwrap().as_bytes().len(), len);
    assert_eq!(Dtb::peek_total_size(&blob[..8]), Ok(len as u32));
}

#[test]
fn something_else_is_rejected() {
    assert_eq!(rejected(std::vec![0; 64]), DtbError::NotADtb { found: 0 });
    assert_eq!(
        rejected(b"\x7fELF".to_vec()),
        DtbError::NotADtb { found: 0x7f45_4c46 }
    );
    assert_eq!(
        rejected(Vec::new()),
        DtbError::Truncated { needed: 8, len: 0 }
    );
}

#[test]
fn every_truncation_is_rejected() {
    let blob = board().finish();
    let accepted = (0..blob.len())
        .filter(|len| Dtb::validate(&blob[..*len]).is_ok())
        .count();
    assert_eq!(accepted, 0);
    let (needed, len) = (blob.len(), blob.len() - 1);
    assert_eq!(
        rejected(blob[..len].to_vec()),
        DtbError::Truncated { needed, len }
    );
}

#[test]
fn total_size_that_lies_is_rejected() {
    let needed = 0x1000;
    let len = board().finish().len();
    assert_eq!(
        rejected(patched(4, 0x1000)),
        DtbError::Truncated { needed, len }
    );
    assert_eq!(
        rejected(patched(4, 39)),
        DtbError::TotalSize { total_size: 39 }
    );
    assert_eq!(
        rejected(patched(4, u32::MAX)),
        DtbError::TotalSize {
            total_size: u32::MAX
        }
    );
    let short = len as u32 - 4;
    assert!(matches!(
        rejected(patched(4, short)),
        DtbError::BlockBounds {
            block: Block::Strings,
            ..
        }
    ));
}

#[test]
fn version_16_is_rejected() {
    let error = DtbError::Version {
        version: 16,
        last_compatible: 16,
    };
    assert_eq!(rejected(patched(20, 16)), error);
    let error = DtbError::Version {
        version: 17,
        last_compatible: 18,
    };
    assert_eq!(rejected(patched(24, 18)), error);
}

#[test]
fn block_outside_the_blob_is_rejected() {
    let is_bounds =
        |error, wanted| matches!(error, DtbError::BlockBounds { block, .. } if block == wanted);
    assert!(is_bounds(rejected(patched(8, 2)), Block::Structure));
    assert!(is_bounds(rejected(patched(36, u32::MAX)), Block::Structure));
    assert!(is_bounds(
        rejected(patched(12, 0xffff_fff0)),
        Block::Strings
    ));
    assert!(is_bounds(
        rejected(patched(16, 44)),
        Block::MemoryReservations
    ));
}

#[test]
fn reservations_without_an_end_are_rejected() {
    let mut blob = board().finish();
    let at_the_end = (blob.len() / 8 * 8) as u32;
    blob[16..20].copy_from_slice(&at_the_end.to_be_bytes());
    assert_eq!(rejected(blob), DtbError::ReservationsUnterminated);
}

#[test]
fn structure_without_an_end_is_rejected() {
    let blob = Blob::new().end().assemble();
    let offset = blob.len();
    assert_eq!(rejected(blob), DtbError::BadEnd { offset });
}

#[test]
fn structure_that_goes_on_after_its_end_is_rejected() {
    let blob = Blob::new().end().token(9).token(4).assemble();
    let offset = blob.len() - 8;
    assert_eq!(rejected(blob), DtbError::BadEnd { offset });
}

#[test]
fn token_that_does_not_belong_there_is_rejected() {
    // The structure block begins at 56: header 40, one terminator 16; the root takes 8 bytes.
    let misplaced = |blob: Blob, offset, token| {
        assert_eq!(
            rejected(blob.assemble()),
            DtbError::BadToken { offset, token }
        );
    };
    misplaced(Blob::new().token(5), 64, 5);
    misplaced(Blob::new().token(9), 64, 9);
    misplaced(Blob::new().end().end(), 68, 2);
    misplaced(Blob::new().end().begin(""), 68, 1);
    misplaced(Blob::new().begin("a").end().cells("late", &[1]), 76, 3);
}

#[test]
fn node_name_with_a_slash_is_rejected() {
    let blob = Blob::new().begin("a/b").end().finish();
    assert_eq!(rejected(blob), DtbError::BadNodeName { offset: 68 });
}

#[test]
fn node_without_a_name_is_rejected() {
    let blob = Blob::new().begin("").end().finish();
    assert_eq!(rejected(blob), DtbError::BadNodeName { offset: 64 });
}

#[test]
fn property_beyond_the_structure_block_is_rejected() {
    let blob = Blob::new()
        .cells("name", &[])
        .token(3)
        .token(0x1000)
        .token(0)
        .finish();
    assert_eq!(
        rejected(blob),
        DtbError::PropertyTooLong {
            offset: 76,
            len: 0x1000
        }
    );
}

#[test]
fn property_name_outside_the_strings_is_rejected() {
    let blob = Blob::new().token(3).token(0).token(99).finish();
    assert_eq!(
        rejected(blob),
        DtbError::BadPropertyName {
            offset: 64,
            name_offset: 99
        }
    );
}

#[test]
fn nodes_nested_too_deep_are_rejected() {
    let nest = |levels: usize| {
        let open = (0..levels).fold(Blob::new(), |blob, _| blob.begin("n"));
        (0..levels).fold(open, |blob, _| blob.end()).finish()
    };
    assert!(Dtb::validate(&nest(MAX_DEPTH - 1)).is_ok());
    assert!(matches!(
        rejected(nest(MAX_DEPTH)),
        DtbError::TooDeep { .. }
    ));
}

#[test]
fn name_of_more_than_31_characters_is_accepted() {
    let name = "arm,cpu-registers-not-fw-configured";
    let blob = board().bytes(name, &[]);
    // The property comes after a child; put it into a node of its own.
    assert!(Dtb::validate(&blob.finish()).is_err());
    let blob = board().begin("timer").bytes(name, &[]).end().finish();
    let dtb = Dtb::validate(&blob).unwrap();
    assert_eq!(dtb.node("/timer").unwrap().property(name), Some(&[][..]));
}

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

proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: if cfg!(miri) { 4 } else { 2048 },
        ..config()
    })]

    #[test]
    #[cfg_attr(miri, ignore = "runs dtc")]
    fn mutated_boards_neither_panic_nor_hang(
        is_pi in any::<bool>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut blob = if is_pi { PI_BLOB.clone() } else { VIRT_BLOB.clone() };
        for (index, byte) in changes {
            *index.get_mut(&mut blob[..]) = byte;
        }
        exercise(&blob);
    }

    #[test]
    #[cfg_attr(miri, ignore = "runs dtc")]
    fn boards_with_mutated_cells_neither_panic_nor_hang(
        is_pi in any::<bool>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0_u32..12), 1..4),
    ) {
        let mut blob = if is_pi { PI_BLOB.clone() } else { VIRT_BLOB.clone() };
        for (index, cell) in changes {
            let at = index.index(blob.len() / 4) * 4;
            blob[at..at + 4].copy_from_slice(&cell.to_be_bytes());
        }
        exercise(&blob);
    }

    #[test]
    fn any_bytes_after_a_header_neither_panic_nor_hang(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut blob = board().finish();
        let at = blob.len() - body.len().min(blob.len() - 40);
        let len = blob.len() - at;
        blob[at..].copy_from_slice(&body[..len]);
        exercise(&blob);
    }
}
