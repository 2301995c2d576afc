// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the validator and of the readers.

mod boards;
mod console;
mod reading;
mod validation;
mod videocore;

use super::testing::Blob;
use super::*;
use crate::range::PhysRange;
use std::vec::Vec;

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::from_len(start, len).unwrap()
}

/// A blob of one root node with two-cell addresses and RAM, for tests that add what is wrong.
fn board() -> Blob {
    Blob::new().two_cells().memory(0x4000_0000, 0x800_0000)
}
