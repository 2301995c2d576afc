// SPDX-License-Identifier: MIT OR Apache-2.0
//! A block in the making: its pieces, and what becomes of them once they are all there.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::block::{BLOCK_MAX, BlockHash, DESCRIPTOR_LEN, Descriptor, block_hash};
use crate::{BlockKind, Error, codec, v1};

use super::offered::Offers;

/// A block of which pieces are missing.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// What version 1 says with each piece; later ones begin the block with it.
    v1: Option<v1::BlockHeader>,
    bytes: Vec<u8>,
    /// Start and end of the parts that are here, disjoint.
    parts: BTreeMap<u32, u32>,
    /// When its last piece came, in frames.
    pub(super) touched: u64,
}

impl Pending {
    pub(super) const fn new() -> Self {
        Self {
            v1: None,
            bytes: Vec::new(),
            parts: BTreeMap::new(),
            touched: 0,
        }
    }

    pub(super) fn new_v1(header: v1::BlockHeader) -> Self {
        Self {
            v1: Some(header),
            ..Self::new()
        }
    }

    /// Tells whether pieces of `other` belong to the same block, as far as they say.
    pub(super) fn is_same_block(&self, other: &Self) -> bool {
        self.v1 == other.v1
    }

    /// Keeps a piece; where pieces overlap, the later one counts. What lies past the longest block is left out. A descriptor other than
    /// the one that is here begins the block anew: it was packed in another way, and old pieces do not go with new ones.
    pub(super) fn add(&mut self, offset: u32, bytes: &[u8]) {
        let start = offset as usize;
        let end = start.saturating_add(bytes.len());
        if end > BLOCK_MAX {
            return;
        }
        if self.is_packed_anew(start, bytes) {
            self.parts.clear();
        }
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        let Some(room) = self.bytes.get_mut(start..end) else {
            return;
        };
        room.copy_from_slice(bytes);
        let (mut start, mut end) = (offset, u32::try_from(end).unwrap_or(u32::MAX));
        let touching = self
            .parts
            .range(..=end)
            .rev()
            .take_while(|(_, until)| **until >= start);
        let touching: Vec<(u32, u32)> = touching.map(|(&from, &until)| (from, until)).collect();
        for (from, until) in touching {
            self.parts.remove(&from);
            (start, end) = (start.min(from), end.max(until));
        }
        self.parts.insert(start, end);
    }

    fn is_packed_anew(&self, start: usize, bytes: &[u8]) -> bool {
        let here = self.bytes.get(..DESCRIPTOR_LEN);
        let came = bytes.get(..DESCRIPTOR_LEN);
        let is_known = self.v1.is_none() && self.leading() >= DESCRIPTOR_LEN;
        start == 0 && is_known && came.is_some() && came != here
    }

    /// Returns how many bytes from the start on are here.
    fn leading(&self) -> usize {
        self.parts.get(&0).map_or(0, |&end| end as usize)
    }

    /// Tells whether all is here; also when its descriptor says nonsense, which more pieces would not mend.
    pub(super) fn is_complete(&self) -> bool {
        let leading = self.leading();
        if let Some(header) = self.v1 {
            return leading == header.packed_len as usize;
        }
        leading >= DESCRIPTOR_LEN
            && Descriptor::decode(&self.bytes)
                .map_or(true, |descriptor| leading >= descriptor.block_len())
    }

    /// Returns kind, raw bytes and hash of the complete block.
    ///
    /// # Errors
    /// What is wrong with the descriptor; [`Error::BlockLength`], [`Error::BlockHash`].
    pub(super) fn unpack(
        self,
        number: u32,
        offers: &Offers,
    ) -> Result<(BlockKind, Vec<u8>, BlockHash), Error> {
        if let Some(header) = self.v1 {
            return unpack_v1(&header, &self.bytes);
        }
        let descriptor = Descriptor::decode(&self.bytes)?;
        let Descriptor {
            kind,
            codec,
            raw_len,
            hash,
            ..
        } = descriptor;
        if descriptor.number != number {
            return Err(Error::BlockConflict { block: number });
        }
        let packed = self.bytes.get(DESCRIPTOR_LEN..descriptor.block_len());
        let raw = codec::decode(codec, packed.unwrap_or_default(), raw_len as usize);
        let mut raw = raw.ok_or(Error::BlockLength {
            block: number,
            announced: raw_len,
        })?;
        if descriptor.is_partial {
            raw = offers.fill(number, &raw)?;
        }
        if block_hash(&raw) != hash {
            return Err(Error::BlockHash { block: number });
        }
        Ok((kind, raw, hash))
    }
}

/// Unpacks what version 1 sent, into what version 2 has.
fn unpack_v1(
    header: &v1::BlockHeader,
    packed: &[u8],
) -> Result<(BlockKind, Vec<u8>, BlockHash), Error> {
    let block = header.number;
    let raw =
        codec::decode(header.codec, packed, header.raw_len as usize).ok_or(Error::BlockLength {
            block,
            announced: header.raw_len,
        })?;
    if block_hash(&raw) != header.hash {
        return Err(Error::BlockHash { block });
    }
    let raw = match header.kind {
        BlockKind::Memory => v1::memory_block(&raw)?,
        _ => raw,
    };
    Ok((header.kind, raw, header.hash))
}
