// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the encoder, with an independent decoder.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::*;

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

    /// Scratch words as the smallest region has them.
    const WORDS: usize = 140_000;

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

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]
        #[test]
        #[cfg_attr(miri, ignore = "too slow under Miri")]
        fn encode_of_anything_with_any_room_comes_back(
            parts in proptest::collection::vec((0_usize..40, 1_usize..400), 1..60),
            alphabet in 1_u8..=255,
            words in 0_usize..20_000,
            effort in 0..EFFORTS.len(),
        ) {
            let mut raw: Vec<u8> = Vec::new();
            for (index, (back, len)) in parts.iter().copied().enumerate() {
                for at in 0..len {
                    // New bytes, or a copy from some way back that may overlap itself.
                    let copied = raw.len().checked_sub(back * back + 1).filter(|_| back % 3 != 0);
                    let byte = copied.map_or((index * 131 + at * at * 7) as u8 % alphabet, |from| raw[from]);
                    raw.push(byte);
                }
            }
            let mut encoder = Box::new(Encoder::new());
            let packed = packed(&mut encoder, &raw, &mut vec![0xffff_ffff; words], EFFORTS[effort]);
            proptest::prop_assert_eq!(decode(&packed, raw.len()).unwrap(), raw);
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
