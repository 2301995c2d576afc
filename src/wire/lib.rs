// SPDX-License-Identifier: MIT OR Apache-2.0
//! The link protocol between a capture kernel and the host; docs/protocol.md.
//!
//! Sans-I/O: the sending side fills the caller's buffers, the receiving side is pushed whatever bytes came. Console
//! text and frames share the line; frames are COBS between zero bytes with a CRC-32C, so that a reader can start
//! anywhere. Blocks stand alone: a lost frame costs its block and nothing else.
#![no_std]
#![forbid(unsafe_code)]
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "alloc")]
pub mod answer;
#[cfg(feature = "alloc")]
pub mod assembler;
pub mod baud_change;
pub mod block;
pub mod codec;
mod cursor;
mod error;
pub mod frame;
#[cfg_attr(
    not(test),
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "the encoder's tables are indexed by its own state, never by a length from outside; fuzzed"
    )
)]
pub mod lzma;
pub mod manifest;
pub mod memory_block;
pub mod moved;
pub mod offer;
pub mod one_way;
#[cfg_attr(
    not(test),
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "tables of GF(256), indexed by bytes"
    )
)]
pub mod parity;
pub mod receiver;
pub mod segment_block;
pub mod status;
pub mod summary;
pub mod target;
#[cfg(feature = "alloc")]
mod v1;

#[cfg(feature = "alloc")]
pub use answer::Answers;
#[cfg(feature = "alloc")]
pub use assembler::Assembler;
pub use baud_change::BaudChange;
pub use block::{BlockHash, BlockKind, Descriptor};
pub use codec::Codec;
pub use error::Error;
pub use frame::{Frame, FrameType, Sender};
pub use manifest::Manifest;
pub use memory_block::{BlockWriter, MemoryBlock, PageClass};
pub use moved::Moved;
pub use offer::{Offer, Want};
pub use one_way::OneWay;
pub use receiver::{Event, Receiver};
pub use segment_block::SegmentBlock;
pub use status::Status;
pub use summary::{Finished, Next, Summary};
pub use target::Target;

/// The protocol version that this code sends.
pub const VERSION: u8 = 2;
/// The oldest protocol version that this code reads.
pub const VERSION_MIN: u8 = 1;
/// Bytes of the page that blocks are made of.
pub const PAGE_SIZE: usize = 4096;
