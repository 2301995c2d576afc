// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the receiver: what is said of lines that suffered.

use super::*;
use crate::frame::{FrameType, LINE_MAX, Sender};
use proptest::prelude::*;
use std::vec::Vec;

/// An event that outlives the line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Frame(u32, Vec<u8>),
    Damaged(DamageCause, Option<u32>),
}

fn see(events: &mut Vec<Seen>, event: Event<'_>) {
    match (event, events.last_mut()) {
        (Event::Text(text), Some(Seen::Text(before))) => before.extend_from_slice(text),
        (Event::Text(text), _) => events.push(Seen::Text(text.to_vec())),
        (Event::Frame(frame), _) => {
            events.push(Seen::Frame(frame.header.sequence, frame.payload.to_vec()));
        }
        (Event::Damaged(damage), _) => {
            let sequence = damage.header.map(|header| header.sequence);
            events.push(Seen::Damaged(damage.cause, sequence));
        }
    }
}

fn receive(line: &[u8]) -> Vec<Seen> {
    let mut receiver = Receiver::new();
    let mut events = Vec::new();
    receiver.push(line, |event| see(&mut events, event));
    receiver.finish(|event| see(&mut events, event));
    events
}

fn frames(payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut sender = Sender::new(0xa5a5_a5a5);
    let mut out = [0; LINE_MAX];
    let mut make = |payload: &&[u8]| {
        let len = sender
            .frame(FrameType::Block, [payload, &[]], &mut out)
            .unwrap();
        out[..len].to_vec()
    };
    payloads.iter().map(&mut make).collect()
}

fn text(text: &str) -> Seen {
    Seen::Text(text.as_bytes().to_vec())
}

#[test]
fn text_and_frames_part() {
    let made = frames(&[b"one", b"two"]);
    let line = [b"boot\r\n", &made[0][..], &made[1], b"bye\r\n"].concat();
    let expected = [
        text("boot\r\n"),
        Seen::Frame(0, b"one".to_vec()),
        Seen::Frame(1, b"two".to_vec()),
        text("bye\r\n"),
    ];
    assert_eq!(receive(&line), expected);
}

#[test]
fn frames_that_share_a_zero_byte_are_both_found() {
    let made = frames(&[b"one", b"two"]);
    let line = [&made[0][..], &made[1][1..]].concat();
    assert_eq!(receive(&line).len(), 2);
}

#[test]
fn flipped_bit_is_damage_named_by_its_sequence_and_text_after_it_passes() {
    let made = frames(&[b"one", b"two"]);
    let mut line = [&made[0][..], &made[1], b"bye\r\n"].concat();
    let at = made[0].len() + made[1].len() - 3;
    line[at] ^= 0x10;
    let expected = [
        Seen::Frame(0, b"one".to_vec()),
        Seen::Damaged(DamageCause::Crc, Some(1)),
        text("bye\r\n"),
    ];
    assert_eq!(receive(&line), expected);
}

#[test]
fn line_that_ends_within_a_frame_is_a_cut_frame() {
    let made = frames(&[b"one"]);
    let line = &made[0][..made[0].len() - 2];
    assert_eq!(receive(line), [Seen::Damaged(DamageCause::Cut, Some(0))]);
}

#[test]
fn frame_of_a_later_version_is_named() {
    let mut raw = std::vec![3_u8, 2, 0xa5, 0xa5, 0xa5, 0xa5, 9, 9, 9, 9, 1];
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&raw);
    raw.extend_from_slice(&crc.to_le_bytes());
    let mut line = std::vec![0; 64];
    let len = cobs::try_encode(&raw, &mut line[1..]).unwrap();
    assert_eq!(
        receive(&line[..len + 2]),
        [Seen::Damaged(DamageCause::Version, None)]
    );
}

