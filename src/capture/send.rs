// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks on their way: hashed, offered, packed straight into the ring that the line is fed from.

use core::cell::Cell;

use wire::block::{BlockHash, DESCRIPTOR_LEN, TreeHash, block_hash_polled};
use wire::lzma::Encoder;
use wire::memory_block::{MemoryBlock, leave_out_known};
use wire::offer::{HASHES_MAX, Offer, page_hash};
use wire::{BlockKind, Codec, Descriptor, FrameType, PAGE_SIZE, SegmentBlock, segment_block};

use crate::effort::{Controller, Measured};
use crate::params::{Fault, InjectedFault};
use crate::port::Port;
use crate::tombstone::Tombstone;
use crate::{Clock, Error, Line, Work};

/// How long an offer may go unanswered until it is repeated, in microseconds.
const OFFER_US: u64 = 300_000;
/// Part of a block's bytes that there must be room for before it is packed, in sixteenths.
const PACKED_PART: usize = 9;
/// Offers of one block; then it is sent whole.
const OFFERS: u32 = 4;

/// Why the blocks of a pass do not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A host came that wants the dump from its start.
    NewHost,
    /// The host has been silent for too long.
    Silent,
    /// The line or a frame failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<wire::Error> for Stop {
    fn from(error: wire::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The blocks of one dump.
pub(crate) struct Sending<'a, L: Line, C: Clock> {
    pub(crate) port: Port<'a, L, C>,
    pub(crate) encoder: &'a mut Encoder,
    pub(crate) words: &'a mut [u32],
    pub(crate) effort: Controller,
    /// How long a host may be silent, in microseconds.
    pub(crate) timeout_us: u64,
    /// Blocks of this pass.
    pub(crate) blocks: u32,
    pub(crate) tree: TreeHash,
    pub(crate) tomb: Tombstone<'a>,
    /// Blocks below this one were sent in this round, before the capture kernel failed.
    pub(crate) resume_at: u32,
    /// A fault to be made, and how.
    pub(crate) fault: Option<(InjectedFault, fn())>,
}

impl<'a, L: Line, C: Clock> Sending<'a, L, C> {
    /// Begins at the first block.
    pub(crate) fn begin_pass(&mut self) {
        self.port.target.begin_pass();
        self.blocks = 0;
        self.tree = TreeHash::new();
    }

