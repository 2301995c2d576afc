// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recorded lines beyond the plain one: duplicate pages, parity, rounds, and what version 1 sent.

use wire::PageClass;

use crate::place::{Place, assert_exit, err, physical, run, text};
use crate::stream::{ID, Machine, PAGE, RAM, first_memory_frame, framed, one_way};

/// Returns the machine with pages that are like an earlier, a neighbouring and a later one.
fn machine_with_duplicates() -> Machine {
    let mut machine = Machine::new();
    for (page, source) in [(20, 3), (10, 11), (4, 30), (22, 20)] {
        machine.pages[page] = (PageClass::Duplicate, vec![source]);
    }
    machine
}

fn page(place: &Place, number: u64) -> Option<Vec<u8>> {
    physical(&place.vmcore(), RAM + number * PAGE, PAGE as usize)
}

#[test]
fn duplicate_pages_are_copied_from_the_page_that_they_are_like() {
    let place = Place::new();
    assert_exit(&place.receive(&machine_with_duplicates().line()), 0);
    for (number, value) in [(20, 4), (10, 12), (4, 31), (22, 4)] {
        let expected = Some(vec![value; PAGE as usize]);
        assert_eq!(page(&place, number), expected, "page {number}");
    }
}

#[test]
fn duplicate_of_a_lost_page_is_lost() {
    let place = Place::new();
    let mut frames = machine_with_duplicates().frames();
    frames.remove(first_memory_frame(&frames));
    let output = place.receive(&framed(&frames));
    assert_exit(&output, 3);
    let lost = format!(
        "memory {:#x}..{:#x} was lost",
        RAM + 20 * PAGE,
        RAM + 21 * PAGE
    );
    assert!(err(&output).contains(&lost), "{}", err(&output));
    assert_eq!(page(&place, 20), None);
    assert_eq!(page(&place, 10), Some(vec![12; PAGE as usize]));
}

#[test]
fn lost_frames_are_brought_back_by_parity() {
    let place = Place::new();
    let mut frames = one_way(&Machine::new().parts(ID), true);
    let first = first_memory_frame(&frames);
    frames.drain(first..first + 3);
    assert_exit(&place.receive(&framed(&frames)), 0);
    assert_eq!(page(&place, 0), Some(vec![1; PAGE as usize]));
}

#[test]
fn second_round_fills_what_the_first_lost() {
    let place = Place::new();
    let whole = Machine::new().frames();
    let mut first = whole[..whole.len() - 1].to_vec();
    first.remove(first_memory_frame(&first));
    let mut second = whole;
    second.remove(first_memory_frame(&second) + 40);
    let output = place.receive(&framed(&[first, second].concat()));
    assert_exit(&output, 0);
    assert_exit(&run(&["verify", text(&place.vmcore())]), 0);
}

/// Returns the CRC-32C of `bytes`, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 0 { 0 } else { 0x82f6_3b78 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(!0, byte)
}

/// Returns `bytes` without zeros (COBS), between zeros.
fn between_zeros(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for (n, group) in bytes.split(|byte| *byte == 0).enumerate() {
        let full = group.chunks_exact(254);
        let rest = full.remainder();
        // A full group stands for no zero; one of nothing stands for the zero that follows it.
        full.for_each(|part| out.extend([&[255], part].concat()));
        assert!(n == 0 || group.is_empty() || !rest.is_empty());
        out.push(rest.len() as u8 + 1);
        out.extend(rest);
    }
    out.push(0);
    out
}

/// Returns a frame of version 1 of the dump d1 d2 d3 d4.
fn frame_of_version_1(kind: u8, sequence: u8, payload: &[u8]) -> Vec<u8> {
    let header = [1, kind, 0xd1, 0xd2, 0xd3, 0xd4, sequence, 0, 0, 0];
    let body = [&header[..], payload].concat();
    between_zeros(&[&body[..], &crc(&body).to_le_bytes()].concat())
}

/// Returns a piece of version 1: block number, kind, stored, raw and packed length, offset, hash, bytes.
fn piece_of_version_1(number: u8, kind: u8, raw: &[u8], at: usize, len: usize) -> Vec<u8> {
    let total = (raw.len() as u32).to_le_bytes();
    let mut payload = vec![number, 0, 0, 0, kind, 0, 0, 0];
    payload.extend([total, total, (at as u32).to_le_bytes()].concat());
    payload.extend(wire::block::block_hash(raw));
    payload.extend(&raw[at..at + len]);
    payload
}

