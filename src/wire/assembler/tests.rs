// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the assembler: a whole dump over a line, and over a bad one.

use super::*;
use crate::block::{PackedBlock, RAW_LEN};
use crate::codec::{Encoder, StoredEncoder};
use crate::frame::{LINE_MAX, Sender};
use crate::manifest::{PART_MAX, Source};
use crate::memory_block::{BlockWriter, Run};
use crate::receiver::{Event, Receiver};
use crate::summary::Next;
use proptest::prelude::*;
use std::boxed::Box;

const ID: [u8; 16] = *b"\xd1\xd2\xd3\xd4 the dump id";

/// The sending side: what a capture kernel does.
struct Line {
    sender: Sender,
    frames: Vec<Vec<u8>>,
    encoder: Box<dyn Encoder>,
    tree: TreeHash,
    blocks: u32,
    pages: [u64; CLASSES],
}

impl Line {
    fn new(encoder: impl Encoder + 'static) -> Self {
        Self {
            sender: Sender::new(ID),
            frames: Vec::new(),
            encoder: Box::new(encoder),
            tree: TreeHash::new(),
            blocks: 0,
            pages: [0; CLASSES],
        }
    }

    fn frame(&mut self, kind: FrameType, payload: &[u8]) {
        let mut out = [0; LINE_MAX];
        let len = self.sender.frame(kind, [payload, &[]], &mut out).unwrap();
        self.frames.push(out[..len].to_vec());
    }

    fn manifest(&mut self, ranges: &[Range]) {
        let mut manifest = Manifest::new(ID, Source::Afterimage);
        manifest.range_count = ranges.len() as u32;
        let mut out = [0; PART_MAX];
        for part in 0..Manifest::parts(ranges.len()).unwrap() {
            let len = manifest.encode_part(ranges, part, &mut out).unwrap();
            self.frame(FrameType::Manifest, &out[..len]);
        }
    }

    fn block(&mut self, kind: BlockKind, raw: &[u8]) {
        let mut room = vec![0; raw.len()];
        let mut block =
            PackedBlock::pack(self.blocks, kind, raw, &mut *self.encoder, &mut room).unwrap();
        let mut out = [0; LINE_MAX];
        while let Some(len) = block.next_frame(&mut self.sender, 1024, &mut out).unwrap() {
            self.frames.push(out[..len].to_vec());
        }
        self.tree.add(&block.header().hash);
        self.blocks += 1;
    }

    /// Sends pages of these bytes from `pa` on; zero pages as such.
    fn memory(&mut self, pa: u64, pages: &[u8]) {
        let mut buf = vec![0; RAW_LEN];
        let mut writer = BlockWriter::new(&mut buf).unwrap();
        for (n, &byte) in pages.iter().enumerate() {
            let pa = pa + n as u64 * 4096;
            if byte == 0 {
                let run = Run {
                    pa,
                    pages: 1,
                    class: PageClass::Zero,
                };
                assert!(writer.add_run(run).unwrap());
                self.pages[1] += 1;
            } else {
                writer.page().unwrap().fill(byte);
                assert!(writer.commit_page(pa).unwrap());
                self.pages[0] += 1;
            }
        }
        let raw = writer.finish().unwrap().to_vec();
        self.block(BlockKind::Memory, &raw);
    }

    fn end(&mut self) {
        let summary = Summary {
            blocks: self.blocks,
            frames: self.sender.frames(),
            pages: self.pages,
            tree_hash: self.tree.value(),
            line_bytes: self.sender.line_bytes(),
            ..Summary::default()
        };
        let mut out = [0; Summary::LEN];
        summary.encode(&mut out).unwrap();
        self.frame(FrameType::Summary, &out);
        let finished = Finished {
            next: Next::Reboot,
            is_cut_short: false,
        };
        self.frame(FrameType::Finished, &finished.encode());
    }
}

/// A small dump: manifest, a note, blocks of four pages each with page `n` full of byte `n`, summary.
fn dump(encoder: impl Encoder + 'static, blocks: u8) -> Line {
    let mut line = Line::new(encoder);
    line.manifest(&[Range {
        vaddr: 0,
        paddr: 0,
        len: u64::from(blocks) << 14,
        flags: 7,
    }]);
    let mut note = [0; 64];
    let segment = SegmentBlock {
        index: 0,
        address: 0x9000,
        total_len: 4,
        offset: 0,
        bytes: b"note",
    };
    let len = segment.encode(&mut note).unwrap();
    line.block(BlockKind::Notes, &note[..len]);
    for n in 0..blocks {
        let first = n * 4;
        line.memory(
            u64::from(n) << 14,
            &[first, first + 1, first + 2, first + 3],
        );
    }
    line.end();
    line
}

/// What a host got.
struct Got {
    assembler: Assembler,
    blocks: Vec<Block>,
    errors: Vec<Error>,
}

