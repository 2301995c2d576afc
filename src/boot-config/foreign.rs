// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that others than the CPUs go on using, as the boot inputs say: what of it is believed.
//!
//! A VideoCore writes its own memory and what it shows on a screen at any time, also while a dump is made, and may protect it from the
//! CPUs. What a tree marks `no-map` must not even be mapped (Documentation/devicetree/bindings/reserved-memory).

use core::fmt;

use crate::dtb::{Dtb, DtbError};
use crate::range::PhysRange;

const PAGE_SIZE: u64 = 4096;

/// Why such memory is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The tree's description of it is broken.
    Dtb(DtbError),
    /// It has no length.
    Empty,
    /// It reaches past the last address.
    Wraps {
        /// First address.
        start: u64,
        /// Bytes.
        len: u64,
    },
    /// It lies in this kernel's own memory.
    Own(PhysRange),
    /// It would be most of the RAM.
    TooMuch(PhysRange),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dtb(error) => write!(f, "{error}"),
            Self::Empty => f.write_str("it has no length"),
            Self::Wraps { start, len } => {
                write!(
                    f,
                    "{len:#x} bytes at {start:#x} reach past the last address"
                )
            }
            Self::Own(range) => write!(f, "{range} is this kernel's own"),
            Self::TooMuch(range) => write!(f, "{range} is most of the RAM"),
        }
    }
}

/// Names the memory of others, or what is not believed of it: first the VideoCore's, as address and length, where its firmware
/// told them; then framebuffers and what is marked `no-map`, if it is RAM, in the order of the tree. `ram` may be unknown, and empty; `own` is this kernel's.
///
/// Ranges are of whole pages. Those of a VideoCore and of framebuffers may lie outside `ram`.
pub fn each<'a>(
    dtb: &Dtb<'a>,
    videocore: Option<(u64, u64)>,
    ram: &[PhysRange],
    own: &[PhysRange],
    mut found: impl FnMut(&'a str, Result<PhysRange, Doubt>),
) {
    if let Some((start, len)) = videocore {
        found("VideoCore", judge(start, len, ram, own));
    }
    dtb.each_other_memory(|other| {
        let range = other.range.map_err(Doubt::Dtb);
        let is_ram = |range: &PhysRange| ram.iter().any(|ram| ram.overlaps(range));
        // What is reserved elsewhere, or not well, is of no matter here.
        if other.is_framebuffer || range.is_ok_and(|range| is_ram(&range)) {
            let range = range.and_then(|range| judge(range.start, range.len(), ram, own));
            found(other.name, range);
        }
    });
}

