// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks: packed, hashed, cut into pieces that fit a frame.

use sha2::{Digest, Sha256};

use crate::Error;
use crate::codec::{Codec, Encoder};
use crate::cursor::{Reader, Writer};
use crate::frame::{FrameType, PAYLOAD_MAX, Sender};

/// Longest block before packing, in bytes.
pub const RAW_MAX: usize = 256 * 1024;
/// Bytes that blocks have now, before packing; the buffers of a capture kernel.
pub const RAW_LEN: usize = 64 * 1024;
/// Bytes of a piece's header.
pub const PIECE_HEADER_LEN: usize = 36;
/// Most bytes of a block that fit a frame.
pub const PIECE_MAX: usize = PAYLOAD_MAX - PIECE_HEADER_LEN;
/// Bytes of a block in a frame now: a lost frame costs little, and its overhead is 3 %.
pub const PIECE_LEN: usize = 2048;

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
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(Sha256::digest(raw)) {
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

/// What every piece of a block says of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// The block's number, from 0.
    pub number: u32,
    /// What its raw bytes are.
    pub kind: BlockKind,
    /// How they are packed.
    pub codec: Codec,
    /// Raw bytes; at most [`RAW_MAX`].
    pub raw_len: u32,
    /// Packed bytes; never more than raw ones.
    pub encoded_len: u32,
    /// Hash of the raw bytes.
    pub hash: BlockHash,
}

