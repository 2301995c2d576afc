// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the encoder, with an independent decoder.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::*;

/// Scratch words as the smallest region has them.
const WORDS: usize = 140_000;
const EFFORTS: [Effort; PLANS.len()] = [
    Effort(0),
    Effort(1),
    Effort(2),
    Effort(3),
    Effort(4),
    Effort(5),
    Effort(6),
];

fn cells(bytes: &mut [u8]) -> &[Cell<u8>] {
    Cell::from_mut(bytes).as_slice_of_cells()
}

fn packed(encoder: &mut Encoder, raw: &[u8], words: &mut [u32], effort: Effort) -> Vec<u8> {
    let mut out = vec![0; raw.len() + raw.len() / 8 + 64];
    let len = encoder
        .encode(raw, cells(&mut out), words, effort, &mut || {})
        .unwrap();
    out.truncate(len);
    out
}

#[cfg(feature = "alloc")]
mod both_ends {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn encode_of_a_page_at_each_effort_comes_back() {
        let raw: Vec<u8> = (0..4096u32)
            .flat_map(|word| (word * 37 % 511).to_le_bytes())
            .collect();
        let mut encoder = Box::new(Encoder::new());
        let mut words = vec![0xffff_ffff; WORDS];
        for effort in EFFORTS {
            let packed = packed(&mut encoder, &raw, &mut words, effort);
            assert!(packed.len() < raw.len() / 2);
            assert_eq!(decode(&packed, raw.len()).unwrap(), raw);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn encode_without_room_says_so_and_works_again() {
    let raw = [7; 4096];
    let mut encoder = Box::new(Encoder::new());
    for effort in EFFORTS {
        let mut words = vec![0; 1000];
        assert_eq!(
            encoder.encode(&raw, cells(&mut [0; 8]), &mut words, effort, &mut || {}),
            None
        );
        let again = packed(&mut encoder, &raw, &mut words, effort);
        assert_eq!(
            again,
            packed(&mut Box::new(Encoder::new()), &raw, &mut words, effort)
        );
    }
}
