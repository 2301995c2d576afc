// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's log in memory: a ring of plain text that survives into the dump.
//!
//! Layout, little-endian: magic u64, capacity u64 (bytes of the ring), total u64 (bytes ever written), reserved u64, then
//! the ring. The byte number `n` lies at `n % capacity`. No checksum: a log that is half wrong is still worth reading.

use crate::Error;
use crate::cursor::{Reader, Writer};
use crate::phys_memory::PhysMemory;

/// Bytes before the ring.
pub const HEADER_LEN: usize = 32;
/// "AFTIMLOG" in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"AFTIMLOG");

const TOTAL_OFFSET: usize = 16;
/// The header and a byte of text.
const NEEDED: u64 = HEADER_LEN as u64 + 1;

/// The writing end, over the kernel's buffer.
#[derive(Debug)]
pub struct LogRing<'a> {
    header: &'a mut [u8],
    ring: &'a mut [u8],
    total: u64,
}

impl<'a> LogRing<'a> {
    /// Makes `bytes` an empty log.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when nothing is left for text.
    pub fn init(bytes: &'a mut [u8]) -> Result<Self, Error> {
        let (needed, have) = (NEEDED, bytes.len() as u64);
        if have < needed {
            return Err(Error::BufferTooSmall { needed, have });
        }
        let (header, ring) = bytes.split_at_mut(HEADER_LEN);
        let mut writer = Writer::new(header);
        writer.u64(MAGIC)?;
        writer.u64(ring.len() as u64)?;
        writer.zeros(HEADER_LEN - TOTAL_OFFSET)?;
        Ok(Self {
            header,
            ring,
            total: 0,
        })
    }

    /// Adds text, over the oldest when the ring is full.
    pub fn write(&mut self, text: &[u8]) {
        let capacity = self.ring.len();
        let skipped = text.len().saturating_sub(capacity);
        let mut rest = text.get(skipped..).unwrap_or_default();
        self.total = self.total.wrapping_add(skipped as u64);
        while !rest.is_empty() {
            // The ring is never empty, and the remainder is below its length, a usize.
            let at = self.total.checked_rem(capacity as u64).unwrap_or(0) as usize;
            let part = rest.len().min(capacity.saturating_sub(at));
            let Some((now, later)) = rest.split_at_checked(part) else {
                return;
            };
            let Some(room) = self.ring.get_mut(at..at.saturating_add(part)) else {
                return;
            };
            room.copy_from_slice(now);
            self.total = self.total.wrapping_add(part as u64);
            rest = later;
        }
        if let Some(total) = self.header.get_mut(TOTAL_OFFSET..TOTAL_OFFSET + 8) {
            total.copy_from_slice(&self.total.to_le_bytes());
        }
    }

    /// Returns how many bytes were ever written.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

impl core::fmt::Write for LogRing<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

/// The reading end: oldest text first, out of memory that nothing vouches for.
#[derive(Clone, Copy, Debug)]
pub struct LogReader {
    ring: u64,
    capacity: u64,
    next: u64,
    end: u64,
}

impl LogReader {
    /// Looks at the log of `len` bytes (header and ring) at physical address `pa`.
    ///
    /// # Errors
    /// [`Error::BadMagic`]; [`Error::BadValue`] when the capacity leaves `len`; [`Error::Read`].
    pub fn open<M: PhysMemory>(memory: &mut M, pa: u64, len: u64) -> Result<Self, Error> {
        let room = len.checked_sub(HEADER_LEN as u64).ok_or(Error::Truncated {
            offset: 0,
            needed: HEADER_LEN as u64,
            have: len,
        })?;
        pa.checked_add(len)
            .ok_or(Error::RangeWraps { start: pa, len })?;
        let mut header = [0; HEADER_LEN];
        memory.read(pa, &mut header)?;
        let mut reader = Reader::new(&header);
        let magic = reader.u64()?;
        if magic != MAGIC {
            return Err(Error::BadMagic { value: magic });
        }
        let capacity = reader.u64()?;
        if capacity == 0 || capacity > room {
            return Err(Error::BadValue {
                offset: 8,
                value: capacity,
            });
        }
        let end = reader.u64()?;
        let ring = pa.saturating_add(HEADER_LEN as u64);
        Ok(Self {
            ring,
            capacity,
            next: end.saturating_sub(capacity),
            end,
        })
    }

    /// Returns how many bytes are left to read.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// Returns how many bytes were overwritten before the oldest that is left.
    #[must_use]
    pub const fn overwritten(&self) -> u64 {
        self.end.saturating_sub(self.capacity)
    }

