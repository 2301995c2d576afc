// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks: a descriptor and the packed bytes behind it, cut into pieces that fit a frame.
//!
//! A piece says which block it is of and where in it it lies, and nothing else: that is 8 bytes. What there is to say of
//! the block stands once, in the descriptor, which is the start of the block and is repeated like any other part of it.

use sha2::{Digest, Sha256};

use crate::codec::Codec;
use crate::cursor::{Reader, Writer};
use crate::frame::PAYLOAD_MAX;
use crate::memory_block::TABLE_MAX;
use crate::{Error, PAGE_SIZE};

/// Most pages of data in a block: 2 MiB.
pub const PAGES_MAX: usize = 512;
/// Longest block before packing, in bytes.
pub const RAW_MAX: usize = raw_len(PAGES_MAX);
/// Bytes of a descriptor.
pub const DESCRIPTOR_LEN: usize = 32;
/// Longest block on the line: descriptor and packed bytes.
pub const BLOCK_MAX: usize = DESCRIPTOR_LEN + RAW_MAX;
/// Bytes of a piece's header.
pub const PIECE_HEADER_LEN: usize = 8;
/// Most bytes of a block that fit a frame.
pub const PIECE_MAX: usize = PAYLOAD_MAX - PIECE_HEADER_LEN;

/// Returns the bytes of a buffer that a memory block of `pages` pages of data is made in.
#[must_use]
pub const fn raw_len(pages: usize) -> usize {
    TABLE_MAX.saturating_add(pages.saturating_mul(PAGE_SIZE))
}

/// What a block's raw bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockKind {
    /// Runs of pages ([`crate::MemoryBlock`]).
    Memory,
    /// A part of a note buffer ([`crate::SegmentBlock`]).
    Notes,
    /// A part of the elfcorehdr ([`crate::SegmentBlock`]).
    ElfHeader,
    /// Text that the capture kernel has to say ([`crate::SegmentBlock`]).
    Text,
}

impl BlockKind {
    /// Returns the kind's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Memory => 1,
            Self::Notes => 2,
            Self::ElfHeader => 3,
            Self::Text => 4,
        }
    }

    /// Returns the kind with this number.
    ///
    /// # Errors
    /// [`Error::UnknownBlockKind`].
    pub const fn from_code(code: u8) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Memory),
            2 => Ok(Self::Notes),
            3 => Ok(Self::ElfHeader),
            4 => Ok(Self::Text),
            code => Err(Error::UnknownBlockKind(code)),
        }
    }
}

/// The first 16 bytes of the SHA-256 of a block's raw bytes.
pub type BlockHash = [u8; 16];

/// Returns the hash of a block's raw bytes.
#[must_use]
pub fn block_hash(raw: &[u8]) -> BlockHash {
    block_hash_polled(raw, || {})
}

/// Returns the hash of a block's raw bytes and calls `poll` after each page of them.
#[must_use]
pub fn block_hash_polled(raw: &[u8], mut poll: impl FnMut()) -> BlockHash {
    let mut digest = Sha256::new();
    for part in raw.chunks(PAGE_SIZE) {
        digest.update(part);
        poll();
    }
    hash_of(digest)
}

/// Returns the hash of the raw bytes that `digest` took in.
pub(crate) fn hash_of(digest: Sha256) -> BlockHash {
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    hash
}

/// The hash over all blocks, in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct TreeHash(Sha256);

impl TreeHash {
    /// Starts before block 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next block's hash.
    pub fn add(&mut self, hash: &BlockHash) {
        self.0.update(hash);
    }

    /// Returns the SHA-256 of the hashes so far.
    #[must_use]
    pub fn value(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// What a block begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The block's number, from 0.
    pub number: u32,
    /// What its raw bytes are.
    pub kind: BlockKind,
    /// How they are packed.
    pub codec: Codec,
    /// Whether pages that the host has were taken out before packing ([`crate::memory_block::leave_out_known`]).
    pub is_partial: bool,
    /// Bytes that unpacking gives; at most [`RAW_MAX`].
    pub raw_len: u32,
    /// Bytes behind the descriptor; never more than `raw_len`.
    pub packed_len: u32,
    /// Hash of the raw bytes, those of pages that were taken out included.
    pub hash: BlockHash,
}

impl Descriptor {
    /// Writes the descriptor.
    ///
    /// Layout: number u32, kind u8, codec u8, flags u8 (bit 0: partial), reserved u8, raw length u32, packed length u32,
    /// hash 16 bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self) -> Result<[u8; DESCRIPTOR_LEN], Error> {
        let mut out = [0; DESCRIPTOR_LEN];
        let mut writer = Writer::new(&mut out);
        writer.u32(self.number)?;
        writer.put(&[
            self.kind.code(),
            self.codec.code(),
            u8::from(self.is_partial),
            0,
        ])?;
        writer.u32(self.raw_len)?;
        writer.u32(self.packed_len)?;
        writer.put(&self.hash)?;
        Ok(out)
    }

