// SPDX-License-Identifier: MIT OR Apache-2.0
//! The KERNEL note: where the crashed kernel's image and RAM are mapped.

use super::{VERSION, payload};
use crate::Error;
use crate::cursor::Writer;

/// The KERNEL payload.
///
/// Layout, 64 bytes: version u32, cpu count u32, link va u64, image pa u64, image size u64, linear base u64, ttbr1 u64,
/// tcr u64, translation granule u32 (bytes), reserved u32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelInfo {
    /// How many CPUs the machine has.
    pub cpu_count: u32,
    /// Virtual address that the image is linked to, and runs at.
    pub link_va: u64,
    /// Physical address of the image.
    pub image_pa: u64,
    /// Bytes of the image, BSS included.
    pub image_size: u64,
    /// Linear map: virtual address = this + physical address.
    pub linear_base: u64,
    /// TTBR1_EL1: the kernel's translation table.
    pub ttbr1: u64,
    /// TCR_EL1: how to walk it.
    pub tcr: u64,
    /// Translation granule in bytes.
    pub granule: u32,
}

impl KernelInfo {
    /// Bytes of the payload.
    pub const LEN: usize = 64;

    /// Returns whether [`crate::page_tables`] knows how to walk its tables: 4 KiB, 48 bits (TCR_EL1.T1SZ).
    #[must_use]
    pub const fn is_walkable(&self) -> bool {
        self.granule == 4096 && self.tcr >> 16 & 63 == 16 && self.ttbr1 != 0
    }

    /// Writes the payload and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let mut writer = Writer::new(out);
        writer.u32(VERSION)?;
        writer.u32(self.cpu_count)?;
        let Self {
            link_va,
            image_pa,
            image_size,
            linear_base,
            ttbr1,
            tcr,
            ..
        } = *self;
        for value in [link_va, image_pa, image_size, linear_base, ttbr1, tcr] {
            writer.u64(value)?;
        }
        writer.u32(self.granule)?;
        writer.u32(0)?;
        Ok(writer.offset())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Truncated`].
    pub fn decode(desc: &[u8]) -> Result<Self, Error> {
        let mut reader = payload(desc)?;
        Ok(Self {
            cpu_count: reader.u32()?,
            link_va: reader.u64()?,
            image_pa: reader.u64()?,
            image_size: reader.u64()?,
            linear_base: reader.u64()?,
            ttbr1: reader.u64()?,
            tcr: reader.u64()?,
            granule: reader.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_has_its_golden_bytes() {
        let info = KernelInfo {
            cpu_count: 4,
            link_va: 1,
            image_pa: 2,
            image_size: 3,
            linear_base: 4,
            ttbr1: 5,
            tcr: 6,
            granule: 4096,
        };
        let mut out = [0xff; 64];
        assert_eq!(info.encode(&mut out), Ok(64));
        #[rustfmt::skip]
        assert_eq!(out, [
            1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
            4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(KernelInfo::decode(&out), Ok(info));
    }

    #[test]
    fn kernel_cut_short_is_refused() {
        assert!(matches!(
            KernelInfo::decode(&[1, 0, 0, 0, 1]),
            Err(Error::Truncated { .. })
        ));
    }

    #[test]
    fn kernel_of_another_version_is_refused() {
        assert_eq!(KernelInfo::decode(&[0; 64]), Err(Error::Version(0)));
    }
}
