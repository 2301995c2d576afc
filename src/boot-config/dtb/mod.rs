// SPDX-License-Identifier: MIT OR Apache-2.0
//! The flattened device tree blob (DTB): validated, then read, then edited.
//!
//! Implements the Devicetree Specification v0.4, chapter 5, and the bindings that Linux documents under
//! Documentation/devicetree/bindings. A [`Dtb`] exists only after [`Dtb::validate`] has walked the whole blob, so
//! that reading with the `fdt` crate can neither panic nor run on for ever. The specification's limit of 31
//! characters for names is not enforced: real Raspberry Pi blobs exceed it.

mod cells;
mod chosen;
mod console;
mod cpus;
mod early_console;
pub mod edit;
mod error;
mod header;
mod interrupts;
mod memory;
mod node;
mod power;
mod validate;
mod videocore;

pub use chosen::KdumpInfo;
pub use console::{Console, UartModel};
pub use cpus::{Conduit, Cpu, EnableMethod, Psci, PsciVersion};
pub use error::{Block, DtbError};
pub use header::{HEADER_LEN, MAX_LEN};
pub use interrupts::{ArchTimer, Bcm2836, Gic, Interrupt, Trigger};
pub use memory::{MAX_RAM_RANGES, MAX_RESERVED_REGIONS, ReservedRegion};
pub use node::{MAX_DEPTH, Node, StringList};
pub use videocore::{Bcm2835Gpio, Bcm2835Mailbox, OtherMemory};

use fdt::Fdt;
use fdt::parsing::NoPanic;
use fdt::parsing::unaligned::UnalignedParser;

use header::Header;

type Reader<'a> = Fdt<'a, (UnalignedParser<'a>, NoPanic)>;

/// A device tree blob that passed validation.
#[derive(Debug, Clone, Copy)]
pub struct Dtb<'a> {
    blob: &'a [u8],
    header: Header,
}

impl<'a> Dtb<'a> {
    /// Returns the total size in bytes that a blob claims in its first 8 bytes or more, so that it can be mapped.
    ///
    /// # Errors
    /// [`DtbError::Truncated`], [`DtbError::NotADtb`], [`DtbError::TotalSize`] when it is outside
    /// [`HEADER_LEN`]`..=`[`MAX_LEN`].
    pub fn peek_total_size(first: &[u8]) -> Result<u32, DtbError> {
        header::peek_total_size(first)
    }

    /// Checks the whole blob at the start of `bytes`, which may be longer than the blob.
    ///
    /// # Errors
    /// The first thing that is wrong, with its offset from the start of the blob.
    pub fn validate(bytes: &'a [u8]) -> Result<Self, DtbError> {
        let (header, blob) = validate::validate(bytes)?;
        let dtb = Self { blob, header };
        dtb.reader()?;
        Ok(dtb)
    }

    /// Returns the blob, cut to its total size.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.blob
    }

    /// Returns the header's physical id of the boot CPU.
    #[must_use]
    pub const fn boot_cpu_id(&self) -> u32 {
        self.header.boot_cpu_id
    }

    /// Returns the board's name, `/model`.
    #[must_use]
    pub fn model(&self) -> Option<&'a str> {
        self.root().text("model")
    }

    /// Returns whether the board lists `name` in its `compatible` property.
    #[must_use]
    pub fn is_compatible(&self, name: &str) -> bool {
        self.root().is_compatible(name)
    }

    /// Returns a reader of the `fdt` crate on the blob.
    fn reader(&self) -> Result<Reader<'a>, DtbError> {
        Fdt::new_unaligned_fallible(self.blob).map_err(|_| DtbError::Unreadable)
    }
}

#[cfg(test)]
mod exercise;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
