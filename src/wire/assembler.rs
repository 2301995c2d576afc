// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's end: frames in, whole blocks out, and a list of what is missing.
//!
//! Bounded in everything that the line can make grow: blocks in the making, blocks known, ranges. A block comes out only
//! after its length and hash were found right.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::block::{BlockHash, Piece, TreeHash};
use crate::frame::{Frame, FrameType, Header, short_id};
use crate::manifest::{Manifest, Part, Pass, Range};
use crate::memory_block::{MemoryBlock, PageClass};
use crate::offer::{Offer, PageHash, Want};
use crate::parity::{Group, Parity};
use crate::segment_block::SegmentBlock;
use crate::summary::{CLASSES, Finished, Summary};
use crate::{BaudChange, BlockKind, Error, v1};

mod offered;
mod pending;

use offered::Offers;
use pending::Pending;

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
    /// The pages of this block were offered, all of them: [`Assembler::answer`] tells which are wanted.
    Offer(u32),
    /// The target asks what is there.
    Poll,
    /// A change of speed.
    Baud(BaudChange),
    /// The summary came.
    Summary,
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

/// Puts one dump together.
#[derive(Clone, Debug)]
pub struct Assembler {
    dump: u32,
    manifest: Option<Manifest>,
    parts: BTreeMap<u8, Vec<Range>>,
    ranges: Vec<Range>,
    pass: Pass,
    pending: BTreeMap<u32, Pending>,
    offers: Offers,
    parity: Group,
    recovered: VecDeque<(Header, Vec<u8>)>,
    /// A block that came whole and was not believed.
    rejected: Option<u32>,
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
            pass: Pass {
                session: 0,
                round: 0,
            },
            pending: BTreeMap::new(),
            offers: Offers::new(),
            parity: Group::new(),
            recovered: VecDeque::new(),
            rejected: None,
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
        let Header {
            version,
            kind,
            sequence,
            ..
        } = frame.header;
        if version > 1 && frame.kind() != Some(FrameType::Parity) {
            self.parity.keep(sequence, kind, frame.payload);
        }
        match frame.kind() {
            Some(FrameType::Manifest) => self.accept_manifest(&Part::decode(frame.payload)?),
            Some(FrameType::Block) if version == 1 => {
                let piece = v1::Piece::decode(frame.payload)?;
                self.accept_piece(
                    piece.block.number,
                    Pending::new_v1(piece.block),
                    |pending| {
                        pending.add(piece.offset, piece.bytes);
                    },
                )
            }
            Some(FrameType::Block) => {
                let piece = Piece::decode(frame.payload)?;
                self.accept_piece(piece.block, Pending::new(), |pending| {
                    pending.add(piece.offset, piece.bytes);
                })
            }
            Some(FrameType::Parity) => {
                let found = self.parity.take(&Parity::decode(frame.payload)?);
                for one in found {
                    let header = Header {
                        kind: one.kind,
                        sequence: one.sequence,
                        ..frame.header
                    };
                    self.recovered.push_back((header, one.payload));
                }
                Ok(Outcome::Nothing)
            }
            Some(FrameType::Offer) => {
                let offer = Offer::decode(frame.payload)?;
                let is_complete = self.offers.add(&offer);
                Ok(if is_complete {
                    Outcome::Offer(offer.block)
                } else {
                    Outcome::Nothing
                })
            }
            Some(FrameType::Poll) => Ok(Outcome::Poll),
            Some(FrameType::Baud) => Ok(Outcome::Baud(BaudChange::decode(frame.payload)?)),
            Some(FrameType::Summary) => {
                self.summary = Some(Summary::decode(frame.payload)?);
                Ok(Outcome::Summary)
            }
            Some(FrameType::Finished) => {
                let finished = Finished::decode(frame.payload)?;
                self.finished = Some(finished);
                Ok(Outcome::Finished(finished))
            }
            Some(FrameType::Status | FrameType::Want) | None => Ok(Outcome::Nothing),
        }
    }

    /// Returns a frame that parity brought back, to be accepted like one that came; call it until there is none.
    pub fn next_recovered(&mut self) -> Option<(Header, Vec<u8>)> {
        self.recovered.pop_front()
    }

    /// Answers an offer: `find` returns the page of a hash, where the host has it. `None` when nothing was offered.
    pub fn answer(
        &mut self,
        block: u32,
        find: impl FnMut(&PageHash) -> Option<Vec<u8>>,
    ) -> Option<Want> {
        self.offers.answer(block, find)
    }

    /// Returns the block that came whole and was not believed, until a piece of it comes again.
    #[must_use]
    pub const fn rejected(&self) -> Option<u32> {
        self.rejected
    }

    /// Returns which sending of the dump the latest manifest began.
    #[must_use]
    pub const fn pass(&self) -> Pass {
        self.pass
    }

    /// Takes over a block that an earlier run of the host stored.
    ///
    /// # Errors
    /// [`Error::BlockNumber`]; what is wrong with its layout.
    pub fn restore(&mut self, block: &Block, hash: BlockHash) -> Result<(), Error> {
        check_number(block.number)?;
        self.count_pages(block)?;
        self.seen = self.seen.max(block.number.saturating_add(1));
        self.done.insert(block.number, hash);
        Ok(())
    }

    /// Counts a block that came whole as missing again: it could not be kept.
    pub fn forget(&mut self, block: &Block) {
        if self.done.remove(&block.number).is_none() || block.kind != BlockKind::Memory {
            return;
        }
        let Ok(memory) = block.memory() else { return };
        for (run, _) in memory.runs() {
            if let Some(count) = self.pages.get_mut(usize::from(PageClass::code(run.class))) {
                *count = count.saturating_sub(u64::from(run.pages));
            }
        }
    }

    /// Returns the numbers and hashes of the blocks that are whole.
    pub fn done(&self) -> impl Iterator<Item = (u32, &BlockHash)> {
        self.done.iter().map(|(&number, hash)| (number, hash))
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
        self.pass = part.pass;
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

    /// Adds a piece to a block in the making, `new` if there is none.
    fn accept_piece(
        &mut self,
        number: u32,
        new: Pending,
        add: impl FnOnce(&mut Pending),
    ) -> Result<Outcome, Error> {
        check_number(number)?;
        self.seen = self.seen.max(number.saturating_add(1));
        if self.done.contains_key(&number) {
            return Ok(Outcome::Nothing);
        }
        if self.rejected == Some(number) {
            self.rejected = None;
        }
        self.make_room(number);
        let touched = self.frames;
        let pending = self.pending.entry(number).or_insert_with(|| new.clone());
        let is_conflict = !pending.is_same_block(&new);
        if is_conflict {
            // Which of the two is right only the hash can tell: start over with the newer.
            *pending = new;
        }
        add(pending);
        pending.touched = touched;
        if is_conflict {
            return Err(Error::BlockConflict { block: number });
        }
        if !pending.is_complete() {
            return Ok(Outcome::Nothing);
        }
        let Some(pending) = self.pending.remove(&number) else {
            return Ok(Outcome::Nothing);
        };
        let unpacked = pending.unpack(number, &self.offers);
        let checked = unpacked.and_then(|(kind, raw, hash)| {
            let block = Block { number, kind, raw };
            self.count_pages(&block)?;
            Ok((block, hash))
        });
        match checked {
            Ok((block, hash)) => {
                self.offers.forget(number);
                self.done.insert(number, hash);
                Ok(Outcome::Block(block))
            }
            Err(error) => {
                self.rejected = Some(number);
                Err(error)
            }
        }
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

fn check_number(number: u32) -> Result<(), Error> {
    if number >= BLOCKS_MAX {
        return Err(Error::BlockNumber {
            block: number,
            limit: BLOCKS_MAX,
        });
    }
    Ok(())
}

// Whole dumps are too slow under Miri; the decoders that this module uses have tests of their own.
#[cfg(all(test, not(miri)))]
mod tests;
