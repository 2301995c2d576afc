// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the host's end against a target that lies: frames of any kind, in any order, with any content.
//!
//! Decompression bombs, manifests that contradict each other, pieces that overlap, offers of anything, parity over frames that never were, sizes near
//! the largest number: what comes out holds, and what is kept is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::answer::Answers;
use wire::assembler::{Assembler, Outcome};
use wire::block::{BlockKind, DESCRIPTOR_LEN, Piece, RAW_MAX, block_hash};
use wire::frame::{Frame, Header};

fuzz_target!(|bytes: &[u8]| {
    let mut assembler = Assembler::new(0);
    let mut answers = Answers::new(0, 1);
    let mut rest = bytes;
    let mut now = 0;
    // A list of frames: type, sequence, length, payload. Their CRC is taken to have been right.
    while let Some((&[kind, sequence, low, high], later)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high]) & 0xfff).min(later.len());
        let (payload, later) = later.split_at(len);
        rest = later;
        let mut payload = payload.to_vec();
        repair_hash(kind, &mut payload);
        let header = Header {
            version: 1 + (kind >> 6 & 1),
            kind: kind & 0xf,
            dump: 0,
            sequence: u32::from(sequence),
        };
        now += 20_000;
        answers.frame(header.sequence);
        accept(&mut assembler, &mut answers, header, &payload);
        while let Some((header, payload)) = assembler.next_recovered() {
            accept(&mut assembler, &mut answers, header, &payload);
        }
        answers.rejected(assembler.rejected());
        answers.next(now);
    }
    let verdict = assembler.verdict();
    assert!(!verdict.is_whole() || verdict.missing.is_empty());
});

fn accept(assembler: &mut Assembler, answers: &mut Answers, header: Header, payload: &[u8]) {
    match assembler.accept(&Frame { header, payload }) {
        Ok(Outcome::Block(block)) => {
            answers.stored(block.number);
            assert!(block.raw.len() <= RAW_MAX);
            match block.kind {
                BlockKind::Memory => {
                    let memory = block.memory();
                    let memory = memory.expect("a block comes out only when its layout holds");
                    let data: usize = memory.runs().map(|(_, data)| data.len()).sum();
                    assert!(data <= block.raw.len());
                }
                _ => assert!(block.segment().is_ok()),
            }
        }
        Ok(Outcome::Offer(block)) => {
            let want = assembler.answer(block, |hash| (hash[0] & 1 != 0).then(|| vec![1; 4096]));
            assert!(want.is_some());
        }
        Ok(Outcome::Poll) => answers.asked(false),
        Ok(Outcome::Finished(_)) => answers.asked(true),
        _ => {}
    }
}

/// Makes the hash of a stored block of one piece right, which no mutation would find, when the frame's type asks for it.
fn repair_hash(kind: u8, payload: &mut [u8]) {
    let head = Piece::header(0, 0).len();
    if kind & 0x80 != 0 && payload.len() > head + DESCRIPTOR_LEN {
        let (header, block) = payload.split_at_mut(head);
        let (descriptor, raw) = block.split_at_mut(DESCRIPTOR_LEN);
        header[4..].fill(0);
        let number: [u8; 4] = header[..4].try_into().expect("four bytes");
        descriptor[..4].copy_from_slice(&number);
        let len = (raw.len() as u32).to_le_bytes();
        descriptor[5..8].fill(0);
        descriptor[8..12].copy_from_slice(&len);
        descriptor[12..16].copy_from_slice(&len);
        descriptor[16..].copy_from_slice(&block_hash(raw));
    }
}
