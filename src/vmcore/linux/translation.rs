// SPDX-License-Identifier: MIT OR Apache-2.0
//! From Linux's virtual addresses to physical ones, by its own page tables.
//!
//! Walks swapper_pg_dir in the form the CPU did (Arm ARM D8.2 and D8.3): granules of 4, 16 and 64 KiB, 36 to 52 bits of
//! address, with the descriptors of FEAT_LPA (64 KiB) and FEAT_LPA2 (more than 48 bits in 4 and 16 KiB), which is how
//! arch/arm64 sets them up. The tables may be what broke: each level is read once, whatever it says.

use super::vmcoreinfo::{Key, Vmcoreinfo};
use crate::{Error, PhysMemory};

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 2;
/// The least and most that Linux can be built for (CONFIG_ARM64_VA_BITS).
const VA_BITS: core::ops::RangeInclusive<u64> = 36..=52;
/// Bits of a physical address at most.
const PA_BITS: u32 = 52;

/// Where an address lies, and how far that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Physical address of the virtual address asked for.
    pub pa: u64,
    /// Bytes from there to the end of what the same descriptor maps.
    pub len: u64,
}

/// The kernel's own page tables, which TTBR1_EL1 points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTables {
    /// Physical address of the first descriptor that the CPU can reach.
    root: u64,
    /// Bits of an address within a page: 12, 14 or 16.
    page_bits: u32,
    va_bits: u32,
}

impl PageTables {
    /// Describes tables at physical address `root`, of pages of `2^page_bits` bytes, for addresses of `va_bits` bits; `None` when
    /// no CPU has such tables.
    #[must_use]
    pub fn new(root: u64, page_bits: u32, va_bits: u32) -> Option<Self> {
        let is_possible =
            matches!(page_bits, 12 | 14 | 16) && VA_BITS.contains(&u64::from(va_bits));
        let is_address = root.checked_shr(PA_BITS) == Some(0) && root.is_multiple_of(8);
        (is_possible && is_address).then_some(Self {
            root,
            page_bits,
            va_bits,
        })
    }

    /// Finds the tables of the kernel that wrote this note.
    ///
    /// # Errors
    /// [`Error::KeyMissing`] for PAGESIZE, SYMBOL(swapper_pg_dir), NUMBER(kimage_voffset) or NUMBER(VA_BITS);
    /// [`Error::KeyValue`] for one that cannot be.
    pub fn of(info: &Vmcoreinfo<'_>) -> Result<Self, Error> {
        let page_bits = page_bits(info)?;
        let built_for = built_va_bits(info)?;
        let va_bits = match info.number("TCR_EL1_T1SZ") {
            Ok(t1sz) => 64_u64
                .checked_sub(t1sz)
                .filter(|bits| VA_BITS.contains(bits))
                .ok_or_else(|| info.refuse(Key::Number("TCR_EL1_T1SZ")))?,
            // An older kernel, which is taken to use all the bits that it is built for.
            Err(Error::KeyMissing(_)) => built_for,
            Err(error) => return Err(error),
        };
        let symbol = info.symbol("swapper_pg_dir")?;
        // The image is mapped as a whole, at one distance.
        let start = symbol.wrapping_sub(info.number("kimage_voffset")?);
        let root = start.saturating_add(unused_start(page_bits, built_for, va_bits));
        // Both are at most 52.
        Self::new(root, page_bits, va_bits as u32)
            .filter(|tables| symbol >= tables.first_va())
            .ok_or_else(|| info.refuse(Key::Symbol("swapper_pg_dir")))
    }

    /// Returns the bytes of a page, which is the granule of the tables.
    #[must_use]
    pub const fn page_bytes(&self) -> u64 {
        1_u64 << self.page_bits
    }

    /// Returns how many bits of a virtual address the tables translate: what the CPU could do, not what the kernel is built for.
    #[must_use]
    pub const fn va_bits(&self) -> u32 {
        self.va_bits
    }

    /// Returns the lowest virtual address that the tables can translate.
    #[must_use]
    pub const fn first_va(&self) -> u64 {
        !bits(self.va_bits)
    }

    /// Bits of an address that one table of a full page translates.
    const fn stride(&self) -> u32 {
        self.page_bits.saturating_sub(3)
    }

