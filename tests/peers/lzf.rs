// SPDX-License-Identifier: MIT OR Apache-2.0
//! LZF as NuttX's coredump uses it: blocks of 1023 bytes, each with a header.
//!
//! Written from the format: `000LLLLL` and L+1 literal bytes; `LLLooooo oooooooo`, a match of L+2 bytes (L 1 to 6) at
//! distance o+1; `111ooooo LLLLLLLL oooooooo`, a match of L+9 bytes. Like LibLZF in its "better compression" build, which is
//! NuttX's default, it takes the last position with the same hash of three bytes, and enters every position. No compressor
//! of that kind is kept as a crate with these blocks.

/// Bytes of a block: NuttX's `LZF_STREAM_BLOCKSIZE` with the default `STREAM_LZF_BLOG` of 10.
pub const BLOCK: usize = (1 << 10) - 1;

/// Positions that the hash table holds: NuttX's default `LIBC_LZF_HLOG` is 13.
const HASH_BITS: u32 = 13;
/// Longest run of literals.
const MAX_LITERALS: usize = 1 << 5;
/// Shortest match, which is also what a hash covers.
const MIN_MATCH: usize = 3;
/// Longest match.
const MAX_MATCH: usize = (1 << 8) + (1 << 3);
/// Shortest match whose length takes a byte of its own.
const LONG_MATCH: usize = 9;

/// A compressor of blocks.
#[derive(Clone, Debug)]
pub struct Compressor {
    /// Position in the block, by hash. Entries of earlier blocks stay, as in NuttX: a match is compared before it is used.
    table: Vec<usize>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// Returns a compressor that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: vec![usize::MAX; 1 << HASH_BITS],
        }
    }

    /// Returns the block with its header: compressed, or stored when it does not shrink.
    ///
    /// # Panics
    /// `data` is longer than the 65535 bytes that a header can name.
    pub fn block(&mut self, data: &[u8]) -> Vec<u8> {
        let len = |len: usize| u16::try_from(len).expect("a short block").to_be_bytes();
        let packed = self.compress(data);
        if packed.len() < data.len() {
            [b"ZV\x01", &len(packed.len())[..], &len(data.len()), &packed].concat()
        } else {
            [b"ZV\x00", &len(data.len())[..], data].concat()
        }
    }

    fn compress(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len());
        let (mut at, mut literals_from) = (0, 0);
        while at + MIN_MATCH <= data.len() {
            let candidate = self.enter(data, at);
            let len = match_len(data, candidate, at);
            if len < MIN_MATCH {
                at += 1;
                continue;
            }
            put_literals(&mut out, &data[literals_from..at]);
            put_match(&mut out, at - candidate, len);
            for inside in at + 1..at + len {
                self.enter(data, inside);
            }
            at += len;
            literals_from = at;
        }
        put_literals(&mut out, &data[literals_from..]);
        out
    }

    /// Enters the position `at` and returns the one that it replaces; no position where no three bytes are left.
    fn enter(&mut self, data: &[u8], at: usize) -> usize {
        let Some(&[a, b, c]) = data.get(at..at + MIN_MATCH) else {
            return usize::MAX;
        };
        // Multiplicative, after Knuth; the format does not depend on it.
        let hash = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(2_654_435_761) >> (32 - HASH_BITS);
        std::mem::replace(&mut self.table[hash as usize], at)
    }
}

