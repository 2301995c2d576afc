// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type that covers every boot input.
//!
//! Each module has a narrow error of its own so that a caller can match on exactly what may happen; this enum is
//! for callers that only pass the cause on.

use core::fmt;

use crate::crashkernel::CrashKernelError;
use crate::dtb::DtbError;
use crate::dtb::edit::EditError;
use crate::image_header::ImageError;
use crate::memory_map::PlacementError;
use crate::range::RangeError;

/// Any error of this crate, with its cause kept whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The device tree blob cannot be read.
    Dtb(DtbError),
    /// The edited device tree blob cannot be written.
    Edit(EditError),
    /// The `crashkernel=` parameter is malformed.
    CrashKernel(CrashKernelError),
    /// The crash region has no place.
    Placement(PlacementError),
    /// The `Image` cannot be loaded.
    Image(ImageError),
    /// A physical range is impossible.
    Range(RangeError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dtb(cause) => cause.fmt(f),
            Self::Edit(cause) => cause.fmt(f),
            Self::CrashKernel(cause) => cause.fmt(f),
            Self::Placement(cause) => cause.fmt(f),
            Self::Image(cause) => cause.fmt(f),
            Self::Range(cause) => cause.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

impl From<DtbError> for Error {
    fn from(cause: DtbError) -> Self {
        Self::Dtb(cause)
    }
}

impl From<EditError> for Error {
    fn from(cause: EditError) -> Self {
        Self::Edit(cause)
    }
}

impl From<CrashKernelError> for Error {
    fn from(cause: CrashKernelError) -> Self {
        Self::CrashKernel(cause)
    }
}

impl From<PlacementError> for Error {
    fn from(cause: PlacementError) -> Self {
        Self::Placement(cause)
    }
}

impl From<ImageError> for Error {
    fn from(cause: ImageError) -> Self {
        Self::Image(cause)
    }
}

impl From<RangeError> for Error {
    fn from(cause: RangeError) -> Self {
        Self::Range(cause)
    }
}
