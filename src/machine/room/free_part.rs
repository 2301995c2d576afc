// SPDX-License-Identifier: MIT OR Apache-2.0
//! The free part of the crash region, as the capture kernel's DTB says it.
//!
//! Free is what of `linux,usable-memory-range` is RAM and neither Image, DTB, initrd nor ELF core header, nor reserved
//! (the supervisor area of our own system kernel is).

use boot_config::memory_map::MAX_FREE_RANGES;
use boot_config::{Dtb, MemoryMap, PhysRange, RangeSet};

use crate::layout::{BLOCK_SIZE, PAGE_SIZE, PHYSICAL_LIMIT};

/// The most of a crash region that is used, in bytes: page tables and the time to clean it are bounded.
const MAX_ROOM: u64 = 64 << 20;

/// The largest free part of the usable range that holds `image`, in whole pages, at most [`MAX_ROOM`]; `taken` is what the DTB's
/// reservations do not say. `None` when there is none, or the DTB is broken.
///
/// A `linux,usable-memory-range` that does not hold the running image may be stale, and its memory the crashed kernel's: it is not
/// touched.
pub(crate) fn free_part(dtb: &Dtb<'_>, image: PhysRange, taken: &[PhysRange]) -> Option<PhysRange> {
    let usable = dtb.usable_memory().ok()?;
    let region = usable.iter().find(|range| range.contains_range(&image))?;
    let mut map = MemoryMap::from_dtb(dtb).ok()?;
    for range in taken {
        map.reserve(*range).ok()?;
    }
    map.reserve(image).ok()?;
    largest_part(map.free(), region)
}

/// The largest range of whole pages that is free and in `region`, cut to [`MAX_ROOM`].
fn largest_part(free: &RangeSet<MAX_FREE_RANGES>, region: PhysRange) -> Option<PhysRange> {
    let part = free
        .iter()
        .filter_map(|range| range.intersect(&region)?.align_inward(PAGE_SIZE).ok()?)
        .max_by_key(PhysRange::len)
        .filter(|part| part.end <= PHYSICAL_LIMIT && !part.is_empty())?;
    PhysRange::from_len(part.start, part.len().min(MAX_ROOM)).ok()
}

