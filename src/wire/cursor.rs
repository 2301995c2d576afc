// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bounded little-endian reading and writing of byte slices.
//!
//! Each step is checked; an error carries the offset, so that a broken payload can be looked at. The crate depends on none of ours, hence
//! a cursor of its own.

use crate::Error;

/// Reads fields one after the other from a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Returns what was not read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// Returns the next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let taken = self.rest().get(..len).ok_or(Error::Truncated {
            offset: self.offset as u64,
            needed: len as u64,
            have: self.rest().len() as u64,
        })?;
        self.offset = self.offset.saturating_add(len);
        Ok(taken)
    }

    /// Returns the next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// Returns the next byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_le_bytes)
    }

    /// Returns the next little-endian u16.
    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    /// Returns the next little-endian u32.
    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// Returns the next little-endian u64.
    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Writes fields one after the other into a slice.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    offset: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `bytes`.
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Returns how many bytes were written.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// Writes `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.offset.saturating_add(bytes.len());
        let have = self.bytes.len();
        self.bytes
            .get_mut(self.offset..end)
            .ok_or(Error::BufferTooSmall {
                needed: end as u64,
                have: have as u64,
            })?
            .copy_from_slice(bytes);
        self.offset = end;
        Ok(())
    }

    /// Writes `len` zero bytes.
    pub(crate) fn zeros(&mut self, len: usize) -> Result<(), Error> {
        let end = self.offset.saturating_add(len);
        let have = self.bytes.len();
        self.bytes
            .get_mut(self.offset..end)
            .ok_or(Error::BufferTooSmall {
                needed: end as u64,
                have: have as u64,
            })?
            .fill(0);
        self.offset = end;
        Ok(())
    }

    /// Writes a byte.
    pub(crate) fn u8(&mut self, value: u8) -> Result<(), Error> {
        self.put(&[value])
    }

    /// Writes a little-endian u16.
    pub(crate) fn u16(&mut self, value: u16) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    /// Writes a little-endian u32.
    pub(crate) fn u32(&mut self, value: u32) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }

    /// Writes a little-endian u64.
    pub(crate) fn u64(&mut self, value: u64) -> Result<(), Error> {
        self.put(&value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_past_end_names_offset_and_lengths() {
        let mut reader = Reader::new(&[1, 0, 2]);
        assert_eq!(reader.u16(), Ok(1));
        assert_eq!(
            reader.u32(),
            Err(Error::Truncated {
                offset: 2,
                needed: 4,
                have: 1
            })
        );
        assert_eq!(reader.rest(), &[2]);
    }

    #[test]
    fn writer_past_end_is_refused_and_writes_nothing() {
        let mut out = [0xaa; 3];
        let mut writer = Writer::new(&mut out);
        assert_eq!(
            writer.u32(7),
            Err(Error::BufferTooSmall { needed: 4, have: 3 })
        );
        assert_eq!(out, [0xaa; 3]);
    }
}
