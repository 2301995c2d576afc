// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's side of parity: lost frames out of those that came.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use super::{
    EXP, GROUP_MAX, Parity, SYMBOL_HEADER_LEN, SYMBOL_LEN, add_scaled, factor, inverse, log,
};

/// Frames that are kept for parity that may come: those of some groups.
const KEPT_MAX: usize = 4 * GROUP_MAX;

/// What came of the latest groups.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Frames, as symbols, by sequence; in order of arrival beside it.
    frames: BTreeMap<u32, Vec<u8>>,
    order: VecDeque<u32>,
    /// The group whose parity is being gathered: first sequence, frames, symbols by number.
    first: u32,
    count: u8,
    parity: BTreeMap<u8, Vec<u8>>,
}

/// A frame that was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its sequence.
    pub sequence: u32,
    /// Its type.
    pub kind: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Group {
    /// Starts with nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frames: BTreeMap::new(),
            order: VecDeque::new(),
            first: 0,
            count: 0,
            parity: BTreeMap::new(),
        }
    }

    /// Keeps a frame that came, as long as parity over it may come.
    pub fn keep(&mut self, sequence: u32, kind: u8, payload: &[u8]) {
        let len = payload.len().saturating_add(SYMBOL_HEADER_LEN);
        if len > SYMBOL_LEN || self.frames.contains_key(&sequence) {
            return;
        }
        let [low, high] = (payload.len() as u16).to_le_bytes();
        let mut symbol = Vec::with_capacity(len);
        symbol.extend_from_slice(&[kind, low, high]);
        symbol.extend_from_slice(payload);
        self.frames.insert(sequence, symbol);
        self.order.push_back(sequence);
        if self.order.len() > KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.frames.remove(&oldest);
        }
    }

    /// Takes in parity and returns the frames that it made whole again.
    pub fn take(&mut self, parity: &Parity<'_>) -> Vec<Recovered> {
        if (self.first, self.count) != (parity.first, parity.frames) {
            self.first = parity.first;
            self.count = parity.frames;
            self.parity.clear();
        }
        self.parity.insert(parity.index, parity.symbol.to_vec());
        let lost: Vec<u8> = (0..self.count)
            .filter(|&data| {
                let sequence = self.first.wrapping_add(u32::from(data));
                !self.frames.contains_key(&sequence)
            })
            .collect();
        if lost.is_empty() || lost.len() > self.parity.len() {
            return Vec::new();
        }
        let symbols = self.solve(&lost);
        let mut recovered = Vec::new();
        for (&data, symbol) in lost.iter().zip(symbols) {
            let sequence = self.first.wrapping_add(u32::from(data));
            let Some((&[kind, low, high], rest)) = symbol.split_first_chunk() else {
                continue;
            };
            let len = usize::from(u16::from_le_bytes([low, high]));
            let Some(payload) = rest.get(..len) else {
                continue;
            };
            self.keep(sequence, kind, payload);
            recovered.push(Recovered {
                sequence,
                kind,
                payload: payload.to_vec(),
            });
        }
        recovered
    }

    /// Solves for the lost symbols, with as many parity symbols: Gauss-Jordan, as the matrix is a Cauchy one.
    fn solve(&self, lost: &[u8]) -> Vec<Vec<u8>> {
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(lost.len());
        for (&index, symbol) in self.parity.iter().take(lost.len()) {
            let mut sum = vec![0; SYMBOL_LEN];
            for (to, from) in sum.iter_mut().zip(symbol) {
                *to = *from;
            }
            for data in 0..self.count {
                let sequence = self.first.wrapping_add(u32::from(data));
                if let Some(frame) = self.frames.get(&sequence) {
                    let mut symbol = [0; SYMBOL_LEN];
                    for (to, from) in symbol.iter_mut().zip(frame) {
                        *to = *from;
                    }
                    add_scaled(&mut sum, &symbol, factor(index, data));
                }
            }
            rows.push((lost.iter().map(|&data| factor(index, data)).collect(), sum));
        }
        for pivot in 0..rows.len() {
            let at = |row: &(Vec<u8>, Vec<u8>)| row.0.get(pivot).copied().unwrap_or(0);
            let Some(found) =
                (pivot..rows.len()).find(|&row| rows.get(row).is_some_and(|r| at(r) != 0))
            else {
                return Vec::new();
            };
            rows.swap(pivot, found);
            let Some(row) = rows.get_mut(pivot) else {
                return Vec::new();
            };
            let by = inverse(at(row));
            scale(&mut row.0, by);
            scale(&mut row.1, by);
            let row = row.clone();
            for (number, other) in rows.iter_mut().enumerate() {
                let by = at(other);
                if number != pivot && by != 0 {
                    for (to, from) in other.0.iter_mut().zip(&row.0) {
                        *to ^= multiply(*from, by);
                    }
                    add_scaled(&mut other.1, &row.1, by);
                }
            }
        }
        rows.into_iter().map(|(_, symbol)| symbol).collect()
    }
}

fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    // In bounds: two logarithms of at most 254 each.
    EXP.get(log(a).saturating_add(log(b))).copied().unwrap_or(0)
}

fn scale(values: &mut [u8], by: u8) {
    values
        .iter_mut()
        .for_each(|value| *value = multiply(*value, by));
}

#[cfg(test)]
mod tests {
    use super::super::{PAYLOAD_MAX, ParityWriter, parity_count};
    use super::*;
    use proptest::prelude::*;

    fn payload(number: usize) -> Vec<u8> {
        (0..(number * 37) % 300 + 1)
            .map(|at| (at * 7 + number) as u8)
            .collect()
    }

    /// Sends a group, loses the frames of these numbers and the first `parity_lost` parity frames.
    fn recovered(frames: usize, lost: &[usize], parity_lost: usize) -> Vec<Recovered> {
        let mut room = vec![0; ParityWriter::ROOM];
        let mut writer = ParityWriter::new(&mut room);
        let mut group = Group::new();
        for number in 0..frames {
            let payload = payload(number);
            writer.add(1000 + number as u32, 2, [&payload[..1], &payload[1..]]);
            if !lost.contains(&number) {
                group.keep(1000 + number as u32, 2, &payload);
            }
        }
        writer.close();
        let (mut found, mut sent) = (Vec::new(), 0);
        while let Some((header, symbol)) = writer.next_frame() {
            sent += 1;
            if sent > parity_lost {
                let bytes = [&header[..], symbol].concat();
                found.extend(group.take(&Parity::decode(&bytes).unwrap()));
            }
        }
        assert_eq!(sent, parity_count(frames));
        found
    }

    #[track_caller]
    fn assert_recovers(frames: usize, lost: &[usize], parity_lost: usize) {
        let found = recovered(frames, lost, parity_lost);
        assert_eq!(found.len(), lost.len());
        for (frame, &number) in found.iter().zip(lost) {
            assert_eq!(frame.sequence, 1000 + number as u32);
            assert_eq!((frame.kind, &frame.payload), (2, &payload(number)));
        }
    }

    #[test]
    fn group_that_lost_as_many_as_there_is_parity_is_whole() {
        let lost: Vec<usize> = (3..19).collect();
        assert_recovers(64, &lost, 0);
    }

    #[test]
    fn group_that_lost_parity_too_is_whole() {
        assert_recovers(40, &[0, 7, 39], 7);
        assert_recovers(1, &[0], 0);
    }

    #[test]
    fn group_that_lost_more_than_there_is_parity_is_left_alone() {
        assert!(recovered(8, &[1, 2, 3], 0).is_empty());
        assert!(recovered(8, &[1, 2], 1).is_empty());
    }

    #[test]
    fn parity_with_absurd_numbers_is_refused() {
        assert!(Parity::decode(&Parity::header(0, 0, 0)).is_err());
        assert!(Parity::decode(&Parity::header(0, 65, 0)).is_err());
        assert!(Parity::decode(&Parity::header(0, 1, 16)).is_err());
        assert!(Parity::decode(&[0; 7]).is_err());
        let long = [&Parity::header(0, 1, 0)[..], &[0; SYMBOL_LEN + 1]].concat();
        assert!(Parity::decode(&long).is_err());
    }

    #[test]
    fn frame_too_long_for_a_symbol_is_left_out() {
        let mut room = vec![0; ParityWriter::ROOM];
        let mut writer = ParityWriter::new(&mut room);
        writer.add(1, 2, [&[1; PAYLOAD_MAX], &[1]]);
        writer.close();
        assert!(writer.next_frame().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        #[cfg_attr(miri, ignore = "too slow under Miri")]
        fn lost_frames_within_the_parity_come_back(frames in 1_usize..=64, seed in any::<u64>()) {
            let lost: Vec<usize> = (0..frames)
                .filter(|&number| (seed >> (number % 61)) & 7 == 0)
                .take(parity_count(frames))
                .collect();
            assert_recovers(frames, &lost, parity_count(frames) - lost.len());
        }

        #[test]
        fn parity_of_any_bytes_is_harmless(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut group = Group::new();
            group.keep(0, 2, &payload);
            if let Ok(parity) = Parity::decode(&payload) {
                group.take(&parity);
            }
        }
    }
}
