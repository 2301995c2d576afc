// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lengths of no system's dump, to measure against: LZ4 of pages, and what is near the limit of one stream.

use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};
use lz4::block::{CompressionMode, compress};
use zstd_safe::CCtx;

use crate::{PAGE, distinct_pages, is_zero, pages};

/// The address and the length of a page, in front of it.
const ENTRY: u64 = 8 + 4;
/// Dictionary of LZMA.
const DICTIONARY: u32 = 1 << 20;
/// LZMA's preset: xz's default.
const PRESET: u32 = 6;

/// Length of each page that is not zero, compressed by LZ4, or stored when it does not shrink; with address and length.
///
/// # Panics
/// LZ4 fails, or `ram` is no whole number of pages.
#[must_use]
pub fn lz4_pages(ram: &[u8]) -> u64 {
    let length = |page| {
        let packed = compress(page, Some(CompressionMode::DEFAULT), false);
        ENTRY + packed.expect("LZ4").len().min(PAGE) as u64
    };
    pages(ram).filter(|page| !is_zero(page)).map(length).sum()
}

/// Length of the distinct pages in one stream of zstd, level 19.
///
/// # Panics
/// zstd fails, or `ram` is no whole number of pages.
#[must_use]
pub fn distinct_zstd_19(ram: &[u8]) -> u64 {
    let data = distinct_pages(ram).concat();
    let mut out = vec![0; zstd_safe::compress_bound(data.len())];
    let len = CCtx::create().compress(&mut out[..], &data, 19);
    len.expect("zstd") as u64
}

/// Length of the distinct pages in one stream of LZMA with a dictionary of 1 MiB, else xz's defaults.
///
/// # Panics
/// liblzma fails, or `ram` is no whole number of pages.
#[must_use]
pub fn distinct_lzma_1m(ram: &[u8]) -> u64 {
    lzma(&distinct_pages(ram).concat(), 3, 0).len() as u64
}

/// The same with `lc=0,lp=2`: contexts by the position in a 32-bit word, which suits memory better.
///
/// # Panics
/// liblzma fails, or `ram` is no whole number of pages.
#[must_use]
pub fn distinct_lzma_1m_words(ram: &[u8]) -> u64 {
    lzma(&distinct_pages(ram).concat(), 0, 2).len() as u64
}

/// Compresses `data` into a raw stream of LZMA.
fn lzma(data: &[u8], literal_context_bits: u32, literal_position_bits: u32) -> Vec<u8> {
    let mut options = LzmaOptions::new_preset(PRESET).expect("a preset");
    options
        .dict_size(DICTIONARY)
        .literal_context_bits(literal_context_bits)
        .literal_position_bits(literal_position_bits);
    let mut filters = Filters::new();
    filters.lzma1(&options);
    let mut stream = Stream::new_raw_encoder(&filters).expect("an LZMA encoder");
    // Data that does not shrink grows by one or two hundredths.
    let mut out = Vec::with_capacity(data.len() + data.len() / 16 + 1024);
    let status = stream.process_vec(data, &mut out, Action::Finish);
    assert_eq!(status.expect("LZMA"), Status::StreamEnd, "LZMA");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{lines, noise};

    #[test]
    fn lz4_stores_a_page_that_does_not_shrink_and_skips_zeros() {
        let ram = [noise(PAGE), vec![0; PAGE]].concat();

        assert_eq!(lz4_pages(&ram), 12 + 4096);
    }

    #[test]
    fn lz4_page_comes_back() {
        let page = lines(PAGE);
        let packed = compress(&page, Some(CompressionMode::DEFAULT), false).unwrap();

        let back = lz4::block::decompress(&packed, Some(PAGE as i32)).unwrap();

        assert_eq!(back, page);
        assert_eq!(lz4_pages(&page), 12 + packed.len() as u64);
    }

    #[test]
    fn lzma_stream_comes_back() {
        let data = lines(50 * PAGE);
        let packed = lzma(&data, 0, 2);

        let mut options = LzmaOptions::new_preset(PRESET).unwrap();
        options
            .dict_size(DICTIONARY)
            .literal_context_bits(0)
            .literal_position_bits(2);
        let mut filters = Filters::new();
        filters.lzma1(&options);
        let mut back = Vec::with_capacity(data.len());
        Stream::new_raw_decoder(&filters)
            .unwrap()
            .process_vec(&packed, &mut back, Action::Run)
            .unwrap();

        assert_eq!(back, data);
    }

    #[test]
    fn stream_of_noise_is_hardly_longer_than_it() {
        let ram = noise(20 * PAGE);
        let most = ram.len() as u64 * 102 / 100;

        assert!(distinct_lzma_1m(&ram) < most);
        assert!(distinct_zstd_19(&ram) < most);
    }

    #[test]
    fn page_that_occurs_twice_counts_once() {
        let page = lines(PAGE);
        let twice = page.repeat(2);

        assert_eq!(distinct_lzma_1m(&twice), distinct_lzma_1m(&page));
        assert_eq!(distinct_zstd_19(&twice), distinct_zstd_19(&page));
    }
}
