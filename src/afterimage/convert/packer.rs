// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packs pages with zlib, each by itself (RFC 1950), as readers of kdump-compressed dumps unpack them.

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::CompressionLevel;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress};

/// A compressor and its output, kept from page to page.
pub(super) struct Packer {
    compressor: CompressorOxide,
    packed: Vec<u8>,
}

impl Packer {
    /// Returns a packer for pages of `page_size` bytes.
    pub(super) fn new(page_size: usize) -> Self {
        let level = CompressionLevel::BestSpeed;
        Self {
            compressor: CompressorOxide::with_format_and_level(DataFormat::Zlib, level),
            // What does not get shorter is of no use, and the compressor stops where its room ends.
            packed: vec![0; page_size.saturating_sub(1)],
        }
    }

    /// Returns `page` packed; `None` when that does not make it shorter.
    pub(super) fn pack(&mut self, page: &[u8]) -> Option<&[u8]> {
        self.compressor.reset();
        let (status, read, written) = compress(
            &mut self.compressor,
            page,
            &mut self.packed,
            TDEFLFlush::Finish,
        );
        let is_done = status == TDEFLStatus::Done && read == page.len();
        self.packed.get(..written).filter(|_| is_done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        miniz_oxide::inflate::decompress_to_vec_zlib(bytes).expect("zlib")
    }

    /// Returns bytes that do not pack.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let step = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(step).collect()
    }

    #[test]
    fn pages_stand_alone_whatever_came_before() {
        let mut packer = Packer::new(4096);
        let pages = [vec![7; 4096], noise(4096), vec![9; 4096]];
        let packed: Vec<Option<Vec<u8>>> = pages
            .iter()
            .map(|page| packer.pack(page).map(<[u8]>::to_vec))
            .collect();
        let back: Vec<Option<Vec<u8>>> = packed
            .iter()
            .map(|bytes| bytes.as_deref().map(unpacked))
            .collect();
        assert_eq!(back, [Some(pages[0].clone()), None, Some(pages[2].clone())]);
    }
}
