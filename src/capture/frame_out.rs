// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sending end: payloads and blocks become frames on the line, and are counted and hashed on the way.

use wire::block::{BlockHeader, PIECE_LEN, PackedBlock, RAW_LEN, TreeHash};
use wire::frame::LINE_MAX;
use wire::{BlockKind, Encoder, FrameType, SegmentBlock, Sender, segment_block};

use crate::{Error, Line};

/// The buffers that sending needs.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// A block before packing.
    pub(crate) raw: [u8; RAW_LEN],
    packed: [u8; RAW_LEN],
    frame: [u8; LINE_MAX],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self {
            raw: [0; RAW_LEN],
            packed: [0; RAW_LEN],
            frame: [0; LINE_MAX],
        }
    }
}

/// One dump on its way.
pub(crate) struct FrameOut<'a, L: Line, E: Encoder + ?Sized> {
    line: &'a mut L,
    encoder: &'a mut E,
    packed: &'a mut [u8],
    frame: &'a mut [u8],
    sender: Sender,
    tree: TreeHash,
    blocks: u32,
}

impl<'a, L: Line, E: Encoder + ?Sized> FrameOut<'a, L, E> {
    /// Starts the dump named `id`, and returns the sender and the buffer that blocks are made in.
    pub(crate) fn new(
        line: &'a mut L,
        encoder: &'a mut E,
        buffers: &'a mut Buffers,
        id: [u8; 16],
    ) -> (Self, &'a mut [u8; RAW_LEN]) {
        let Buffers { raw, packed, frame } = buffers;
        let (sender, tree) = (Sender::new(id), TreeHash::new());
        (
            Self {
                line,
                encoder,
                packed,
                frame,
                sender,
                tree,
                blocks: 0,
            },
            raw,
        )
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// [`Error::LineStuck`], [`Error::Wire`].
    pub(crate) fn frame(&mut self, kind: FrameType, payload: &[u8]) -> Result<(), Error> {
        let len = self.sender.frame(kind, [payload, &[]], self.frame)?;
        self.line.write(self.frame.get(..len).unwrap_or_default())
    }

    /// Sends `raw` as the next block.
    ///
    /// # Errors
    /// [`Error::LineStuck`], [`Error::Wire`].
    pub(crate) fn block(&mut self, kind: BlockKind, raw: &[u8]) -> Result<(), Error> {
        let mut packed = PackedBlock::pack(self.blocks, kind, raw, self.encoder, self.packed)?;
        let BlockHeader { hash, .. } = *packed.header();
        while let Some(len) = packed.next_frame(&mut self.sender, PIECE_LEN, self.frame)? {
            self.line.write(self.frame.get(..len).unwrap_or_default())?;
        }
        self.tree.add(&hash);
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }

    /// Sends `bytes`, number `index` of its kind at physical address `address`, in as many blocks as it takes.
    ///
    /// # Errors
    /// [`Error::LineStuck`], [`Error::Wire`].
    pub(crate) fn segment(
        &mut self,
        kind: BlockKind,
        index: u32,
        address: u64,
        bytes: &[u8],
        raw: &mut [u8; RAW_LEN],
    ) -> Result<(), Error> {
        let total_len = bytes.len() as u64;
        let mut offset = 0_u64;
        for part in bytes.chunks(RAW_LEN.saturating_sub(segment_block::HEADER_LEN)) {
            let block = SegmentBlock {
                index,
                address,
                total_len,
                offset,
                bytes: part,
            };
            let len = block.encode(raw)?;
            self.block(kind, raw.get(..len).unwrap_or_default())?;
            offset = offset.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// Returns the number of blocks sent.
    pub(crate) const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the number of frames sent.
    pub(crate) const fn frames(&self) -> u32 {
        self.sender.frames()
    }

    /// Returns the bytes that the frames took on the line.
    pub(crate) const fn line_bytes(&self) -> u64 {
        self.sender.line_bytes()
    }

    /// Returns the hash over all blocks sent.
    pub(crate) fn tree_hash(&self) -> [u8; 32] {
        self.tree.value()
    }
}
