// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the target's end against a host that lies: statuses, wants and changes of speed of any content, and noise.
//!
//! Whatever it hears, it panics never, sends only what it has, and its window drains when the host has everything.
#![no_main]

use core::cell::Cell;

use libfuzzer_sys::fuzz_target;
use wire::frame::LINE_MAX;
use wire::parity::ParityWriter;
use wire::target::{Memory, Tables, Target, map_words};
use wire::{Answers, FrameType};

const BLOCK_LEN: usize = 5000;

fuzz_target!(|bytes: &[u8]| {
    let mut tables = Box::<Tables>::default();
    let mut ring = vec![0; 3 * BLOCK_LEN];
    let mut maps = vec![0; map_words(BLOCK_LEN)];
    let mut parity = vec![0; ParityWriter::ROOM];
    let memory = Memory {
        tables: &mut tables,
        ring: Cell::from_mut(&mut ring[..]).as_slice_of_cells(),
        maps: &mut maps,
        parity: &mut parity,
    };
    let mut target = Target::new(7, memory, true);
    target.set_rates(115_200, &[460_800, 921_600]);
    let mut host = Answers::new(7, 1);
    let (mut now, mut number, mut rest) = (0_u64, 0_u32, bytes);
    let mut line = [0; LINE_MAX];
    while let Some((&[kind, step, len], later)) = rest.split_first_chunk() {
        let (payload, later) = later.split_at(usize::from(len).min(later.len()));
        rest = later;
        now += u64::from(step) * 10_000;
        let kind = FrameType::from_code(kind & 0xf);
        let said = match kind.and_then(|kind| host.frame_of(kind, payload).ok()) {
            Some(frame) => frame,
            None => payload.to_vec(),
        };
        target.receive(&said, now);
        if target.has_new_session() {
            target.begin_pass();
            number = 0;
        }
        if let Some(room) = target.room(BLOCK_LEN - usize::from(step)) {
            assert!(target.push(number, room.len()));
            number += 1;
        }
        target.control(FrameType::Manifest, &[step; 100]);
        for _ in 0..4 {
            let sent = target
                .next_frame(now, &mut line)
                .expect("a frame fits its buffer");
            assert!(sent <= LINE_MAX);
        }
        target.take_baud();
    }
});
