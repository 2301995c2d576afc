// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes what frames carry: blocks, manifests and summaries of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::assembler::{Assembler, Outcome};
use wire::block::{BlockKind, block_hash};
use wire::frame::{Frame, Header};

fuzz_target!(|bytes: &[u8]| {
    let mut assembler = Assembler::new(0);
    let mut rest = bytes;
    // A list of frames: type, length, payload. Their CRC is taken to have been right.
    while let Some((&[kind, low, high], later)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high]) & 0xfff).min(later.len());
        let (payload, later) = later.split_at(len);
        rest = later;
        let mut payload = payload.to_vec();
        repair_hash(kind, &mut payload);
        let header = Header {
            version: 1,
            kind: kind & 7,
            dump: 0,
            sequence: 0,
        };
        if let Ok(Outcome::Block(block)) = assembler.accept(&Frame {
            header,
            payload: &payload,
        }) {
            match block.kind {
                BlockKind::Memory => {
                    let runs = block
                        .memory()
                        .expect("a block comes out only when its layout holds");
                    let data: usize = runs.runs().map(|(_, data)| data.len()).sum();
                    assert!(data <= block.raw.len());
                }
                _ => assert!(block.segment().is_ok()),
            }
        }
    }
    let verdict = assembler.verdict();
    assert!(!verdict.is_whole() || verdict.missing.is_empty());
});

/// Makes the hash of a stored block right, which no mutation would find, when the frame's type asks for it.
fn repair_hash(kind: u8, payload: &mut [u8]) {
    if kind & 0x80 != 0 && payload.len() > 36 {
        let (header, raw) = payload.split_at_mut(36);
        header[5] = 0;
        let len = (raw.len() as u32).to_le_bytes();
        header[8..12].copy_from_slice(&len);
        header[12..16].copy_from_slice(&len);
        header[16..20].fill(0);
        header[20..].copy_from_slice(&block_hash(raw));
    }
}
