// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of the sending end, all of fixed size.

use core::cell::Cell;

use crate::offer::{Offer, Want};
use crate::receiver::Receiver;
use crate::status::Status;

use super::window::Part;

/// Frames whose fate is waited for.
pub(super) const RECORDS: usize = 512;
/// Blocks that are remembered as stored: 16 GiB of distinct data, in blocks of 256 KiB.
pub(super) const DONE_BLOCKS: u32 = 1 << 16;
pub(super) const DONE_WORDS: usize = DONE_BLOCKS as usize / u32::BITS as usize;
/// Longest payload of a frame that is no piece.
pub(super) const CONTROL_MAX: usize = if Offer::LEN_MAX > crate::manifest::PART_MAX {
    Offer::LEN_MAX
} else {
    crate::manifest::PART_MAX
};
/// Longest payload of a frame that is read.
pub(super) const INBOX_LEN: usize = 256;
const _: () = assert!(INBOX_LEN >= Status::LEN_MAX && INBOX_LEN >= Want::LEN_MAX);

/// A frame whose fate is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) sequence: u32,
    pub(super) part: Part,
    pub(super) is_live: bool,
}

/// What the sending end keeps in tables of fixed size. For one [`super::Target`].
#[derive(Debug)]
pub struct Tables {
    pub(super) receiver: Receiver,
    pub(super) inbox: [u8; INBOX_LEN],
    pub(super) records: [Record; RECORDS],
    pub(super) done: [u32; DONE_WORDS],
    pub(super) control: [u8; CONTROL_MAX],
}

impl Tables {
    /// Returns empty tables, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        const NO_RECORD: Record = Record {
            sequence: 0,
            part: Part {
                block: 0,
                first_unit: 0,
                units: 0,
            },
            is_live: false,
        };
        Self {
            receiver: Receiver::new(),
            inbox: [0; INBOX_LEN],
            records: [NO_RECORD; RECORDS],
            done: [0; DONE_WORDS],
            control: [0; CONTROL_MAX],
        }
    }

    /// Forgets which frames are on their way.
    pub(super) fn forget_frames(&mut self) {
        self.records
            .iter_mut()
            .for_each(|record| record.is_live = false);
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory that the sending end needs.
#[derive(Debug)]
pub struct Memory<'a> {
    /// Its tables.
    pub tables: &'a mut Tables,
    /// Packed blocks; more than one of the longest.
    pub ring: &'a [Cell<u8>],
    /// [`super::map_words`] of the longest block.
    pub maps: &'a mut [u32],
    /// [`crate::parity::ParityWriter::ROOM`] bytes.
    pub parity: &'a mut [u8],
}

/// What was sent, in bytes on the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames.
    pub frames: u64,
    /// Bytes of all frames.
    pub line_bytes: u64,
    /// Bytes of blocks in them, descriptors included, and of parity.
    pub payload_bytes: u64,
    /// Frames that did not arrive.
    pub lost_frames: u64,
}