#[test]
fn bytes_that_start_like_a_frame_and_do_not_end_are_bounded() {
    let mut line = std::vec![b'x'; 5000];
    line[..4].copy_from_slice(&[0, 9, 1, 2]);
    let events = receive(&line);
    // All x where a sequence would stand; a hint, no more.
    assert_eq!(
        events[0],
        Seen::Damaged(DamageCause::TooLong, Some(0x7800_7878))
    );
    assert!(matches!(&events[1], Seen::Text(text) if text.len() == 5000 - 1 - ENCODED_MAX - 1));
}

#[test]
fn single_character_after_a_frame_passes_when_the_line_is_idle() {
    let mut receiver = Receiver::new();
    let mut events = Vec::new();
    receiver.push(b"\0\0$", |event| see(&mut events, event));
    assert_eq!(events, []);
    receiver.idle(|event| see(&mut events, event));
    receiver.push(b" ", |event| see(&mut events, event));
    assert_eq!(events, [text("$ ")]);
}

#[test]
fn idle_within_a_frame_does_not_give_it_up() {
    let made = frames(&[b"one"]);
    let mut receiver = Receiver::new();
    let mut events = Vec::new();
    receiver.push(&made[0][..6], |event| see(&mut events, event));
    receiver.idle(|event| see(&mut events, event));
    receiver.push(&made[0][6..], |event| see(&mut events, event));
    assert_eq!(events, [Seen::Frame(0, b"one".to_vec())]);
}

#[test]
fn ruins_of_a_frame_do_not_reach_the_console() {
    let mut line = std::vec![0, 0x7f, 0x01, 0x99];
    line.extend((1..=200_u8).map(|byte| byte | 1));
    line[2] = 0x19;
    line.push(0);
    let events = receive(&line);
    assert_eq!(
        events.last(),
        Some(&Seen::Damaged(DamageCause::Headless, None))
    );
}

#[test]
fn utf8_text_with_escapes_passes_untouched() {
    let line = "\u{1b}[31mfähnrich\u{1b}[0m\r\n";
    assert_eq!(receive(line.as_bytes()), [text(line)]);
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn any_bytes_in_any_cuts_say_the_same(
        line in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), any::<u8>()], 0..600),
        cut in 1_usize..50,
    ) {
        let mut receiver = Receiver::new();
        let mut events = Vec::new();
        line.chunks(cut).for_each(|part| receiver.push(part, |event| see(&mut events, event)));
        receiver.finish(|event| see(&mut events, event));
        prop_assert_eq!(events, receive(&line));
    }

    #[test]
    fn frames_round_trip(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..6)) {
        let refs: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let line = frames(&refs).concat();
        let expected: Vec<Seen> =
            payloads.iter().enumerate().map(|(n, payload)| Seen::Frame(n as u32, payload.clone())).collect();
        prop_assert_eq!(receive(&line), expected);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn frames_of_any_length_without_zeros_round_trip(len in 0_usize..=4096) {
        let payload = std::vec![0x5a; len];
        prop_assert_eq!(receive(&frames(&[&payload]).concat()), [Seen::Frame(0, payload)]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn a_damaged_line_costs_few_frames_and_never_gives_wrong_bytes(
        seed in any::<u8>(),
        damages in proptest::collection::vec((0_usize..4000, any::<u8>(), 0_u8..4), 1..4),
    ) {
        let payloads: Vec<Vec<u8>> = (0..12_u8).map(|n| std::vec![n ^ seed; 300]).collect();
        let refs: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let mut line = frames(&refs).concat();
        for &(at, value, what) in &damages {
            let at = at % line.len();
            match what {
                0 => line[at] = value,
                1 => { line.remove(at); }
                2 => line.insert(at, value),
                _ => { let end = (at + 40).min(line.len()); line.drain(at..end); }
            }
        }
        let mut whole = 0;
        for event in receive(&line) {
            if let Seen::Frame(sequence, payload) = event {
                prop_assert_eq!(&payload, &payloads[sequence as usize]);
                whole += 1;
            }
        }
        prop_assert!(whole + 2 * damages.len() >= payloads.len());
    }
}