/// A dump as version 1 sent it: two pages of data, one of zeros, one free; the registers of a CPU.
fn line_of_version_1() -> Vec<u8> {
    let mut manifest = vec![0, 1, 1, 1, 1, 4, 1, 0];
    manifest.extend(ID);
    manifest.extend([0xb1, 0xb2, 0xb3, 0xb4]);
    manifest.extend([0; 28]);
    #[rustfmt::skip]
    manifest.extend([
        0, 0x10, 0, 0, 1, 0, 0, 0, 17, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
    ]);
    // NT_PRSTATUS of "CORE": 392 bytes, pr_pid 1 at 32, PC at 112 + 32 * 8.
    let mut note = vec![5, 0, 0, 0, 0x88, 1, 0, 0, 1, 0, 0, 0];
    note.extend(b"CORE\0\0\0\0");
    let mut status = [0; 392];
    status[32] = 1;
    status[112 + 256..112 + 264].copy_from_slice(&0xffff_0000_4000_0123_u64.to_le_bytes());
    note.extend(status);
    let note_len = note.len() as u8;
    let mut notes = vec![0; 32];
    (notes[16], notes[17]) = (note_len, 1);
    assert_eq!(note.len(), 0x100 + usize::from(note_len));
    notes.extend(note);
    #[rustfmt::skip]
    let mut memory = vec![
        3, 0, 0, 0,
        0, 0, 0, 0x40, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
        0, 0x20, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
        0, 0x30, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
    ];
    memory.extend([0xaa; 4096]);
    memory.extend([0xbb; 4096]);
    let hashes = [&notes, &memory].map(|raw| wire::block::block_hash(raw));
    let mut tree = wire::block::TreeHash::new();
    hashes.iter().for_each(|hash| tree.add(hash));
    let mut summary = vec![2, 0, 0, 0, 6, 0, 0, 0];
    for pages in [2_u64, 1, 1, 0, 0, 0, 0, 0] {
        summary.extend(pages.to_le_bytes());
    }
    summary.extend(tree.value());
    summary.extend([0; 24]);
    let notes_piece = piece_of_version_1(0, 2, &notes, 0, notes.len());
    let piece = |at, len| piece_of_version_1(1, 1, &memory, at, len);
    [
        b"Linux version 6.1\r\n".to_vec(),
        frame_of_version_1(1, 0, &manifest),
        frame_of_version_1(2, 1, &notes_piece),
        frame_of_version_1(2, 2, &piece(4000, 4000)),
        frame_of_version_1(2, 3, &piece(0, 4000)),
        frame_of_version_1(2, 4, &piece(8000, memory.len() - 8000)),
        frame_of_version_1(3, 5, &summary),
        frame_of_version_1(4, 6, &[2, 0, 0, 0]),
        b"halted\r\n".to_vec(),
    ]
    .concat()
}

#[test]
fn recording_of_version_1_is_read() {
    let place = Place::new();
    let output = place.receive(&line_of_version_1());
    assert_exit(&output, 0);
    assert_eq!(page(&place, 0), Some(vec![0xaa; PAGE as usize]));
    assert_eq!(page(&place, 1), Some(vec![0xbb; PAGE as usize]));
    assert_eq!(page(&place, 2), Some(vec![0; PAGE as usize]));
    assert_eq!(page(&place, 3), None);
    let shown = run(&["bt", text(&place.vmcore())]);
    assert_exit(&shown, 0);
    assert!(crate::place::out(&shown).contains("0xffff000040000123"));
}

#[test]
fn recording_of_version_1_has_its_golden_start() {
    let line = line_of_version_1();
    #[rustfmt::skip]
    assert_eq!(line[19..42], [
        0, 7, 1, 1, 0xd1, 0xd2, 0xd3, 0xd4, 1, 1, 1, 1, 7, 1, 1, 1, 1, 4, 1, 21, 0xd1, 0xd2, 0xd3,
    ]);
}
