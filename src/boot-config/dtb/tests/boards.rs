// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole boards: what is read from them, and that mutations of them do no harm.

use super::*;
use crate::dtb::exercise::exercise;
use crate::dtb::testing::{PI, PI_3, PI_5, VIRT, dtc};
use crate::range::PhysAddr;
use crate::testing::config;
use proptest::prelude::*;
use std::sync::LazyLock;

static VIRT_BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| dtc("dts", "dtb", VIRT.as_bytes()).0);
static PI_BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| dtc("dts", "dtb", PI.as_bytes()).0);

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

static PI_3_BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| dtc("dts", "dtb", PI_3.as_bytes()).0);

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn pi_3_has_no_gic_but_two_controllers_of_its_own() {
    let dtb = Dtb::validate(&PI_3_BLOB).unwrap();
    assert_eq!(dtb.gic(), Ok(None));
    let controllers = Bcm2836 {
        local: range(0x4000_0000, 0x100),
        shared: Some(range(0x3f00_b200, 0x200)),
    };
    assert_eq!(dtb.bcm2836_interrupts(), Ok(Some(controllers)));
    let pm = range(0x3f10_0000, 0x114);
    assert_eq!(dtb.bcm2835_pm(), Ok(Some(pm)));
    let level = |intid| {
        Some(Interrupt {
            intid,
            trigger: Trigger::Level,
        })
    };
    assert_eq!(dtb.npcm_watchdog(), Ok(None));
    // QA7 rev3.4, section 4.6: sources 1 to 3 are the timers CNTPNS, CNTHP and CNTV.
    let timer = dtb.arch_timer().unwrap().unwrap();
    assert_eq!(
        (timer.physical, timer.virtual_, timer.hypervisor),
        (level(17), level(19), level(18))
    );
    let console = dtb.console().unwrap().unwrap();
    assert_eq!(console.model, UartModel::Bcm2835Aux);
    assert_eq!(console.registers, range(0x3f21_5040, 0x40));
    assert_eq!((console.baud, console.clock_hz), (Some(115_200), None));
    assert_eq!(console.interrupt, level(64 + 29));
    let pl011 = dtb.node("serial0").unwrap();
    assert_eq!(dtb.interrupt(&pl011, 0), Ok(level(96 + 25)));
    // Without stdout-path Linux's names lead to the same two.
    for (name, model) in [
        ("ttyS1", UartModel::Bcm2835Aux),
        ("ttyAMA0", UartModel::Pl011),
    ] {
        let arguments = std::format!("bootargs = \"console={name},115200\";");
        let text = PI_3.replace("stdout-path = \"serial1:115200n8\";", &arguments);
        let blob = dtc("dts", "dtb", text.as_bytes()).0;
        let console = Dtb::validate(&blob).unwrap().console().unwrap().unwrap();
        assert_eq!((console.model, console.path), (model, name));
    }
}

static PI_5_BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| dtc("dts", "dtb", PI_5.as_bytes()).0);

/// Reads from a tree of a Raspberry Pi 5 all that a kernel boots by.
fn assert_is_pi_5(blob: &[u8]) {
    let dtb = Dtb::validate(blob).unwrap();
    assert_eq!(dtb.model(), Some("Raspberry Pi 5"));
    assert_eq!(dtb.ram().unwrap().as_slice(), [range(0, 0x2800_0000)]);
    let atf = ReservedRegion {
        name: "atf@0",
        range: range(0, 0x8_0000),
        is_no_map: true,
    };
    assert!(dtb.reserved_memory().unwrap().iter().eq([atf]));
    let psci = Psci {
        conduit: Conduit::Smc,
        version: PsciVersion::V1_0,
    };
    assert_eq!(dtb.psci(), Ok(Some(psci)));
    let cpus = dtb.cpus::<8>().unwrap();
    let expected = [0, 0x100, 0x200, 0x300].map(|mpidr| Cpu {
        mpidr,
        enable_method: EnableMethod::Psci,
    });
    assert!(cpus.iter().eq(expected));
    let gic = Gic::V2 {
        distributor: range(0x10_7fff_9000, 0x1000),
        cpu_interface: range(0x10_7fff_a000, 0x2000),
    };
    assert_eq!(dtb.gic(), Ok(Some(gic)));
    // The block is there, and interrupts go to the GIC.
    assert_eq!(dtb.bcm2836_interrupts(), Ok(None));
    assert_eq!(dtb.bcm2835_pm(), Ok(None));
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
    assert_eq!(console.model, UartModel::Pl011);
    assert_eq!(console.registers, range(0x10_7d00_1000, 0x200));
    assert_eq!(
        (console.baud, console.clock_hz),
        (Some(115_200), Some(9_216_000))
    );
    assert_eq!(console.interrupt, level(32 + 121));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn pi_5_has_all_that_its_kernel_needs_in_its_tree() {
    assert_is_pi_5(&PI_5_BLOB);
}

#[test]
#[cfg_attr(miri, ignore = "reads a file")]
fn pi_5_is_read_from_debians_own_tree() {
    // Fetched by `scripts/test`; the portable crates are tested without it, too.
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/device-trees/bcm2712-rpi-5-b.dtb"
    );
    match std::fs::read(path) {
        Ok(blob) => assert_is_pi_5(&blob),
        Err(error) => std::println!("NOT RUN: {path}: {error}"),
    }
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn interrupts_that_a_bcm2836_does_not_have_are_rejected() {
    for (from, to) in [
        ("interrupts = <1 29>;", "interrupts = <1 32>;"),
        ("interrupts = <1 29>;", "interrupts = <3 0>;"),
        ("interrupts = <1 29>;", "interrupts = <1 29 4>;"),
        (
            "interrupts = <1 29>;",
            "interrupts-extended = <&local 16 4>;",
        ),
    ] {
        let blob = dtc("dts", "dtb", PI_3.replace(from, to).as_bytes()).0;
        let dtb = Dtb::validate(&blob).unwrap();
        let node = dtb.node("serial1").unwrap();
        assert!(dtb.interrupt(&node, 0).is_err(), "{to}");
        // A console must not fail for it.
        assert_eq!(dtb.console().unwrap().unwrap().interrupt, None, "{to}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn local_controller_that_is_none_any_more_is_left_alone() {
    // As in bcm2711.dtsi: the block is there, for its mailboxes, and interrupts go to the GIC.
    let node =
        "local@40000000 { compatible = \"brcm,bcm2836-l1-intc\"; reg = <0x40000000 0x100>; };";
    let text = PI.replace("gic:", &std::format!("{node} gic:"));
    let blob = dtc("dts", "dtb", text.as_bytes()).0;
    assert_eq!(Dtb::validate(&blob).unwrap().bcm2836_interrupts(), Ok(None));
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

proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: if cfg!(miri) { 4 } else { 2048 },
        ..config()
    })]

    #[test]
    #[cfg_attr(miri, ignore = "runs dtc")]
    fn mutated_boards_neither_panic_nor_hang(
        board in 0..4_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut blob = [&VIRT_BLOB, &PI_BLOB, &PI_3_BLOB, &PI_5_BLOB][board].to_vec();
        for (index, byte) in changes {
            *index.get_mut(&mut blob[..]) = byte;
        }
        exercise(&blob);
    }

    #[test]
    #[cfg_attr(miri, ignore = "runs dtc")]
    fn boards_with_mutated_cells_neither_panic_nor_hang(
        board in 0..4_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0_u32..12), 1..4),
    ) {
        let mut blob = [&VIRT_BLOB, &PI_BLOB, &PI_3_BLOB, &PI_5_BLOB][board].to_vec();
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