/// Bytes that are the same at `candidate` and at `at`; none when `candidate` is not before `at`.
fn match_len(data: &[u8], candidate: usize, at: usize) -> usize {
    if candidate >= at {
        return 0;
    }
    let same = data[candidate..].iter().zip(&data[at..]);
    same.take(MAX_MATCH).take_while(|(a, b)| a == b).count()
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(MAX_LITERALS) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn put_match(out: &mut Vec<u8>, distance: usize, len: usize) {
    let [high, low] = ((distance - 1) as u16).to_be_bytes();
    if len < LONG_MATCH {
        out.push(((len - 2) << 5) as u8 | high);
    } else {
        out.extend([7 << 5 | high, (len - LONG_MATCH) as u8]);
    }
    out.push(low);
}

/// Returns the bytes of a block with its header, and what follows it; `None` when it is no block.
#[must_use]
pub fn decompress(block: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let len = |at: usize| Some(u16::from_be_bytes(*block.get(at..)?.first_chunk()?).into());
    if block.get(..3)? == b"ZV\x00" {
        let (data, rest) = block.get(5..)?.split_at_checked(len(3)?)?;
        return Some((data.to_vec(), rest));
    }
    if block.get(..3)? != b"ZV\x01" {
        return None;
    }
    let (mut packed, rest) = block.get(7..)?.split_at_checked(len(3)?)?;
    let mut out = Vec::new();
    while let Some((&control, mut next)) = packed.split_first() {
        if usize::from(control) < MAX_LITERALS {
            let (literals, after) = next.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(literals);
            packed = after;
            continue;
        }
        let mut len = usize::from(control >> 5) + 2;
        if len == LONG_MATCH {
            len += usize::from(*next.first()?);
            next = next.get(1..)?;
        }
        let distance = usize::from(control & 0x1f) << 8 | usize::from(*next.first()?);
        let from = out.len().checked_sub(distance + 1)?;
        for at in from..from + len {
            out.push(*out.get(at)?);
        }
        packed = next.get(1..)?;
    }
    (out.len() == len(5)?).then_some((out, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{lines, noise};

    /// Compresses in blocks and decompresses again.
    fn there_and_back(data: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new();
        let stream: Vec<u8> = data
            .chunks(BLOCK)
            .flat_map(|block| compressor.block(block))
            .collect();
        let mut rest = &stream[..];
        let mut back = Vec::new();
        while !rest.is_empty() {
            let (data, after) = decompress(rest).expect("a block");
            back.extend(data);
            rest = after;
        }
        back
    }

    #[test]
    fn lzf_of_text_comes_back() {
        let data = lines(100_000);
        assert_eq!(there_and_back(&data), data);
    }

    #[test]
    fn lzf_of_noise_comes_back() {
        let data = noise(100_000);
        assert_eq!(there_and_back(&data), data);
    }

    #[test]
    fn lzf_of_text_between_zeros_comes_back() {
        let data = [vec![0; 5000], lines(5000), vec![0; 5000], noise(40)].concat();
        assert_eq!(there_and_back(&data), data);
    }

    #[test]
    fn lzf_of_a_few_bytes_comes_back() {
        assert_eq!(there_and_back(b"aaaa"), b"aaaa");
        assert_eq!(there_and_back(b"a"), b"a");
    }

    #[test]
    fn block_of_zeros_is_a_literal_and_long_matches() {
        // 1023 = 1 literal, 3 matches of 264 and one of 230, each at distance 1.
        let expected = [
            b"ZV\x01\x00\x0e\x03\xff",
            &b"\x00\x00\xe0\xff\x00\xe0\xff\x00\xe0\xff\x00\xe0\xdd\x00"[..],
        ]
        .concat();

        assert_eq!(Compressor::new().block(&[0; BLOCK]), expected);
    }

    #[test]
    fn short_match_takes_two_bytes() {
        let block = Compressor::new().block(b"abcdeabcdeabcdeabcde");
        // Five literals, then 15 bytes at distance 5: a match longer than its distance.
        assert_eq!(block, b"ZV\x01\x00\x09\x00\x14\x04abcde\xe0\x06\x04");
        let block = Compressor::new().block(b"abcdefgh0abcdefgh");
        // Nine literals, then 8 bytes at distance 9: 6 << 5.
        assert_eq!(block, b"ZV\x01\x00\x0c\x00\x11\x08abcdefgh0\xc0\x08");
    }

    #[test]
    fn decompress_takes_a_nuttx_dumps_first_bytes() {
        // From NuttX's log of a dump, an ELF header: 5A5601013D03FF 077F454C4601010100 C000 0304002800, and so on.
        let packed = b"\x07\x7fELF\x01\x01\x01\x00\xc0\x00\x03\x04\x00\x28\x00";
        let block = [b"ZV\x01\x00\x10\x00\x14", &packed[..]].concat();

        let (data, _) = decompress(&block).expect("a block");

        assert_eq!(data, *b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x28\0");
    }

    #[test]
    fn decompress_refuses_a_cut_block() {
        let block = Compressor::new().block(&lines(BLOCK));
        assert_eq!(decompress(&block[..block.len() - 1]), None);
    }

    #[test]
    fn decompress_refuses_a_distance_before_the_start() {
        assert_eq!(decompress(b"ZV\x01\x00\x04\x00\x04\x00a\x20\x01"), None);
    }

    #[test]
    fn decompress_refuses_another_magic() {
        assert_eq!(decompress(b"ZX\x00\x00\x01a"), None);
    }
}
