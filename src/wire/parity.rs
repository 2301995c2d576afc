// SPDX-License-Identifier: MIT OR Apache-2.0
//! Erasure parity over a group of frames: what a one-way line lost is computed from what it brought.
//!
//! A Cauchy code over GF(2^8) (Blömer et al., An XOR-Based Erasure-Resilient Coding Scheme, 1995): any `m` lost frames
//! of a group are recovered by any `m` of its parity frames. A frame counts as a symbol: type, length of the payload,
//! payload, zeros. The field's polynomial is x^8 + x^4 + x^3 + x^2 + 1.

use crate::Error;
use crate::cursor::{Reader, Writer};

/// Bytes of a symbol that are not payload: type u8, length u16.
pub const SYMBOL_HEADER_LEN: usize = 3;
/// Longest payload of a frame that parity covers.
pub const PAYLOAD_MAX: usize = SYMBOL_LEN - SYMBOL_HEADER_LEN;
/// Bytes of a symbol: whole words of eight.
pub const SYMBOL_LEN: usize = 1216;
/// Most frames of a group.
pub const GROUP_MAX: usize = 64;
/// Most parity frames of a group: a quarter.
pub const PARITY_MAX: usize = GROUP_MAX / 4;

const POLYNOMIAL: u16 = 0x11d;

/// Powers of 2, twice, so that sums of logarithms need no reduction.
const EXP: [u8; 510] = tables().0;
/// Logarithms; that of 0 is not used.
const LOG: [u8; 256] = tables().1;

const fn tables() -> ([u8; 510], [u8; 256]) {
    let (mut exp, mut log) = ([0; 510], [0; 256]);
    let (mut value, mut power) = (1_u16, 0);
    while power < 255 {
        exp[power] = value as u8;
        exp[power + 255] = value as u8;
        log[value as usize] = power as u8;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= POLYNOMIAL;
        }
        power += 1;
    }
    (exp, log)
}

const fn log(value: u8) -> usize {
    LOG[value as usize] as usize
}

const fn inverse(value: u8) -> u8 {
    EXP[255 - log(value)]
}

/// Returns the factor of data frame `data` in parity frame `parity`: the element of a Cauchy matrix, never 0.
const fn factor(parity: u8, data: u8) -> u8 {
    // Parity frames count down from 255 and data frames up from 0, so that they never meet.
    inverse(!parity ^ data)
}

/// Returns eight elements, each times 2.
const fn doubled(elements: u64) -> u64 {
    const TOP: u64 = 0x8080_8080_8080_8080;
    let tops = elements & TOP;
    (elements ^ tops) << 1 ^ (tops >> 7).wrapping_mul((POLYNOMIAL & 0xff) as u64)
}

/// Adds `factor` times `symbol` to `sum`, eight bytes at a time: the multiples of the symbol by powers of 2 that the factor is
/// the sum of. That takes a third of the time that bytes one by one would.
fn add_scaled(sum: &mut [u8], symbol: &[u8], factor: u8) {
    let masks = [0, 1, 2, 3, 4, 5, 6, 7].map(|bit| {
        let is_set = u64::from(factor >> bit & 1);
        is_set.wrapping_neg()
    });
    let (sums, _) = sum.as_chunks_mut::<8>();
    let (words, _) = symbol.as_chunks::<8>();
    for (to, from) in sums.iter_mut().zip(words) {
        let mut multiple = u64::from_le_bytes(*from);
        let mut sum = u64::from_le_bytes(*to);
        for mask in masks {
            sum ^= multiple & mask;
            multiple = doubled(multiple);
        }
        *to = sum.to_le_bytes();
    }
}

/// Returns a frame as a symbol, zeros behind it; `None` when it is too long.
fn symbol(kind: u8, payload: [&[u8]; 2]) -> Option<([u8; SYMBOL_LEN], usize)> {
    let mut out = [0; SYMBOL_LEN];
    let len = payload
        .iter()
        .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let mut writer = Writer::new(&mut out);
    writer.u8(kind).ok()?;
    writer.u16(u16::try_from(len).ok()?).ok()?;
    writer.put(payload[0]).ok()?;
    writer.put(payload[1]).ok()?;
    let used = writer.offset();
    Some((out, used))
}

/// Returns how many parity frames a group of `frames` gets: a quarter, rounded up.
#[must_use]
pub const fn parity_count(frames: usize) -> usize {
    frames.div_ceil(4)
}

/// Bytes of a parity frame's payload before the symbol.
pub const PARITY_HEADER_LEN: usize = 8;

