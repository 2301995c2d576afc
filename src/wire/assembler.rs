// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's end: frames in, whole blocks out, and a list of what is missing.
//!
//! Bounded in everything that the line can make grow: blocks in the making, blocks known, ranges. A block comes out only
//! after its length and hash were found right.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::block::{BlockHash, BlockHeader, Piece, TreeHash, block_hash};
use crate::frame::{Frame, FrameType, short_id};
use crate::manifest::{Manifest, Part, Range};
use crate::memory_block::{MemoryBlock, PageClass};
use crate::segment_block::SegmentBlock;
use crate::summary::{CLASSES, Finished, Summary};
use crate::{BlockKind, Error, codec};

/// Most blocks of a dump: 2^22 blocks of 15 pages are 240 GiB of data.
pub const BLOCKS_MAX: u32 = 1 << 22;
/// Most blocks in the making: the oldest is given up for a new one.
pub const PENDING_MAX: usize = 32;

/// A whole block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u32,
    /// What its bytes are.
    pub kind: BlockKind,
    /// Its raw bytes; their layout was found right.
    pub raw: Vec<u8>,
}

impl Block {
    /// Returns the runs of a memory block.
    ///
    /// # Errors
    /// [`Error::UnknownBlockKind`] when it is another kind.
    pub fn memory(&self) -> Result<MemoryBlock<'_>, Error> {
        match self.kind {
            BlockKind::Memory => MemoryBlock::decode(&self.raw),
            kind => Err(Error::UnknownBlockKind(kind.code())),
        }
    }

    /// Returns the segment's part of any other block.
    ///
    /// # Errors
    /// [`Error::UnknownBlockKind`] when it is a memory block.
    pub fn segment(&self) -> Result<SegmentBlock<'_>, Error> {
        match self.kind {
            BlockKind::Memory => Err(Error::UnknownBlockKind(self.kind.code())),
            _ => SegmentBlock::decode(&self.raw),
        }
    }
}

/// What a frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to act on: a piece, a repetition, or a type that this version does not know.
    Nothing,
    /// The frame is of another dump, of this short id; it was left alone.
    OtherDump(u32),
    /// The manifest is complete.
    Manifest,
    /// A block is whole.
    Block(Block),
    /// The summary came.
    Summary(Summary),
    /// The dump is over.
    Finished(Finished),
}

/// How what arrived compares with the summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Numbers of blocks that did not arrive whole.
    pub missing: Vec<RangeInclusive<u32>>,
    /// Whether the summary itself arrived.
    pub has_summary: bool,
    /// Whether the tree hash agrees; false while anything is missing.
    pub is_tree_hash_right: bool,
    /// Whether the pages of each class are as many as the summary says; false while anything is missing.
    pub are_page_counts_right: bool,
}

impl Verdict {
    /// Tells whether all that was sent is here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.has_summary && self.is_tree_hash_right && self.are_page_counts_right
    }
}

/// A block of which pieces are missing.
#[derive(Clone, Debug)]
struct Pending {
    header: BlockHeader,
    bytes: Vec<u8>,
    /// Start and end of the parts that are here, disjoint.
    parts: BTreeMap<u32, u32>,
    /// When its last piece came, in frames.
    touched: u64,
}

/// Puts one dump together.
#[derive(Clone, Debug)]
pub struct Assembler {
    dump: u32,
    manifest: Option<Manifest>,
    parts: BTreeMap<u8, Vec<Range>>,
    ranges: Vec<Range>,
    pending: BTreeMap<u32, Pending>,
    done: BTreeMap<u32, BlockHash>,
    /// One more than the highest block number that any piece named.
    seen: u32,
    pages: [u64; CLASSES],
    summary: Option<Summary>,
    finished: Option<Finished>,
    frames: u64,
}

impl Assembler {
    /// Starts for the dump of this short id: that of its first frame's header.
    #[must_use]
    pub const fn new(dump: u32) -> Self {
        Self {
            dump,
            manifest: None,
            parts: BTreeMap::new(),
            ranges: Vec::new(),
            pending: BTreeMap::new(),
            done: BTreeMap::new(),
            seen: 0,
            pages: [0; CLASSES],
            summary: None,
            finished: None,
            frames: 0,
        }
    }

