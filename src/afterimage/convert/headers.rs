// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of a kdump-compressed file's headers and page descriptors, version 6.
//!
//! `struct disk_dump_header`, `struct kdump_sub_header` and `struct page_desc` of a little-endian 64-bit machine
//! (makedumpfile, `diskdump_mod.h` and IMPLEMENTATION, "The kdump-compressed format").

/// Bytes of the sub header; the notes follow it.
pub(super) const SUB_HEADER_LEN: u64 = 104;
/// Bytes of a page descriptor.
pub(super) const DESCRIPTOR_LEN: u64 = 24;
/// Page flag, and status of a file: packed with zlib.
pub(super) const ZLIB: u32 = 1;
/// Status of a file: not all of the dump is in it.
pub(super) const INCOMPLETE: u32 = 8;

const SIGNATURE: &[u8; 8] = b"KDUMP   ";
const VERSION: u32 = 6;
/// Bytes of each name in `struct new_utsname`, its NUL counted.
const NAME_LEN: usize = 65;

/// `struct new_utsname`: system, node, release, version, machine, domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names([u8; Self::LEN]);

impl Names {
    /// Bytes of the structure.
    pub(super) const LEN: usize = 6 * NAME_LEN;

    /// Returns names of an arm64 machine of which no more is known; what is too long is cut off.
    ///
    /// libkdumpfile, and drgn with it, takes names without a version for no names, and then does not know the architecture.
    pub(super) fn new(system: &str, release: &str) -> Self {
        let mut bytes = [0; Self::LEN];
        let fields = bytes.chunks_exact_mut(NAME_LEN);
        for (field, name) in fields.zip([system, "", release, "(unknown)", "aarch64", ""]) {
            let (text, _) = field.split_at_mut(NAME_LEN.saturating_sub(1));
            text.iter_mut()
                .zip(name.bytes())
                .for_each(|(to, from)| *to = from);
        }
        Self(bytes)
    }

    /// Takes them as they lie in the memory of a Linux.
    pub(super) const fn from_memory(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    fn field(&self, number: usize) -> &[u8] {
        let field = self.0.chunks_exact(NAME_LEN).nth(number);
        let text = field.and_then(|field| field.split(|byte| *byte == 0).next());
        text.unwrap_or_default()
    }

    /// Returns the system's name.
    pub(super) fn system(&self) -> &[u8] {
        self.field(0)
    }

    /// Returns the kernel's release.
    pub(super) fn release(&self) -> &[u8] {
        self.field(2)
    }
}

/// The two headers.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) names: Names,
    /// Seconds since 1970.
    pub(super) crash_time: u64,
    pub(super) status: u32,
    pub(super) block_size: u32,
    pub(super) sub_header_blocks: u32,
    /// Of both bitmaps.
    pub(super) bitmap_blocks: u32,
    /// Number of the page behind the last.
    pub(super) max_mapnr: u64,
    pub(super) cpus: u32,
    pub(super) phys_base: u64,
    pub(super) dump_level: u32,
    /// Offset and length each.
    pub(super) vmcoreinfo: (u64, u64),
    pub(super) notes: (u64, u64),
    pub(super) eraseinfo: (u64, u64),
}

impl Headers {
    /// Returns the first block's bytes.
    pub(super) fn main(&self) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.names.0);
        out.resize(out.len().next_multiple_of(8), 0);
        for wide in [self.crash_time, 0] {
            out.extend_from_slice(&wide.to_le_bytes());
        }
        let short_max = u32::try_from(self.max_mapnr).unwrap_or(u32::MAX);
        for word in [
            self.status,
            self.block_size,
            self.sub_header_blocks,
            self.bitmap_blocks,
            short_max,
            // Blocks of RAM, of a device, written; the CPU that dumps: of the old diskdump, unused.
            0,
            0,
            0,
            0,
            self.cpus,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Returns the sub header's bytes.
    pub(super) fn sub(&self) -> Vec<u8> {
        let mut out = self.phys_base.to_le_bytes().to_vec();
        // No part of a split dump: start_pfn and end_pfn are 0 in both widths.
        for word in [self.dump_level, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let [vmcoreinfo, notes, eraseinfo] = [self.vmcoreinfo, self.notes, self.eraseinfo];
        for wide in [
            0,
            0,
            vmcoreinfo.0,
            vmcoreinfo.1,
            notes.0,
            notes.1,
            eraseinfo.0,
            eraseinfo.1,
            0,
            0,
            self.max_mapnr,
        ] {
            out.extend_from_slice(&wide.to_le_bytes());
        }
        out
    }
}

/// Returns the descriptor of a page whose `len` bytes lie at `offset`.
pub(super) fn descriptor(offset: u64, len: u32, flags: u32) -> [u8; DESCRIPTOR_LEN as usize] {
    let mut out = [0; DESCRIPTOR_LEN as usize];
    // The page's flags in the crashed kernel, the last 8 bytes, are 0, as makedumpfile writes them.
    let fields = offset
        .to_le_bytes()
        .into_iter()
        .chain(len.to_le_bytes())
        .chain(flags.to_le_bytes());
    out.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        Headers {
            names: Names::new("Linux", "6.12"),
            crash_time: 0x0102,
            status: ZLIB | INCOMPLETE,
            block_size: 4096,
            sub_header_blocks: 3,
            bitmap_blocks: 4,
            max_mapnr: 1 << 33,
            cpus: 5,
            phys_base: 0x4000_0000,
            dump_level: 17,
            vmcoreinfo: (0x11, 0x12),
            notes: (0x13, 0x14),
            eraseinfo: (0x15, 0x16),
        }
    }

    /// Offsets of the fields, from `offsetof` on arm64.
    #[test]
    fn main_header_has_its_golden_fields() {
        let bytes = headers().main();
        assert_eq!(bytes.len(), 464);
        assert_eq!(&bytes[..16], b"KDUMP   \x06\0\0\0Linu");
        assert_eq!(&bytes[142..148], b"6.12\0\0");
        assert_eq!(&bytes[272..280], b"aarch64\0");
        assert_eq!(bytes[408..416], 0x0102_u64.to_le_bytes());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
        let words: Vec<u32> = (424..464).step_by(4).map(word).collect();
        assert_eq!(words, [9, 4096, 3, 4, u32::MAX, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn sub_header_has_its_golden_fields() {
        let bytes = headers().sub();
        assert_eq!(bytes.len() as u64, SUB_HEADER_LEN);
        let wide = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8"));
        let wides: Vec<u64> = (0..104).step_by(8).map(wide).collect();
        let expected = [
            0x4000_0000,
            17,
            0,
            0,
            0x11,
            0x12,
            0x13,
            0x14,
            0x15,
            0x16,
            0,
            0,
            1 << 33,
        ];
        assert_eq!(wides, expected);
    }

    #[test]
    fn descriptor_has_its_golden_bytes() {
        #[rustfmt::skip]
        assert_eq!(descriptor(0x1234, 0x56, ZLIB), [
            0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x56, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }

    #[test]
    fn name_too_long_keeps_its_end_mark() {
        let names = Names::new("Linux", &"x".repeat(100));
        assert_eq!(names.release(), "x".repeat(64).as_bytes());
        assert_eq!(names.system(), b"Linux");
    }
}
