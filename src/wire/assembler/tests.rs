// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the assembler: a whole dump over a line, and over a bad one.

use super::*;
use crate::Answers;
use crate::PAGE_SIZE;
use crate::block::{DESCRIPTOR_LEN, block_hash, raw_len};
use crate::frame::LINE_MAX;
use crate::manifest::PART_MAX;
use crate::target::SLOTS;

mod ends;

use ends::{Machine, Noise, Receiving, Sending, assert_whole, exchange};

const ID: [u8; 16] = *b"\xd1\xd2\xd3\xd4 the dump id";
const BLOCK_LEN: usize = DESCRIPTOR_LEN + raw_len(4);

const CLEAN: u64 = 0;

fn noise(seed: u64, per_million: u64) -> Noise {
    Noise {
        state: seed * 2 + 0x9e37_79b9_7f4a_7c15,
        per_million,
    }
}

#[test]
fn dump_over_a_good_line_is_whole() {
    let machine = Machine::new(9);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, CLEAN),
        true,
        5000,
        &mut 0,
    );
    assert_whole(&machine, &host);
    assert!(sending.target.has_finished());
    assert_eq!(sending.target.counts().lost_frames, 0);
    assert!(sending.target.is_answered() && host.errors.is_empty());
}

#[test]
fn block_packed_again_in_another_way_is_put_together_of_the_new_pieces() {
    let raw: Vec<u8> = (0..200_u8).collect();
    let descriptor = |codec, packed_len| crate::Descriptor {
        number: 0,
        kind: BlockKind::Text,
        codec,
        is_partial: false,
        raw_len: 232,
        packed_len,
        hash: [0; 16],
    };
    let segment = SegmentBlock {
        index: 0,
        address: 0,
        total_len: 200,
        offset: 0,
        bytes: &raw,
    };
    let mut block = std::vec![0; 232];
    segment.encode(&mut block).unwrap();
    let good = crate::Descriptor {
        hash: block_hash(&block),
        ..descriptor(crate::Codec::Stored, 232)
    };
    let mut host = Assembler::new(short_id(ID));
    let mut sequence = 0;
    let mut accept = |offset: u32, bytes: &[u8]| {
        let payload = [&Piece::header(0, offset)[..], bytes].concat();
        let header = Header {
            version: 2,
            kind: FrameType::Block.code(),
            dump: short_id(ID),
            sequence,
        };
        sequence += 1;
        let payload = &payload;
        host.accept(&Frame { header, payload }).unwrap()
    };
    // Packed to 100 bytes, of which the last were lost.
    let old = descriptor(crate::Codec::Lzma, 100).encode().unwrap();
    accept(0, &[&old[..], &[0xee; 60]].concat());
    // Then stored. The pieces that were there would make it look complete too early.
    let new = good.encode().unwrap();
    assert_eq!(accept(32, &block[..50]), Outcome::Nothing);
    accept(0, &new);
    assert_eq!(accept(82, &block[50..]), Outcome::Nothing);
    assert!(matches!(accept(32, &block[..50]), Outcome::Block(_)));
}

#[test]
fn dump_with_nobody_answering_is_whole() {
    let machine = Machine::new(9);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, CLEAN),
        false,
        5000,
        &mut 0,
    );
    assert_whole(&machine, &host);
    assert!(host.finished && !sending.target.is_answered());
}

#[test]
fn dump_one_way_over_a_bad_line_is_made_whole_by_parity() {
    let machine = Machine::new(24);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    exchange(
        &mut sending,
        &mut host,
        &mut noise(3, 60),
        false,
        9000,
        &mut 0,
    );
    assert_whole(&machine, &host);
}

#[test]
fn host_that_comes_late_gets_everything_in_order() {
    let machine = Machine::new(12);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    let now = &mut 0;
    let mut nobody = Receiving::new(0);
    exchange(
        &mut sending,
        &mut nobody,
        &mut noise(1, CLEAN),
        false,
        60,
        now,
    );
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, CLEAN),
        true,
        9000,
        now,
    );
    assert_whole(&machine, &host);
}