/// Addresses at which `part` is tried before it is used: one in each block, and the last page.
pub(crate) fn probes(part: PhysRange) -> impl Iterator<Item = u64> {
    (part.start..part.end)
        .step_by(BLOCK_SIZE as usize)
        .chain(core::iter::once(part.end.saturating_sub(PAGE_SIZE)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use boot_config::dtb::edit::{CaptureDtb, Edits, Value};
    use std::vec::Vec;

    /// A region of 16 MiB as kexec and our own kernel lay it out: Image, ELF core header, DTB, free, supervisor area.
    const REGION: PhysRange = PhysRange {
        start: 0x4700_0000,
        end: 0x4800_0000,
    };
    const IMAGE: PhysRange = PhysRange {
        start: 0x4700_0000,
        end: 0x4714_8000,
    };
    const CORE_HEADER: PhysRange = PhysRange {
        start: 0x4714_8000,
        end: 0x4714_a000,
    };
    const BLOB: PhysRange = PhysRange {
        start: 0x4714_a000,
        end: 0x4714_c123,
    };
    const SUPERVISOR: PhysRange = PhysRange {
        start: 0x47ff_0000,
        end: 0x4800_0000,
    };

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(start, end).unwrap()
    }

    /// A blob with an empty root node (Devicetree Specification v0.4, section 5).
    fn empty_blob() -> Vec<u8> {
        let words: [u32; 20] = [
            0xd00d_feed,
            80, // totalsize
            56, // off_dt_struct
            80, // off_dt_strings
            40, // off_mem_rsvmap
            17, // version
            16, // last_comp_version
            0,
            0,  // size_dt_strings
            24, // size_dt_struct
            0,
            0,
            0,
            0, // end of reservations
            1,
            0, // the root
            4,
            4, // two NOPs
            2,
            9,
        ];
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// What [`free_part`] finds in the DTB of a machine with 128 MiB of RAM.
    fn part_of(capture: &CaptureDtb<'_>, image: PhysRange) -> Option<PhysRange> {
        let empty = empty_blob();
        let (mut machine, mut edited) = ([0; 4096], [0; 4096]);
        let reg = Value::Ranges {
            ranges: &[range(0x4000_0000, 0x4800_0000)],
            address_cells: 2,
            size_cells: 2,
        };
        Edits::new()
            .set("/", "#address-cells", Value::Cell(2))
            .set("/", "#size-cells", Value::Cell(2))
            .set("/memory@40000000", "device_type", Value::Text(b"memory"))
            .set("/memory@40000000", "reg", reg)
            .apply(&Dtb::validate(&empty).unwrap(), &mut machine)
            .unwrap();
        capture
            .write(&Dtb::validate(&machine).unwrap(), &mut edited)
            .unwrap();
        free_part(
            &Dtb::validate(&edited).unwrap(),
            image,
            &[BLOB, CORE_HEADER],
        )
    }

    fn capture<'a>(usable: &'a [PhysRange], reservations: &'a [PhysRange]) -> CaptureDtb<'a> {
        CaptureDtb {
            usable_memory: usable,
            elf_core_header: CORE_HEADER,
            boot_args: b"",
            initrd: None,
            reservations,
        }
    }

    #[test]
    fn part_lies_between_dtb_and_supervisor_area() {
        let found = part_of(&capture(&[REGION], &[SUPERVISOR]), IMAGE);
        assert_eq!(found, Some(range(0x4714_d000, 0x47ff_0000)));
    }

    #[test]
    fn initrd_in_the_region_is_left_out() {
        let mut capture = capture(&[REGION], &[SUPERVISOR]);
        capture.initrd = Some(range(0x4720_0800, 0x4790_0800));
        assert_eq!(
            part_of(&capture, IMAGE),
            Some(range(0x4790_1000, 0x47ff_0000))
        );
    }

    #[test]
    fn usable_range_without_the_running_image_is_not_touched() {
        let stale = range(0x4400_0000, 0x4600_0000);
        assert_eq!(part_of(&capture(&[stale], &[]), IMAGE), None);
        assert_eq!(part_of(&capture(&[], &[]), IMAGE), None);
    }

    #[test]
    fn usable_range_beyond_ram_is_cut() {
        let region = range(0x4700_0000, 0x5000_0000);
        assert_eq!(
            part_of(&capture(&[region], &[]), IMAGE),
            Some(range(0x4714_d000, 0x4800_0000))
        );
    }

    #[test]
    fn reserved_region_has_no_part() {
        assert_eq!(part_of(&capture(&[REGION], &[REGION]), IMAGE), None);
    }

    #[test]
    fn image_that_fills_its_region_leaves_no_part() {
        let region = range(0x4700_0000, 0x4720_0000);
        let header_and_blob_in_the_tail = range(0x4700_0000, 0x471f_f800);
        assert_eq!(
            part_of(&capture(&[region], &[]), header_and_blob_in_the_tail),
            None
        );
    }

    fn free(ranges: &[(u64, u64)]) -> RangeSet<MAX_FREE_RANGES> {
        let mut set = RangeSet::new();
        for (start, end) in ranges {
            set.insert(range(*start, *end)).unwrap();
        }
        set
    }

    #[test]
    fn part_is_cut_to_whole_pages_and_to_the_region() {
        let free = free(&[(0x4000_0000, 0x5000_0000)]);
        assert_eq!(
            largest_part(&free, range(0x4000_0001, 0x4000_3fff)),
            Some(range(0x4000_1000, 0x4000_3000))
        );
    }

    #[test]
    fn part_longer_than_the_bound_is_cut() {
        let free = free(&[(0x4000_0000, 0x8000_0000)]);
        assert_eq!(
            largest_part(&free, range(0x4020_0000, 0x8000_0000)),
            Some(range(0x4020_0000, 0x4420_0000))
        );
    }

    #[test]
    fn region_without_free_page_has_no_part() {
        let free = free(&[(0x4000_0800, 0x4000_1800), (0x9000_0000, 0x9100_0000)]);
        assert_eq!(largest_part(&free, range(0x4000_0000, 0x4200_0000)), None);
    }

    #[test]
    fn part_that_cannot_be_mapped_is_refused() {
        let free = free(&[(PHYSICAL_LIMIT, PHYSICAL_LIMIT + 0x10_0000)]);
        assert_eq!(
            largest_part(&free, range(PHYSICAL_LIMIT, PHYSICAL_LIMIT + 0x10_0000)),
            None
        );
    }

    #[test]
    fn each_block_and_the_last_page_are_tried() {
        let tried: Vec<u64> = probes(range(0x40_1000, 0x80_3000)).collect();
        assert_eq!(tried, [0x40_1000, 0x60_1000, 0x80_1000, 0x80_2000]);
    }
}
