// SPDX-License-Identifier: MIT OR Apache-2.0
//! A target that hears: what a capture kernel does around the sending end of the link.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use wire::frame::{FrameType, LINE_MAX, short_id};
use wire::memory_block::{MemoryBlock, leave_out_known};
use wire::offer::{Offer, page_hash};
use wire::target::{Memory, Target};
use wire::{BlockKind, PAGE_SIZE};

use crate::stream::{FINISHED, Parts};

/// Blocks, frames around them, and the sending end.
pub(crate) struct Sending<'a> {
    parts: &'a Parts,
    pub(crate) target: Target<'a>,
    /// Manifest, blocks, summary and last frame that were handed over.
    step: usize,
    is_offered: bool,
    /// No block is sent before the host wants offers.
    pub(crate) needs_offers: bool,
    /// Blocks that were packed, counted every time.
    pub(crate) packed: usize,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(parts: &'a Parts, memory: Memory<'a>) -> Self {
        Self {
            parts,
            target: Target::new(short_id(parts.manifest.dump_id), memory, true),
            step: 0,
            is_offered: false,
            needs_offers: false,
            packed: 0,
        }
    }

    /// Returns the next frame, if there is one to send.
    pub(crate) fn frame(&mut self, now_us: u64) -> Vec<u8> {
        if self.target.has_new_session() || (self.step == 0 && !self.target.is_answered()) {
            self.target.begin_pass();
            self.step = 0;
            self.is_offered = false;
        }
        while self.hand_over_one() {}
        let mut out = [0; LINE_MAX];
        let len = self.target.next_frame(now_us, &mut out).expect("room");
        out[..len].to_vec()
    }

    /// Returns whether all was said, and heard where somebody answers.
    pub(crate) fn is_over(&self) -> bool {
        let is_heard = self.target.has_finished() || !self.target.is_answered();
        self.step > self.parts.blocks.len() + 2 && is_heard && self.target.is_sent()
    }

    fn hand_over_one(&mut self) -> bool {
        let summary = self.parts.blocks.len() + 1;
        let is_done = match self.step {
            0 => {
                let manifest = self.parts.manifest_part(self.target.session());
                self.target.control(FrameType::Manifest, &manifest)
            }
            step if step < summary => self.block(step - 1),
            step if step == summary => {
                self.target.close_group();
                let payload = self.parts.summary_payload();
                self.target.is_drained() && self.target.control(FrameType::Summary, &payload)
            }
            step if step == summary + 1 => {
                let payload = FINISHED.encode();
                self.target.control(FrameType::Finished, &payload)
            }
            _ if self.target.is_answered() && !self.target.has_finished() => {
                self.step = summary;
                false
            }
            _ => false,
        };
        self.step += usize::from(is_done);
        is_done
    }

    fn block(&mut self, number: usize) -> bool {
        if self.target.is_stored(number as u32) {
            return true;
        }
        if self.needs_offers && !self.target.wants_offers() {
            return false;
        }
        let (kind, raw) = &self.parts.blocks[number];
        let mut partial = None;
        if *kind == BlockKind::Memory && self.target.wants_offers() {
            let data: Vec<&[u8]> = MemoryBlock::decode(raw)
                .expect("block")
                .runs()
                .flat_map(|(_, bytes)| bytes.chunks(PAGE_SIZE))
                .collect();
            if !self.is_offered && !data.is_empty() {
                let mut payload = [0; Offer::LEN_MAX];
                let hashes = data.iter().map(|page| page_hash(page));
                let pages = data.len() as u16;
                let len = Offer::encode(number as u32, 0, pages, hashes, &mut payload);
                let payload = &payload[..len.expect("room")];
                self.is_offered = self.target.control(FrameType::Offer, payload);
                return false;
            }
            if !data.is_empty() {
                let Some(want) = self.target.want(number as u32) else {
                    return false;
                };
                let mut left = raw.clone();
                let len = leave_out_known(&mut left, raw.len(), |page| !want.is_wanted(page));
                left.truncate(len.expect("block"));
                partial = Some(left).filter(|left| left.len() < raw.len());
            }
        }
        let packed = self.parts.packed(number, partial.as_deref());
        let Some(room) = self.target.room(packed.len()) else {
            return false;
        };
        room.iter()
            .zip(&packed)
            .for_each(|(to, from)| to.set(*from));
        self.is_offered = false;
        self.packed += 1;
        assert!(self.target.push(number as u32, packed.len()));
        true
    }
}

/// Longest test of a line in real time.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends over a socket until `is_enough`, or until all was said and heard, or the other end is gone.
pub(crate) fn send_over(
    line: &mut UnixStream,
    sending: &mut Sending<'_>,
    began: Instant,
    is_enough: impl FnMut(&Sending<'_>) -> bool,
) {
    line.set_read_timeout(Some(Duration::from_millis(2)))
        .expect("set");
    send_on(line, sending, began, is_enough);
}

/// The same over a line whose reads wait for a moment at most.
pub(crate) fn send_on(
    line: &mut (impl Read + Write),
    sending: &mut Sending<'_>,
    began: Instant,
    mut is_enough: impl FnMut(&Sending<'_>) -> bool,
) {
    while !sending.is_over() && !is_enough(sending) {
        assert!(began.elapsed() < LIMIT, "the dump does not end");
        let now = began.elapsed().as_micros() as u64;
        let frame = sending.frame(now);
        if line.write_all(&frame).is_err() {
            return;
        }
        let mut heard = [0; 4096];
        match line.read(&mut heard) {
            Ok(0) => return,
            Ok(len) => sending.target.receive(&heard[..len], now),
            Err(_) => {}
        }
    }
}
