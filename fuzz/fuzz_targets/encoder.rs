// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes the LZMA encoder: whatever memory holds, and however little room there is, an independent decoder gets it back.
#![no_main]

use std::cell::Cell;

use libfuzzer_sys::fuzz_target;
use wire::lzma::{Effort, Encoder, decode};

/// The page that the input is repeated in, so that there are matches.
const LEN_MAX: usize = 16 << 10;

fuzz_target!(|bytes: &[u8]| {
    let [effort, words, room, rest @ ..] = bytes else {
        return;
    };
    let effort = Effort(effort % (Effort::MAX.0 + 1));
    let raw: Vec<u8> = rest
        .iter()
        .copied()
        .cycle()
        .take((rest.len() * 3).min(LEN_MAX))
        .collect();
    let mut words = vec![u32::MAX; usize::from(*words) << 6];
    let mut out = vec![0; raw.len() * usize::from(*room) / 64];
    let cells = Cell::from_mut(&mut out[..]).as_slice_of_cells();
    let packed = Box::new(Encoder::new()).encode(&raw, cells, &mut words, effort, &mut || {});
    if let Some(len) = packed {
        assert_eq!(decode(&out[..len], raw.len()).as_deref(), Some(&raw[..]));
    }
});
