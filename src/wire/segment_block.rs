// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of bytes that are no pages: note buffers, the elfcorehdr, text.

use crate::Error;
use crate::cursor::{Reader, Writer};

/// Bytes before the part itself.
pub const HEADER_LEN: usize = 32;

/// A part of a note buffer, of the elfcorehdr, or of a text.
///
/// Raw layout: index u32, reserved u32, address u64, total length u64, offset u64, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentBlock<'a> {
    /// Which one: for notes the number of the PT_NOTE among the notes, for text a running number.
    pub index: u32,
    /// Physical address of the whole; 0 for text.
    pub address: u64,
    /// Bytes of the whole.
    pub total_len: u64,
    /// Where in the whole the part lies.
    pub offset: u64,
    /// The part.
    pub bytes: &'a [u8],
}

impl<'a> SegmentBlock<'a> {
    /// Writes the raw bytes of the block and returns their length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let header = Self {
            bytes: &[],
            ..*self
        };
        header.write_header(out)?;
        let mut writer = Writer::new(out.get_mut(HEADER_LEN..).unwrap_or_default());
        writer.put(self.bytes)?;
        Ok(HEADER_LEN.saturating_add(self.bytes.len()))
    }

    /// Writes only the header; the caller put the part behind its [`HEADER_LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn write_header(&self, out: &mut [u8]) -> Result<(), Error> {
        let mut writer = Writer::new(out);
        writer.u32(self.index)?;
        writer.u32(0)?;
        writer.u64(self.address)?;
        writer.u64(self.total_len)?;
        writer.u64(self.offset)
    }

    /// Reads the raw bytes of a block.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::BadValue`] when the part leaves the whole.
    pub fn decode(raw: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(raw);
        let index = reader.u32()?;
        reader.u32()?;
        let address = reader.u64()?;
        let total_len = reader.u64()?;
        let offset = reader.u64()?;
        let bytes = reader.rest();
        match offset.checked_add(bytes.len() as u64) {
            Some(end) if end <= total_len => Ok(Self {
                index,
                address,
                total_len,
                offset,
                bytes,
            }),
            _ => Err(Error::BadValue {
                offset: 24,
                value: offset,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: SegmentBlock<'static> = SegmentBlock {
        index: 1,
        address: 0x4100_0000,
        total_len: 6,
        offset: 4,
        bytes: b"ef",
    };

    #[test]
    fn segment_of_version_1_has_its_golden_bytes() {
        let mut out = [0xff; 34];
        assert_eq!(SAMPLE.encode(&mut out), Ok(34));
        #[rustfmt::skip]
        assert_eq!(out, [
            1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0,
            6, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, b'e', b'f',
        ]);
        assert_eq!(SegmentBlock::decode(&out), Ok(SAMPLE));
    }

    #[test]
    fn segment_leaving_its_whole_is_refused() {
        let mut out = [0; 34];
        SAMPLE.encode(&mut out).unwrap();
        out[24] = 5;
        assert_eq!(
            SegmentBlock::decode(&out),
            Err(Error::BadValue {
                offset: 24,
                value: 5
            })
        );
        out[24..32].fill(0xff);
        assert!(SegmentBlock::decode(&out).is_err());
    }

    #[test]
    fn segment_cut_short_is_refused() {
        assert!(matches!(
            SegmentBlock::decode(&[0; 31]),
            Err(Error::Truncated { .. })
        ));
        assert!(SAMPLE.encode(&mut [0; 33]).is_err());
    }
}
