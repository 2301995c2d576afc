// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both ends of a link and what lies between them, for tests.

use core::cell::Cell;
use std::boxed::Box;
use std::vec;

use super::super::*;
use super::{BLOCK_LEN, ID};
use crate::Answers;
use crate::block::{DESCRIPTOR_LEN, Descriptor, block_hash, raw_len};
use crate::frame::LINE_MAX;
use crate::manifest::{PART_MAX, Source};
use crate::memory_block::{BlockWriter, Run, leave_out_known};
use crate::offer::page_hash;
use crate::parity::ParityWriter;
use crate::receiver::{Event, Receiver};
use crate::summary::Next;
use crate::target::{Memory, Target, map_words};
use crate::{Codec, PAGE_SIZE};

/// A machine whose dump is `blocks` blocks of up to four pages.
pub(super) struct Machine {
    pub(super) blocks: Vec<Vec<u8>>,
}

impl Machine {
    pub(super) fn new(blocks: usize) -> Self {
        let make = |number: usize| {
            let mut raw = vec![0; raw_len(4)];
            let mut writer = BlockWriter::new(&mut raw).unwrap();
            for page in 0..3 {
                let bytes = writer.page().unwrap();
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = (at * 7 + number * 31 + page) as u8;
                }
                assert!(
                    writer
                        .commit_page(((number * 4 + page) as u64) << 12)
                        .unwrap()
                );
            }
            let zero = Run::new(((number * 4 + 3) as u64) << 12, 1, PageClass::Zero);
            assert!(writer.add_run(zero).unwrap());
            let len = writer.finish().unwrap();
            raw.truncate(len);
            raw
        };
        Self {
            blocks: (0..blocks).map(make).collect(),
        }
    }

    pub(super) fn manifest(&self) -> (Manifest, [Range; 1]) {
        let mut manifest = Manifest::new(ID, Source::Afterimage);
        manifest.range_count = 1;
        let range = Range {
            len: (self.blocks.len() as u64 * 4) << 12,
            ..Range::default()
        };
        (manifest, [range])
    }

    pub(super) fn summary(&self) -> Summary {
        let mut tree = TreeHash::new();
        self.blocks
            .iter()
            .for_each(|raw| tree.add(&block_hash(raw)));
        let count = self.blocks.len() as u64;
        Summary {
            blocks: self.blocks.len() as u32,
            pages: [3 * count, count, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            tree_hash: tree.value(),
            ..Summary::default()
        }
    }
}

/// The sending end: a producer of blocks around a [`Target`].
pub(super) struct Sending<'a> {
    pub(super) machine: &'a Machine,
    pub(super) target: Target<'a>,
    /// Frames and blocks of this pass that were handed over.
    pub(super) step: usize,
    pub(super) pass: u32,
    /// Pages of the block that is offered, and what the host wants of it.
    pub(super) is_offered: bool,
}

impl<'a> Sending<'a> {
    pub(super) fn new(machine: &'a Machine) -> Self {
        let ring = Box::leak(vec![0_u8; 3 * BLOCK_LEN].into_boxed_slice());
        let memory = Memory {
            tables: Box::leak(Box::default()),
            ring: Cell::from_mut(ring).as_slice_of_cells(),
            maps: Box::leak(vec![0; map_words(BLOCK_LEN)].into_boxed_slice()),
            parity: Box::leak(vec![0; ParityWriter::ROOM].into_boxed_slice()),
        };
        Self {
            machine,
            target: Target::new(short_id(ID), memory, true),
            step: 0,
            pass: 0,
            is_offered: false,
        }
    }

    /// Hands over what there is room for.
    pub(super) fn produce(&mut self) {
        if self.target.has_new_session() {
            self.target.begin_pass();
            self.step = 0;
            self.is_offered = false;
        }
        while self.produce_one() {}
    }

    pub(super) fn produce_one(&mut self) -> bool {
        let last = self.machine.blocks.len() + 1;
        let is_done = match self.step {
            0 => self.send_manifest(),
            step if step < last => self.send_block(step - 1),
            step if step == last => {
                self.target.close_group();
                self.target.is_drained() && self.send_summary()
            }
            step if step == last + 1 => {
                let finished = Finished {
                    next: Next::Halt,
                    is_cut_short: false,
                };
                self.target.control(FrameType::Finished, &finished.encode())
            }
            // Sent again and again until the host says that it came.
            _ if self.target.is_answered() && !self.target.has_finished() => {
                self.step = last;
                false
            }
            _ => false,
        };
        self.step += usize::from(is_done);
        is_done
    }

    pub(super) fn send_manifest(&mut self) -> bool {
        let (manifest, ranges) = self.machine.manifest();
        let mut out = [0; PART_MAX];
        let pass = Pass {
            session: self.target.session(),
            round: self.pass as u8,
        };
        let len = manifest.encode_part(&ranges, 0, pass, &mut out).unwrap();
        self.target.control(FrameType::Manifest, &out[..len])
    }

    pub(super) fn send_summary(&mut self) -> bool {
        let mut out = [0; Summary::LEN];
        self.machine.summary().encode(&mut out).unwrap();
        self.target.control(FrameType::Summary, &out)
    }

