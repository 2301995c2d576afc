// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with what came over the line, with the offending value.

use core::fmt;

/// Why something could not be sent or was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The output buffer ends too early. Both in bytes.
    BufferTooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        have: u64,
    },
    /// The input ends inside a field.
    Truncated {
        /// Where the field starts.
        offset: u64,
        /// Bytes of the field.
        needed: u64,
        /// Bytes left.
        have: u64,
    },
    /// A length passes its limit.
    TooLong {
        /// The length in bytes, or the number of entries.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A field holds a value that its payload does not allow.
    BadValue {
        /// Where, in bytes from the start of the payload.
        offset: u64,
        /// What stands there.
        value: u64,
    },
    /// No decoder for this codec.
    UnknownCodec(u8),
    /// A kind of block that this version does not know.
    UnknownBlockKind(u8),
    /// A page class that this version does not know.
    UnknownPageClass(u8),
    /// A piece lies outside its block.
    PieceOutside {
        /// Block number.
        block: u32,
        /// Offset of the piece in the encoded block.
        offset: u32,
        /// Bytes of the piece.
        len: u32,
        /// Bytes of the encoded block.
        encoded_len: u32,
    },
    /// Two pieces of one block disagree about the block.
    BlockConflict {
        /// Block number.
        block: u32,
    },
    /// A block does not decode, or to another length than it announced.
    BlockLength {
        /// Block number.
        block: u32,
        /// Announced length.
        announced: u32,
    },
    /// A block does not decode to the bytes that its hash announced.
    BlockHash {
        /// Block number.
        block: u32,
    },
    /// A block number past the limit of what is kept.
    BlockNumber {
        /// Block number.
        block: u32,
        /// The limit.
        limit: u32,
    },
    /// A run of pages that is not page-aligned or passes 2^64.
    BadRun {
        /// Physical address.
        pa: u64,
        /// Pages.
        pages: u32,
    },
    /// The page data of a memory block has another length than its runs say.
    DataLength {
        /// Bytes that the runs say.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A manifest part that disagrees with the parts before.
    ManifestPart {
        /// Number of the part.
        part: u8,
        /// Number of parts that it says there are.
        parts: u8,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferTooSmall { needed, have } => {
                write!(f, "buffer of {have} bytes, {needed} needed")
            }
            Self::Truncated {
                offset,
                needed,
                have,
            } => {
                write!(
                    f,
                    "truncated at offset {offset}: {needed} bytes needed, {have} left"
                )
            }
            Self::TooLong { len, limit } => write!(f, "length {len} passes the limit {limit}"),
            Self::BadValue { offset, value } => {
                write!(f, "bad value {value:#x} at offset {offset}")
            }
            Self::UnknownCodec(codec) => write!(f, "unknown codec {codec}"),
            Self::UnknownBlockKind(kind) => write!(f, "unknown kind of block {kind}"),
            Self::UnknownPageClass(class) => write!(f, "unknown page class {class}"),
            Self::PieceOutside {
                block,
                offset,
                len,
                encoded_len,
            } => {
                write!(
                    f,
                    "block {block}: piece of {len} bytes at {offset} leaves its {encoded_len} bytes"
                )
            }
            Self::BlockConflict { block } => write!(f, "block {block}: pieces disagree"),
            Self::BlockLength { block, announced } => {
                write!(
                    f,
                    "block {block}: does not decode to the {announced} bytes announced"
                )
            }
            Self::BlockHash { block } => write!(f, "block {block}: hash disagrees"),
            Self::BlockNumber { block, limit } => {
                write!(f, "block {block}: number passes the limit {limit}")
            }
            Self::BadRun { pa, pages } => write!(f, "bad run of {pages} pages at {pa:#x}"),
            Self::DataLength { expected, found } => {
                write!(
                    f,
                    "runs say {expected} bytes of page data, {found} are there"
                )
            }
            Self::ManifestPart { part, parts } => {
                write!(f, "manifest part {part} of {parts} disagrees")
            }
        }
    }
}

impl core::error::Error for Error {}
