// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the target put on the line, seen before the line spoils it.

use std::collections::BTreeMap;

use wire::block::Piece;
use wire::manifest::Part;
use wire::receiver::{Event, Receiver};
use wire::{Frame, FrameType};

/// A frame that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its sequence number.
    pub sequence: u32,
    /// What it carries.
    pub kind: Option<FrameType>,
    /// Bytes of a block in it.
    pub payload: u64,
    /// When its last byte had left.
    pub at_ns: u64,
    /// Bytes on the line up to it, itself and all text included.
    pub bytes: u64,
    /// Bytes of frames up to it, itself included.
    pub frame_bytes: u64,
}

/// A round of one-way sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Bytes of its frames.
    pub frame_bytes: u64,
    /// Bytes of its blocks, each counted once.
    pub payload: u64,
}

/// The tap.
#[derive(Debug, Default)]
pub struct Tap {
    receiver: Receiver,
    held: Vec<u8>,
    bytes: u64,
    text: u64,
    /// When the first byte of a frame began, and the bytes before it.
    first: Option<u64>,
    frames: Vec<Seen>,
    /// Length of each block, as far as it was sent.
    blocks: BTreeMap<u32, u64>,
    payload: u64,
    rounds: Vec<Round>,
    pass: Option<(u32, u8)>,
    round_blocks: BTreeMap<u32, u64>,
}

impl Tap {
    /// Takes the byte that left at `now`, having begun at `began`; tells whether a frame ended with it.
    pub fn byte(&mut self, byte: u8, began: u64, now: u64) -> bool {
        self.bytes += 1;
        self.held.push(byte);
        if byte != 0 {
            return false;
        }
        self.first.get_or_insert(began);
        let held = core::mem::take(&mut self.held);
        let (mut text, mut found) = (0, None);
        self.receiver.push(&held, |event| match event {
            Event::Text(part) => text += part.len() as u64,
            Event::Frame(frame) => found = Some(Self::look_at(&frame)),
            Event::Damaged(_) => {}
        });
        self.text += text;
        let Some((sequence, kind, what)) = found else {
            return false;
        };
        let mut payload = 0;
        match what {
            What::Piece { block, end, len } => {
                payload = len;
                self.payload += len;
                for blocks in [&mut self.blocks, &mut self.round_blocks] {
                    let known = blocks.entry(block).or_default();
                    *known = end.max(*known);
                }
            }
            What::Pass(pass) => self.begin_pass(pass),
            What::Other => {}
        }
        self.frames.push(Seen {
            sequence,
            kind,
            payload,
            at_ns: now,
            bytes: self.bytes,
            frame_bytes: self.bytes - self.text,
        });
        true
    }

    fn look_at(frame: &Frame<'_>) -> (u32, Option<FrameType>, What) {
        let what = match frame.kind() {
            Some(FrameType::Block) => {
                Piece::decode(frame.payload).map_or(What::Other, |piece| What::Piece {
                    block: piece.block,
                    end: u64::from(piece.offset) + piece.bytes.len() as u64,
                    len: piece.bytes.len() as u64,
                })
            }
            Some(FrameType::Manifest) => Part::decode(frame.payload).map_or(What::Other, |part| {
                What::Pass((part.pass.session, part.pass.round))
            }),
            _ => What::Other,
        };
        (frame.header.sequence, frame.kind(), what)
    }

    fn begin_pass(&mut self, pass: (u32, u8)) {
        if self.pass != Some(pass) {
            self.end_round();
            self.pass = Some(pass);
        }
    }

    /// Notes what the round in the making came to.
    fn end_round(&mut self) {
        if self.pass.is_some() {
            let before: u64 = self.rounds.iter().map(|round| round.frame_bytes).sum();
            let all = self.frames.last().map_or(0, |seen| seen.frame_bytes);
            self.rounds.push(Round {
                frame_bytes: all - before,
                payload: self.round_blocks.values().sum(),
            });
        }
        self.round_blocks.clear();
    }

    /// Returns the rounds; to be called at the end.
    pub fn rounds(&mut self) -> Vec<Round> {
        self.end_round();
        self.pass = None;
        self.rounds.clone()
    }

    /// Returns the frames, in their order.
    #[must_use]
    pub fn frames(&self) -> &[Seen] {
        &self.frames
    }

    /// Returns all bytes that left.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns when the first frame began.
    #[must_use]
    pub const fn first_ns(&self) -> Option<u64> {
        self.first
    }

    /// Returns the last frame that carried a part of a block: the last dump byte.
    #[must_use]
    pub fn last_piece(&self) -> Option<&Seen> {
        let mut frames = self.frames.iter().rev();
        frames.find(|seen| seen.kind == Some(FrameType::Block))
    }

    /// Returns the bytes of blocks that were sent, again and again included.
    #[must_use]
    pub const fn payload(&self) -> u64 {
        self.payload
    }

    /// Returns the bytes of all blocks, each counted once.
    #[must_use]
    pub fn distinct_payload(&self) -> u64 {
        self.blocks.values().sum()
    }
}

enum What {
    Piece { block: u32, end: u64, len: u64 },
    Pass((u32, u8)),
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::{LINE_MAX, Sender};

    #[test]
    fn frames_and_text_are_told_apart_and_blocks_counted_once() {
        let mut sender = Sender::new(1);
        let mut line = b"hello\r\n".to_vec();
        for _ in 0..2 {
            let mut out = [0; LINE_MAX];
            let header = Piece::header(3, 32);
            let len = sender
                .frame(FrameType::Block, [&header, &[9; 40]], &mut out)
                .unwrap();
            line.extend(&out[..len]);
        }
        let mut tap = Tap::default();
        let ended: Vec<usize> = (0..line.len())
            .filter(|&at| tap.byte(line[at], at as u64, at as u64 + 1))
            .collect();
        assert_eq!(ended.len(), 2);
        assert_eq!(tap.first_ns(), Some(7));
        assert_eq!((tap.payload(), tap.distinct_payload()), (80, 72));
        let last = tap.last_piece().unwrap();
        assert_eq!((last.sequence, last.frame_bytes), (1, tap.bytes() - 7));
    }
}