#[test]
fn host_killed_and_started_again_goes_on_with_what_it_stored() {
    let machine = Machine::new(16);
    let (mut sending, mut first) = (Sending::new(&machine), Receiving::new(5));
    let now = &mut 0;
    exchange(
        &mut sending,
        &mut first,
        &mut noise(1, CLEAN),
        true,
        40,
        now,
    );
    let kept: Vec<(u32, BlockHash)> = first
        .assembler
        .done()
        .map(|(number, hash)| (number, *hash))
        .collect();
    assert!(!kept.is_empty() && kept.len() < 16);
    let mut second = Receiving::new(6);
    for (number, hash) in kept {
        let raw = first.blocks.remove(&number).unwrap();
        let block = Block {
            number,
            kind: BlockKind::Memory,
            raw,
        };
        second.assembler.restore(&block, hash).unwrap();
        second.answers.stored(number);
        second.blocks.insert(number, block.raw);
    }
    exchange(
        &mut sending,
        &mut second,
        &mut noise(1, CLEAN),
        true,
        9000,
        now,
    );
    assert_whole(&machine, &second);
}

#[test]
fn cable_pulled_for_a_while_costs_nothing_but_time() {
    let machine = Machine::new(16);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    let now = &mut 0;
    exchange(&mut sending, &mut host, &mut noise(1, CLEAN), true, 30, now);
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, 1_000_000),
        true,
        2000,
        now,
    );
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, CLEAN),
        true,
        9000,
        now,
    );
    assert_whole(&machine, &host);
}

#[test]
fn pages_that_the_host_has_do_not_travel() {
    let machine = Machine::new(8);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    host.answers.want_offers();
    for raw in &machine.blocks[..4] {
        let data = &raw[raw.len() - 3 * PAGE_SIZE..];
        host.library.extend(data.chunks(PAGE_SIZE).map(Vec::from));
    }
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, CLEAN),
        true,
        20,
        &mut 0,
    );
    exchange(
        &mut sending,
        &mut host,
        &mut noise(1, CLEAN),
        true,
        9000,
        &mut 60_000,
    );
    assert_whole(&machine, &host);
    let sent = sending.target.counts().payload_bytes;
    assert!(sent < 8 * 3 * 4096, "{sent}");
}

#[test]
fn page_that_was_not_the_right_one_is_sent_after_all() {
    let machine = Machine::new(3);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    host.answers.want_offers();
    let raw = &machine.blocks[1];
    let data = &raw[raw.len() - 3 * PAGE_SIZE..];
    host.library.extend(data.chunks(PAGE_SIZE).map(Vec::from));
    let now = &mut 0;
    for _ in 0..9000 {
        exchange(&mut sending, &mut host, &mut noise(1, CLEAN), true, 1, now);
        // The library goes bad after it was asked: what the block is filled with is not what was offered.
        host.assembler.offers.spoil();
    }
    assert!(host.errors.contains(&Error::BlockHash { block: 1 }));
    assert_whole(&machine, &host);
}

#[test]
fn manifest_that_disagrees_is_refused() {
    let machine = Machine::new(1);
    let (manifest, ranges) = machine.manifest();
    let mut assembler = Assembler::new(short_id(ID));
    let mut accept = |manifest: Manifest| {
        let mut out = [0; PART_MAX];
        let len = manifest
            .encode_part(&ranges, 0, Pass::default(), &mut out)
            .unwrap();
        let header = Header {
            version: 2,
            kind: 1,
            dump: short_id(ID),
            sequence: 0,
        };
        let payload = &out[..len];
        assembler.accept(&Frame { header, payload })
    };
    assert_eq!(accept(manifest), Ok(Outcome::Manifest));
    let other = Manifest {
        cpu_count: 99,
        ..manifest
    };
    assert!(matches!(accept(other), Err(Error::ManifestPart { .. })));
}