    /// Sends the first `len` bytes of `raw` as the next block, unless the host has it.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) fn block(
        &mut self,
        kind: BlockKind,
        raw: &mut [u8],
        len: usize,
    ) -> Result<(), Stop> {
        let number = self.blocks;
        self.tomb.sending(number);
        self.fault_in(number, false);
        let hash = self.hash(raw.get(..len).unwrap_or_default())?;
        self.tree.add(&hash);
        self.blocks = self.blocks.saturating_add(1);
        self.check()?;
        let is_sent = !self.port.target.is_answered() && number < self.resume_at;
        if is_sent || self.port.target.is_stored(number) {
            return Ok(());
        }
        let mut left = len;
        if kind == BlockKind::Memory && self.port.target.wants_offers() {
            left = self.offer(number, raw, len)?;
        }
        let descriptor = Descriptor {
            number,
            kind,
            codec: Codec::Stored,
            is_partial: left != len,
            raw_len: u32::try_from(left).unwrap_or(u32::MAX),
            packed_len: 0,
            hash,
        };
        self.pack(descriptor, raw.get(..left).unwrap_or_default())
    }

    /// Makes the fault that is to be made while the block `number` is read.
    pub(crate) fn fault_in_reading(&self, number: u32) {
        self.fault_in(number, true);
    }

    #[cfg_attr(not(test), expect(clippy::panic, reason = "a failure on purpose"))]
    fn fault_in(&self, number: u32, is_reading: bool) {
        if let Some((fault, provoke)) = &self.fault
            && fault.block.is_none_or(|block| block == number)
            && fault.is_reading == is_reading
            && !self.tomb.has_failed_at(number)
        {
            match fault.kind {
                Fault::Panic => panic!("fault injected"),
                Fault::Abort => provoke(),
                Fault::Hang => loop {
                    core::hint::spin_loop();
                },
            }
        }
    }

    fn hash(&mut self, raw: &[u8]) -> Result<BlockHash, Stop> {
        let mut failure = Ok(());
        let port = &mut self.port;
        let hash = block_hash_polled(raw, || {
            if failure.is_ok() {
                failure = port.pump(Work::Hashed);
            }
        });
        failure?;
        Ok(hash)
    }

    /// Returns why the pass is not to go on.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        let target = &self.port.target;
        let first_unsent = target.first_unsent().unwrap_or(self.blocks);
        self.tomb.line(target.frames(), first_unsent);
        if self.port.target.has_new_session() {
            return Err(Stop::NewHost);
        }
        let silence = self.port.target.silence_us(self.port.now_us());
        if self.port.target.is_answered() && silence > self.timeout_us {
            return Err(Stop::Silent);
        }
        Ok(())
    }

    /// Pumps until `is_done`, or until the pass is not to go on.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) fn wait(
        &mut self,
        mut is_done: impl FnMut(&mut wire::Target<'a>, u64) -> bool,
    ) -> Result<(), Stop> {
        loop {
            self.check()?;
            let now = self.port.now_us();
            if is_done(&mut self.port.target, now) {
                return Ok(());
            }
            self.port.pump(Work::Idle)?;
        }
    }

    /// Offers the pages of a memory block, and takes those out that the host has; returns what is left.
    fn offer(&mut self, number: u32, raw: &mut [u8], len: usize) -> Result<usize, Stop> {
        let pages = MemoryBlock::decode(raw.get(..len).unwrap_or_default())?.data_pages();
        if pages == 0 {
            return Ok(len);
        }
        for _ in 0..OFFERS {
            self.send_offer(number, raw.get(..len).unwrap_or_default(), pages)?;
            let until = self.port.now_us().saturating_add(OFFER_US);
            self.wait(|target, now| target.want(number).is_some() || now >= until)?;
            if let Some(want) = self.port.target.want(number) {
                return Ok(leave_out_known(raw, len, |page| !want.is_wanted(page))?);
            }
        }
        Ok(len)
    }

    fn send_offer(&mut self, number: u32, raw: &[u8], pages: usize) -> Result<(), Stop> {
        let table_len = raw.len().saturating_sub(pages.saturating_mul(PAGE_SIZE));
        let data = raw.get(table_len..).unwrap_or_default();
        for (part, data) in data.chunks(HASHES_MAX * PAGE_SIZE).enumerate() {
            let first = u16::try_from(part.saturating_mul(HASHES_MAX)).unwrap_or(u16::MAX);
            let mut payload = [0; Offer::LEN_MAX];
            let mut failure = Ok(());
            let port = &mut self.port;
            let hashes = data.chunks(PAGE_SIZE).map(|page| {
                if failure.is_ok() {
                    failure = port.pump(Work::Hashed);
                }
                page_hash(page)
            });
            let pages = u16::try_from(pages).unwrap_or(u16::MAX);
            let len = Offer::encode(number, first, pages, hashes, &mut payload)?;
            failure?;
            let payload = payload.get(..len).unwrap_or_default();
            self.port.control(FrameType::Offer, payload)?;
        }
        Ok(())
    }

    /// Packs `raw` into the ring and hands it to the line.
    ///
    /// What packs well needs half its length, and that much room is there long before the last block is stored: so the
    /// line never waits for the encoder. What does not fit waits for room for all of it.
    fn pack(&mut self, descriptor: Descriptor, raw: &[u8]) -> Result<(), Stop> {
        let whole = raw.len();
        let half = whole.saturating_mul(PACKED_PART).div_euclid(16);
        if self.effort.effort().is_some() && whole > PAGE_SIZE {
            let room = self.room(half)?;
            if self.pack_into(room, descriptor, raw)? {
                return Ok(());
            }
        }
        let room = self.room(whole)?;
        if !self.pack_into(room, descriptor, raw)? {
            let body = room.get(DESCRIPTOR_LEN..).unwrap_or_default();
            for (room, part) in body.chunks(PAGE_SIZE).zip(raw.chunks(PAGE_SIZE)) {
                put(room, part);
                self.port.pump(Work::Pages(1))?;
            }
            self.hand_over(room, descriptor, Codec::Stored, whole)?;
        }
        Ok(())
    }

    /// Waits for room for a descriptor and `len` bytes.
    fn room(&mut self, len: usize) -> Result<&'a [Cell<u8>], Stop> {
        let len = len.saturating_add(DESCRIPTOR_LEN);
        let mut room: &'a [Cell<u8>] = &[];
        self.wait(|target, _| match target.room(len) {
            Some(found) => {
                room = found;
                true
            }
            None => false,
        })?;
        Ok(room)
    }

    /// Packs `raw` into `room` and hands it over; false where it does not fit, or is to be sent as it is.
    fn pack_into(
        &mut self,
        room: &'a [Cell<u8>],
        descriptor: Descriptor,
        raw: &[u8],
    ) -> Result<bool, Stop> {
        let body = room.get(DESCRIPTOR_LEN..).unwrap_or_default();
        let began = self.port.now_us();
        let waited = self.port.writing_us();
        let packed = self.encode(raw, body)?;
        let waited = self.port.writing_us().saturating_sub(waited);
        let elapsed = self.port.now_us().saturating_sub(began);
        self.effort.learn(&Measured {
            raw_len: raw.len(),
            packed_len: packed.unwrap_or(raw.len()),
            packing_us: elapsed.saturating_sub(waited),
            line: self.port.pace(),
        });
        let Some(packed_len) = packed else {
            return Ok(false);
        };
        self.hand_over(room, descriptor, Codec::Lzma, packed_len)?;
        Ok(true)
    }

    /// Hands the block over that was packed into `room` behind the place of its descriptor.
    fn hand_over(
        &mut self,
        room: &'a [Cell<u8>],
        descriptor: Descriptor,
        codec: Codec,
        packed_len: usize,
    ) -> Result<(), Stop> {
        let descriptor = Descriptor {
            codec,
            packed_len: u32::try_from(packed_len).unwrap_or(u32::MAX),
            ..descriptor
        };
        put(room, &descriptor.encode()?);
        self.check()?;
        let len = packed_len.saturating_add(DESCRIPTOR_LEN);
        self.port.target.push(descriptor.number, len);
        self.port.pump(Work::Idle)?;
        Ok(())
    }

    /// Packs with the encoder; `None` where that does not shrink it, or is not wanted.
    fn encode(&mut self, raw: &[u8], body: &[Cell<u8>]) -> Result<Option<usize>, Stop> {
        let Some(effort) = self.effort.effort() else {
            return Ok(None);
        };
        let mut failure = Ok(());
        let port = &mut self.port;
        // Room for less than the raw bytes: what does not shrink does not fit.
        let body = body.get(..raw.len().saturating_sub(1)).unwrap_or(body);
        let packed = self.encoder.encode(raw, body, self.words, effort, &mut || {
            if failure.is_ok() {
                failure = port.pump(Work::Encoded(effort.0));
            }
        });
        failure?;
        Ok(packed.filter(|&len| len > 0))
    }

    /// Sends `bytes`, number `index` of its kind at physical address `address`, in as many blocks as it takes.
    ///
    /// # Errors
    /// [`Stop`].
    pub(crate) fn segment(
        &mut self,
        kind: BlockKind,
        index: u32,
        address: u64,
        bytes: &[u8],
        raw: &mut [u8],
    ) -> Result<(), Stop> {
        let total_len = bytes.len() as u64;
        let mut offset = 0_u64;
        let part_len = raw.len().saturating_sub(segment_block::HEADER_LEN).max(1);
        for part in bytes.chunks(part_len) {
            let is_left_out = self.tomb.skipped_block(self.blocks).is_some();
            let block = SegmentBlock {
                index,
                address,
                total_len,
                offset,
                bytes: if is_left_out { &[] } else { part },
            };
            let len = block.encode(raw)?;
            self.block(kind, raw, len)?;
            offset = offset.saturating_add(part.len() as u64);
        }
        Ok(())
    }
}

fn put(room: &[Cell<u8>], bytes: &[u8]) {
    for (to, from) in room.iter().zip(bytes) {
        to.set(*from);
    }
}
