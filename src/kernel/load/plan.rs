// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a copy of the capture kernel goes in the crash region, and what it is made of.
//!
//! A copy is Image, ELF core header, DTB and, when there is one, initial RAM disk, in this order, each at a page. The first lies at the
//! region's low end. The second, where there is room for it, lies as high as possible, so that what is free stays in one piece; the DTB
//! of each reserves the place of the other, so that no capture kernel works in the memory of a copy that might still be needed.

use boot_config::dtb::edit::CaptureDtb;
use boot_config::{Dtb, ImageHeader, MemoryMap, PhysRange};
use machine::layout::{BLOCK_SIZE, PAGE_SIZE};
use machine::region::{COPIES, CrashRegion, MAX_SEGMENTS, SUPERVISOR_LEN, Segment};
use sha2::{Digest, Sha256};
use vmcore::elf_core::CoreHeaderWriter;

use super::LoadError;
use crate::crash::notes;

/// Bytes kept for the capture kernel's DTB; what it takes is cut to whole pages.
const DTB_ROOM: u64 = 2 << 20;
/// Bytes by which our changes may lengthen a DTB: a command line, a few properties.
const DTB_GROWTH: u64 = 8 << 10;
/// Bytes kept for the ELF core header: 64 + 56 for each CPU, the machine-wide notes, and each RAM range.
const ELF_HEADER_LEN: u64 = 0x2000;

/// Longest Image of which there is a second copy, with its BSS: a longer one is a kernel such as Linux, which needs the rest of the
/// region to work in.
const SECOND_COPY_MAX: u64 = 8 << 20;

/// Places of one copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// First byte of the copy: a multiple of 2 MiB.
    base: u64,
    image: PhysRange,
    elf_header: u64,
    dtb: u64,
    dtb_room: u64,
    /// Empty without one.
    initrd: PhysRange,
}

/// What goes into every copy.
pub(super) struct Parts<'a> {
    pub(super) image: &'a [u8],
    /// Initial RAM disk; empty for none.
    pub(super) initrd: &'a [u8],
    pub(super) dtb: &'a Dtb<'a>,
    pub(super) map: &'a MemoryMap,
    pub(super) command_line: &'a [u8],
}

/// A copy that has been written.
pub(super) struct Filled {
    pub(super) segments: [Segment; MAX_SEGMENTS],
    pub(super) digest: [u8; 32],
}

impl Plan {
    /// Plans all copies that the region has room for; the first is always there.
    ///
    /// # Errors
    /// What is wrong with the Image, or that there is no room for one.
    pub(super) fn all(
        region: &CrashRegion,
        parts: &Parts<'_>,
    ) -> Result<[Option<Self>; COPIES], LoadError> {
        let whole = PhysRange {
            start: region.start(),
            end: region.supervisor(),
        };
        let header = ImageHeader::parse(parts.image).map_err(LoadError::Image)?;
        let first = Self::new(&header, parts, whole)?;
        if first.image_len() > SECOND_COPY_MAX || !parts.initrd.is_empty() {
            return Ok([Some(first), None]);
        }
        let least = first
            .least_end(parts)
            .saturating_sub(first.base)
            .max(PAGE_SIZE);
        // An Image need not begin at its base.
        let base = whole.end.saturating_sub(least) & !(BLOCK_SIZE - 1);
        if base < first.least_end(parts) {
            return Ok([Some(first), None]);
        }
        let low = PhysRange {
            start: whole.start,
            end: base,
        };
        let high = PhysRange {
            start: base,
            end: whole.end,
        };
        Ok([
            Some(Self::new(&header, parts, low)?),
            Some(Self::new(&header, parts, high)?),
        ])
    }

    fn new(header: &ImageHeader, parts: &Parts<'_>, whole: PhysRange) -> Result<Self, LoadError> {
        let len = parts.image.len() as u64;
        let placement = header.place(len, whole).map_err(LoadError::Image)?;
        let image = placement.memory;
        let available = whole.len();
        let no_room = |needed| LoadError::NoRoom { needed, available };
        let elf_header = image
            .end
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(no_room(u64::MAX))?;
        let dtb = elf_header
            .checked_add(ELF_HEADER_LEN)
            .ok_or(no_room(u64::MAX))?;
        let dtb_room = whole.end.saturating_sub(dtb).min(DTB_ROOM);
        if dtb_room < PAGE_SIZE {
            return Err(no_room(
                dtb.saturating_add(PAGE_SIZE).saturating_sub(whole.start),
            ));
        }
        let plan = Self {
            base: placement.base,
            image,
            elf_header,
            dtb,
            dtb_room,
            initrd: PhysRange { start: 0, end: 0 },
        };
        if parts.initrd.is_empty() {
            return Ok(plan);
        }
        // booting.rst wants both within 32 GiB, from the GiB on that the Image begins in: they are neighbours.
        let start = plan.least_end(parts);
        let end = start.saturating_add(parts.initrd.len() as u64);
        if end > whole.end {
            return Err(no_room(end.saturating_sub(whole.start)));
        }
        Ok(Self {
            dtb_room: start.saturating_sub(dtb),
            initrd: PhysRange { start, end },
            ..plan
        })
    }

