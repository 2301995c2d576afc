// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading a capture kernel into the crash region: what `kexec -p` does.
//!
//! Everything the crash path needs is made here (decision 2): the Image is placed, its DTB and the ELF core header are built beside
//! it, all three are hashed, cleaned to the point of coherency and put out of reach.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use boot_config::dtb::edit::{CaptureDtb, EditError};
use boot_config::{Dtb, ImageError, ImageHeader, MemoryMap, PhysRange, parameters};
use machine::mmu::AddressSpace;
use machine::region::{CrashRegion, MAX_SEGMENTS, RegionError, SUPERVISOR_LEN, Segment};
use sha2::{Digest, Sha256};
use vmcore::elf_core::CoreHeaderWriter;

use crate::crash::notes;
use crate::params::{CaptureSource, Params};
use crate::region;

/// Bytes kept for the capture kernel's DTB; what it takes is cut to whole pages.
const DTB_ROOM: u64 = 2 << 20;
/// Bytes kept for the ELF core header: 64 + 56 for each CPU, the machine-wide notes, and each RAM range.
const ELF_HEADER_LEN: u64 = 0x2000;
/// Longest command line of the capture kernel.
const MAX_COMMAND_LINE: usize = 2048;
const PAGE: u64 = machine::layout::PAGE_SIZE;

static LOADED: AtomicBool = AtomicBool::new(false);

/// Whether a capture kernel is armed.
pub(crate) fn is_loaded() -> bool {
    LOADED.load(Ordering::Acquire)
}

/// Why no capture kernel was loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The program links none, or the boot loader brought none.
    NoImage(&'static str),
    Image(ImageError),
    Region(RegionError),
    Dtb(EditError),
    CoreHeader(vmcore::Error),
    /// The Image's memory leaves no room for DTB and ELF core header.
    NoRoom {
        needed: u64,
        available: u64,
    },
    HostFile,
    CommandLine {
        len: usize,
    },
}

impl From<RegionError> for LoadError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImage(source) => write!(f, "no Image ({source})"),
            Self::Image(error) => write!(f, "{error}"),
            Self::Region(error) => write!(f, "{error}"),
            Self::Dtb(error) => write!(f, "its device tree: {error}"),
            Self::CoreHeader(error) => write!(f, "ELF core header: {error}"),
            Self::NoRoom { needed, available } => {
                write!(
                    f,
                    "Image, device tree and ELF core header need {needed:#x} of {available:#x} bytes"
                )
            }
            Self::HostFile => f.write_str("the host file cannot be read by semihosting"),
            Self::CommandLine { len } => {
                write!(
                    f,
                    "its command line of {len} bytes is longer than {MAX_COMMAND_LINE}"
                )
            }
        }
    }
}

/// Loads what the command line says. A failure is logged: the machine runs on, without a dump at the next crash.
pub(crate) fn at_boot(
    space: &mut AddressSpace,
    dtb: &Dtb<'_>,
    map: &MemoryMap,
    params: &Params<'_>,
) {
    if params.capture == CaptureSource::None {
        log::info!("capture=none: no capture kernel is loaded");
        return;
    }
    let Some(region) = region::active() else {
        log::warn!("no capture kernel is loaded: there is no crash region");
        return;
    };
    match load(space, &region, dtb, map, params.capture) {
        Ok(()) => {}
        Err(error) => log::error!("no capture kernel is loaded: {error}"),
    }
}

/// Places, hashes and arms the Image that `source` names.
fn load(
    space: &mut AddressSpace,
    region: &CrashRegion,
    dtb: &Dtb<'_>,
    map: &MemoryMap,
    source: CaptureSource<'_>,
) -> Result<(), LoadError> {
    let host_file;
    let image = match source {
        CaptureSource::Embedded => {
            Some(machine::image::embedded_capture_image()).filter(|image| !image.is_empty())
        }
        CaptureSource::Initrd => dtb
            .initrd()
            .ok()
            .flatten()
            .and_then(|initrd| machine::ram::reserved_bytes(map, initrd)),
        CaptureSource::Semihosting(path) => {
            host_file = read_host_file(path).ok_or(LoadError::HostFile)?;
            Some(host_file.as_slice())
        }
        CaptureSource::None => None,
    };
    let image = image.ok_or(LoadError::NoImage(match source {
        CaptureSource::Embedded => "none is linked into this program",
        CaptureSource::Initrd => "the boot loader left no initrd",
        _ => "none was asked for",
    }))?;

    let whole = PhysRange {
        start: region.start(),
        end: region.supervisor(),
    };
    let header = ImageHeader::parse(image).map_err(LoadError::Image)?;
    let placement = header
        .place(image.len() as u64, whole)
        .map_err(LoadError::Image)?;
    let plan = Plan::new(whole, placement.memory, image.len() as u64)?;

    let mut line = [0_u8; MAX_COMMAND_LINE];
    let line = capture_command_line(dtb.boot_args(), &mut line)?;
    let (dtb_len, digest) = region.with_open(space, |bytes| {
        plan.fill(bytes, image, dtb, map, region, line)
    })?;
    let segments: [Segment; MAX_SEGMENTS] = [
        Segment {
            start: placement.memory.start,
            len: image.len() as u64,
        },
        Segment {
            start: plan.dtb,
            len: dtb_len,
        },
        Segment {
            start: plan.elf_header,
            len: ELF_HEADER_LEN,
        },
        Segment::default(),
    ];
    region.arm(space, placement.memory.start, plan.dtb, segments, digest)?;
    LOADED.store(true, Ordering::Release);
    let free = whole.end.saturating_sub(plan.dtb.saturating_add(dtb_len));
    log::info!(
        "capture kernel armed at {:#x}: {} KiB of Image in {} KiB, {} KiB of the region free",
        placement.memory.start,
        image.len() / 1024,
        placement.memory.len() / 1024,
        free / 1024
    );
    Ok(())
}

