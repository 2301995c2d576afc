// SPDX-License-Identifier: MIT OR Apache-2.0
//! The GAPS note: what is missing from the file, and why. Written by the host.

use super::list::Entry;
use crate::cursor::{Reader, Writer};
use crate::{Error, PageClass, PhysRange};

/// A physical range that the file does not hold.
///
/// Layout, 24 bytes: start u64, end u64, class u32, reserved u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where.
    pub range: PhysRange,
    /// Why.
    pub class: PageClass,
}

impl Entry for Gap {
    const LEN: usize = 24;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u64(self.range.start)?;
        writer.u64(self.range.end)?;
        writer.u32(u32::from(self.class.code()))?;
        writer.u32(0)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let range = PhysRange {
            start: reader.u64()?,
            end: reader.u64()?,
        };
        let code = reader.u32()?;
        let class = u8::try_from(code)
            .ok()
            .and_then(PageClass::from_code)
            .ok_or(Error::BadValue {
                offset: 16,
                value: u64::from(code),
            })?;
        Ok(Self { range, class })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{Entries, ListWriter};
    use super::*;

    const SAMPLE: Gap = Gap {
        range: PhysRange {
            start: 0x4000_0000,
            end: 0x4000_1000,
        },
        class: PageClass::Lost,
    };

    #[test]
    fn gap_has_its_golden_bytes() {
        let mut out = [0xff; 48];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        list.push(&SAMPLE).unwrap();
        assert_eq!(list.finish(), Ok(48));
        #[rustfmt::skip]
        assert_eq!(out[24..], [
            0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x10, 0, 0x40, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(Entries::<Gap>::decode(&out).unwrap().next(), Some(SAMPLE));
    }

    #[test]
    fn gap_of_unknown_class_ends_the_walk() {
        let mut bytes = [0; 24];
        bytes[16] = 99;
        assert_eq!(
            Gap::take(&mut Reader::new(&bytes)),
            Err(Error::BadValue {
                offset: 16,
                value: 99
            })
        );
    }
}