    const fn levels(&self) -> u32 {
        let translated = self.va_bits.saturating_sub(self.page_bits);
        translated.div_ceil(self.stride())
    }

    /// Tells whether the descriptors are those of FEAT_LPA2: Linux turns them on with the 52-bit addresses they are needed for.
    const fn is_lpa2(&self) -> bool {
        self.page_bits < 16 && self.va_bits > 48
    }

    /// Tells whether a descriptor with so many levels below it may map a block (Arm ARM D8.3).
    const fn may_be_block(&self, below: u32) -> bool {
        let most = match (self.page_bits, self.is_lpa2()) {
            (14, false) => 1,
            (12, true) => 3,
            _ => 2,
        };
        below >= 1 && below <= most
    }

    /// Returns the address in a descriptor: of a table, a block or a page.
    const fn address(&self, descriptor: u64) -> u64 {
        let above_page = u64::MAX << self.page_bits;
        if self.is_lpa2() {
            (descriptor & above_page & bits(50)) | (descriptor >> 8 & 3) << 50
        } else if self.page_bits == 16 {
            (descriptor & above_page & bits(48)) | (descriptor >> 12 & 15) << 48
        } else {
            descriptor & above_page & bits(48)
        }
    }

    /// Translates `va`.
    ///
    /// # Errors
    /// [`Error::NotMapped`] with the descriptor that ends the walk; [`Error::Read`] for a table that is not in memory.
    pub fn translate(&self, memory: &mut impl PhysMemory, va: u64) -> Result<Span, Error> {
        self.walk(memory, va).map_err(|(_, error)| error)
    }

    /// Finds the first address from `va` on that is mapped, and where it lies; what a table that is not in memory would map counts as
    /// not mapped. Reads at most `reads` descriptors, and takes what it read off that number: corrupted tables may lead in circles.
    pub fn next_mapped(
        &self,
        memory: &mut impl PhysMemory,
        va: u64,
        reads: &mut u32,
    ) -> Option<(u64, Span)> {
        let mut at = va.max(self.first_va());
        loop {
            *reads = reads.checked_sub(self.levels())?;
            match self.walk(memory, at) {
                Ok(span) => return Some((at, span)),
                // On to what the next descriptor of that table is of; the last one of all ends at 2^64.
                Err((below, _)) => at = (at | bits(self.shift(below))).checked_add(1)?,
            }
        }
    }

    /// Bits of an address below what a descriptor with so many levels below it maps.
    const fn shift(&self, below: u32) -> u32 {
        below
            .saturating_mul(self.stride())
            .saturating_add(self.page_bits)
    }

    /// Translates `va`; an error comes with the number of levels below the table where the walk ended.
    fn walk(&self, memory: &mut impl PhysMemory, va: u64) -> Result<Span, (u32, Error)> {
        let levels = self.levels();
        let not_mapped = |below: u32, descriptor| {
            let error = Error::NotMapped {
                va,
                // There are at most five levels.
                level: 3_i8.saturating_sub(below as i8),
                descriptor,
            };
            (below, error)
        };
        if va < self.first_va() {
            return Err(not_mapped(levels.saturating_sub(1), 0));
        }
        let mut table = self.root;
        for below in (0..levels).rev() {
            let shift = self.shift(below);
            let index = (va & bits(self.va_bits)) >> shift & bits(self.stride());
            let mut bytes = [0; 8];
            let entry = table.saturating_add(index.saturating_mul(8));
            if let Err(fault) = memory.read(entry, &mut bytes) {
                // Nothing of this table is there: all that the descriptor that led here maps is passed over.
                let above = below.saturating_add(1).min(levels.saturating_sub(1));
                return Err((above, fault.into()));
            }
            let descriptor = u64::from_le_bytes(bytes);
            let is_table_or_page = descriptor & TABLE_OR_PAGE != 0;
            if descriptor & VALID != 0 && is_table_or_page && below > 0 {
                table = self.address(descriptor);
                continue;
            }
            let is_leaf = if is_table_or_page {
                below == 0
            } else {
                self.may_be_block(below)
            };
            if descriptor & VALID == 0 || !is_leaf {
                return Err(not_mapped(below, descriptor));
            }
            let within = va & bits(shift);
            return Ok(Span {
                pa: self.address(descriptor) & !bits(shift) | within,
                len: bits(shift).saturating_sub(within).saturating_add(1),
            });
        }
        // Not reached: the last level returns.
        Err(not_mapped(0, 0))
    }
}

