// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies in an armed crash region, read from the region itself.

use std::ops::Range;

use blackbox::memory::{Memory, PAGE};

const FDT_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];
const ELF_MAGIC: [u8; 6] = *b"\x7fELF\x02\x01";
/// Magic of an arm64 Image, and where it stands (booting.rst).
const IMAGE_MAGIC: (usize, [u8; 4]) = (56, *b"ARM\x64");

/// Bytes of each part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionUse {
    /// The region.
    pub(crate) region: u64,
    /// image_size of the capture Image: file, BSS, stacks, buffers.
    pub(crate) image: u64,
    /// Content of the device tree.
    pub(crate) device_tree: u64,
    /// The ELF core header.
    pub(crate) core_header: u64,
    /// What the capture kernel may not touch: supervisor stub, its tables, park page.
    pub(crate) supervisor: u64,
}

impl RegionUse {
    /// Looks at the pages of `region`.
    ///
    /// # Panics
    /// A part is not there.
    pub(crate) fn read(memory: &Memory, region: &Range<u64>) -> Self {
        let bytes = memory.read(region.start, (region.end - region.start) as usize);
        let pages = || bytes.chunks(PAGE as usize);
        let image = pages().find(|page| is_image(page));
        let image = image
            .and_then(|page| crate::line::word(page, 16))
            .expect("an Image in the region");
        let place = |magic: &[u8]| pages().position(|page| page.starts_with(magic));
        let header_at =
            place(&ELF_MAGIC).expect("an ELF core header in the region") * PAGE as usize;
        let count = bytes.get(header_at + 56..header_at + 58);
        let count = count
            .and_then(|field| field.try_into().ok())
            .map_or(0, u16::from_le_bytes);
        let tree_at = place(&FDT_MAGIC).expect("a device tree in the region") * PAGE as usize;
        let tree = bytes.get(tree_at..).unwrap_or(&[]);
        // The header's pages are reserved, too, but counted as its own.
        let reserved = reservations(tree).into_iter().filter(|(start, _)| {
            region.contains(start) && *start != region.start + header_at as u64
        });
        Self {
            region: region.end - region.start,
            image,
            // Header and program headers of ELF64.
            core_header: 64 + 56 * u64::from(count),
            device_tree: content_len(tree),
            supervisor: reserved.map(|(_, len)| len).sum(),
        }
    }

    /// All parts together.
    pub(crate) fn sum(&self) -> u64 {
        self.image + self.device_tree + self.core_header + self.supervisor
    }
}

/// Returns the physical address of the first arm64 Image in `region`.
///
/// # Panics
/// There is none.
pub(crate) fn image(memory: &Memory, region: &Range<u64>) -> u64 {
    let bytes = memory.read(region.start, (region.end - region.start) as usize);
    let place = bytes.chunks(PAGE as usize).position(is_image);
    region.start + place.expect("an Image in the region") as u64 * PAGE
}

fn is_image(page: &[u8]) -> bool {
    let (at, magic) = IMAGE_MAGIC;
    page.get(at..at + magic.len()) == Some(&magic)
}

/// A field of the device tree's header (specification v0.4, section 5.2), by its number.
fn field(tree: &[u8], number: usize) -> u64 {
    let bytes = tree
        .get(4 * number..4 * number + 4)
        .and_then(|field| field.try_into().ok());
    u64::from(bytes.map_or(0, u32::from_be_bytes))
}

/// Bytes up to the end of the later of structure block and strings block: what follows is padding.
fn content_len(tree: &[u8]) -> u64 {
    let (structure, strings) = (
        field(tree, 2) + field(tree, 9),
        field(tree, 3) + field(tree, 8),
    );
    structure.max(strings)
}

/// Start and length of each entry of the tree's memory reservation block.
fn reservations(tree: &[u8]) -> Vec<(u64, u64)> {
    let entries = tree
        .get(field(tree, 4) as usize..)
        .unwrap_or(&[])
        .chunks_exact(16);
    let word = |entry: &[u8], at| crate::line::word(entry, at).unwrap_or(0).swap_bytes();
    let entries = entries.map(|entry| (word(entry, 0), word(entry, 8)));
    entries.take_while(|entry| *entry != (0, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of one reservation at `start`, whose strings end at 0x140.
    fn tree(start: u64, len: u64) -> Vec<u8> {
        let fields: [u32; 10] = [
            0xd00d_feed,
            0x1000,
            0x80,
            0x100,
            0x28,
            17,
            16,
            0,
            0x40,
            0x80,
        ];
        let mut tree: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect();
        for word in [start, len, 0, 0] {
            tree.extend(word.to_be_bytes());
        }
        tree
    }

    #[test]
    fn content_ends_with_the_later_block() {
        assert_eq!(content_len(&tree(0, 0)), 0x140);
    }

    #[test]
    fn reservations_end_with_the_empty_one() {
        assert_eq!(reservations(&tree(0x5000, 0x1000)), [(0x5000, 0x1000)]);
    }

    #[test]
    fn tree_that_is_cut_off_has_no_reservations() {
        assert_eq!(reservations(&[0xd0, 0x0d, 0xfe, 0xed]), []);
    }
}