fn receive(line: &[u8]) -> Got {
    let mut receiver = Receiver::new();
    let mut got = Got {
        assembler: Assembler::new(short_id(ID)),
        blocks: Vec::new(),
        errors: Vec::new(),
    };
    receiver.push(line, |event| {
        if let Event::Frame(frame) = event {
            match got.assembler.accept(&frame) {
                Ok(Outcome::Block(block)) => got.blocks.push(block),
                Ok(_) => {}
                Err(error) => got.errors.push(error),
            }
        }
    });
    got
}

/// Tells whether every data page that came out is full of its own number.
fn is_right(blocks: &[Block]) -> bool {
    let memory = blocks
        .iter()
        .filter(|block| block.kind == BlockKind::Memory);
    memory
        .flat_map(|block| block.memory().unwrap().runs().collect::<Vec<_>>())
        .all(|(run, data)| {
            let first = run.pa >> 12;
            data.chunks(4096)
                .enumerate()
                .all(|(n, page)| page.iter().all(|&byte| u64::from(byte) == first + n as u64))
        })
}

#[test]
fn whole_dump_is_whole() {
    let got = receive(&dump(StoredEncoder, 8).frames.concat());
    assert_eq!(got.errors, []);
    assert_eq!(got.blocks.len(), 9);
    assert_eq!(got.blocks[0].segment().unwrap().bytes, b"note");
    assert!(is_right(&got.blocks));
    assert!(got.assembler.verdict().is_whole());
    assert_eq!(got.assembler.ranges().len(), 1);
    assert_eq!(got.assembler.pages()[..2], [31, 1]);
    assert_eq!(got.assembler.finished().unwrap().next, Next::Reboot);
}

#[cfg(feature = "deflate")]
#[test]
fn whole_dump_deflated_is_whole_and_small() {
    let line = dump(crate::codec::DeflateEncoder::new(6), 8)
        .frames
        .concat();
    assert!(line.len() < 4096);
    let got = receive(&line);
    assert!(got.assembler.verdict().is_whole());
    assert!(is_right(&got.blocks));
}

#[test]
fn lost_frame_costs_its_block_and_is_named() {
    let mut frames = dump(StoredEncoder, 8).frames;
    // 0 manifest, 1 note, 2.. memory blocks.
    frames.remove(5);
    let got = receive(&frames.concat());
    let verdict = got.assembler.verdict();
    assert_eq!(verdict.missing, [1..=1]);
    assert!(!verdict.is_whole());
    assert_eq!(got.blocks.len(), 8);
}

#[test]
fn line_that_ends_early_names_what_it_began() {
    let frames = dump(StoredEncoder, 8).frames;
    let got = receive(&frames[..4].concat());
    assert_eq!(got.assembler.missing(), [1..=1]);
    assert!(!got.assembler.verdict().has_summary);
}

#[test]
fn summary_alone_names_all_blocks_as_missing() {
    let frames = dump(StoredEncoder, 8).frames;
    let got = receive(&frames[frames.len() - 2..].concat());
    assert_eq!(got.assembler.missing(), [0..=8]);
}

#[test]
fn second_round_fills_what_the_first_lost() {
    let frames = dump(StoredEncoder, 8).frames;
    let mut first = frames.clone();
    first.remove(5);
    let got = receive(&[first.concat(), frames.concat()].concat());
    assert!(got.assembler.verdict().is_whole());
    assert_eq!(got.blocks.len(), 9);
}

#[test]
fn pieces_in_reverse_order_make_the_block() {
    let mut frames = dump(StoredEncoder, 2).frames;
    frames.reverse();
    let got = receive(&frames.concat());
    assert!(got.assembler.verdict().is_whole());
}

#[test]
fn frame_of_another_dump_is_left_alone() {
    let line = dump(StoredEncoder, 1).frames.concat();
    let mut assembler = Assembler::new(7);
    let mut outcomes = Vec::new();
    Receiver::new().push(&line, |event| {
        if let Event::Frame(frame) = event {
            outcomes.push(assembler.accept(&frame).unwrap());
        }
    });
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::OtherDump(short_id(ID)))
    );
    assert_eq!(assembler.blocks_done(), 0);
}

/// Makes the payload of a one-piece block.
fn piece(number: u32, codec: u8, raw_len: u32, hash: BlockHash, bytes: &[u8]) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.extend([1, codec, 0, 0]);
    payload.extend(raw_len.to_le_bytes());
    payload.extend((bytes.len() as u32).to_le_bytes());
    payload.extend([0; 4]);
    payload.extend(hash);
    payload.extend(bytes);
    payload
}

fn accept(assembler: &mut Assembler, payload: &[u8]) -> Result<Outcome, Error> {
    let header = crate::frame::Header {
        version: 1,
        kind: 2,
        dump: 0,
        sequence: 0,
    };
    assembler.accept(&Frame { header, payload })
}

#[test]
fn block_with_a_wrong_hash_is_refused_and_missing() {
    let mut assembler = Assembler::new(0);
    let payload = piece(0, 0, 4, [0; 16], &[0; 4]);
    assert_eq!(
        accept(&mut assembler, &payload),
        Err(Error::BlockHash { block: 0 })
    );
    assert_eq!(assembler.missing(), [0..=0]);
}