    /// Takes in a frame.
    ///
    /// # Errors
    /// What is wrong with its payload, or with the block that it completed; the frame is then as good as lost.
    pub fn accept(&mut self, frame: &Frame<'_>) -> Result<Outcome, Error> {
        if frame.header.dump != self.dump {
            return Ok(Outcome::OtherDump(frame.header.dump));
        }
        self.frames = self.frames.saturating_add(1);
        match frame.kind() {
            Some(FrameType::Manifest) => self.accept_manifest(&Part::decode(frame.payload)?),
            Some(FrameType::Block) => self.accept_piece(&Piece::decode(frame.payload)?),
            Some(FrameType::Summary) => {
                let summary = Summary::decode(frame.payload)?;
                self.summary = Some(summary);
                Ok(Outcome::Summary(summary))
            }
            Some(FrameType::Finished) => {
                let finished = Finished::decode(frame.payload)?;
                self.finished = Some(finished);
                Ok(Outcome::Finished(finished))
            }
            None => Ok(Outcome::Nothing),
        }
    }

    /// Returns the short id of the dump.
    #[must_use]
    pub const fn dump(&self) -> u32 {
        self.dump
    }

    /// Returns the manifest's fixed fields, as soon as one part came.
    #[must_use]
    pub const fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Returns the memory ranges; empty until all parts of the manifest came.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Returns the summary.
    #[must_use]
    pub const fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// Returns what the last frame said.
    #[must_use]
    pub const fn finished(&self) -> Option<&Finished> {
        self.finished.as_ref()
    }

    /// Returns how many blocks are whole.
    #[must_use]
    pub fn blocks_done(&self) -> usize {
        self.done.len()
    }

    /// Returns how many pages of each class whole blocks described, by the class's number.
    #[must_use]
    pub const fn pages(&self) -> &[u64; CLASSES] {
        &self.pages
    }

    /// Returns the numbers of blocks that are not whole: below the summary's count, or below the highest seen.
    #[must_use]
    pub fn missing(&self) -> Vec<RangeInclusive<u32>> {
        let announced = self
            .summary
            .map_or(0, |summary| summary.blocks.min(BLOCKS_MAX));
        let end = announced.max(self.seen);
        let mut missing = Vec::new();
        let mut next = 0_u32;
        for &number in self.done.keys().chain([&end]) {
            if number > next {
                missing.push(next..=number.saturating_sub(1));
            }
            next = number.saturating_add(1);
        }
        missing
    }