/// Returns the pages of a range that others use, if it can be that.
///
/// # Errors
/// See [`Doubt`].
pub fn judge(
    start: u64,
    len: u64,
    ram: &[PhysRange],
    own: &[PhysRange],
) -> Result<PhysRange, Doubt> {
    if len == 0 {
        return Err(Doubt::Empty);
    }
    let range = PhysRange::from_len(start, len).and_then(|range| range.align_outward(PAGE_SIZE));
    let range = range.map_err(|_| Doubt::Wraps { start, len })?;
    if own.iter().any(|own| own.overlaps(&range)) {
        return Err(Doubt::Own(range));
    }
    let bytes = |parts: &mut dyn Iterator<Item = PhysRange>| {
        parts.fold(0_u64, |sum, part| sum.saturating_add(part.len()))
    };
    let all = bytes(&mut ram.iter().copied());
    let taken = bytes(&mut ram.iter().filter_map(|ram| ram.intersect(&range)));
    if taken > all >> 1 {
        return Err(Doubt::TooMuch(range));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtb::testing::Blob;
    use std::string::{String, ToString};
    use std::vec::Vec;

    const RAM: PhysRange = range(0, 0x3c00_0000);
    const OWN: PhysRange = range(0x3bc0_0000, 0x40_0000);

    const fn range(start: u64, len: u64) -> PhysRange {
        PhysRange {
            start,
            end: start + len,
        }
    }

    fn judged(start: u64, len: u64) -> Result<PhysRange, Doubt> {
        judge(start, len, &[RAM], &[OWN])
    }

    /// A tree with framebuffers, and one reservation of each kind.
    fn tree(framebuffers: &[(u32, u32)]) -> Vec<u8> {
        let mut blob = Blob::new()
            .two_cells()
            .memory(RAM.start, RAM.len())
            .begin("reserved-memory")
            .two_cells()
            .bytes("ranges", &[])
            .begin("nvram@1000000")
            .cells("reg", &[0, 0x100_0000, 0, 0x1000])
            .bytes("no-map", &[])
            .end()
            .begin("secure@fe000000")
            .cells("reg", &[0, 0xfe00_0000, 0, 0x1000])
            .bytes("no-map", &[])
            .end()
            .begin("shared@2000000")
            .cells("reg", &[0, 0x200_0000, 0, 0x1000])
            .end()
            .end()
            .begin("chosen")
            .two_cells()
            .bytes("ranges", &[]);
        for (start, len) in framebuffers {
            blob = blob
                .begin(&std::format!("framebuffer@{start:x}"))
                .text("compatible", "simple-framebuffer")
                .cells("reg", &[0, *start, 0, *len])
                .end();
        }
        blob.end().finish()
    }

    fn named(framebuffers: &[(u32, u32)], videocore: Option<(u64, u64)>) -> Vec<String> {
        let blob = tree(framebuffers);
        let dtb = Dtb::validate(&blob).unwrap();
        let mut all = Vec::new();
        each(&dtb, videocore, &[RAM], &[OWN], |name, range| {
            all.push(match range {
                Ok(range) => std::format!("{name} {range}"),
                Err(doubt) => std::format!("{name}: {doubt}"),
            });
        });
        all
    }

    #[test]
    fn memory_of_others_is_named_in_whole_pages() {
        let all = named(
            &[(0x3e2f_e000, 0x7e_9000), (0x1000_0800, 0x1000)],
            Some((0x3c00_0000, 0x400_0000)),
        );
        let pages = [
            ("VideoCore", range(0x3c00_0000, 0x400_0000)),
            ("nvram", range(0x100_0000, 0x1000)),
            ("framebuffer", range(0x3e2f_e000, 0x7e_9000)),
            ("framebuffer", range(0x1000_0000, 0x2000)),
        ];
        let wanted = pages.map(|(name, range)| std::format!("{name} {range}"));
        assert_eq!(all, wanted);
    }

    #[test]
    fn memory_of_nobody_is_not_named() {
        assert_eq!(named(&[], None).len(), 1, "what is marked no-map, in RAM");
    }

    #[test]
    fn framebuffers_that_cannot_be_are_told() {
        let all = named(
            &[(0x1000_0000, 0), (0x3bd0_0000, 0x1000), (0, 0x3000_0000)],
            None,
        );
        assert!(all[1].starts_with("framebuffer: "), "{all:?}");
        assert!(all[2].ends_with("is this kernel's own"), "{all:?}");
        assert!(all[3].ends_with("is most of the RAM"), "{all:?}");
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn range_beside_the_own_memory_is_believed_and_one_in_it_not() {
        assert_eq!(judged(0x3bbf_f000, 0x1000), Ok(range(0x3bbf_f000, 0x1000)));
        // It is rounded to pages first.
        assert!(matches!(judged(0x3bbf_f000, 0x1001), Err(Doubt::Own(_))));
        assert!(judged(0x3c00_0000, 0x1000).is_ok());
        assert!(matches!(judged(0x3bff_ffff, 1), Err(Doubt::Own(_))));
    }

    #[test]
    fn nonsense_of_the_firmware_is_not_believed() {
        assert_eq!(judged(0x3c00_0000, 0), Err(Doubt::Empty));
        let wraps = |start, len| Err(Doubt::Wraps { start, len });
        assert_eq!(
            judged(u64::MAX - 0xfff, 0x1001),
            wraps(u64::MAX - 0xfff, 0x1001)
        );
        assert_eq!(judged(u64::MAX - 10, 5), wraps(u64::MAX - 10, 5));
        // All of the RAM, and a byte more than half of it.
        let all = judge(0, 1 << 40, &[RAM], &[]);
        assert!(matches!(all, Err(Doubt::TooMuch(_))));
        let half = judge(0, RAM.end / 2, &[RAM], &[]);
        assert_eq!(half, Ok(range(0, RAM.end / 2)));
        let more = judge(0, RAM.end / 2 + 1, &[RAM], &[]);
        assert!(matches!(more, Err(Doubt::TooMuch(_))));
        // Two ranges, one of them whole: it is what they have in common that counts.
        let two = [range(0, 0x1000), range(0x10_0000, 0x1000)];
        assert!(judge(0, 0x8_0000, &two, &[]).is_ok());
        assert!(judge(0, 0x10_1000, &two, &[]).is_err());
    }

    #[test]
    fn range_is_believed_where_no_ram_is_known() {
        let found = judge(0x3c00_0000, 0x1000, &[], &[]);
        assert_eq!(found, Ok(range(0x3c00_0000, 0x1000)));
    }

    #[test]
    fn doubts_are_words() {
        let wraps = Doubt::Wraps {
            start: 0xfff0,
            len: 0x20,
        };
        assert_eq!(
            wraps.to_string(),
            "0x20 bytes at 0xfff0 reach past the last address"
        );
        assert_eq!(Doubt::Empty.to_string(), "it has no length");
    }
}