/// The linear map: all of RAM at one distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearMap {
    start: u64,
    end: u64,
    phys_offset: u64,
}

impl LinearMap {
    /// Describes the linear map of the kernel that wrote this note (`__virt_to_phys` of arch/arm64/include/asm/memory.h).
    ///
    /// # Errors
    /// [`Error::KeyMissing`] for NUMBER(PHYS_OFFSET), NUMBER(VA_BITS) or NUMBER(TCR_EL1_T1SZ), without which the kernel may
    /// be so old (before 5.4) that its linear map is elsewhere; [`Error::KeyValue`].
    pub fn of(info: &Vmcoreinfo<'_>) -> Result<Self, Error> {
        info.number("TCR_EL1_T1SZ")?;
        let built_for = built_va_bits(info)? as u32;
        // Half of the addresses that the CPU is sure to have.
        let sure = match (built_for, page_bits(info)?) {
            (49.., 14) => 47,
            (bits, _) => bits.min(48),
        };
        Ok(Self {
            start: !bits(built_for),
            end: !bits(sure.saturating_sub(1)),
            // Negative, in two's complement, for a kernel built for more bits than the CPU has.
            phys_offset: info.number("PHYS_OFFSET")?,
        })
    }

    /// Returns the physical address of `va`, where the linear map can have it. Whether RAM is there is another matter.
    #[must_use]
    pub fn translate(&self, va: u64) -> Option<Span> {
        let from_start = va.checked_sub(self.start)?;
        let len = self.end.checked_sub(va).filter(|len| *len > 0)?;
        let pa = from_start.wrapping_add(self.phys_offset);
        (pa <= bits(PA_BITS)).then_some(Span { pa, len })
    }

    /// Returns the first virtual address behind it: from there on a mapping says more than that there is RAM.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the virtual address of `pa`, where the linear map has room for it.
    #[must_use]
    pub fn va_of(&self, pa: u64) -> Option<u64> {
        let va = pa.wrapping_sub(self.phys_offset).wrapping_add(self.start);
        (self.translate(va)?.pa == pa).then_some(va)
    }
}

/// Returns a mask of the lowest `count` bits.
const fn bits(count: u32) -> u64 {
    match 1_u64.checked_shl(count) {
        Some(bit) => bit.wrapping_sub(1),
        None => u64::MAX,
    }
}

fn page_bits(info: &Vmcoreinfo<'_>) -> Result<u32, Error> {
    match info.decimal("PAGESIZE")? {
        0x1000 => Ok(12),
        0x4000 => Ok(14),
        0x1_0000 => Ok(16),
        _ => Err(info.refuse(Key::Bare("PAGESIZE"))),
    }
}

/// Returns CONFIG_ARM64_VA_BITS.
fn built_va_bits(info: &Vmcoreinfo<'_>) -> Result<u64, Error> {
    let bits = info.number("VA_BITS")?;
    let is_possible = VA_BITS.contains(&bits);
    is_possible
        .then_some(bits)
        .ok_or_else(|| info.refuse(Key::Number("VA_BITS")))
}

/// Returns the bytes of swapper_pg_dir in front of what the CPU can reach.
///
/// With 64 KiB pages a kernel built for 52 bits fills its table as if for all of them, and on a CPU of 48 bits points TTBR1 to
/// the end of it (`offset_ttbr1` of arch/arm64/include/asm/assembler.h). With smaller pages it leaves a level out.
fn unused_start(page_bits: u32, built_for: u64, va_bits: u64) -> u64 {
    let root_shift = 42;
    if page_bits != 16 || va_bits <= root_shift {
        return 0;
    }
    let entries = |va_bits: u64| bits(va_bits.saturating_sub(root_shift) as u32);
    entries(built_for)
        .saturating_sub(entries(va_bits))
        .saturating_mul(8)
}

#[cfg(test)]
mod tests;