    /// Compares what arrived with the summary.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let missing = self.missing();
        let mut tree = TreeHash::new();
        self.done.values().for_each(|hash| tree.add(hash));
        let has_all = |summary: &&Summary| {
            missing.is_empty() && u32::try_from(self.done.len()) == Ok(summary.blocks)
        };
        let complete = self.summary.as_ref().filter(has_all);
        Verdict {
            has_summary: self.summary.is_some(),
            is_tree_hash_right: complete.is_some_and(|summary| summary.tree_hash == tree.value()),
            are_page_counts_right: complete.is_some_and(|summary| summary.pages == self.pages),
            missing,
        }
    }

    fn accept_manifest(&mut self, part: &Part<'_>) -> Result<Outcome, Error> {
        let new = part.manifest;
        let disagrees = Error::ManifestPart {
            part: part.part,
            parts: part.parts,
        };
        if short_id(new.dump_id) != self.dump || self.manifest.is_some_and(|old| old != new) {
            return Err(disagrees);
        }
        self.manifest = Some(new);
        if !self.ranges.is_empty() || self.parts.contains_key(&part.part) {
            return Ok(Outcome::Nothing);
        }
        self.parts.insert(part.part, part.ranges().collect());
        if self.parts.len() < usize::from(part.parts) {
            return Ok(Outcome::Nothing);
        }
        let ranges: Vec<Range> = self.parts.values().flatten().copied().collect();
        if ranges.len() as u64 != u64::from(new.range_count) {
            self.parts.clear();
            return Err(disagrees);
        }
        self.ranges = ranges;
        Ok(Outcome::Manifest)
    }

    fn accept_piece(&mut self, piece: &Piece<'_>) -> Result<Outcome, Error> {
        let header = piece.block;
        let number = header.number;
        if number >= BLOCKS_MAX {
            return Err(Error::BlockNumber {
                block: number,
                limit: BLOCKS_MAX,
            });
        }
        self.seen = self.seen.max(number.saturating_add(1));
        if let Some(hash) = self.done.get(&number) {
            let is_same = *hash == header.hash;
            return if is_same {
                Ok(Outcome::Nothing)
            } else {
                Err(Error::BlockConflict { block: number })
            };
        }
        self.make_room(number);
        let touched = self.frames;
        let pending = self
            .pending
            .entry(number)
            .or_insert_with(|| Pending::new(header));
        if pending.header != header {
            // Which of the two is right only the hash can tell: start over with the newer.
            *pending = Pending::new(header);
            pending.add(piece);
            pending.touched = touched;
            return Err(Error::BlockConflict { block: number });
        }
        pending.add(piece);
        pending.touched = touched;
        if !pending.is_complete() {
            return Ok(Outcome::Nothing);
        }
        let Some(pending) = self.pending.remove(&number) else {
            return Ok(Outcome::Nothing);
        };
        let block = pending.decode()?;
        self.count_pages(&block)?;
        self.done.insert(number, header.hash);
        Ok(Outcome::Block(block))
    }

    /// Gives up the block in the making that was quiet longest, when there are too many.
    fn make_room(&mut self, number: u32) {
        if self.pending.len() < PENDING_MAX || self.pending.contains_key(&number) {
            return;
        }
        let oldest = self
            .pending
            .iter()
            .min_by_key(|(_, pending)| pending.touched);
        if let Some(oldest) = oldest.map(|(&number, _)| number) {
            self.pending.remove(&oldest);
        }
    }

    /// Checks the layout of a block and counts what it describes.
    fn count_pages(&mut self, block: &Block) -> Result<(), Error> {
        if block.kind != BlockKind::Memory {
            return block.segment().map(|_| ());
        }
        for (run, _) in block.memory()?.runs() {
            if let Some(count) = self.pages.get_mut(usize::from(PageClass::code(run.class))) {
                *count = count.saturating_add(u64::from(run.pages));
            }
        }
        Ok(())
    }
}

impl Pending {
    fn new(header: BlockHeader) -> Self {
        // Bounded: a piece's header announces at most RAW_MAX bytes.
        let bytes = vec![0; header.encoded_len as usize];
        Self {
            header,
            bytes,
            parts: BTreeMap::new(),
            touched: 0,
        }
    }

    /// Keeps a piece; where pieces overlap, the later one counts.
    fn add(&mut self, piece: &Piece<'_>) {
        let start = piece.offset as usize;
        let end = start.saturating_add(piece.bytes.len());
        let Some(room) = self.bytes.get_mut(start..end) else {
            return;
        };
        room.copy_from_slice(piece.bytes);
        let (mut start, mut end) = (piece.offset, u32::try_from(end).unwrap_or(u32::MAX));
        let touching = self
            .parts
            .range(..=end)
            .rev()
            .take_while(|(_, until)| **until >= start);
        let touching: Vec<(u32, u32)> = touching.map(|(&from, &until)| (from, until)).collect();
        for (from, until) in touching {
            self.parts.remove(&from);
            (start, end) = (start.min(from), end.max(until));
        }
        self.parts.insert(start, end);
    }

    fn is_complete(&self) -> bool {
        self.parts
            .get(&0)
            .is_some_and(|&end| end == self.header.encoded_len)
    }

    fn decode(self) -> Result<Block, Error> {
        let BlockHeader {
            number,
            kind,
            codec,
            raw_len,
            hash,
            ..
        } = self.header;
        let raw =
            codec::decode(codec, &self.bytes, raw_len as usize).ok_or(Error::BlockLength {
                block: number,
                announced: raw_len,
            })?;
        if block_hash(&raw) != hash {
            return Err(Error::BlockHash { block: number });
        }
        Ok(Block { number, kind, raw })
    }
}

// Whole dumps are too slow under Miri; the decoders that this module uses have tests of their own.
#[cfg(all(test, not(miri)))]
mod tests;