    /// End of the copy, if its DTB grows no more than it should.
    fn least_end(&self, parts: &Parts<'_>) -> u64 {
        let len = (parts.dtb.as_bytes().len() as u64).saturating_add(DTB_GROWTH);
        let end = self.dtb.saturating_add(len.min(self.dtb_room));
        end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX)
    }

    /// The memory of the copy, with all the room that its DTB may take.
    pub(super) fn place(&self) -> PhysRange {
        let end = self.dtb.saturating_add(self.dtb_room).max(self.initrd.end);
        PhysRange {
            start: self.base,
            end: end.next_multiple_of(PAGE_SIZE),
        }
    }

    /// Where the initial RAM disk lies; empty without one.
    pub(super) fn initrd(&self) -> PhysRange {
        self.initrd
    }

    /// The same as a part of the region to be opened.
    pub(super) fn part(&self) -> Segment {
        let place = self.place();
        Segment {
            start: place.start,
            len: place.len(),
        }
    }

    /// Where the copy is entered.
    pub(super) fn entry(&self) -> u64 {
        self.image.start
    }

    /// Physical address of the copy's DTB.
    pub(super) fn dtb(&self) -> u64 {
        self.dtb
    }

    /// Bytes of memory of the Image.
    pub(super) fn image_len(&self) -> u64 {
        self.image.len()
    }

    /// Offset of a physical address in the open place.
    fn offset(&self, physical: u64) -> usize {
        physical.saturating_sub(self.base) as usize
    }

    /// Fills the open place and hashes the parts, in segment order. `other` is the place of the other copy.
    pub(super) fn fill(
        &self,
        bytes: &mut [u8],
        parts: &Parts<'_>,
        region: &CrashRegion,
        other: Option<PhysRange>,
    ) -> Result<Filled, LoadError> {
        bytes.fill(0);
        let no_room = || LoadError::NoRoom {
            needed: self.place().len(),
            available: region.end().saturating_sub(region.start()),
        };
        let image_len = parts.image.len();
        let place = bytes_at(bytes, self.offset(self.image.start), image_len);
        place.ok_or_else(no_room)?.copy_from_slice(parts.image);
        crate::fault::at(crate::fault::Place::Load);
        let elf_header_len = ELF_HEADER_LEN as usize;
        let room_for_header = bytes_at(bytes, self.offset(self.elf_header), elf_header_len);
        write_core_header(room_for_header.ok_or_else(no_room)?, parts.map, region)
            .map_err(LoadError::CoreHeader)?;

        let usable = [PhysRange {
            start: region.start(),
            end: region.end(),
        }];
        let supervisor = PhysRange {
            start: region.supervisor(),
            end: region.supervisor().saturating_add(SUPERVISOR_LEN),
        };
        let reserved = [supervisor, other.unwrap_or(supervisor)];
        let capture = CaptureDtb {
            usable_memory: &usable,
            elf_core_header: PhysRange {
                start: self.elf_header,
                end: self.elf_header.saturating_add(ELF_HEADER_LEN),
            },
            boot_args: parts.command_line,
            initrd: (!parts.initrd.is_empty()).then_some(self.initrd),
            reservations: reserved
                .get(..1 + usize::from(other.is_some()))
                .unwrap_or(&reserved),
        };
        let dtb_room = self.dtb_room as usize;
        let room_for_dtb = bytes_at(bytes, self.offset(self.dtb), dtb_room);
        let dtb_len = capture
            .write(parts.dtb, room_for_dtb.ok_or_else(no_room)?)
            .map_err(LoadError::Dtb)? as u64;

        let initrd_len = parts.initrd.len();
        if initrd_len > 0 {
            let place = bytes_at(bytes, self.offset(self.initrd.start), initrd_len);
            place.ok_or_else(no_room)?.copy_from_slice(parts.initrd);
        }

        let mut segments = [Segment::default(); MAX_SEGMENTS];
        let used = [
            (self.image.start, image_len as u64),
            (self.dtb, dtb_len),
            (self.elf_header, ELF_HEADER_LEN),
            (self.initrd.start, initrd_len as u64),
        ];
        let mut digest = Sha256::new();
        for (segment, (start, len)) in segments.iter_mut().zip(used) {
            if len == 0 {
                continue;
            }
            *segment = Segment { start, len };
            let at = self.offset(start);
            digest.update(bytes.get(at..at + len as usize).unwrap_or(&[]));
        }
        Ok(Filled {
            segments,
            digest: digest.finalize().into(),
        })
    }
}

fn bytes_at(bytes: &mut [u8], at: usize, len: usize) -> Option<&mut [u8]> {
    bytes.get_mut(at..at.checked_add(len)?)
}

/// The ELF core header of this machine: notes of each CPU, machine-wide notes, the kernel's link mapping, all RAM.
fn write_core_header(
    out: &mut [u8],
    map: &MemoryMap,
    region: &CrashRegion,
) -> Result<(), vmcore::Error> {
    let mut writer = CoreHeaderWriter::new(out);
    notes::each_buffer(|physical, len| writer.note(physical, len))?;
    let image = machine::image::range();
    writer.load(machine::image::bounds().begin, image.start, image.len())?;
    let mut ram = *map.mappable();
    // The set has room for one more split than the memory map needed.
    let _ = ram.subtract(PhysRange {
        start: region.start(),
        end: region.end(),
    });
    for range in ram.iter() {
        if let Ok(Some(range)) = range.align_inward(PAGE_SIZE) {
            writer.load(
                machine::layout::LINEAR_BASE + range.start,
                range.start,
                range.len(),
            )?;
        }
    }
    writer.finish()?;
    Ok(())
}
