// SPDX-License-Identifier: MIT OR Apache-2.0
//! A payload that is a list: header, then entries of one size.
//!
//! Header, 24 bytes: version u32, count u32, CRC-32C of the entries u32, entry size u32, argument u64 (its meaning
//! depends on the note). An entry may be longer than this version knows: the rest of it is skipped.

use core::marker::PhantomData;

use super::{VERSION, payload};
use crate::cursor::{Reader, Writer};
use crate::{Error, crc32c};

/// Bytes of the list's header.
pub const HEADER_LEN: usize = 24;

/// An entry of a list note, of fixed size.
pub trait Entry: Sized {
    /// Bytes of an entry.
    const LEN: usize;

    /// Writes exactly [`Entry::LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error>;

    /// Reads at most [`Entry::LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::BadValue`].
    fn take(reader: &mut Reader<'_>) -> Result<Self, Error>;
}

/// Writes a list into a buffer without allocation.
#[derive(Debug)]
pub struct ListWriter<'a, E> {
    out: &'a mut [u8],
    len: usize,
    count: u32,
    argument: u64,
    entries: PhantomData<E>,
}

impl<'a, E: Entry> ListWriter<'a, E> {
    /// Starts a list at the front of `out`.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when its header does not fit.
    pub fn new(out: &'a mut [u8], argument: u64) -> Result<Self, Error> {
        let have = out.len() as u64;
        if out.len() < HEADER_LEN {
            return Err(Error::BufferTooSmall {
                needed: HEADER_LEN as u64,
                have,
            });
        }
        Ok(Self {
            out,
            len: HEADER_LEN,
            count: 0,
            argument,
            entries: PhantomData,
        })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; the entries before stay.
    pub fn push(&mut self, entry: &E) -> Result<(), Error> {
        let mut writer = Writer::new(self.out.get_mut(self.len..).unwrap_or_default());
        entry.put(&mut writer)?;
        self.len = self.len.saturating_add(E::LEN);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Writes the header and returns the payload's length.
    ///
    /// # Errors
    /// None that [`ListWriter::new`] would not have returned.
    pub fn finish(self) -> Result<usize, Error> {
        let crc = crc32c(self.out.get(HEADER_LEN..self.len).unwrap_or_default());
        let mut writer = Writer::new(self.out);
        writer.u32(VERSION)?;
        writer.u32(self.count)?;
        writer.u32(crc)?;
        writer.u32(E::LEN as u32)?;
        writer.u64(self.argument)?;
        Ok(self.len)
    }
}

/// Returns the bytes of a list of `count` entries.
#[must_use]
pub const fn list_len<E: Entry>(count: usize) -> usize {
    HEADER_LEN.saturating_add(count.saturating_mul(E::LEN))
}

/// The entries of a list whose header and checksum were found right.
#[derive(Clone, Debug)]
pub struct Entries<'a, E> {
    argument: u64,
    entry_len: usize,
    rest: &'a [u8],
    entries: PhantomData<E>,
}

impl<'a, E: Entry> Entries<'a, E> {
    /// Checks the list in `desc`.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`], [`Error::BadValue`] for the entry size, [`Error::Checksum`].
    pub fn decode(desc: &'a [u8]) -> Result<Self, Error> {
        let mut reader = payload(desc)?;
        let count = reader.u32()?;
        let stored = reader.u32()?;
        let entry_len = reader.u32()?;
        let argument = reader.u64()?;
        let bad_len = Error::BadValue {
            offset: 12,
            value: u64::from(entry_len),
        };
        let entry_len = usize::try_from(entry_len).map_err(|_| bad_len)?;
        if entry_len < E::LEN {
            return Err(bad_len);
        }
        let len = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(entry_len));
        let rest = reader.take(len.unwrap_or(usize::MAX))?;
        let computed = crc32c(rest);
        if stored != computed {
            return Err(Error::Checksum { stored, computed });
        }
        Ok(Self {
            argument,
            entry_len,
            rest,
            entries: PhantomData,
        })
    }

    /// Returns the list's argument.
    #[must_use]
    pub const fn argument(&self) -> u64 {
        self.argument
    }
}

impl<E: Entry> Iterator for Entries<'_, E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        let (entry, rest) = self.rest.split_at_checked(self.entry_len)?;
        self.rest = rest;
        E::take(&mut Reader::new(entry)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Phase, Timing};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn sample() -> ([u8; 64], usize) {
        let mut out = [0xff; 64];
        let mut list = ListWriter::new(&mut out, 62_500_000).unwrap();
        list.push(&Timing {
            phase: Phase::Fault,
            ticks: 7,
        })
        .unwrap();
        list.push(&Timing {
            phase: Phase::Stopped,
            ticks: 9,
        })
        .unwrap();
        let len = list.finish().unwrap();
        (out, len)
    }

    #[test]
    fn list_round_trips_with_its_argument() {
        let (out, len) = sample();
        let entries = Entries::<Timing>::decode(&out[..len]).unwrap();
        assert_eq!(entries.argument(), 62_500_000);
        assert_eq!(entries.map(|entry| entry.ticks).collect::<Vec<_>>(), [7, 9]);
    }

    #[test]
    fn list_with_a_flipped_bit_is_refused() {
        let (mut out, len) = sample();
        out[30] ^= 1;
        assert!(matches!(
            Entries::<Timing>::decode(&out[..len]),
            Err(Error::Checksum { .. })
        ));
    }

    #[test]
    fn list_claiming_more_entries_than_there_are_is_refused() {
        let (mut out, len) = sample();
        out[7] = 0xff;
        assert!(matches!(
            Entries::<Timing>::decode(&out[..len]),
            Err(Error::Truncated { .. })
        ));
    }

    #[test]
    fn list_of_longer_entries_is_read_by_its_own_size() {
        let mut out = [0; 24 + 2 * 20];
        out[24 + 20 + 8] = 5;
        let crc = crc32c(&out[24..]);
        out[..16].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        let ticks: Vec<u64> = Entries::<Timing>::decode(&out)
            .unwrap()
            .map(|entry| entry.ticks)
            .collect();
        assert_eq!(ticks, [0, 5]);
    }

    #[test]
    fn list_of_shorter_entries_is_refused() {
        let (mut out, len) = sample();
        out[12] = 8;
        assert_eq!(
            Entries::<Timing>::decode(&out[..len]).unwrap_err(),
            Error::BadValue {
                offset: 12,
                value: 8
            }
        );
    }

    #[test]
    fn list_of_another_version_is_refused() {
        let (mut out, len) = sample();
        out[0] = 2;
        assert_eq!(
            Entries::<Timing>::decode(&out[..len]).unwrap_err(),
            Error::Version(2)
        );
    }

    #[test]
    fn list_without_room_keeps_what_fitted() {
        let mut out = [0; 40];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        list.push(&Timing {
            phase: Phase::Fault,
            ticks: 7,
        })
        .unwrap();
        assert!(
            list.push(&Timing {
                phase: Phase::Fault,
                ticks: 8
            })
            .is_err()
        );
        assert_eq!(list.finish(), Ok(40));
        assert_eq!(Entries::<Timing>::decode(&out).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn list_decode_of_any_bytes_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(entries) = Entries::<Timing>::decode(&bytes) {
                prop_assert!(entries.count() <= bytes.len());
            }
        }
    }
}