    /// Reads the start of a block.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownBlockKind`], [`Error::UnknownCodec`]; [`Error::TooLong`];
    /// [`Error::BadValue`] for an empty block or flags that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let number = reader.u32()?;
        let [kind, codec, flags, _] = reader.array()?;
        let descriptor = Self {
            number,
            kind: BlockKind::from_code(kind)?,
            codec: Codec::from_code(codec)?,
            is_partial: flags & 1 != 0,
            raw_len: reader.u32()?,
            packed_len: reader.u32()?,
            hash: reader.array()?,
        };
        if flags > 1 {
            return Err(Error::BadValue {
                offset: 6,
                value: u64::from(flags),
            });
        }
        descriptor.check()?;
        Ok(descriptor)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let (raw_len, packed_len) = (u64::from(self.raw_len), u64::from(self.packed_len));
        if raw_len > RAW_MAX as u64 {
            return Err(Error::TooLong {
                len: raw_len,
                limit: RAW_MAX as u64,
            });
        }
        if packed_len > raw_len {
            return Err(Error::TooLong {
                len: packed_len,
                limit: raw_len,
            });
        }
        if packed_len == 0 {
            return Err(Error::BadValue {
                offset: 12,
                value: 0,
            });
        }
        Ok(())
    }

    /// Returns the bytes of the whole block, this descriptor included.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        DESCRIPTOR_LEN.saturating_add(self.packed_len as usize)
    }
}

/// A piece of a block: the payload of a frame.
///
/// Layout: block number u32, offset u32, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Number of the block.
    pub block: u32,
    /// Where in the block, descriptor included, it lies.
    pub offset: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::PieceOutside`] when it is empty or lies past the end of the longest block.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let (block, offset) = (reader.u32()?, reader.u32()?);
        let bytes = reader.rest();
        let end = u64::from(offset).saturating_add(bytes.len() as u64);
        if bytes.is_empty() || end > BLOCK_MAX as u64 {
            return Err(Error::PieceOutside {
                block,
                offset,
                len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                encoded_len: BLOCK_MAX as u32,
            });
        }
        Ok(Self {
            block,
            offset,
            bytes,
        })
    }

    /// Returns the header of the piece of block `block` at `offset`.
    #[must_use]
    pub const fn header(block: u32, offset: u32) -> [u8; PIECE_HEADER_LEN] {
        let [a, b, c, d] = block.to_le_bytes();
        let [e, f, g, h] = offset.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Descriptor = Descriptor {
        number: 7,
        kind: BlockKind::Text,
        codec: Codec::Stored,
        is_partial: true,
        raw_len: 0x0102,
        packed_len: 3,
        hash: [0xab; 16],
    };

    #[test]
    fn descriptor_of_version_2_has_its_golden_bytes() {
        let bytes = SAMPLE.encode().unwrap();
        #[rustfmt::skip]
        assert_eq!(bytes[..16], [7, 0, 0, 0, 4, 0, 1, 0, 2, 1, 0, 0, 3, 0, 0, 0]);
        assert_eq!(bytes[16..], [0xab; 16]);
        assert_eq!(Descriptor::decode(&bytes), Ok(SAMPLE));
    }

    /// Decodes the golden descriptor with one byte replaced.
    fn decode_with(offset: usize, value: u8) -> Result<Descriptor, Error> {
        let mut bytes = SAMPLE.encode().unwrap();
        bytes[offset] = value;
        Descriptor::decode(&bytes)
    }

    #[test]
    fn descriptor_with_wrong_fields_is_refused_by_name() {
        assert_eq!(decode_with(4, 9), Err(Error::UnknownBlockKind(9)));
        assert_eq!(decode_with(5, 77), Err(Error::UnknownCodec(77)));
        assert_eq!(
            decode_with(6, 2),
            Err(Error::BadValue {
                offset: 6,
                value: 2
            })
        );
        assert!(matches!(decode_with(11, 1), Err(Error::TooLong { .. })));
        assert!(matches!(decode_with(13, 2), Err(Error::TooLong { .. })));
        assert_eq!(
            decode_with(12, 0),
            Err(Error::BadValue {
                offset: 12,
                value: 0
            })
        );
        assert!(Descriptor::decode(&[0; 31]).is_err());
    }

    #[test]
    fn piece_of_version_2_has_its_golden_bytes() {
        let header = Piece::header(0x0403_0201, 8);
        assert_eq!(header, [1, 2, 3, 4, 8, 0, 0, 0]);
        let payload = [&header[..], b"abc"].concat();
        let piece = Piece::decode(&payload).unwrap();
        assert_eq!(
            (piece.block, piece.offset, piece.bytes),
            (0x0403_0201, 8, &b"abc"[..])
        );
    }

    #[test]
    fn piece_empty_or_outside_any_block_is_refused() {
        assert!(Piece::decode(&[0; 7]).is_err());
        assert!(matches!(
            Piece::decode(&[0; 8]),
            Err(Error::PieceOutside { .. })
        ));
        let far = [&Piece::header(0, BLOCK_MAX as u32)[..], b"x"].concat();
        assert!(matches!(
            Piece::decode(&far),
            Err(Error::PieceOutside { .. })
        ));
    }

    #[test]
    fn tree_hash_of_no_block_is_sha256_of_nothing() {
        assert_eq!(TreeHash::new().value()[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }
}
