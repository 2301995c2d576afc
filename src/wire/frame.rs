// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames: header, payload, CRC-32C; COBS between zero bytes.

use cobs::CobsEncoder;
use crc::{CRC_32_ISCSI, Crc, Table};

use crate::cursor::{Reader, Writer};
use crate::{Error, VERSION};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 10;
/// Longest payload in bytes.
pub const PAYLOAD_MAX: usize = 4096;
/// Bytes of the CRC-32C.
pub const CRC_LEN: usize = 4;
/// Longest frame before COBS.
pub const RAW_MAX: usize = HEADER_LEN + PAYLOAD_MAX + CRC_LEN;
/// Longest frame after COBS, without the zero bytes around it.
pub const ENCODED_MAX: usize = RAW_MAX + RAW_MAX / 254 + 1;
/// Longest frame on the line: a buffer of this size takes any frame.
pub const LINE_MAX: usize = ENCODED_MAX + 2;

/// Versions from 1 to this are kept free of the codes of console text (backspace is 8), so that text and frames part.
pub(crate) const VERSION_CODE_MAX: u8 = 6;

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What a frame's payload is. Numbers not named here are reserved; docs/protocol.md lists what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// [`crate::Manifest`], or one part of it.
    Manifest,
    /// A piece of a block ([`crate::block::Piece`]).
    Block,
    /// [`crate::Summary`].
    Summary,
    /// [`crate::Finished`].
    Finished,
    /// What the host has ([`crate::Status`]); host to target.
    Status,
    /// Hashes of pages, before they are sent ([`crate::Offer`]).
    Offer,
    /// Erasure parity over a group of frames ([`crate::parity`]).
    Parity,
    /// Which of the pages offered are wanted ([`crate::Want`]); host to target.
    Want,
    /// A change of speed ([`crate::BaudChange`]); both ways.
    Baud,
    /// Asks the host for a status; no payload.
    Poll,
}

impl FrameType {
    /// Returns the type's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Manifest => 1,
            Self::Block => 2,
            Self::Summary => 3,
            Self::Finished => 4,
            Self::Status => 5,
            Self::Offer => 6,
            Self::Parity => 7,
            Self::Baud => 9,
            Self::Want => 10,
            Self::Poll => 11,
        }
    }

    /// Returns the type with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Manifest),
            2 => Some(Self::Block),
            3 => Some(Self::Summary),
            4 => Some(Self::Finished),
            5 => Some(Self::Status),
            6 => Some(Self::Offer),
            7 => Some(Self::Parity),
            9 => Some(Self::Baud),
            10 => Some(Self::Want),
            11 => Some(Self::Poll),
            _ => None,
        }
    }
}

/// A frame's header.
///
/// Layout: version u8, type u8, dump id u32, sequence u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Protocol version.
    pub version: u8,
    /// Type, as a number: it may be one that this version does not know.
    pub kind: u8,
    /// The first four bytes of the dump id.
    pub dump: u32,
    /// Counts the frames of a dump from 0; a jump shows a loss.
    pub sequence: u32,
}

impl Header {
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            version: reader.u8()?,
            kind: reader.u8()?,
            dump: reader.u32()?,
            sequence: reader.u32()?,
        })
    }
}

/// A frame that arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header; its version is one that this code reads.
    pub header: Header,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Returns the type, when this version knows it.
    #[must_use]
    pub const fn kind(&self) -> Option<FrameType> {
        FrameType::from_code(self.header.kind)
    }

    /// Reads a frame after COBS was undone; `None` when its CRC disagrees or it is too short.
    pub(crate) fn decode(raw: &'a [u8]) -> Option<Self> {
        let (body, crc) = raw.split_last_chunk::<CRC_LEN>()?;
        if CRC.checksum(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut reader = Reader::new(body);
        let header = Header::take(&mut reader).ok()?;
        Some(Self {
            header,
            payload: reader.rest(),
        })
    }
}

/// Bytes that a frame adds to its payload: zero bytes, header, CRC, and the least that COBS takes.
pub const OVERHEAD: usize = 2 + HEADER_LEN + CRC_LEN + 1;

/// The sending side's count of frames.
#[derive(Clone, Debug)]
pub struct Sender {
    dump: u32,
    sequence: u32,
    line_bytes: u64,
}

impl Sender {
    /// Starts at sequence 0 for the dump of this short id ([`short_id`]).
    #[must_use]
    pub const fn new(dump: u32) -> Self {
        Self {
            dump,
            sequence: 0,
            line_bytes: 0,
        }
    }

    /// Goes on at another sequence number.
    pub(crate) const fn go_on_at(&mut self, sequence: u32) {
        self.sequence = sequence;
    }

