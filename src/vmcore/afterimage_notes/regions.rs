// SPDX-License-Identifier: MIT OR Apache-2.0
//! The REGIONS note: what lies where in the crashed kernel's RAM.

use super::list::Entry;
use super::{NAME_LEN, coded_enum};
use crate::Error;
use crate::cursor::{Reader, Writer};

coded_enum! {
    /// What a region holds; it decides when, and whether, the region is sent.
    RegionKind {
        /// The log ring ([`crate::log_ring`]).
        LogRing = 1, "log-ring";
        /// The page-state map ([`crate::page_state`]).
        PageState = 2, "page-state";
        /// A stack; the argument is the CPU's number.
        Stack = 3, "stack";
        /// Translation tables.
        PageTables = 4, "page-tables";
        /// The kernel's writable data.
        KernelData = 5, "kernel-data";
        /// Data that the program marked as its own: left out by level bit 8.
        AppData = 6, "app-data";
        /// Never sent.
        Secret = 7, "secret";
        /// Memory that is not RAM by the DTB, or that the program wants early.
        Extra = 8, "extra";
        /// Memory that others than the CPUs use: not read, and named in the FOREIGN note.
        Foreign = 9, "foreign";
    }
}

/// One region.
///
/// Layout, 48 bytes: kind u32, argument u32, pa u64, len u64 (bytes), va u64, name 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// What it holds.
    pub kind: RegionKind,
    /// A CPU's number for stacks, else 0.
    pub argument: u32,
    /// Physical address.
    pub pa: u64,
    /// Bytes.
    pub len: u64,
    /// Virtual address in the crashed kernel.
    pub va: u64,
    /// Its name; see [`super::name_text`].
    pub name: [u8; NAME_LEN],
}

impl Entry for Region {
    const LEN: usize = 48;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.kind.code())?;
        writer.u32(self.argument)?;
        writer.u64(self.pa)?;
        writer.u64(self.len)?;
        writer.u64(self.va)?;
        writer.put(&self.name)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            kind: RegionKind::from_code(reader.u32()?),
            argument: reader.u32()?,
            pa: reader.u64()?,
            len: reader.u64()?,
            va: reader.u64()?,
            name: reader.name()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{Entries, ListWriter};
    use super::super::name_field;
    use super::*;

    #[test]
    fn region_has_its_golden_bytes() {
        let region = Region {
            kind: RegionKind::Stack,
            argument: 2,
            pa: 0x4100_0000,
            len: 0x4000,
            va: 0xffff_0000_4100_0000,
            name: name_field("irq"),
        };
        let mut out = [0xff; 72];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        list.push(&region).unwrap();
        assert_eq!(list.finish(), Ok(72));
        #[rustfmt::skip]
        assert_eq!(out[24..], [
            3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0,
            0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0xff, 0xff,
            b'i', b'r', b'q', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(
            Entries::<Region>::decode(&out).unwrap().next(),
            Some(region)
        );
    }
}