/// Hands a frame to an assembler as if it had come.
fn accept(
    assembler: &mut Assembler,
    version: u8,
    kind: u8,
    payload: &[u8],
) -> Result<Outcome, Error> {
    let header = Header {
        version,
        kind,
        dump: short_id(ID),
        sequence: 0,
    };
    assembler.accept(&Frame { header, payload })
}

#[test]
fn block_of_version_1_is_read() {
    #[rustfmt::skip]
    let piece = [
        7, 0, 0, 0, 4, 0, 0, 0, 33, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0,
    ];
    let mut raw = [0; 33];
    (raw[16], raw[32]) = (1, b'x');
    let payload = [&piece[..], &block_hash(&raw), &raw].concat();
    let mut assembler = Assembler::new(short_id(ID));
    let Ok(Outcome::Block(block)) = accept(&mut assembler, 1, 2, &payload) else {
        panic!("no block");
    };
    assert_eq!(block.segment().unwrap().bytes, b"x");
}

#[test]
fn block_number_past_the_limit_is_refused() {
    let mut assembler = Assembler::new(short_id(ID));
    let payload = [&BLOCKS_MAX.to_le_bytes()[..], &[0, 0, 0, 0, 1]].concat();
    assert_eq!(
        accept(&mut assembler, 2, 2, &payload),
        Err(Error::BlockNumber {
            block: BLOCKS_MAX,
            limit: BLOCKS_MAX
        })
    );
}

#[test]
fn pieces_of_many_blocks_are_bounded() {
    let mut assembler = Assembler::new(short_id(ID));
    for number in 0..200_u32 {
        let payload = [&number.to_le_bytes()[..], &[32, 0, 0, 0, 1]].concat();
        assert_eq!(accept(&mut assembler, 2, 2, &payload), Ok(Outcome::Nothing));
    }
    assert_eq!(assembler.pending.len(), PENDING_MAX);
    assert_eq!(assembler.missing(), [0..=199]);
}

#[test]
fn frame_of_another_dump_is_left_alone() {
    let mut assembler = Assembler::new(1);
    assert_eq!(
        accept(&mut assembler, 2, 2, &[]),
        Ok(Outcome::OtherDump(short_id(ID)))
    );
}

#[test]
fn line_that_lets_only_short_frames_through_still_starts_a_talk() {
    let machine = Machine::new(12);
    let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
    let mut line = [0; LINE_MAX];
    let mut now = 0;
    while !sending.target.is_answered() && now < 10_000_000 {
        now += 100_000;
        sending.produce();
        let len = sending.target.next_frame(now, &mut line).unwrap();
        if len < 40 {
            host.push(&line[..len]);
        }
        let status = host.answers.next(now).unwrap_or_default();
        sending.target.receive(&status, now);
    }
    assert!(sending.target.is_answered());
}

#[test]
fn window_of_a_target_is_bounded() {
    let machine = Machine::new(20);
    let mut sending = Sending::new(&machine);
    sending.produce();
    assert!(sending.step <= SLOTS + 1);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn dump_over_a_bad_line_is_whole_in_the_end(seed in 0_u64..1 << 40, per_million in 0_u64..4000) {
        let machine = Machine::new(10);
        let (mut sending, mut host) = (Sending::new(&machine), Receiving::new(5));
        exchange(&mut sending, &mut host, &mut noise(seed, per_million), true, 60_000, &mut 0);
        assert_whole(&machine, &host);
    }

    #[test]
    fn target_survives_a_host_of_any_bytes(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), kind in 0_u8..14) {
        let machine = Machine::new(3);
        let mut sending = Sending::new(&machine);
        let mut host = Answers::new(short_id(ID), 7);
        let mut now = 0;
        let mut line = [0; LINE_MAX];
        if let Some(kind) = FrameType::from_code(kind) {
            let frame = host.frame_of(kind, &bytes[..bytes.len().min(250)]).unwrap();
            for _ in 0..20 {
                now += 50_000;
                sending.produce();
                sending.target.next_frame(now, &mut line).unwrap();
                sending.target.receive(&frame, now);
                sending.target.receive(&bytes, now);
            }
        }
    }
}
