// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GIC note: registers of the interrupt controller before the crash path quieted it.
//!
//! The list's argument is the controller's version. A register of bits, or of priorities, for each interrupt that is not listed
//! was 0.

use super::coded_enum;
use super::list::Entry;
use crate::Error;
use crate::cursor::{Reader, Writer};

coded_enum! {
    /// Where a register stands.
    GicPart {
        /// The distributor.
        Distributor = 1, "distributor";
        /// A CPU's redistributor; its second frame lies at 0x10000.
        Redistributor = 2, "redistributor";
        /// A GICv2's CPU interface.
        CpuInterface = 3, "cpu-interface";
        /// A system register, by encoding.
        SystemRegister = 4, "system-register";
    }
}

/// A register of the interrupt controller.
///
/// Layout, 24 bytes: part u32, cpu u32, offset u32, reserved u32, value u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicRegister {
    /// Where it stands.
    pub part: GicPart,
    /// The CPU it belongs to, or that read it.
    pub cpu: u32,
    /// Its offset in bytes, or its encoding as in [`super::SysRegId`].
    pub offset: u32,
    /// What it held.
    pub value: u64,
}

impl Entry for GicRegister {
    const LEN: usize = 24;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.part.code())?;
        writer.u32(self.cpu)?;
        writer.u32(self.offset)?;
        writer.u32(0)?;
        writer.u64(self.value)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let part = GicPart::from_code(reader.u32()?);
        let cpu = reader.u32()?;
        let offset = reader.u32()?;
        reader.u32()?;
        Ok(Self {
            part,
            cpu,
            offset,
            value: reader.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{Entries, ListWriter};
    use super::*;

    const SAMPLE: GicRegister = GicRegister {
        part: GicPart::Redistributor,
        cpu: 3,
        offset: 0x1_0100,
        value: 0x0800_0000,
    };

    #[test]
    fn gic_register_has_its_golden_bytes() {
        let mut out = [0xff; 48];
        let mut list = ListWriter::new(&mut out, 3).unwrap();
        list.push(&SAMPLE).unwrap();
        assert_eq!(list.finish(), Ok(48));
        #[rustfmt::skip]
        assert_eq!(out[16..], [
            3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
            0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0,
        ]);
        assert_eq!(
            Entries::<GicRegister>::decode(&out).unwrap().next(),
            Some(SAMPLE)
        );
    }

    #[test]
    fn gic_list_damaged_is_refused() {
        let mut out = [0; 48];
        let mut list = ListWriter::new(&mut out, 3).unwrap();
        list.push(&SAMPLE).unwrap();
        list.finish().unwrap();
        assert!(Entries::<GicRegister>::decode(&out[..47]).is_err());
        out[40] ^= 1;
        assert!(Entries::<GicRegister>::decode(&out).is_err());
    }
}
