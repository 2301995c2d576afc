// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM minus what is taken, and where the crash region goes in it.
//!
//! Placement follows `reserve_crashkernel_generic` of Linux's kernel/crash_reserve.c with arm64's constants: as high
//! as possible below 4 GiB, else above; the other way round with `,high`; a fixed base that is taken is an error.
//! One rule differs: the size is rounded up to 2 MiB, not to a page, because the region is unmapped in blocks.

use core::fmt;

use crate::crashkernel::{CrashKernel, DEFAULT_LOW_SIZE};
use crate::dtb::{Dtb, DtbError, MAX_RAM_RANGES};
use crate::foreign;
use crate::range::{PhysRange, RangeError, RangeSet, align_down, align_up};

/// Alignment of a crash region's start and size in bytes, Linux's `CRASH_ALIGN` on arm64.
pub const CRASH_ALIGN: u64 = 2 << 20;

/// Where low memory ends, unless devices reach less of it.
const LOW_END: u64 = 1 << 32;
/// RAM that has to be there for a limit to be believed: the extra region of one that lies above has to fit.
const LOW_LEAST: u64 = 2 * DEFAULT_LOW_SIZE;

/// How many separate free ranges are kept.
pub const MAX_FREE_RANGES: usize = 128;

/// Why a crash region has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacementError {
    /// The request is for no memory at all.
    SizeZero,
    /// The size cannot be rounded up to [`CRASH_ALIGN`], or reaches beyond the address space from its base.
    SizeTooLarge {
        /// Size asked for, in bytes.
        size: u64,
    },
    /// The fixed base is not aligned to [`CRASH_ALIGN`].
    BaseMisaligned {
        /// The base asked for.
        base: u64,
    },
    /// The region at the fixed base is not all RAM.
    BaseNotRam {
        /// The region asked for.
        region: PhysRange,
    },
    /// The region at the fixed base is all RAM but something else is in it.
    BaseTaken {
        /// The region asked for.
        region: PhysRange,
    },
    /// There is no free range of the size.
    NoRoom {
        /// Size looked for, in bytes.
        size: u64,
    },
    /// The region lies above 4 GiB and there is no room for the low one below.
    NoLowRoom {
        /// Size looked for, in bytes.
        size: u64,
    },
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SizeZero => f.write_str("crash region of no size"),
            Self::SizeTooLarge { size } => {
                write!(f, "crash region of {size:#x} bytes is too large")
            }
            Self::BaseMisaligned { base } => {
                write!(
                    f,
                    "crash region base {base:#x} is not aligned to {CRASH_ALIGN:#x}"
                )
            }
            Self::BaseNotRam { region } => write!(f, "crash region {region} is not all RAM"),
            Self::BaseTaken { region } => write!(f, "crash region {region} is in use"),
            Self::NoRoom { size } => write!(f, "no room for a crash region of {size:#x} bytes"),
            Self::NoLowRoom { size } => {
                write!(
                    f,
                    "no room in low memory for a crash region of {size:#x} bytes"
                )
            }
        }
    }
}

impl core::error::Error for PlacementError {}

/// Where the crash region goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPlacement {
    /// The crash region.
    pub region: PhysRange,
    /// The extra region below 4 GiB that Linux reserves for DMA when the main one lies above.
    pub low: Option<PhysRange>,
}

/// The RAM of the machine, and what of it is free.
#[derive(Debug, Clone, Copy)]
pub struct MemoryMap {
    ram: RangeSet<MAX_RAM_RANGES>,
    mappable: RangeSet<MAX_FREE_RANGES>,
    free: RangeSet<MAX_FREE_RANGES>,
    /// What every device reaches, where the tree limits it.
    dma_end: Option<u64>,
}

impl MemoryMap {
    /// Reads the map from the device tree: free is RAM minus memory reservations, `/reserved-memory`, framebuffers and the initrd.
    ///
    /// The kernel's own image and the blob are not in it: the caller takes them out with [`Self::reserve`].
    ///
    /// # Errors
    /// Whatever is wrong with one of them, [`DtbError::TooMany`] when the free ranges do not fit.
    pub fn from_dtb(dtb: &Dtb<'_>) -> Result<Self, DtbError> {
        let mut map = Self {
            ram: dtb.ram()?,
            mappable: RangeSet::new(),
            free: RangeSet::new(),
            dma_end: dtb.dma_end(),
        };
        for range in map.ram.iter() {
            map.mappable.insert(range).map_err(too_many)?;
        }
        map.free = map.mappable;
        for range in dtb.memory_reservations() {
            map.reserve(range?).map_err(too_many)?;
        }
        for region in dtb.reserved_memory()?.iter() {
            if region.is_no_map {
                map.mappable.subtract(region.range).map_err(too_many)?;
            }
            map.reserve(region.range).map_err(too_many)?;
        }
        let (ram, mut reserved) = (map.ram, Ok(()));
        foreign::each(dtb, None, ram.as_slice(), &[], |_, range| {
            // One that is not believed is said by who reads a crashed kernel's memory.
            if let Ok(range) = range {
                reserved = reserved.and(map.reserve(range));
            }
        });
        reserved.map_err(too_many)?;
        if let Some(initrd) = dtb.initrd()? {
            map.reserve(initrd).map_err(too_many)?;
        }
        Ok(map)
    }

