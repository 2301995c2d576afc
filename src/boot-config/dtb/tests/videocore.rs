// SPDX-License-Identifier: MIT OR Apache-2.0
//! The VideoCore's mailbox, pins and framebuffers.

use super::*;
use crate::dtb::testing::{PI, PI_3, dtc};

fn blob(text: &str) -> Vec<u8> {
    dtc("dts", "dtb", text.as_bytes()).0
}

fn pi_3_with(from: &str, to: &str) -> Vec<u8> {
    let text = PI_3.replace(from, to);
    assert_ne!(text, PI_3);
    blob(&text)
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn mailbox_sees_memory_where_dma_ranges_puts_it() {
    let blobs = [blob(PI_3), blob(PI)];
    let of = |number: usize, buffer: PhysRange| {
        let dtb = Dtb::validate(&blobs[number]).unwrap();
        dtb.bcm2835_mailbox(&buffer).unwrap().unwrap()
    };
    let buffer = range(0x1234_0040, 0x40);
    assert_eq!(of(0, buffer).registers, range(0x3f00_b880, 0x40));
    assert_eq!(of(1, buffer).registers, range(0xfe00_b880, 0x40));
    let pi_3 = |start, len| of(0, range(start, len)).bus_address;
    let pi_4 = |start, len| of(1, range(start, len)).bus_address;
    assert_eq!(pi_3(0x1234_0040, 0x40), Some(0xd234_0040));
    assert_eq!(pi_4(0x1234_0040, 0x40), Some(0xd234_0040));
    // The last bytes that either passes on, and what begins there.
    assert_eq!(pi_4(0x3fff_ffc0, 0x40), Some(0xffff_ffc0));
    assert_eq!(pi_3(0x3eff_ffc0, 0x40), Some(0xfeff_ffc0));
    assert_eq!(pi_3(0x3eff_ffc0, 0x41), None);
    assert_eq!(pi_3(0x3f00_0000, 0x40), None);
    assert_eq!(pi_4(0x3fff_ffc0, 0x41), None);
    assert_eq!(pi_4(0x4000_0000, 0x40), None);
    assert_eq!(pi_4(0x1_0000_0000, 0x40), None);
    assert_eq!(pi_4(0x1000, 0), None);
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn bus_addresses_without_dma_ranges_are_the_manuals() {
    let property = "dma-ranges = <0xc0000000 0x0 0x3f000000>;";
    let of = |to: &str, buffer: &PhysRange| {
        let blob = pi_3_with(property, to);
        let mailbox = Dtb::validate(&blob).unwrap().bcm2835_mailbox(buffer);
        mailbox.map(|mailbox| mailbox.unwrap().bus_address)
    };
    let buffer = range(0x8_0000, 0x40);
    assert_eq!(of("", &buffer), Ok(Some(0xc008_0000)));
    assert_eq!(of("", &range(0x4000_0000, 0x40)), Ok(None));
    // The same on both sides.
    assert_eq!(of("dma-ranges;", &buffer), Ok(Some(0x8_0000)));
    // Its second window; and one that leads out of 32 bits.
    let two = "dma-ranges = <0x80000000 0x20000000 0x1000>, <0x40000000 0x0 0x10000000>;";
    assert_eq!(of(two, &buffer), Ok(Some(0x4008_0000)));
    let high = "dma-ranges = <0xfffffff0 0x80000 0x1000>;";
    assert_eq!(of(high, &buffer), Ok(None));
    let cut = of("dma-ranges = <0xc0000000 0x0>;", &buffer);
    assert!(matches!(cut, Err(DtbError::BadLength { .. })), "{cut:?}");
    // A tree that claims more than there is to be seen.
    let all = "dma-ranges = <0x0 0x0 0xfffffff0>;";
    assert_eq!(of(all, &range(0x4000_0000, 0x40)), Ok(None));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn pins_are_found_with_their_kind() {
    let blobs = [blob(PI_3), blob(PI)];
    let [pi_3, pi_4] = blobs
        .each_ref()
        .map(|blob| Dtb::validate(blob).unwrap().bcm2835_gpio());
    let at = |start, is_bcm2711| {
        Ok(Some(Bcm2835Gpio {
            registers: range(start, 0xb4),
            is_bcm2711,
        }))
    };
    assert_eq!(
        (pi_3, pi_4),
        (at(0x3f20_0000, false), at(0xfe20_0000, true))
    );
    let none = board().finish();
    let dtb = Dtb::validate(&none).unwrap();
    assert_eq!(dtb.bcm2835_gpio(), Ok(None));
    assert_eq!(dtb.bcm2835_mailbox(&range(0, 0x40)), Ok(None));
    dtb.each_other_memory(|it| panic!("{it:?}"));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn framebuffers_in_use_are_found() {
    let blob = blob(PI_3);
    let mut found = Vec::new();
    let dtb = Dtb::validate(&blob).unwrap();
    dtb.each_other_memory(|it| found.push(it));
    let one = OtherMemory {
        name: "framebuffer",
        is_framebuffer: true,
        range: Ok(range(0x3b80_0000, 0x7e_9000)),
    };
    assert_eq!(found, [one]);
    let blob = self::blob(PI);
    let mut found = Vec::new();
    let dtb = Dtb::validate(&blob).unwrap();
    dtb.each_other_memory(|it| found.push(it));
    let nvram = OtherMemory {
        name: "nvram",
        is_framebuffer: false,
        range: Ok(range(0x100_0000, 0x1000)),
    };
    assert_eq!(found, [nvram]);
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn framebuffers_that_are_none_are_told_or_left() {
    let of = |to: &str| {
        let blob = pi_3_with("reg = <0x3b800000 0x7e9000>;", to);
        let dtb = Dtb::validate(&blob).unwrap();
        let mut found = Vec::new();
        dtb.each_other_memory(|it| found.push(it.range.is_ok()));
        found
    };
    assert_eq!(of("reg = <0x3b800000 0>;"), [false]);
    assert_eq!(of("reg = <0x3b800000>;"), [false]);
    assert_eq!(
        of("reg = <0xffffff00 0x200>;"),
        [true],
        "an end of 64 bits is for the caller to judge"
    );
    // Its memory is one of /reserved-memory.
    assert_eq!(of("memory-region = <1>;"), []);
    assert_eq!(of("status = \"disabled\"; reg = <0 1>;"), []);
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn dma_writes_where_dma_ranges_leads() {
    let blobs = [blob(PI_3), blob(PI)];
    let [pi_3, pi_4] = blobs.each_ref().map(|blob| Dtb::validate(blob).unwrap());
    assert_eq!(pi_3.bcm2835_dma(), Ok(Some(range(0x3f00_7000, 0xf00))));
    assert_eq!(pi_4.bcm2835_dma(), Ok(Some(range(0xfe00_7000, 0xb00))));
    let target = range(0x10_0000, 0x1000);
    // Each of the four aliases is the same memory; one that a tree names is taken at its word.
    for bus in [0xc010_0000, 0x8010_0000, 0x4010_0000, 0x10_0000] {
        assert_eq!(
            pi_3.bcm2835_dma_target(bus, 0x1000),
            Ok(Some(target)),
            "{bus:#x}"
        );
    }
    assert_eq!(
        pi_4.bcm2835_dma_target(0xffff_f000, 0x1000),
        Ok(Some(range(0x3fff_f000, 0x1000)))
    );
    // Past the end of what it reaches; a device.
    assert_eq!(pi_4.bcm2835_dma_target(0xffff_f000, 0x1001), Ok(None));
    assert_eq!(pi_3.bcm2835_dma_target(0xff20_3004, 4), Ok(None));
    let none = board().finish();
    let dtb = Dtb::validate(&none).unwrap();
    assert_eq!(dtb.bcm2835_dma(), Ok(None));
    assert_eq!(dtb.bcm2835_dma_target(0xc010_0000, 4), Ok(None));
}

#[test]
#[cfg_attr(miri, ignore = "runs dtc")]
fn dma_ranges_that_are_cut_off_are_told() {
    let cut = "dma-ranges = <0xc0000000 0x0>;";
    let blob = pi_3_with("dma-ranges = <0xc0000000 0x0 0x3f000000>;", cut);
    let found = Dtb::validate(&blob)
        .unwrap()
        .bcm2835_dma_target(0xc010_0000, 4);
    assert!(
        matches!(found, Err(DtbError::BadLength { .. })),
        "{found:?}"
    );
}
