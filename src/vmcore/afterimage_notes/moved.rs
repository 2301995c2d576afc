// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MOVED note: memory that changed while it was dumped. Written by the host, from the summary.

use super::Entries;
use super::list::{Entry, ListWriter};
use crate::cursor::{Reader, Writer};
use crate::{Error, PhysRange};

/// A range that changed, in whole granules.
///
/// Layout, 16 bytes: start u64, end u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedRange(pub PhysRange);

impl Entry for MovedRange {
    const LEN: usize = 16;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u64(self.0.start)?;
        writer.u64(self.0.end)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self(PhysRange {
            start: reader.u64()?,
            end: reader.u64()?,
        }))
    }
}

/// Starts the list; `granule_pages` share a hash, and `granules` of them changed, of which the list may name a part only.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn new_moved(
    out: &mut [u8],
    granule_pages: u32,
    granules: u32,
) -> Result<ListWriter<'_, MovedRange>, Error> {
    ListWriter::new(out, u64::from(granules) << 32 | u64::from(granule_pages))
}

/// Returns the pages of a granule and the granules that changed.
#[must_use]
pub fn granules_of(entries: &Entries<'_, MovedRange>) -> (u32, u32) {
    let argument = entries.argument();
    (argument as u32, (argument >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_has_its_golden_bytes() {
        let range = MovedRange(PhysRange {
            start: 0x4000_0000,
            end: 0x4000_8000,
        });
        let mut out = [0xff; 40];
        let mut list = new_moved(&mut out, 8, 1).unwrap();
        list.push(&range).unwrap();
        assert_eq!(list.finish(), Ok(40));
        assert_eq!(out[16..24], [8, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(
            out[24..],
            [0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0x80, 0, 0x40, 0, 0, 0, 0]
        );
        let mut entries = Entries::<MovedRange>::decode(&out).unwrap();
        assert_eq!(granules_of(&entries), (8, 1));
        assert_eq!(entries.next(), Some(range));
    }

    #[test]
    fn moved_cut_short_or_changed_is_refused() {
        let mut out = [0; 24];
        new_moved(&mut out, 8, 0).unwrap().finish().unwrap();
        assert!(Entries::<MovedRange>::decode(&out[..23]).is_err());
        out[4] = 1;
        assert!(Entries::<MovedRange>::decode(&out).is_err());
    }
}
