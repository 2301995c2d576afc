// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a crash region, or with what is to be loaded into it.

#[cfg(doc)]
use super::COPIES;
use crate::mmu::MapError;

/// Why the region could not be set up or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// Not aligned to 2 MiB, or too small for the supervisor area.
    Shape {
        /// First byte.
        start: u64,
        /// End.
        end: u64,
    },
    /// A mapping failed.
    Map(MapError),
    /// A segment does not fit.
    Segment {
        /// First byte.
        start: u64,
        /// Length in bytes.
        len: u64,
    },
    /// There are only [`COPIES`].
    NoSuchCopy {
        /// Number of the copy.
        copy: usize,
    },
}

impl core::fmt::Display for RegionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Shape { start, end } => write!(
                f,
                "crash region {start:#x}..{end:#x} is not made of 2 MiB blocks"
            ),
            Self::Map(error) => write!(f, "crash region: {error}"),
            Self::NoSuchCopy { copy } => write!(f, "there is no copy number {copy}"),
            Self::Segment { start, len } => {
                write!(
                    f,
                    "segment at {start:#x} of {len:#x} bytes does not fit the crash region"
                )
            }
        }
    }
}

impl From<MapError> for RegionError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}
