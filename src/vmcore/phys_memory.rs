// SPDX-License-Identifier: MIT OR Apache-2.0
//! How old memory is seen: by physical address, and a read may fail.
//!
//! On the target a read goes through read-only mappings under an exception guard; in tests, benches and fuzzing it
//! goes to a RAM image. The logic above is the same.

use core::fmt;

use crate::PAGE_SIZE;

/// Why an address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCause {
    /// No RAM that may be read lies there.
    NotRam,
    /// The read took a synchronous external abort.
    SyncExternalAbort,
    /// An SError was taken that the read provoked.
    SError,
    /// The read took a translation or permission fault.
    Translation,
    /// An uncorrected memory error was reported for it.
    Poison,
}

impl FaultCause {
    /// Returns the cause's number in notes and on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::NotRam => 1,
            Self::SyncExternalAbort => 2,
            Self::SError => 3,
            Self::Translation => 4,
            Self::Poison => 5,
        }
    }

    /// Returns the cause with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::NotRam),
            2 => Some(Self::SyncExternalAbort),
            3 => Some(Self::SError),
            4 => Some(Self::Translation),
            5 => Some(Self::Poison),
            _ => None,
        }
    }
}

impl fmt::Display for FaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRam => "no ram",
            Self::SyncExternalAbort => "synchronous external abort",
            Self::SError => "serror",
            Self::Translation => "translation fault",
            Self::Poison => "memory error",
        })
    }
}

/// A read that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFault {
    /// Physical address that could not be read.
    pub address: u64,
    /// Why.
    pub cause: FaultCause,
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {:#x}: {}", self.address, self.cause)
    }
}

impl core::error::Error for ReadFault {}

/// The crashed machine's memory.
pub trait PhysMemory {
    /// Fills `buf` with the bytes at physical address `pa`.
    ///
    /// # Errors
    /// The first address that could not be read, and why; `buf` then holds anything.
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault>;

    /// Tells whether the 4 KiB page at `pa` holds zeros only.
    ///
    /// # Errors
    /// As for [`PhysMemory::read`].
    fn is_zero_page(&mut self, pa: u64) -> Result<bool, ReadFault> {
        let mut part = [0; 256];
        let mut offset = 0;
        while offset < PAGE_SIZE {
            let address = pa.checked_add(offset).ok_or(ReadFault {
                address: pa,
                cause: FaultCause::NotRam,
            })?;
            self.read(address, &mut part)?;
            if part.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            offset = offset.saturating_add(part.len() as u64);
        }
        Ok(true)
    }
}

impl<M: PhysMemory + ?Sized> PhysMemory for &mut M {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        (**self).read(pa, buf)
    }

    fn is_zero_page(&mut self, pa: u64) -> Result<bool, ReadFault> {
        (**self).is_zero_page(pa)
    }
}

/// One range of memory held in a slice: a RAM image, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct SliceMemory<'a> {
    /// Physical address of the first byte.
    pub base: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl PhysMemory for SliceMemory<'_> {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        let from = |pa: u64| usize::try_from(pa.checked_sub(self.base)?).ok();
        let found = from(pa).and_then(|start| self.bytes.get(start..start.checked_add(buf.len())?));
        match found {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => {
                let end = self.base.saturating_add(self.bytes.len() as u64);
                let address = if pa < self.base { pa } else { pa.max(end) };
                Err(ReadFault {
                    address,
                    cause: FaultCause::NotRam,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_memory_read_inside_returns_bytes() {
        let mut memory = SliceMemory {
            base: 0x1000,
            bytes: &[1, 2, 3, 4],
        };
        let mut buf = [0; 2];
        assert_eq!(memory.read(0x1001, &mut buf), Ok(()));
        assert_eq!(buf, [2, 3]);
    }

    #[test]
    fn slice_memory_read_across_end_names_first_address_outside() {
        let mut memory = SliceMemory {
            base: 0x1000,
            bytes: &[1, 2, 3, 4],
        };
        let fault = memory.read(0x1003, &mut [0; 2]).unwrap_err();
        assert_eq!(
            fault,
            ReadFault {
                address: 0x1004,
                cause: FaultCause::NotRam
            }
        );
    }

    #[test]
    fn slice_memory_read_below_base_is_refused() {
        let mut memory = SliceMemory {
            base: 0x1000,
            bytes: &[1],
        };
        assert_eq!(memory.read(0xfff, &mut [0]).unwrap_err().address, 0xfff);
    }

    #[test]
    fn zero_page_with_last_byte_set_is_not_zero() {
        let mut page = [0_u8; 4096];
        assert_eq!(
            SliceMemory {
                base: 0,
                bytes: &page
            }
            .is_zero_page(0),
            Ok(true)
        );
        page[4095] = 1;
        assert_eq!(
            SliceMemory {
                base: 0,
                bytes: &page
            }
            .is_zero_page(0),
            Ok(false)
        );
    }

    #[test]
    fn fault_cause_code_round_trips() {
        assert_eq!(
            FaultCause::from_code(FaultCause::SError.code()),
            Some(FaultCause::SError)
        );
        assert_eq!(FaultCause::from_code(0), None);
    }
}
