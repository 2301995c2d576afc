// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the memory map and of the placement rules.

use super::*;
use crate::dtb::testing::Blob;
use crate::testing::config;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::from_len(start, len).unwrap()
}

fn map(blob: Blob) -> MemoryMap {
    MemoryMap::from_dtb(&Dtb::validate(&blob.finish()).unwrap()).unwrap()
}

/// A board with 128 MiB at 1 GiB, as QEMU's `virt`.
fn small() -> MemoryMap {
    map(Blob::new().two_cells().memory(GIB, 128 * MIB))
}

/// A board with 3 GiB at 1 GiB and 4 GiB above 4 GiB.
fn large() -> MemoryMap {
    map(Blob::new()
        .two_cells()
        .memory(GIB, 3 * GIB)
        .memory(4 * GIB, 4 * GIB))
}

fn high(size: u64, low_size: u64) -> CrashKernel {
    CrashKernel {
        is_high: true,
        low_size,
        ..CrashKernel::automatic(size)
    }
}

fn fixed(size: u64, base: u64) -> CrashKernel {
    CrashKernel {
        base: Some(base),
        ..CrashKernel::automatic(size)
    }
}

#[test]
fn everything_reserved_is_taken_out() {
    let blob = Blob::new()
        .reserve(GIB, 0x1000)
        .two_cells()
        .memory(GIB, 128 * MIB)
        .begin("reserved-memory")
        .two_cells()
        .begin("fw@42000000")
        .cells("reg", &[0, 0x4200_0000, 0, 0x10_0000])
        .bytes("no-map", &[])
        .end()
        .end()
        .begin("chosen")
        .cells("linux,initrd-start", &[0x4400_0000])
        .cells("linux,initrd-end", &[0x4410_0000])
        .end();
    let map = map(blob);
    assert_eq!(map.total_ram(), 128 * MIB);
    assert_eq!(map.mappable().total_bytes(), 127 * MIB);
    let free = [
        range(0x4000_1000, 0x1ff_f000),
        range(0x4210_0000, 31 * MIB),
        range(0x4410_0000, 63 * MIB),
    ];
    assert_eq!(map.free().as_slice(), free);
}

#[test]
fn automatic_region_is_the_highest_below_4_gib() {
    let placed = small()
        .place_crash_region(&CrashKernel::automatic(2 * MIB))
        .unwrap();
    assert_eq!(
        placed,
        CrashPlacement {
            region: range(GIB + 126 * MIB, 2 * MIB),
            low: None
        }
    );
    let placed = large()
        .place_crash_region(&CrashKernel::automatic(2 * MIB))
        .unwrap();
    assert_eq!(placed.region.end, 4 * GIB);
}

#[test]
fn automatic_region_avoids_what_is_reserved() {
    let mut map = small();
    map.reserve(range(GIB + 127 * MIB, 4096)).unwrap();
    let placed = map
        .place_crash_region(&CrashKernel::automatic(2 * MIB))
        .unwrap();
    assert_eq!(placed.region, range(GIB + 124 * MIB, 2 * MIB));
}

#[test]
fn size_is_rounded_up_to_2_mib() {
    let placed = small()
        .place_crash_region(&CrashKernel::automatic(MIB + 1))
        .unwrap();
    assert_eq!(placed.region.len(), 2 * MIB);
}

#[test]
fn automatic_region_too_large_below_goes_above_with_a_low_one() {
    let placed = large()
        .place_crash_region(&CrashKernel::automatic(3 * GIB + 2 * MIB))
        .unwrap();
    assert_eq!(placed.region.end, 8 * GIB);
    assert_eq!(placed.low, Some(range(4 * GIB - 128 * MIB, 128 * MIB)));
}

#[test]
fn high_region_goes_above_4_gib() {
    let placed = large()
        .place_crash_region(&high(256 * MIB, 64 * MIB))
        .unwrap();
    assert_eq!(placed.region, range(8 * GIB - 256 * MIB, 256 * MIB));
    assert_eq!(placed.low, Some(range(4 * GIB - 64 * MIB, 64 * MIB)));
    let placed = large().place_crash_region(&high(256 * MIB, 0)).unwrap();
    assert_eq!(placed.low, None);
}

