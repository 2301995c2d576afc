// SPDX-License-Identifier: MIT OR Apache-2.0
//! What version 1 of the protocol sent: read, never written.
//!
//! A piece repeated all there is to say of its block; runs had fixed lengths. Both are turned into what version 2 has, so
//! that nothing else needs to know.

use alloc::vec;
use alloc::vec::Vec;

use crate::block::{BlockHash, BlockKind};
use crate::codec::Codec;
use crate::cursor::Reader;
use crate::memory_block::{BlockWriter, PageClass, Run};
use crate::{Error, PAGE_SIZE, block};

/// Longest block before packing, in bytes.
const RAW_MAX: u32 = 256 * 1024;
/// Bytes of a run.
const RUN_LEN: usize = 16;

/// What every piece of a block said of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) number: u32,
    pub(crate) kind: BlockKind,
    pub(crate) codec: Codec,
    pub(crate) raw_len: u32,
    pub(crate) packed_len: u32,
    pub(crate) hash: BlockHash,
}

/// A piece of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) block: BlockHeader,
    pub(crate) offset: u32,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Reads a frame's payload: block number u32, kind u8, codec u8, reserved u16, raw length u32, packed length u32, offset
    /// u32, hash 16 bytes, bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownBlockKind`], [`Error::UnknownCodec`]; [`Error::TooLong`] for the block;
    /// [`Error::PieceOutside`].
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let number = reader.u32()?;
        let [kind, codec, _, _] = reader.array()?;
        let raw_len = reader.u32()?;
        let packed_len = reader.u32()?;
        let offset = reader.u32()?;
        let hash = reader.array()?;
        let bytes = reader.rest();
        let block = BlockHeader {
            number,
            kind: BlockKind::from_code(kind)?,
            codec: Codec::from_code(codec)?,
            raw_len,
            packed_len,
            hash,
        };
        for (len, limit) in [(raw_len, RAW_MAX), (packed_len, raw_len)] {
            if len > limit {
                return Err(Error::TooLong {
                    len: u64::from(len),
                    limit: u64::from(limit),
                });
            }
        }
        let end = u64::from(offset).saturating_add(bytes.len() as u64);
        if bytes.is_empty() || end > u64::from(packed_len) {
            return Err(Error::PieceOutside {
                block: number,
                offset,
                len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                encoded_len: packed_len,
            });
        }
        Ok(Self {
            block,
            offset,
            bytes,
        })
    }
}

/// Returns the raw bytes of a memory block as version 2 would have them.
///
/// Version 1: run count u32, then per run pa u64, pages u32, class u8, three reserved bytes; then the page data.
///
/// # Errors
/// [`Error::Truncated`], [`Error::UnknownPageClass`], [`Error::BadRun`], [`Error::DataLength`]; [`Error::TooLong`] for more
/// runs than any sender of version 1 wrote.
pub(crate) fn memory_block(raw: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::new(raw);
    let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let mut table = Reader::new(reader.take(count.saturating_mul(RUN_LEN))?);
    let mut data = Reader::new(reader.rest());
    let found = reader.rest().len() as u64;
    let pages = reader.rest().len() / PAGE_SIZE;
    // A block of no data still needs a buffer that a writer accepts.
    let mut out = vec![0; block::raw_len(pages.max(1))];
    let mut writer = BlockWriter::new(&mut out)?;
    let full = Error::TooLong {
        len: count as u64,
        limit: 255,
    };
    let mut expected = 0_u64;
    while !table.rest().is_empty() {
        let (pa, pages) = (table.u64()?, table.u32()?);
        let [class, _, _, _] = table.array()?;
        let run = Run::new(pa, pages, PageClass::from_code(class)?);
        // Version 1 ended before these.
        if class >= PageClass::Duplicate.code() {
            return Err(Error::UnknownPageClass(class));
        }
        run.end()?;
        if run.class != PageClass::Data {
            if !writer.add_run(run)? {
                return Err(full);
            }
            continue;
        }
        expected = expected.saturating_add(u64::from(pages).saturating_mul(PAGE_SIZE as u64));
        if expected > found {
            break;
        }
        for page in 0..u64::from(pages) {
            let bytes = data.take(PAGE_SIZE)?;
            writer.page().ok_or(full)?.copy_from_slice(bytes);
            writer.commit_page(pa.saturating_add(page.saturating_mul(PAGE_SIZE as u64)))?;
        }
    }
    if expected != found {
        return Err(Error::DataLength { expected, found });
    }
    let len = writer.finish()?;
    out.truncate(len);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_block::MemoryBlock;

    /// A golden block of version 1: two pages of data, three of zeros.
    fn golden() -> Vec<u8> {
        #[rustfmt::skip]
        let mut raw = vec![
            2, 0, 0, 0,
            0, 0, 0, 0x40, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
            0, 0x20, 0, 0x40, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0,
        ];
        raw.extend([0xaa; PAGE_SIZE]);
        raw.extend([0xbb; PAGE_SIZE]);
        raw
    }

    #[test]
    fn memory_block_of_version_1_is_read() {
        let raw = memory_block(&golden()).unwrap();
        let mut runs = MemoryBlock::decode(&raw).unwrap().runs();
        let (data, bytes) = runs.next().unwrap();
        assert_eq!(data, Run::new(0x4000_0000, 2, PageClass::Data));
        assert_eq!((bytes[4095], bytes[4096]), (0xaa, 0xbb));
        let (zero, _) = runs.next().unwrap();
        assert_eq!(zero, Run::new(0x4000_2000, 3, PageClass::Zero));
        assert!(runs.next().is_none());
    }

    #[test]
    fn memory_block_with_too_little_or_too_much_data_is_refused() {
        let mut raw = golden();
        raw.push(0);
        assert!(matches!(memory_block(&raw), Err(Error::DataLength { .. })));
        raw.truncate(36 + 100);
        assert!(matches!(memory_block(&raw), Err(Error::DataLength { .. })));
        assert!(matches!(
            memory_block(&[0xff; 64]),
            Err(Error::Truncated { .. })
        ));
        let mut raw = golden();
        raw[16] = 77;
        assert_eq!(memory_block(&raw), Err(Error::UnknownPageClass(77)));
    }

    #[rustfmt::skip]
    const PIECE: [u8; 39] = [
        7, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
        b'a', b'b', b'c',
    ];

    #[test]
    fn piece_of_version_1_is_read() {
        let piece = Piece::decode(&PIECE).unwrap();
        assert_eq!((piece.block.number, piece.block.raw_len), (7, 3));
        assert_eq!((piece.offset, piece.bytes), (0, &b"abc"[..]));
    }

    /// Decodes the golden piece with one byte replaced.
    fn decode_with(offset: usize, value: u8) -> Option<Error> {
        let mut payload = PIECE;
        payload[offset] = value;
        Piece::decode(&payload).err()
    }

    #[test]
    fn piece_with_wrong_fields_is_refused_by_name() {
        assert_eq!(decode_with(4, 9), Some(Error::UnknownBlockKind(9)));
        assert_eq!(decode_with(5, 77), Some(Error::UnknownCodec(77)));
        assert!(matches!(decode_with(11, 1), Some(Error::TooLong { .. })));
        assert_eq!(
            decode_with(12, 4),
            Some(Error::TooLong { len: 4, limit: 3 })
        );
        assert!(matches!(
            decode_with(16, 1),
            Some(Error::PieceOutside { offset: 1, .. })
        ));
        assert!(Piece::decode(&PIECE[..36]).is_err());
    }
}