    /// Forgets all RAM from the address `end` on; returns what was cut off, from the first address to the last.
    pub fn limit(&mut self, end: u64) -> Option<PhysRange> {
        let above = PhysRange {
            start: end,
            end: u64::MAX,
        };
        let mut cut: Option<PhysRange> = None;
        for part in self.ram.iter().filter_map(|range| range.intersect(&above)) {
            let start = cut.map_or(part.start, |cut| cut.start);
            cut = Some(PhysRange {
                start,
                end: part.end,
            });
        }
        let cut = cut.filter(|cut| !cut.is_empty())?;
        // Cutting the high end splits nothing, so neither set can be full.
        let _ = self.ram.subtract(above);
        let _ = self.mappable.subtract(above);
        let _ = self.free.subtract(above);
        Some(cut)
    }

    /// Takes a range out of what is free.
    ///
    /// # Errors
    /// [`RangeError::Full`]; nothing changes then.
    pub fn reserve(&mut self, range: PhysRange) -> Result<(), RangeError> {
        self.free.subtract(range)
    }

    /// Returns all RAM, reserved or not.
    #[must_use]
    pub const fn ram(&self) -> &RangeSet<MAX_RAM_RANGES> {
        &self.ram
    }

    /// Returns the RAM that may be mapped: all but `no-map` regions.
    #[must_use]
    pub const fn mappable(&self) -> &RangeSet<MAX_FREE_RANGES> {
        &self.mappable
    }

    /// Returns the free RAM.
    #[must_use]
    pub const fn free(&self) -> &RangeSet<MAX_FREE_RANGES> {
        &self.free
    }

    /// Returns the size of all RAM in bytes, what `crashkernel=` is judged by.
    #[must_use]
    pub fn total_ram(&self) -> u64 {
        self.ram.total_bytes()
    }

    /// Returns the highest free range of `size` bytes inside `within` whose start is a multiple of `align`.
    ///
    /// `align` is a power of two; `size` of 0 finds nothing.
    #[must_use]
    pub fn find_free(&self, size: u64, align: u64, within: PhysRange) -> Option<PhysRange> {
        if size == 0 || !align.is_power_of_two() {
            return None;
        }
        self.free.iter().rev().find_map(|free| {
            let room = free.intersect(&within)?;
            let start = align_down(room.end.checked_sub(size)?, align);
            let found = PhysRange::from_len(start, size).ok()?;
            room.contains_range(&found).then_some(found)
        })
    }

    /// Finds the place for the crash region; reserves nothing.
    ///
    /// # Errors
    /// See [`PlacementError`].
    pub fn place_crash_region(
        &self,
        request: &CrashKernel,
    ) -> Result<CrashPlacement, PlacementError> {
        if request.is_disabled() {
            return Err(PlacementError::SizeZero);
        }
        let too_large = PlacementError::SizeTooLarge { size: request.size };
        let size = align_up(request.size, CRASH_ALIGN).ok_or(too_large)?;
        if let Some(base) = request.base {
            let region = PhysRange::from_len(base, size).map_err(|_| too_large)?;
            return self
                .place_fixed(region)
                .map(|region| CrashPlacement { region, low: None });
        }
        let low_zone = self.low_zone();
        let high_zone = PhysRange {
            start: low_zone.end,
            end: u64::MAX,
        };
        let (zones, low_size) = if request.is_high {
            ([high_zone, low_zone], request.low_size)
        } else {
            ([low_zone, high_zone], DEFAULT_LOW_SIZE)
        };
        let region = zones
            .iter()
            .find_map(|zone| self.find_free(size, CRASH_ALIGN, *zone))
            .ok_or(PlacementError::NoRoom { size })?;
        if region.start < low_zone.end || low_size == 0 {
            return Ok(CrashPlacement { region, low: None });
        }
        let no_low_room = PlacementError::NoLowRoom { size: low_size };
        let low_size = align_up(low_size, CRASH_ALIGN).ok_or(no_low_room)?;
        let low = self
            .find_free(low_size, CRASH_ALIGN, low_zone)
            .ok_or(no_low_room)?;
        Ok(CrashPlacement {
            region,
            low: Some(low),
        })
    }

    fn place_fixed(&self, region: PhysRange) -> Result<PhysRange, PlacementError> {
        if !region.start.is_multiple_of(CRASH_ALIGN) {
            return Err(PlacementError::BaseMisaligned { base: region.start });
        }
        if !self.ram.contains_range(&region) {
            return Err(PlacementError::BaseNotRam { region });
        }
        if !self.free.contains_range(&region) {
            return Err(PlacementError::BaseTaken { region });
        }
        Ok(region)
    }

    /// Returns what counts as low memory: what every device reaches, on a Raspberry Pi 4 1 GiB; else below 4 GiB; or all of it where RAM begins
    /// above: as on arm64 Linux (`arm64_dma_phys_limit`).
    fn low_zone(&self) -> PhysRange {
        let below = |end: u64| PhysRange { start: 0, end };
        let ram_below = |end: u64| {
            let parts = self.ram.iter().filter_map(|ram| ram.intersect(&below(end)));
            parts.fold(0_u64, |sum, part| sum.saturating_add(part.len()))
        };
        let limit = self
            .dma_end
            .filter(|end| *end < LOW_END && ram_below(*end) >= LOW_LEAST);
        match limit {
            Some(end) => below(end),
            None if ram_below(LOW_END) > 0 => below(LOW_END),
            None => below(u64::MAX),
        }
    }
}

fn too_many(cause: RangeError) -> DtbError {
    match cause {
        RangeError::Full { capacity } => DtbError::TooMany {
            what: "free ranges",
            capacity,
        },
        cause => DtbError::BadRange {
            property: "reg",
            cause,
        },
    }
}

#[cfg(test)]
mod tests;