#[test]
fn high_region_falls_back_below_4_gib() {
    let placed = small()
        .place_crash_region(&high(2 * MIB, 64 * MIB))
        .unwrap();
    assert_eq!(
        placed,
        CrashPlacement {
            region: range(GIB + 126 * MIB, 2 * MIB),
            low: None
        }
    );
}

/// A map of 8 GiB whose bus has this `dma-ranges`: child, parent and size of two, two and one cells.
fn limited(dma_ranges: &[u32]) -> MemoryMap {
    map(Blob::new()
        .two_cells()
        .memory(0, 8 * GIB)
        .begin("soc")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1])
        .cells("dma-ranges", dma_ranges)
        .end())
}

#[test]
fn automatic_region_lies_where_every_device_reaches_it() {
    let place = |dma_ranges: &[u32]| {
        let placed = limited(dma_ranges).place_crash_region(&CrashKernel::automatic(2 * MIB));
        placed.unwrap().region.end
    };
    // A Raspberry Pi 4's; two windows, of which the higher one counts.
    assert_eq!(place(&[0xc000_0000, 0, 0, 0x4000_0000]), GIB);
    let two = [
        0,
        0,
        0,
        0x2000_0000,
        0x2000_0000,
        0,
        0x2000_0000,
        0x1000_0000,
    ];
    assert_eq!(place(&two), 768 * MIB);
    // None that limits, too little RAM to be true, and what cannot be read.
    assert_eq!(place(&[]), 4 * GIB);
    assert_eq!(place(&[0, 1, 0, 0x4000_0000]), 4 * GIB);
    assert_eq!(place(&[0, 0, 0, 0x10_0000]), 4 * GIB);
    assert_eq!(place(&[0, 0, 0, 0]), 4 * GIB);
    assert_eq!(place(&[0, 0, 0]), 4 * GIB);
    assert_eq!(place(&[0, 0xffff_ffff, 0xffff_ffff, 0x4000_0000]), 4 * GIB);
}

#[test]
fn region_too_large_for_what_devices_reach_goes_above_with_a_low_one() {
    let map = limited(&[0xc000_0000, 0, 0, 0x4000_0000]);
    let placed = map
        .place_crash_region(&CrashKernel::automatic(2 * GIB))
        .unwrap();
    assert_eq!(placed.region.end, 8 * GIB);
    assert_eq!(placed.low, Some(range(GIB - 128 * MIB, 128 * MIB)));
}

#[test]
fn ram_all_above_4_gib_counts_as_low() {
    let map = map(Blob::new().two_cells().memory(8 * GIB, GIB));
    let placed = map
        .place_crash_region(&CrashKernel::automatic(2 * MIB))
        .unwrap();
    assert_eq!(
        placed,
        CrashPlacement {
            region: range(9 * GIB - 2 * MIB, 2 * MIB),
            low: None
        }
    );
}

#[test]
fn fixed_region_is_taken_as_it_is() {
    let placed = small()
        .place_crash_region(&fixed(2 * MIB, GIB + 64 * MIB))
        .unwrap();
    assert_eq!(placed.region, range(GIB + 64 * MIB, 2 * MIB));
}

#[test]
fn fixed_region_in_use_is_rejected() {
    let mut map = small();
    map.reserve(range(GIB + 65 * MIB, 1)).unwrap();
    let region = range(GIB + 64 * MIB, 2 * MIB);
    let result = map.place_crash_region(&fixed(2 * MIB, GIB + 64 * MIB));
    assert_eq!(result, Err(PlacementError::BaseTaken { region }));
}

#[test]
fn fixed_region_outside_ram_is_rejected() {
    let result = small().place_crash_region(&fixed(2 * MIB, 2 * MIB));
    let region = range(2 * MIB, 2 * MIB);
    assert_eq!(result, Err(PlacementError::BaseNotRam { region }));
}