#[test]
fn block_that_unpacks_to_more_than_it_said_is_refused() {
    // Deflate of a stored block of 4 bytes, announced as 16: and one announced as 9 bytes for a bomb of zeros.
    let mut assembler = Assembler::new(0);
    let stored = [1, 4, 0, 0xfb, 0xff, 0, 0, 0, 0];
    let payload = piece(0, 1, 16, [0; 16], &stored);
    let error = Error::BlockLength {
        block: 0,
        announced: 16,
    };
    assert_eq!(accept(&mut assembler, &payload), Err(error));
    let bomb = [0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14, 0x0c];
    let error = Error::BlockLength {
        block: 1,
        announced: 9,
    };
    assert_eq!(
        accept(&mut assembler, &piece(1, 1, 9, [0; 16], &bomb)),
        Err(error)
    );
}

#[test]
fn block_with_a_right_hash_and_a_bad_layout_is_refused() {
    let mut assembler = Assembler::new(0);
    let raw = [9, 0, 0, 0];
    let payload = piece(0, 0, 4, block_hash(&raw), &raw);
    assert!(matches!(
        accept(&mut assembler, &payload),
        Err(Error::Truncated { .. })
    ));
    assert_eq!(assembler.blocks_done(), 0);
}

#[test]
fn block_number_past_the_limit_is_refused() {
    let payload = piece(BLOCKS_MAX, 0, 4, [0; 16], &[0; 4]);
    let error = Error::BlockNumber {
        block: BLOCKS_MAX,
        limit: BLOCKS_MAX,
    };
    assert_eq!(accept(&mut Assembler::new(0), &payload), Err(error));
}

#[test]
fn block_repeated_with_other_bytes_is_a_conflict() {
    let mut assembler = Assembler::new(0);
    let (one, two) = ([0; 4], [0; 5]);
    accept(&mut assembler, &piece(0, 0, 4, block_hash(&one), &one)).unwrap();
    let again = piece(0, 0, 5, block_hash(&two), &two);
    assert_eq!(
        accept(&mut assembler, &again),
        Err(Error::BlockConflict { block: 0 })
    );
}

#[test]
fn blocks_in_the_making_are_bounded() {
    let mut assembler = Assembler::new(0);
    for number in 0..1000 {
        let mut payload = piece(number, 0, 100, [0; 16], &[0; 4]);
        payload[12] = 100;
        assert_eq!(accept(&mut assembler, &payload), Ok(Outcome::Nothing));
    }
    assert_eq!(assembler.pending.len(), PENDING_MAX);
    assert_eq!(assembler.missing(), [0..=999]);
}

#[test]
fn manifest_in_parts_is_complete_with_the_last() {
    let ranges: Vec<Range> = (0..30)
        .map(|n| Range {
            vaddr: 0,
            paddr: n << 20,
            len: 4096,
            flags: 7,
        })
        .collect();
    let mut line = Line::new(StoredEncoder);
    line.manifest(&ranges);
    assert_eq!(receive(&line.frames[..2].concat()).assembler.ranges(), []);
    assert_eq!(receive(&line.frames.concat()).assembler.ranges(), ranges);
}

#[test]
fn manifest_that_disagrees_with_the_first_is_refused() {
    let mut line = Line::new(StoredEncoder);
    line.manifest(&[Range::default()]);
    line.manifest(&[]);
    let got = receive(&line.frames.concat());
    assert_eq!(got.errors, [Error::ManifestPart { part: 0, parts: 1 }]);
}

proptest! {
    #[test]
    fn bad_line_never_gives_wrong_bytes_and_every_loss_is_named(
        damages in proptest::collection::vec((any::<usize>(), any::<u8>(), 0_u8..5), 0..6),
    ) {
        let mut line = dump(StoredEncoder, 8).frames.concat();
        for &(at, value, what) in &damages {
            let at = at % line.len();
            let end = (at + usize::from(value)).min(line.len());
            match what {
                0 => line[at] ^= value,
                1 => { line.remove(at); }
                2 => line.insert(at, value),
                3 => { line.drain(at..end); }
                _ => { let again = line[at..end].to_vec(); line.splice(at..at, again); }
            }
        }
        let got = receive(&line);
        prop_assert!(is_right(&got.blocks));
        let verdict = got.assembler.verdict();
        let lost: u32 = verdict.missing.iter().map(|range| range.end() - range.start() + 1).sum();
        if verdict.has_summary {
            prop_assert_eq!(got.blocks.len() as u32 + lost, 9);
        }
        prop_assert_eq!(verdict.is_whole(), verdict.has_summary && got.blocks.len() == 9);
    }

    #[test]
    fn frames_lost_and_repeated_at_random_never_give_wrong_bytes(
        keep in proptest::collection::vec(0_u8..3, 200),
    ) {
        let frames = dump(StoredEncoder, 8).frames;
        let line: Vec<u8> = frames
            .iter()
            .zip(&keep)
            .flat_map(|(frame, &times)| frame.repeat(usize::from(times)))
            .collect();
        let got = receive(&line);
        prop_assert!(is_right(&got.blocks));
        prop_assert_eq!(got.errors, []);
        prop_assert_eq!(got.assembler.blocks_done(), got.blocks.len());
    }
}
