// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the line: any bytes, in any cuts, part the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::receiver::{Event, Receiver};

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, line)) = bytes.split_first() else {
        return;
    };
    let whole = receive(line, line.len().max(1));
    assert_eq!(whole, receive(line, usize::from(cut) + 1));
});

/// Returns the text, the payloads, and the causes of damage.
fn receive(line: &[u8], cut: usize) -> (Vec<u8>, Vec<Vec<u8>>, Vec<String>) {
    let (mut text, mut frames, mut damages) = (Vec::new(), Vec::new(), Vec::new());
    let mut receiver = Receiver::new();
    let mut take = |event: Event<'_>| match event {
        Event::Text(part) => text.extend_from_slice(part),
        Event::Frame(frame) => frames.push(frame.payload.to_vec()),
        Event::Damaged(damage) => damages.push(format!("{damage:?}")),
    };
    line.chunks(cut)
        .for_each(|part| receiver.push(part, &mut take));
    receiver.finish(&mut take);
    assert!(text.len() <= line.len());
    (text, frames, damages)
}
