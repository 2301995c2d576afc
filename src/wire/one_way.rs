// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sender that needs next to nothing: stored blocks, one way, a KiB of stack.
//!
//! For a kernel that has to send its own dump because no capture kernel can: nothing is packed, kept or waited for, and nobody is
//! listened to. What it sends is what [`crate::Target`] would send to a line on which nobody answers, without parity.

use sha2::{Digest, Sha256};

use crate::block::{DESCRIPTOR_LEN, PIECE_HEADER_LEN, Piece, TreeHash, hash_of};
use crate::cursor::{VARINT_MAX, Writer};
use crate::frame::{OVERHEAD, short_id};
use crate::manifest::{PART_MAX, Pass, Range};
use crate::memory_block::{COUNT_LEN, Run};
use crate::segment_block::HEADER_LEN;
use crate::summary::CLASSES;
use crate::{
    BlockKind, Codec, Descriptor, Error, Finished, FrameType, Manifest, Moved, PAGE_SIZE,
    PageClass, SegmentBlock, Sender, Summary,
};

/// Bytes of a block in a frame: short, because a frame that is damaged is lost.
const PIECE_LEN: usize = 1024;
/// Longest frame on the line: COBS adds a byte for every 254.
const LINE_LEN: usize = OVERHEAD + PIECE_HEADER_LEN + PIECE_LEN + PIECE_LEN / 254 + 1;
/// Bytes of the longest table of one run, its length included.
const TABLE_LEN: usize = COUNT_LEN + 3 * VARINT_MAX;

const _: () = assert!(PART_MAX <= PIECE_LEN && Summary::LEN <= PIECE_LEN);

/// Sends one dump through `write`, which takes all bytes that it is given or has nowhere to put them.
#[derive(Debug)]
pub struct OneWay<W> {
    write: W,
    sender: Sender,
    tree: TreeHash,
    blocks: u32,
    pages: [u64; CLASSES],
}

impl<W: FnMut(&[u8])> OneWay<W> {
    /// Starts the dump of this id.
    pub fn new(dump_id: [u8; 16], write: W) -> Self {
        Self {
            write,
            sender: Sender::new(short_id(dump_id)),
            tree: TreeHash::new(),
            blocks: 0,
            pages: [0; CLASSES],
        }
    }

    /// Numbers frames from `sequence` on.
    pub const fn go_on_at(&mut self, sequence: u32) {
        self.sender.go_on_at(sequence);
    }

    /// Begins a round: from the manifest and block 0 on, everything is sent (again).
    ///
    /// # Errors
    /// [`Error::TooLong`] for more ranges than a manifest has room for.
    pub fn begin(&mut self, manifest: &Manifest, ranges: &[Range], round: u8) -> Result<(), Error> {
        (self.blocks, self.pages) = (0, [0; CLASSES]);
        self.tree = TreeHash::new();
        let pass = Pass { session: 0, round };
        for part in 0..Manifest::parts(ranges.len())? {
            let mut payload = [0; PART_MAX];
            let len = manifest.encode_part(ranges, part, pass, &mut payload)?;
            let payload = payload.get(..len).unwrap_or_default();
            self.frame(FrameType::Manifest, [payload, &[]])?;
        }
        Ok(())
    }

    /// Sends a part of a note buffer or of a text as a block of its own.
    ///
    /// # Errors
    /// [`Error::TooLong`] past the longest block.
    pub fn segment(&mut self, kind: BlockKind, part: &SegmentBlock<'_>) -> Result<(), Error> {
        let mut head = [0; HEADER_LEN];
        part.write_header(&mut head)?;
        self.block(kind, &head, part.bytes)
    }

    /// Sends the page at physical address `pa` as a block of its own.
    ///
    /// # Errors
    /// [`Error::BadRun`] when `pa` is not page-aligned.
    pub fn page(&mut self, pa: u64, bytes: &[u8; PAGE_SIZE]) -> Result<(), Error> {
        self.memory(&Run::new(pa, 1, PageClass::Data), bytes)
    }

    /// Sends what became of pages whose bytes are not sent.
    ///
    /// # Errors
    /// [`Error::BadRun`]; [`Error::UnknownPageClass`] for data, which only [`OneWay::page`] sends.
    pub fn run(&mut self, run: &Run) -> Result<(), Error> {
        match run.class {
            PageClass::Data => Err(Error::UnknownPageClass(run.class.code())),
            _ => self.memory(run, &[]),
        }
    }

