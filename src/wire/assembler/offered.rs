// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks whose pages were offered by hash: what was found of them, until the rest comes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use alloc::{borrow::ToOwned, vec};

use crate::memory_block::split_table;
use crate::offer::{Offer, PageHash, Want};
use crate::{Error, PAGE_SIZE};

/// Blocks that are kept; a target has fewer on their way.
const BLOCKS_MAX: usize = 8;

/// One block.
#[derive(Clone, Debug, Default)]
struct Offered {
    hashes: Vec<Option<PageHash>>,
    /// Pages that were found, by their number; `None` before the answer.
    known: Option<BTreeMap<usize, Vec<u8>>>,
}

/// The blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers {
    blocks: BTreeMap<u32, Offered>,
}

impl Offers {
    pub(super) const fn new() -> Self {
        Self {
            blocks: BTreeMap::new(),
        }
    }

    /// Takes in a part of an offer; tells whether all of it is here.
    pub(super) fn add(&mut self, offer: &Offer<'_>) -> bool {
        let pages = usize::from(offer.pages);
        if !self.blocks.contains_key(&offer.block) && self.blocks.len() >= BLOCKS_MAX {
            // Blocks are sent in order, so the lowest is the one that was given up.
            self.blocks.pop_first();
        }
        let offered = self.blocks.entry(offer.block).or_default();
        if offered.hashes.len() != pages {
            offered.hashes = vec![None; pages];
            offered.known = None;
        }
        let places = offered.hashes.iter_mut().skip(usize::from(offer.first));
        for (place, hash) in places.zip(offer.hashes()) {
            if *place != Some(hash) {
                *place = Some(hash);
                offered.known = None;
            }
        }
        offered.hashes.iter().all(Option::is_some)
    }

    /// Looks the pages of `block` up and returns which are wanted. The answer to a repeated offer is the same.
    pub(super) fn answer(
        &mut self,
        block: u32,
        mut find: impl FnMut(&PageHash) -> Option<Vec<u8>>,
    ) -> Option<Want> {
        let Offered { hashes, known } = self.blocks.get_mut(&block)?;
        let known = known.get_or_insert_with(|| {
            let found = hashes.iter().enumerate().filter_map(|(index, hash)| {
                let page = find(hash.as_ref()?).filter(|page| page.len() == PAGE_SIZE)?;
                Some((index, page))
            });
            found.collect()
        });
        let pages = u16::try_from(hashes.len()).ok()?;
        let mut want = Want::nothing(block, pages);
        (0..hashes.len())
            .filter(|index| !known.contains_key(index))
            .for_each(|index| want.add(index));
        Some(want)
    }

    /// Puts the pages that were found into the raw bytes of a block that came without them.
    ///
    /// # Errors
    /// What is wrong with the table; [`Error::DataLength`]; [`Error::BlockHash`] for a page that was never found.
    pub(super) fn fill(&self, block: u32, raw: &[u8]) -> Result<Vec<u8>, Error> {
        let (_, pages, rest) = split_table(raw)?;
        let map_len = pages.div_ceil(8);
        let found = rest.len() as u64;
        let short = Error::DataLength {
            expected: map_len as u64,
            found,
        };
        let map_at = rest.len().checked_sub(map_len).ok_or(short)?;
        let (mut present, map) = rest.split_at_checked(map_at).ok_or(short)?;
        let table_len = raw.len().saturating_sub(rest.len());
        let mut whole = raw.get(..table_len).unwrap_or_default().to_owned();
        let known = self.blocks.get(&block).and_then(|one| one.known.as_ref());
        for index in 0..pages {
            let is_present = map
                .get(index / 8)
                .is_some_and(|byte| byte & 1 << (index % 8) != 0);
            if is_present {
                let (page, later) = present.split_at_checked(PAGE_SIZE).ok_or(short)?;
                whole.extend_from_slice(page);
                present = later;
            } else {
                let page = known.and_then(|known| known.get(&index));
                whole.extend_from_slice(page.ok_or(Error::BlockHash { block })?);
            }
        }
        if !present.is_empty() {
            return Err(short);
        }
        Ok(whole)
    }

    /// Makes what was found wrong, for a test.
    #[cfg(test)]
    pub(super) fn spoil(&mut self) {
        let known = self
            .blocks
            .values_mut()
            .filter_map(|one| one.known.as_mut());
        known
            .flat_map(|known| known.values_mut())
            .for_each(|page| page.fill(0xee));
    }

    /// Drops what is kept of `block`.
    pub(super) fn forget(&mut self, block: u32) {
        self.blocks.remove(&block);
    }
}