#[test]
fn fixed_base_not_aligned_is_rejected() {
    let result = small().place_crash_region(&fixed(2 * MIB, GIB + MIB));
    assert_eq!(
        result,
        Err(PlacementError::BaseMisaligned { base: GIB + MIB })
    );
}

#[test]
fn region_without_room_is_rejected() {
    let result = small().place_crash_region(&CrashKernel::automatic(128 * MIB + 1));
    assert_eq!(result, Err(PlacementError::NoRoom { size: 130 * MIB }));
}

#[test]
fn low_region_without_room_is_rejected() {
    let result = large().place_crash_region(&high(2 * MIB, 3 * GIB + 1));
    assert_eq!(result, Err(PlacementError::NoLowRoom { size: 3 * GIB + 1 }));
}

#[test]
fn region_of_impossible_size_is_rejected() {
    let result = small().place_crash_region(&CrashKernel::automatic(u64::MAX));
    assert_eq!(result, Err(PlacementError::SizeTooLarge { size: u64::MAX }));
    let result = small().place_crash_region(&fixed(4 * MIB, u64::MAX - 2 * MIB + 1));
    assert_eq!(result, Err(PlacementError::SizeTooLarge { size: 4 * MIB }));
}

#[test]
fn disabled_request_is_rejected() {
    let result = small().place_crash_region(&CrashKernel::automatic(0));
    assert_eq!(result, Err(PlacementError::SizeZero));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_placement_is_free_aligned_and_large_enough(
        size in 1_u64..1 << 33,
        taken in proptest::collection::vec((0_u64..8 * GIB, 0_u64..GIB), 0..8),
        is_high in any::<bool>(),
    ) {
        let mut map = large();
        for (start, len) in taken {
            map.reserve(range(start, len)).unwrap();
        }
        let request = CrashKernel { is_high, low_size: MIB, ..CrashKernel::automatic(size) };
        if let Ok(placed) = map.place_crash_region(&request) {
            prop_assert!(map.free().contains_range(&placed.region));
            prop_assert!(placed.region.start.is_multiple_of(CRASH_ALIGN));
            prop_assert!(placed.region.len() >= size);
            if let Some(low) = placed.low {
                prop_assert!(map.free().contains_range(&low));
                prop_assert!(!low.overlaps(&placed.region));
            }
        }
    }
}

#[test]
fn ram_above_a_limit_is_forgotten_and_named() {
    let mut map = large();
    let top = map.ram().iter().next_back().unwrap();
    let middle = top.start + 0x1000;
    assert_eq!(
        map.limit(middle),
        Some(PhysRange {
            start: middle,
            end: top.end
        })
    );
    assert_eq!(map.ram().iter().next_back().unwrap().end, middle);
    assert!(!map.free().overlaps(&PhysRange {
        start: middle,
        end: top.end
    }));
    assert_eq!(map.limit(middle), None);
}

#[test]
fn framebuffer_is_not_free_and_one_that_cannot_be_takes_nothing() {
    let blob = |start: u32, len: u32| {
        let blob = Blob::new().two_cells().memory(0x4000_0000, 0x800_0000);
        let chosen = blob.begin("chosen").two_cells().bytes("ranges", &[]);
        let node = chosen
            .begin("framebuffer@0")
            .text("compatible", "simple-framebuffer")
            .cells("reg", &[0, start, 0, len]);
        node.end().end().finish()
    };
    let free = |start, len| {
        let blob = blob(start, len);
        let map = MemoryMap::from_dtb(&Dtb::validate(&blob).unwrap()).unwrap();
        map.free().total_bytes()
    };
    let all = 0x800_0000;
    assert_eq!(free(0x4100_0000, 0x10_0000), all - 0x10_0000);
    assert_eq!(free(0x9000_0000, 0x10_0000), all);
    assert_eq!(free(0x4000_0000, 0x800_0000), all);
    assert_eq!(free(0x4100_0000, 0), all);
}
