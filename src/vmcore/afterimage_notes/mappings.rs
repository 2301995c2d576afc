// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MAPPINGS note: what the crashed kernel had mapped through TTBR1, as it set it up.
//!
//! The list's argument is 1 when it is all of it, 0 when there was no place for more.

use super::list::Entry;
use crate::Error;
use crate::cursor::{Reader, Writer};

/// A range mapped with one set of attributes.
///
/// Layout, 32 bytes: va u64, pa u64, length u64, attributes u64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: u64,
    /// Physical address of it.
    pub pa: u64,
    /// Bytes.
    pub len: u64,
    /// Attributes of the block and page descriptors (Arm ARM D8.3), without address and type.
    pub attributes: u64,
}

impl Mapping {
    /// Returns whether `va` lies in it.
    #[must_use]
    pub const fn contains(&self, va: u64) -> bool {
        va.wrapping_sub(self.va) < self.len
    }
}

impl Entry for Mapping {
    const LEN: usize = 32;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u64(self.va)?;
        writer.u64(self.pa)?;
        writer.u64(self.len)?;
        writer.u64(self.attributes)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            va: reader.u64()?,
            pa: reader.u64()?,
            len: reader.u64()?,
            attributes: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{Entries, ListWriter};
    use super::*;

    #[test]
    fn mapping_has_its_golden_bytes() {
        let mapping = Mapping {
            va: 0xffff_8000_8000_0000,
            pa: 0x4020_0000,
            len: 0x1000,
            attributes: 0x40_0000_0000_0780,
        };
        let mut out = [0xff; 56];
        let mut list = ListWriter::new(&mut out, 1).unwrap();
        list.push(&mapping).unwrap();
        assert_eq!(list.finish(), Ok(56));
        #[rustfmt::skip]
        assert_eq!(out[24..], [
            0, 0, 0, 0x80, 0, 0x80, 0xff, 0xff, 0, 0, 0x20, 0x40, 0, 0, 0, 0,
            0, 0x10, 0, 0, 0, 0, 0, 0, 0x80, 7, 0, 0, 0, 0, 0x40, 0,
        ]);
        assert_eq!(
            Entries::<Mapping>::decode(&out).unwrap().next(),
            Some(mapping)
        );
    }
}