    /// Leaves out all but the last `len` bytes.
    pub fn keep_last(&mut self, len: u64) {
        self.next = self.next.max(self.end.saturating_sub(len));
    }

    /// Reads the next bytes into `buf` and returns how many; 0 at the end.
    ///
    /// # Errors
    /// [`Error::Read`]; the part counts as read, so that the next call goes on after it.
    pub fn read<M: PhysMemory>(&mut self, memory: &mut M, buf: &mut [u8]) -> Result<usize, Error> {
        let at = self.next.checked_rem(self.capacity).unwrap_or(0);
        let contiguous = self.capacity.saturating_sub(at).min(self.remaining());
        let len = usize::try_from(contiguous)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let Some(buf) = buf.get_mut(..len) else {
            return Ok(0);
        };
        self.next = self.next.saturating_add(len as u64);
        if !buf.is_empty() {
            memory.read(self.ring.saturating_add(at), buf)?;
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phys_memory::SliceMemory;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn read_all(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut memory = SliceMemory {
            base: 0x4000,
            bytes,
        };
        let mut reader = LogReader::open(&mut memory, 0x4000, bytes.len() as u64)?;
        let mut out = Vec::new();
        let mut buf = [0; 7];
        loop {
            match reader.read(&mut memory, &mut buf)? {
                0 => return Ok(out),
                len => out.extend_from_slice(&buf[..len]),
            }
        }
    }

    #[test]
    fn log_written_twice_is_laid_out_as_documented() {
        let mut bytes = [0xff; 40];
        let mut log = LogRing::init(&mut bytes).unwrap();
        log.write(b"abc");
        log.write(b"de");
        #[rustfmt::skip]
        assert_eq!(bytes, [
            b'A', b'F', b'T', b'I', b'M', b'L', b'O', b'G', 8, 0, 0, 0, 0, 0, 0, 0,
            5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            b'a', b'b', b'c', b'd', b'e', 0xff, 0xff, 0xff,
        ]);
    }

    #[test]
    fn log_longer_than_the_ring_keeps_the_newest() {
        let mut bytes = [0; 36];
        LogRing::init(&mut bytes).unwrap().write(b"0123456789");
        assert_eq!(read_all(&bytes).unwrap(), b"6789");
    }

    #[test]
    fn log_kept_to_the_last_bytes_starts_there() {
        let mut bytes = [0; 64];
        LogRing::init(&mut bytes).unwrap().write(b"first last");
        let mut memory = SliceMemory {
            base: 0,
            bytes: &bytes,
        };
        let mut reader = LogReader::open(&mut memory, 0, 64).unwrap();
        reader.keep_last(4);
        let mut buf = [0; 16];
        assert_eq!(reader.read(&mut memory, &mut buf), Ok(4));
        assert_eq!(&buf[..4], b"last");
    }

    #[test]
    fn log_without_magic_is_refused() {
        assert_eq!(read_all(&[0; 64]), Err(Error::BadMagic { value: 0 }));
    }

    #[test]
    fn log_with_capacity_past_its_room_is_refused() {
        let mut bytes = [0; 64];
        LogRing::init(&mut bytes).unwrap();
        bytes[8] = 33;
        assert_eq!(
            read_all(&bytes),
            Err(Error::BadValue {
                offset: 8,
                value: 33
            })
        );
        bytes[8] = 0;
        assert_eq!(
            read_all(&bytes),
            Err(Error::BadValue {
                offset: 8,
                value: 0
            })
        );
    }

    #[test]
    fn log_in_too_little_room_is_refused() {
        assert!(LogRing::init(&mut [0; 32]).is_err());
        assert!(read_all(&[0; 31]).is_err());
    }

    proptest! {
        #[test]
        fn log_reads_back_the_tail_of_what_was_written(
            capacity in 1_usize..40,
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8),
        ) {
            let mut bytes = std::vec![0; HEADER_LEN + capacity];
            let mut log = LogRing::init(&mut bytes).unwrap();
            parts.iter().for_each(|part| log.write(part));
            let all: Vec<u8> = parts.concat();
            prop_assert_eq!(read_all(&bytes).unwrap(), &all[all.len().saturating_sub(capacity)..]);
        }

        #[test]
        fn log_with_any_header_is_bounded(header in proptest::collection::vec(any::<u8>(), 24)) {
            let mut bytes = std::vec![0; 64];
            bytes[..24].copy_from_slice(&header);
            bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[9..16].fill(0);
            if let Ok(text) = read_all(&bytes) {
                prop_assert!(text.len() <= 32);
            }
        }
    }
}