/// A frame of parity.
///
/// Layout: sequence of the group's first frame u32, frames u8, number of this parity frame u8, reserved u16, symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parity<'a> {
    /// Sequence of the first frame of the group; the others follow it.
    pub first: u32,
    /// Frames of the group.
    pub frames: u8,
    /// Number of this parity frame, from 0.
    pub index: u8,
    /// The symbol; zeros at its end are left out.
    pub symbol: &'a [u8],
}

impl<'a> Parity<'a> {
    /// Returns the header of the payload.
    #[must_use]
    pub const fn header(first: u32, frames: u8, index: u8) -> [u8; PARITY_HEADER_LEN] {
        let [a, b, c, d] = first.to_le_bytes();
        [a, b, c, d, frames, index, 0, 0]
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`]; [`Error::BadValue`] for the numbers; [`Error::TooLong`] for the symbol.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let first = reader.u32()?;
        let [frames, index, _, _] = reader.array()?;
        let symbol = reader.rest();
        if frames == 0 || usize::from(frames) > GROUP_MAX {
            return Err(Error::BadValue {
                offset: 4,
                value: u64::from(frames),
            });
        }
        if usize::from(index) >= PARITY_MAX {
            return Err(Error::BadValue {
                offset: 5,
                value: u64::from(index),
            });
        }
        if symbol.len() > SYMBOL_LEN {
            return Err(Error::TooLong {
                len: symbol.len() as u64,
                limit: SYMBOL_LEN as u64,
            });
        }
        Ok(Self {
            first,
            frames,
            index,
            symbol,
        })
    }
}

/// The sending side's parity of the group in the making.
#[derive(Debug)]
pub struct ParityWriter<'a> {
    /// [`PARITY_MAX`] symbols, or as many as there is room for.
    sums: &'a mut [u8],
    first: u32,
    frames: usize,
    /// Parity frames of the group that were handed out; the group is closed when not 0.
    sent: usize,
    /// Longest symbol of the group.
    symbol_len: usize,
}

impl<'a> ParityWriter<'a> {
    /// Bytes of memory that it needs.
    pub const ROOM: usize = PARITY_MAX * SYMBOL_LEN;

    /// Starts with no group. With less than [`ParityWriter::ROOM`] bytes there is less parity.
    #[must_use]
    pub fn new(sums: &'a mut [u8]) -> Self {
        Self {
            sums,
            first: 0,
            frames: 0,
            sent: 0,
            symbol_len: 0,
        }
    }

    /// Adds the frame `sequence` to the group; a payload longer than [`PAYLOAD_MAX`] is left out, as is what does not follow
    /// the group's last frame, or comes while its parity is being sent.
    pub fn add(&mut self, sequence: u32, kind: u8, payload: [&[u8]; 2]) {
        let is_next = self.frames == 0 || sequence == self.first.wrapping_add(self.frames as u32);
        if !is_next || self.is_closed() || self.is_full() {
            return;
        }
        let Some((symbol, len)) = symbol(kind, payload) else {
            return;
        };
        if self.frames == 0 {
            self.first = sequence;
            self.symbol_len = 0;
            self.sums.fill(0);
        }
        let data = self.frames as u8;
        for (parity, sum) in self.sums.chunks_exact_mut(SYMBOL_LEN).enumerate() {
            add_scaled(sum, &symbol, factor(parity as u8, data));
        }
        self.symbol_len = self.symbol_len.max(len);
        self.frames = self.frames.saturating_add(1);
    }

    /// Tells whether the group has all its frames.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.frames >= GROUP_MAX
    }

    /// Ends the group, so that its parity is sent; nothing happens to one without frames.
    pub const fn close(&mut self) {
        if self.frames != 0 && self.sent == 0 {
            self.sent = 1;
        }
    }

    /// Tells whether parity is to be sent.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.sent != 0
    }

    /// Drops the group.
    pub const fn clear(&mut self) {
        self.frames = 0;
        self.sent = 0;
    }

    /// Returns header and symbol of the next parity frame of a closed group; `None` when there is no more.
    pub fn next_frame(&mut self) -> Option<([u8; PARITY_HEADER_LEN], &[u8])> {
        let index = self.sent.checked_sub(1)?;
        let start = index.saturating_mul(SYMBOL_LEN);
        let end = start.saturating_add(self.symbol_len);
        if index >= parity_count(self.frames) || end > self.sums.len() {
            self.clear();
            return None;
        }
        self.sent = self.sent.saturating_add(1);
        let header = Parity::header(self.first, self.frames as u8, index as u8);
        Some((header, self.sums.get(start..end)?))
    }
}

#[cfg(feature = "alloc")]
pub use recovery::Group;

#[cfg(feature = "alloc")]
mod recovery;