    pub(super) fn send_block(&mut self, number: usize) -> bool {
        let block = number as u32;
        if self.target.is_stored(block) {
            return true;
        }
        let mut raw = self.machine.blocks[number].clone();
        let hash = block_hash(&raw);
        let mut len = raw.len();
        if self.target.wants_offers() {
            if !self.is_offered {
                let memory = MemoryBlock::decode(&raw).unwrap();
                let hashes = memory
                    .runs()
                    .flat_map(|(_, bytes)| bytes.chunks(PAGE_SIZE).map(page_hash));
                let mut out = [0; Offer::LEN_MAX];
                let offer = Offer::encode(block, 0, 3, hashes, &mut out).unwrap();
                self.is_offered = self.target.control(FrameType::Offer, &out[..offer]);
                return false;
            }
            let Some(want) = self.target.want(block) else {
                return false;
            };
            len = leave_out_known(&mut raw, len, |page| !want.is_wanted(page)).unwrap();
        }
        let Some(room) = self.target.room(DESCRIPTOR_LEN + len) else {
            return false;
        };
        let descriptor = Descriptor {
            number: block,
            kind: BlockKind::Memory,
            codec: Codec::Stored,
            is_partial: len != self.machine.blocks[number].len(),
            raw_len: len as u32,
            packed_len: len as u32,
            hash,
        };
        let descriptor = descriptor.encode().unwrap();
        let bytes = descriptor.iter().chain(&raw[..len]);
        room.iter().zip(bytes).for_each(|(to, from)| to.set(*from));
        self.is_offered = false;
        assert!(self.target.push(block, DESCRIPTOR_LEN + len));
        true
    }
}

/// The receiving end.
pub(super) struct Receiving {
    pub(super) receiver: Receiver,
    pub(super) assembler: Assembler,
    pub(super) answers: Answers,
    pub(super) blocks: BTreeMap<u32, Vec<u8>>,
    pub(super) library: Vec<Vec<u8>>,
    pub(super) replies: Vec<u8>,
    pub(super) errors: Vec<Error>,
    pub(super) finished: bool,
}

impl Receiving {
    pub(super) fn new(session: u32) -> Self {
        Self {
            receiver: Receiver::new(),
            assembler: Assembler::new(short_id(ID)),
            answers: Answers::new(short_id(ID), session),
            blocks: BTreeMap::new(),
            library: Vec::new(),
            replies: Vec::new(),
            errors: Vec::new(),
            finished: false,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut frames = Vec::new();
        self.receiver.push(bytes, |event| {
            if let Event::Frame(frame) = event {
                frames.push((frame.header, frame.payload.to_vec()));
            }
        });
        for (header, payload) in frames {
            self.answers.frame(header.sequence);
            self.accept(header, &payload);
            while let Some((header, payload)) = self.assembler.next_recovered() {
                self.accept(header, &payload);
            }
        }
    }

    pub(super) fn accept(&mut self, header: Header, payload: &[u8]) {
        match self.assembler.accept(&Frame { header, payload }) {
            Ok(Outcome::Block(block)) => {
                self.answers.stored(block.number);
                self.blocks.insert(block.number, block.raw);
            }
            Ok(Outcome::Offer(block)) => {
                let library = &self.library;
                let find = |hash: &PageHash| {
                    let page = library.iter().find(|page| page_hash(page) == *hash);
                    page.cloned()
                };
                let want = self.assembler.answer(block, find).unwrap();
                let mut out = [0; Want::LEN_MAX];
                let len = want.encode(&mut out).unwrap();
                let frame = self.answers.frame_of(FrameType::Want, &out[..len]);
                self.replies.extend(frame.unwrap());
            }
            Ok(Outcome::Poll) => self.answers.asked(false),
            Ok(Outcome::Finished(_)) => {
                self.finished = self.assembler.summary().is_some();
                self.answers.asked(self.finished);
            }
            Ok(_) => {}
            Err(error) => self.errors.push(error),
        }
        self.answers.rejected(self.assembler.rejected());
    }
}

/// What the line does to bytes: drops, flips, doubles, by a seed.
pub(super) struct Noise {
    pub(super) state: u64,
    /// Of a million bytes so many are hit.
    pub(super) per_million: u64,
}

impl Noise {
    pub(super) fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.next() % 1_000_000 >= self.per_million {
                out.push(byte);
                continue;
            }
            match self.next() % 4 {
                0 => {}
                1 => out.extend([byte, byte]),
                2 => out.extend([byte, self.next() as u8]),
                _ => out.push(byte ^ 1 << (self.next() % 8)),
            }
        }
        out
    }
}

/// Runs both ends for at most `steps` frames; `host` may be `None` for a while.
pub(super) fn exchange(
    sending: &mut Sending<'_>,
    host: &mut Receiving,
    noise: &mut Noise,
    is_two_way: bool,
    steps: u64,
    now_us: &mut u64,
) {
    let mut line = [0; LINE_MAX];
    for _ in 0..steps {
        *now_us += 3000;
        sending.produce();
        let len = sending.target.next_frame(*now_us, &mut line).unwrap();
        let arrived = noise.pass(&line[..len]);
        host.push(&arrived);
        if is_two_way {
            let replies = core::mem::take(&mut host.replies);
            let status = host.answers.next(*now_us).unwrap_or_default();
            let arrived = noise.pass(&[replies, status].concat());
            sending.target.receive(&arrived, *now_us);
        }
        if host.finished && (sending.target.has_finished() || !is_two_way) {
            break;
        }
    }
}

#[track_caller]
pub(super) fn assert_whole(machine: &Machine, host: &Receiving) {
    let verdict = host.assembler.verdict();
    assert!(verdict.is_whole(), "{verdict:?} {:?}", host.errors);
    for (number, raw) in machine.blocks.iter().enumerate() {
        assert!(host.blocks[&(number as u32)] == *raw, "block {number}");
    }
}