/// Forgets the capture kernel.
pub(crate) fn unload() -> Result<(), region::ChangeError> {
    region::with_region(|region, space| {
        LOADED.store(false, Ordering::Release);
        region.disarm(space).map_err(region::ChangeError::Region)
    })
}

/// Where the parts go: Image, ELF core header, DTB, in this order, each at a page.
#[derive(Clone, Copy)]
struct Plan {
    region_start: u64,
    image: u64,
    elf_header: u64,
    dtb: u64,
    dtb_room: u64,
    end: u64,
}

impl Plan {
    fn new(whole: PhysRange, image: PhysRange, file_len: u64) -> Result<Self, LoadError> {
        let available = whole.len();
        let no_room = |needed| LoadError::NoRoom { needed, available };
        if file_len > image.len() {
            return Err(no_room(file_len));
        }
        let elf_header = image
            .end
            .checked_next_multiple_of(PAGE)
            .ok_or(no_room(u64::MAX))?;
        let dtb = elf_header
            .checked_add(ELF_HEADER_LEN)
            .ok_or(no_room(u64::MAX))?;
        let dtb_room = whole.end.saturating_sub(dtb).min(DTB_ROOM);
        if dtb_room < PAGE {
            return Err(no_room(
                dtb.saturating_add(PAGE).saturating_sub(whole.start),
            ));
        }
        let end = dtb.saturating_add(dtb_room);
        Ok(Self {
            region_start: whole.start,
            image: image.start,
            elf_header,
            dtb,
            dtb_room,
            end,
        })
    }

    /// Offset of a physical address in the open region.
    fn offset(&self, physical: u64) -> usize {
        physical.saturating_sub(self.region_start) as usize
    }

    /// Fills the open region and hashes the parts, in segment order. Returns the DTB's length, too.
    fn fill(
        &self,
        bytes: &mut [u8],
        image: &[u8],
        dtb: &Dtb<'_>,
        map: &MemoryMap,
        region: &CrashRegion,
        line: &[u8],
    ) -> Result<(u64, [u8; 32]), LoadError> {
        bytes.fill(0);
        let no_room = LoadError::NoRoom {
            needed: self.end,
            available: bytes.len() as u64,
        };
        let at = self.offset(self.image);
        match bytes.get_mut(at..at + image.len()) {
            Some(room) => room.copy_from_slice(image),
            None => return Err(no_room),
        }
        let at = self.offset(self.elf_header);
        let room = bytes
            .get_mut(at..at + ELF_HEADER_LEN as usize)
            .ok_or(no_room)?;
        write_core_header(room, map, region).map_err(LoadError::CoreHeader)?;

        let usable = [PhysRange {
            start: region.start(),
            end: region.end(),
        }];
        let supervisor = [PhysRange {
            start: region.supervisor(),
            end: region.supervisor() + SUPERVISOR_LEN,
        }];
        let elf_core_header = PhysRange {
            start: self.elf_header,
            end: self.elf_header + ELF_HEADER_LEN,
        };
        let capture = CaptureDtb {
            usable_memory: &usable,
            elf_core_header,
            boot_args: line,
            initrd: None,
            reservations: &supervisor,
        };
        let at = self.offset(self.dtb);
        let room = bytes.get_mut(at..at + self.dtb_room as usize);
        let room = room.ok_or(LoadError::NoRoom {
            needed: self.end,
            available: self.dtb_room,
        })?;
        let dtb_len = capture.write(dtb, room).map_err(LoadError::Dtb)? as u64;

        let mut digest = Sha256::new();
        let parts = [
            (self.image, image.len() as u64),
            (self.dtb, dtb_len),
            (self.elf_header, ELF_HEADER_LEN),
        ];
        for (start, len) in parts {
            let at = self.offset(start);
            digest.update(bytes.get(at..at + len as usize).unwrap_or(&[]));
        }
        Ok((dtb_len, digest.finalize().into()))
    }
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
        if let Ok(Some(range)) = range.align_inward(PAGE) {
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

/// `dump_*` of our own command line and the value of `capture_append=`, separated by blanks.
fn capture_command_line<'a>(own: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], LoadError> {
    let mut len = 0_usize;
    let mut append = |parts: [&[u8]; 3]| {
        for part in parts {
            if let Some(room) = out.get_mut(len..len + part.len()) {
                room.copy_from_slice(part);
            }
            len += part.len();
        }
    };
    for parameter in parameters(own) {
        let (Some(key), Some(value)) = (parameter.key_str(), parameter.value_str()) else {
            continue;
        };
        if key.starts_with("dump_") {
            append([key.as_bytes(), b"=", value.as_bytes()]);
            append([b" ", b"", b""]);
        } else if key == "capture_append" {
            append([value.as_bytes(), b" ", b""]);
        }
    }
    let trimmed = len.saturating_sub(1);
    out.get(..trimmed)
        .ok_or(LoadError::CommandLine { len: trimmed })
}

fn read_host_file(path: &str) -> Option<Vec<u8>> {
    let mut name = Vec::from(path.as_bytes());
    name.push(0);
    let mut file =
        machine::semihosting::HostFile::open(core::ffi::CStr::from_bytes_with_nul(&name).ok()?)?;
    let len = usize::try_from(file.size()?).ok()?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    (file.read(&mut bytes) == len).then_some(bytes)
}