    /// Ends a round with a summary; `ticks` are the counter at its first frame, and now.
    ///
    /// # Errors
    /// None: the frame's length is fixed.
    pub fn end(&mut self, ticks: (u64, u64)) -> Result<(), Error> {
        let summary = Summary {
            blocks: self.blocks,
            frames: self.sender.frames(),
            pages: self.pages,
            tree_hash: self.tree.value(),
            line_bytes: self.sender.line_bytes(),
            ticks_begin: ticks.0,
            ticks_end: ticks.1,
            ticks_entry: 0,
            moved: Moved::default(),
        };
        let mut payload = [0; Summary::LEN_MAX];
        let len = summary.encode(&mut payload)?;
        let payload = payload.get(..len).unwrap_or_default();
        self.frame(FrameType::Summary, [payload, &[]])
    }

    /// Sends the last frame.
    ///
    /// # Errors
    /// None: the frame's length is fixed.
    pub fn finish(&mut self, finished: Finished) -> Result<(), Error> {
        self.frame(FrameType::Finished, [&finished.encode(), &[]])
    }

    fn memory(&mut self, run: &Run, bytes: &[u8]) -> Result<(), Error> {
        run.end()?;
        let mut table = [0; TABLE_LEN];
        let mut writer = Writer::new(table.get_mut(COUNT_LEN..).unwrap_or_default());
        run.write(&mut writer, 0)?;
        let len = writer.offset();
        Writer::new(&mut table).u16(u16::try_from(len).unwrap_or(u16::MAX))?;
        let table = table.get(..COUNT_LEN.saturating_add(len));
        self.block(BlockKind::Memory, table.unwrap_or_default(), bytes)?;
        if let Some(count) = self.pages.get_mut(usize::from(run.class.code())) {
            *count = count.saturating_add(u64::from(run.pages));
        }
        Ok(())
    }

    /// Sends a block whose raw bytes are `head` and `body`. The head, with the descriptor, has a frame of its own: so nothing has to be
    /// put together.
    fn block(&mut self, kind: BlockKind, head: &[u8], body: &[u8]) -> Result<(), Error> {
        let raw_len = u32::try_from(head.len().saturating_add(body.len())).unwrap_or(u32::MAX);
        let number = self.blocks;
        let descriptor = Descriptor {
            number,
            kind,
            codec: Codec::Stored,
            is_partial: false,
            raw_len,
            packed_len: raw_len,
            hash: hash_of(Sha256::new().chain_update(head).chain_update(body)),
        };
        descriptor.check()?;
        let mut first = [0; DESCRIPTOR_LEN + HEADER_LEN + TABLE_LEN];
        let mut writer = Writer::new(&mut first);
        writer.put(&descriptor.encode()?)?;
        writer.put(head)?;
        let mut offset = writer.offset();
        let first = first.get(..offset).unwrap_or_default();
        self.frame(FrameType::Block, [&Piece::header(number, 0), first])?;
        for piece in body.chunks(PIECE_LEN) {
            let header = Piece::header(number, u32::try_from(offset).unwrap_or(u32::MAX));
            self.frame(FrameType::Block, [&header, piece])?;
            offset = offset.saturating_add(piece.len());
        }
        self.tree.add(&descriptor.hash);
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }

    fn frame(&mut self, kind: FrameType, payload: [&[u8]; 2]) -> Result<(), Error> {
        let mut line = [0; LINE_LEN];
        let len = self.sender.frame(kind, payload, &mut line)?;
        (self.write)(line.get(..len).unwrap_or_default());
        Ok(())
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::assembler::{Assembler, Block, Outcome};
    use crate::block::block_hash;
    use crate::manifest::Source;
    use crate::receiver::{Event, Receiver};
    use crate::{Frame, Next};
    use std::vec::Vec;

    const ID: [u8; 16] = *b"\xd1\xd2\xd3\xd4 the dump id";
    const RAM: u64 = 0x4000_0000;

    fn page_of(seed: usize) -> [u8; PAGE_SIZE] {
        core::array::from_fn(|at| (at.wrapping_mul(seed) >> 3) as u8)
    }

    /// Sends a dump of a note, two pages and the rest in `rounds`; returns the line.
    fn send(rounds: u8) -> Vec<u8> {
        let mut line = Vec::new();
        let mut sender = OneWay::new(ID, |bytes: &[u8]| line.extend_from_slice(bytes));
        let manifest = Manifest {
            range_count: 1,
            note_segments: 1,
            is_minimal: true,
            ..Manifest::new(ID, Source::Afterimage)
        };
        let ranges = [Range {
            vaddr: RAM,
            paddr: RAM,
            len: 10 << 12,
            flags: 7,
        }];
        for round in 0..rounds {
            sender.begin(&manifest, &ranges, round).unwrap();
            let note = SegmentBlock {
                index: 0,
                address: RAM,
                total_len: 3000,
                offset: 0,
                bytes: &[0xab; 3000],
            };
            sender.segment(BlockKind::Notes, &note).unwrap();
            sender.page(RAM + (3 << 12), &page_of(7)).unwrap();
            sender.page(RAM, &page_of(31)).unwrap();
            let zero = Run::new(RAM + (1 << 12), 2, PageClass::Zero);
            sender.run(&zero).unwrap();
            let rest = Run::new(RAM + (4 << 12), 6, PageClass::Skipped);
            sender.run(&rest).unwrap();
            sender.end((5, 9)).unwrap();
        }
        sender
            .finish(Finished {
                next: Next::Halt,
                is_cut_short: false,
            })
            .unwrap();
        line
    }

    fn receive(line: &[u8]) -> (Assembler, Vec<Block>) {
        let mut host = Assembler::new(short_id(ID));
        let mut blocks = Vec::new();
        let mut see = |event: Event<'_>| {
            if let Event::Frame(frame) = event
                && let Ok(Outcome::Block(block)) = host.accept(&Frame { ..frame })
            {
                blocks.push(block);
            }
        };
        let mut receiver = Receiver::new();
        receiver.push(line, &mut see);
        receiver.finish(&mut see);
        (host, blocks)
    }

    #[test]
    fn dump_sent_one_way_is_whole() {
        let (host, blocks) = receive(&send(1));
        assert!(host.verdict().is_whole(), "{:?}", host.verdict());
        assert!(host.manifest().is_some_and(|manifest| manifest.is_minimal));
        assert_eq!(host.finished().map(|last| last.next), Some(Next::Halt));
        let [notes, first, second, ..] = &blocks[..] else {
            panic!("{} blocks", blocks.len());
        };
        assert_eq!(notes.segment().unwrap().bytes, [0xab; 3000]);
        let runs = |block: &Block| block.memory().unwrap().runs().next().unwrap().0;
        assert_eq!(
            runs(first),
            Run::new(RAM + (3 << 12), 1, PageClass::Data),
            "in the order in which they were sent"
        );
        assert!(second.raw.ends_with(&page_of(31)));
        assert_eq!(host.pages()[usize::from(PageClass::Skipped.code())], 6);
    }

    #[test]
    fn frames_lost_in_one_round_come_in_the_next() {
        let line = send(2);
        let mut damaged = line.clone();
        // A byte in the first round, another in the second.
        for at in [700, line.len() * 3 / 4] {
            damaged[at] ^= 0x55;
        }
        let (host, _) = receive(&damaged);
        assert!(host.verdict().is_whole(), "{:?}", host.verdict());
    }

    #[test]
    fn frames_lost_in_the_only_round_are_named() {
        let mut line = send(1);
        line[700] ^= 0x55;
        let (host, _) = receive(&line);
        assert!(!host.verdict().is_whole());
        assert_eq!(host.missing(), [0..=0]);
    }

    #[test]
    fn run_of_data_without_bytes_is_refused() {
        let mut sender = OneWay::new(ID, |_: &[u8]| panic!("nothing is sent"));
        let run = Run::new(RAM, 1, PageClass::Data);
        assert_eq!(sender.run(&run), Err(Error::UnknownPageClass(0)));
        assert!(sender.page(RAM + 1, &[0; PAGE_SIZE]).is_err());
        let empty = Run::new(RAM, 0, PageClass::Zero);
        assert!(sender.run(&empty).is_err());
    }

    #[test]
    fn hash_in_two_parts_is_that_of_the_whole() {
        let whole = page_of(3);
        let (head, body) = whole.split_at(45);
        let digest = Sha256::new().chain_update(head).chain_update(body);
        assert_eq!(hash_of(digest), block_hash(&whole));
    }
}
