// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the crashed kernel's virtual addresses to physical ones, by its PT_LOADs.
//!
//! Its page tables may be what broke, so they are not walked; the linear and the kernel mapping are enough for stacks.

use vmcore::PhysMemory;
use vmcore::elf_core::CoreHeader;

/// Returns the physical address of the `len` bytes at `vaddr`, if one PT_LOAD maps all of them.
pub(crate) fn physical(header: &CoreHeader<'_>, vaddr: u64, len: u64) -> Option<u64> {
    header.loads().find_map(|load| {
        let offset = vaddr.checked_sub(load.vaddr)?;
        let end = offset.checked_add(len)?;
        if end > load.len {
            None
        } else {
            load.paddr.checked_add(offset)
        }
    })
}

/// Reads the bytes at virtual address `vaddr`, if they are mapped by one PT_LOAD and readable.
pub(crate) fn read_virtual<const N: usize>(
    header: &CoreHeader<'_>,
    memory: &mut impl PhysMemory,
    vaddr: u64,
) -> Option<[u8; N]> {
    let pa = physical(header, vaddr, N as u64)?;
    let mut bytes = [0; N];
    memory.read(pa, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::elf_core::CoreHeaderWriter;
    use vmcore::phys_memory::SliceMemory;

    const LINEAR: u64 = 0xffff_0000_4000_0000;

    fn with_header<R>(test: impl FnOnce(&CoreHeader<'_>) -> R) -> R {
        let mut bytes = [0; 512];
        let mut writer = CoreHeaderWriter::new(&mut bytes);
        writer
            .load(0xffff_8000_8000_0000, 0x4020_0000, 0x1000)
            .unwrap();
        writer.load(LINEAR, 0x4000_0000, 0x10_0000).unwrap();
        writer.finish().unwrap();
        test(&CoreHeader::parse(&bytes).unwrap())
    }

    #[test]
    fn address_in_each_mapping_is_translated() {
        with_header(|header| {
            assert_eq!(
                physical(header, 0xffff_8000_8000_0010, 8),
                Some(0x4020_0010)
            );
            assert_eq!(physical(header, LINEAR + 8, 8), Some(0x4000_0008));
        });
    }

    #[test]
    fn address_across_the_end_or_in_no_mapping_is_none() {
        with_header(|header| {
            assert_eq!(physical(header, LINEAR + 0xf_fff9, 8), None);
            assert_eq!(physical(header, 0x1000, 8), None);
            assert_eq!(physical(header, u64::MAX - 3, 8), None);
        });
    }

    #[test]
    fn address_mapped_but_not_readable_is_none() {
        with_header(|header| {
            let mut memory = SliceMemory {
                base: 0x4000_0000,
                bytes: &[7; 16],
            };
            assert_eq!(read_virtual(header, &mut memory, LINEAR), Some([7; 16]));
            assert_eq!(read_virtual::<16>(header, &mut memory, LINEAR + 1), None);
        });
    }
}
