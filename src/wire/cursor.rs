// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bounded little-endian reading and writing of byte slices.
//!
//! Each step is checked; an error carries the offset, so that a broken payload can be looked at. The crate depends on none of ours, hence
//! a cursor of its own.

use crate::Error;

/// Longest variable-length number, in bytes.
pub(crate) const VARINT_MAX: usize = 10;

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

    /// Returns the next variable-length number: seven bits a byte, the lowest first, the top bit of all but the last set.
    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let offset = self.offset as u64;
        let mut value = 0_u64;
        for index in 0..VARINT_MAX {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == VARINT_MAX - 1 && bits > 1 {
                break;
            }
            value |= bits.wrapping_shl(7_u32.wrapping_mul(index as u32));
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::BadValue { offset, value })
    }

    /// Returns the next signed variable-length number: the sign is the lowest bit.
    pub(crate) fn signed_varint(&mut self) -> Result<i64, Error> {
        let value = self.varint()?;
        let half = (value >> 1) as i64;
        Ok(if value & 1 == 0 { half } else { !half })
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

    /// Writes a variable-length number.
    pub(crate) fn varint(&mut self, value: u64) -> Result<(), Error> {
        let mut rest = value;
        while rest >= 0x80 {
            self.u8((rest & 0x7f) as u8 | 0x80)?;
            rest >>= 7;
        }
        self.u8(rest as u8)
    }

    /// Writes a signed variable-length number.
    pub(crate) fn signed_varint(&mut self, value: i64) -> Result<(), Error> {
        self.varint(((value << 1) ^ (value >> 63)) as u64)
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
    fn varints_of_any_size_come_back() {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        writer.varint(0x7f).unwrap();
        writer.varint(0x80).unwrap();
        writer.varint(u64::MAX).unwrap();
        writer.signed_varint(i64::MIN).unwrap();
        writer.signed_varint(-1).unwrap();
        assert_eq!(writer.offset(), 1 + 2 + 10 + 10 + 1);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.varint(), Ok(0x7f));
        assert_eq!(reader.varint(), Ok(0x80));
        assert_eq!(reader.varint(), Ok(u64::MAX));
        assert_eq!(reader.signed_varint(), Ok(i64::MIN));
        assert_eq!(reader.signed_varint(), Ok(-1));
    }

    #[test]
    fn varint_past_64_bits_is_refused() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]);
        assert!(matches!(
            reader.varint(),
            Err(Error::BadValue { offset: 0, .. })
        ));
        assert!(Reader::new(&[0x80]).varint().is_err());
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