    /// Writes a frame with this payload, in two parts, and returns its bytes on the line.
    ///
    /// # Errors
    /// [`Error::TooLong`] past [`PAYLOAD_MAX`]; [`Error::BufferTooSmall`], never with [`LINE_MAX`] bytes.
    pub fn frame(
        &mut self,
        kind: FrameType,
        payload: [&[u8]; 2],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let len = payload
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if len > PAYLOAD_MAX {
            return Err(Error::TooLong {
                len: len as u64,
                limit: PAYLOAD_MAX as u64,
            });
        }
        let mut header = [0; HEADER_LEN];
        let mut writer = Writer::new(&mut header);
        writer.u8(VERSION)?;
        writer.u8(kind.code())?;
        writer.u32(self.dump)?;
        writer.u32(self.sequence)?;
        let mut digest = CRC.digest();
        digest.update(&header);
        payload.iter().for_each(|part| digest.update(part));
        let crc = digest.finalize().to_le_bytes();

        let have = out.len() as u64;
        let too_small = Error::BufferTooSmall {
            needed: LINE_MAX as u64,
            have,
        };
        let (first, rest) = out.split_first_mut().ok_or(too_small)?;
        let mut encoder = CobsEncoder::new(rest);
        // An empty push after a full group would count a byte too many.
        for part in [&header, payload[0], payload[1], &crc] {
            if !part.is_empty() {
                encoder.push(part).map_err(|_| too_small)?;
            }
        }
        let encoded = encoder.finalize();
        *first = 0;
        *rest.get_mut(encoded).ok_or(too_small)? = 0;
        self.sequence = self.sequence.wrapping_add(1);
        let line = encoded.saturating_add(2);
        self.line_bytes = self.line_bytes.saturating_add(line as u64);
        Ok(line)
    }

    /// Returns how many frames were made.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.sequence
    }

    /// Returns how many bytes on the line they took.
    #[must_use]
    pub const fn line_bytes(&self) -> u64 {
        self.line_bytes
    }
}

/// Returns the part of a dump id that frames carry: its first four bytes.
#[must_use]
pub const fn short_id(dump_id: [u8; 16]) -> u32 {
    let [a, b, c, d, ..] = dump_id;
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u32 = 0xd4d3_d2d1;

    #[test]
    fn frame_of_version_1_is_read() {
        #[rustfmt::skip]
        let mut line = [7, 1, 4, 0xd1, 0xd2, 0xd3, 0xd4, 1, 1, 1, 3, 1, 2, 5, 0x88, 0x5c, 0xd9, 0x5c];
        let len = cobs::decode_in_place(&mut line).unwrap();
        let frame = Frame::decode(&line[..len]).unwrap();
        assert_eq!((frame.header.version, frame.header.dump), (1, ID));
        assert_eq!(frame.kind(), Some(FrameType::Finished));
        assert_eq!(frame.payload, [1, 2, 0]);
    }

    #[test]
    fn frame_of_version_2_has_its_golden_bytes() {
        let mut out = [0xff; 32];
        let mut sender = Sender::new(ID);
        let len = sender
            .frame(FrameType::Finished, [&[1], &[2, 0]], &mut out)
            .unwrap();
        #[rustfmt::skip]
        assert_eq!(out[..len], [
            0, 7, 2, 4, 0xd1, 0xd2, 0xd3, 0xd4, 1, 1, 1, 3, 1, 2, 5, 0x27, 0x14, 0xaf, 0x0d, 0,
        ]);
        assert_eq!(sender.frames(), 1);
        assert_eq!(sender.line_bytes(), len as u64);
    }

    #[test]
    fn frame_with_payload_past_the_limit_is_refused() {
        let error = Sender::new(ID)
            .frame(
                FrameType::Block,
                [&[0; PAYLOAD_MAX], &[0]],
                &mut [0; LINE_MAX],
            )
            .unwrap_err();
        assert_eq!(
            error,
            Error::TooLong {
                len: 4097,
                limit: 4096
            }
        );
    }

    #[test]
    fn frame_without_room_is_refused_and_not_counted() {
        let mut sender = Sender::new(ID);
        assert!(
            sender
                .frame(FrameType::Block, [&[1; 20], &[]], &mut [0; 36])
                .is_err()
        );
        assert!(
            sender
                .frame(FrameType::Block, [&[1; 20], &[]], &mut [])
                .is_err()
        );
        assert_eq!(sender.frames(), 0);
    }

    #[test]
    fn longest_frame_without_zeros_fits_the_line_buffer() {
        let mut out = [0; LINE_MAX];
        let len = Sender::new(u32::MAX)
            .frame(FrameType::Block, [&[0xff; PAYLOAD_MAX], &[]], &mut out)
            .unwrap();
        assert!(len <= LINE_MAX);
        assert!(!out[1..len - 1].contains(&0));
    }

    #[test]
    fn frame_type_codes_round_trip() {
        let known = (0..=u8::MAX)
            .filter_map(FrameType::from_code)
            .map(FrameType::code);
        assert!(known.eq([1, 2, 3, 4, 5, 6, 7, 9, 10, 11]));
    }
}