/// A piece of a block: the payload of a frame.
///
/// Layout: block number u32, kind u8, codec u8, reserved u16, raw length u32, encoded length u32, offset u32, hash 16
/// bytes, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which block it is of.
    pub block: BlockHeader,
    /// Where in the packed block it lies.
    pub offset: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownBlockKind`], [`Error::UnknownCodec`]; [`Error::TooLong`] for the block;
    /// [`Error::BadValue`] for an empty block; [`Error::PieceOutside`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let number = reader.u32()?;
        let kind = reader.u8()?;
        let codec = reader.u8()?;
        reader.u16()?;
        let raw_len = reader.u32()?;
        let encoded_len = reader.u32()?;
        let offset = reader.u32()?;
        let hash = reader.array()?;
        let bytes = reader.rest();
        let kind = BlockKind::from_code(kind)?;
        let codec = Codec::from_code(codec)?;
        let limit = RAW_MAX as u64;
        if u64::from(raw_len) > limit {
            return Err(Error::TooLong {
                len: u64::from(raw_len),
                limit,
            });
        }
        if encoded_len > raw_len {
            return Err(Error::TooLong {
                len: u64::from(encoded_len),
                limit: u64::from(raw_len),
            });
        }
        let end = u64::from(offset).saturating_add(bytes.len() as u64);
        if bytes.is_empty() || end > u64::from(encoded_len) {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            return Err(Error::PieceOutside {
                block: number,
                offset,
                len,
                encoded_len,
            });
        }
        let block = BlockHeader {
            number,
            kind,
            codec,
            raw_len,
            encoded_len,
            hash,
        };
        Ok(Self {
            block,
            offset,
            bytes,
        })
    }
}

/// A block that is packed and on its way.
#[derive(Clone, Debug)]
pub struct PackedBlock<'a> {
    header: BlockHeader,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> PackedBlock<'a> {
    /// Hashes and packs `raw` into `room`; where that does not shrink it, `raw` itself is sent.
    ///
    /// # Errors
    /// [`Error::TooLong`] past [`RAW_MAX`]; [`Error::BadValue`] when `raw` is empty.
    pub fn pack<E: Encoder + ?Sized>(
        number: u32,
        kind: BlockKind,
        raw: &'a [u8],
        encoder: &mut E,
        room: &'a mut [u8],
    ) -> Result<Self, Error> {
        let too_long = Error::TooLong {
            len: raw.len() as u64,
            limit: RAW_MAX as u64,
        };
        let raw_len = u32::try_from(raw.len()).map_err(|_| too_long)?;
        if raw.len() > RAW_MAX {
            return Err(too_long);
        }
        if raw.is_empty() {
            return Err(Error::BadValue {
                offset: 8,
                value: 0,
            });
        }
        // Room for less than the raw bytes: what does not shrink does not fit.
        let most = room.len().min(raw.len().saturating_sub(1));
        let room = room.get_mut(..most).unwrap_or_default();
        let packed = encoder.encode(raw, room);
        let room: &'a [u8] = room;
        let (codec, bytes) = match packed.and_then(|len| room.get(..len)) {
            Some(bytes) if !bytes.is_empty() => (encoder.codec(), bytes),
            _ => (Codec::Stored, raw),
        };
        let encoded_len = u32::try_from(bytes.len()).map_err(|_| too_long)?;
        let hash = block_hash(raw);
        let header = BlockHeader {
            number,
            kind,
            codec,
            raw_len,
            encoded_len,
            hash,
        };
        Ok(Self {
            header,
            bytes,
            offset: 0,
        })
    }

    /// Returns what each piece will say.
    #[must_use]
    pub const fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Writes the next piece, of at most `piece_len` bytes, as a frame; `None` when all were sent.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], never with [`crate::frame::LINE_MAX`] bytes.
    pub fn next_frame(
        &mut self,
        sender: &mut Sender,
        piece_len: usize,
        out: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let len = rest.len().min(piece_len.clamp(1, PIECE_MAX));
        let Some((bytes, _)) = rest
            .split_at_checked(len)
            .filter(|(bytes, _)| !bytes.is_empty())
        else {
            return Ok(None);
        };
        let mut header = [0; PIECE_HEADER_LEN];
        let mut writer = Writer::new(&mut header);
        writer.u32(self.header.number)?;
        writer.u8(self.header.kind.code())?;
        writer.u8(self.header.codec.code())?;
        writer.u16(0)?;
        writer.u32(self.header.raw_len)?;
        writer.u32(self.header.encoded_len)?;
        writer.u32(u32::try_from(self.offset).unwrap_or(u32::MAX))?;
        writer.put(&self.header.hash)?;
        let line = sender.frame(FrameType::Block, [&header, bytes], out)?;
        self.offset = self.offset.saturating_add(len);
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::StoredEncoder;
    use crate::frame::LINE_MAX;
    use crate::receiver::{Event, Receiver};
    use std::vec::Vec;

    /// Returns the payloads of the frames that a stored block makes.
    fn payloads(raw: &[u8], piece_len: usize) -> Vec<Vec<u8>> {
        let mut room = [0; 64];
        let mut block =
            PackedBlock::pack(7, BlockKind::Text, raw, &mut StoredEncoder, &mut room).unwrap();
        let (mut sender, mut line) = (Sender::new([1; 16]), [0; LINE_MAX]);
        let (mut receiver, mut found) = (Receiver::new(), Vec::new());
        while let Some(len) = block.next_frame(&mut sender, piece_len, &mut line).unwrap() {
            receiver.push(&line[..len], |event| match event {
                Event::Frame(frame) => found.push(frame.payload.to_vec()),
                other => panic!("{other:?}"),
            });
        }
        found
    }

    #[test]
    fn piece_of_version_1_has_its_golden_bytes() {
        #[rustfmt::skip]
        assert_eq!(payloads(b"abc", 100), [[
            7, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
            b'a', b'b', b'c',
        ]]);
    }

    #[test]
    fn block_longer_than_a_piece_is_cut_at_offsets() {
        let found = payloads(&[9; 10], 4);
        let pieces: Vec<_> = found
            .iter()
            .map(|payload| Piece::decode(payload).unwrap())
            .collect();
        assert_eq!(
            pieces.iter().map(|piece| piece.offset).collect::<Vec<_>>(),
            [0, 4, 8]
        );
        assert_eq!(pieces[2].bytes, [9, 9]);
    }

    #[test]
    fn empty_block_is_refused() {
        let error = PackedBlock::pack(0, BlockKind::Text, &[], &mut StoredEncoder, &mut []);
        assert_eq!(
            error.unwrap_err(),
            Error::BadValue {
                offset: 8,
                value: 0
            }
        );
    }

    #[test]
    fn block_past_the_limit_is_refused() {
        let raw = std::vec![0; RAW_MAX + 1];
        let error = PackedBlock::pack(0, BlockKind::Memory, &raw, &mut StoredEncoder, &mut []);
        assert_eq!(
            error.unwrap_err(),
            Error::TooLong {
                len: 262_145,
                limit: 262_144
            }
        );
    }

    /// Decodes the golden piece with one byte replaced.
    fn decode_with(offset: usize, value: u8) -> Result<(), Error> {
        let mut payload = payloads(b"abc", 100).remove(0);
        payload[offset] = value;
        Piece::decode(&payload).map(|_| ())
    }

    #[test]
    fn piece_with_wrong_fields_is_refused_by_name() {
        assert_eq!(decode_with(4, 9), Err(Error::UnknownBlockKind(9)));
        assert_eq!(decode_with(5, 2), Err(Error::UnknownCodec(2)));
        assert_eq!(
            decode_with(11, 1),
            Err(Error::TooLong {
                len: 0x0100_0003,
                limit: 262_144
            })
        );
        assert_eq!(decode_with(12, 4), Err(Error::TooLong { len: 4, limit: 3 }));
        assert_eq!(
            decode_with(16, 1),
            Err(Error::PieceOutside {
                block: 7,
                offset: 1,
                len: 3,
                encoded_len: 3
            })
        );
    }

    #[test]
    fn piece_without_bytes_is_refused() {
        let payload = &payloads(b"abc", 100)[0][..PIECE_HEADER_LEN];
        assert!(matches!(
            Piece::decode(payload),
            Err(Error::PieceOutside { len: 0, .. })
        ));
        assert!(matches!(
            Piece::decode(&payload[..35]),
            Err(Error::Truncated { .. })
        ));
    }

    #[test]
    fn tree_hash_of_no_block_is_sha256_of_nothing() {
        assert_eq!(TreeHash::new().value()[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }
}
