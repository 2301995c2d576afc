// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading a capture kernel into the crash region: what `kexec -p` does.
//!
//! Everything the crash path needs is made here (decision 2): the Image is placed, its DTB and the ELF core header are built beside
//! it, its initial RAM disk, if it has one, is put behind them, all of it is hashed, cleaned to the point of coherency and put out of reach.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use boot_config::dtb::edit::EditError;
use boot_config::{Dtb, DtbError, ImageError, MemoryMap, PhysRange, parameters};
use machine::layout::PHYSICAL_LIMIT;
use machine::mmu::AddressSpace;
use machine::region::{COPIES, CrashRegion, RegionError};
use spin::Mutex;

use crate::params::{CaptureSource, Params, Source};
use crate::region;

mod plan;

use plan::{Parts, Plan};

/// Longest command line of the capture kernel.
const MAX_COMMAND_LINE: usize = 2048;

/// The DTB that copies are made from, for loading at run time.
static DTB: Mutex<Option<&'static [u8]>> = Mutex::new(None);
/// Start and end of the place of each armed copy; 0 for none. For loading and to tell of it: what the crash path goes by stands in the region.
static PLACES: [[AtomicU64; 2]; COPIES] = [const { [const { AtomicU64::new(0) }; 2] }; COPIES];

/// Whether the program is its own capture kernel.
static IS_OWN: AtomicBool = AtomicBool::new(false);

/// Whether a capture kernel is armed.
pub(crate) fn is_loaded() -> bool {
    PLACES.iter().any(|places| !armed_place(places).is_empty())
}

/// Why no capture kernel was loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The program links none, or the boot loader brought none.
    NoImage(&'static str),
    /// The Image's header is wrong, or it is too large.
    Image(ImageError),
    /// The crash region could not be opened.
    Region(RegionError),
    /// There is no crash region.
    Change(region::ChangeError),
    /// The machine's DTB is broken.
    MachineDtb(DtbError),
    /// The DTB of the capture kernel could not be made.
    Dtb(EditError),
    /// The ELF core header could not be made.
    CoreHeader(vmcore::Error),
    /// The Image's memory leaves no room for DTB, ELF core header and initial RAM disk.
    NoRoom {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        available: u64,
    },
    /// The host file cannot be read: which of the two it is.
    HostFile(&'static str),
    /// The boot loader brought no initrd that could be the capture kernel's.
    NoInitrd,
    /// The capture kernel's command line is too long.
    CommandLine {
        /// Its length in bytes.
        len: usize,
    },
}

impl core::error::Error for LoadError {}

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
            Self::Change(error) => write!(f, "{error}"),
            Self::MachineDtb(error) => write!(f, "device tree: {error}"),
            Self::Dtb(error) => write!(f, "its device tree: {error}"),
            Self::CoreHeader(error) => write!(f, "ELF core header: {error}"),
            Self::NoRoom { needed, available } => {
                write!(
                    f,
                    "Image, device tree, ELF core header and initrd need {needed:#x} of {available:#x} bytes"
                )
            }
            Self::HostFile(parameter) => write!(
                f,
                "the host file that {parameter}= names cannot be read by semihosting"
            ),
            Self::NoInitrd => {
                f.write_str("capture_initrd=initrd, but the boot loader left no initrd")
            }
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
    dtb: &Dtb<'static>,
    map: &MemoryMap,
    params: &Params<'_>,
    is_own_capture_kernel: bool,
) {
    machine::arch::without_irq(|| *DTB.lock() = Some(dtb.as_bytes()));
    crate::fault::at(crate::fault::Place::BeforeLoad);
    if params.capture == CaptureSource::None {
        log::info!("capture=none: no capture kernel is loaded");
        return;
    }
    let Some(region) = region::active() else {
        log::warn!("no capture kernel is loaded: there is no crash region");
        return;
    };
    IS_OWN.store(is_own_capture_kernel, Ordering::Relaxed);
    match load(space, &region, dtb, map, params) {
        Ok(()) => {}
        Err(error) => log::error!("no capture kernel is loaded: {error}"),
    }
}

/// Places, hashes and arms the Image, and its initial RAM disk, that `params` name.
fn load(
    space: &mut AddressSpace,
    region: &CrashRegion,
    dtb: &Dtb<'_>,
    map: &MemoryMap,
    params: &Params<'_>,
) -> Result<(), LoadError> {
    let (embedded_image, image_file, initrd_file);
    let image = match params.capture {
        CaptureSource::Embedded => {
            embedded_image = embedded()?;
            Some(&*embedded_image).filter(|image| !image.is_empty())
        }
        CaptureSource::Outside(Source::Initrd) => boot_loader_initrd(dtb, map),
        CaptureSource::Outside(Source::Semihosting(path)) => {
            image_file = read_host_file(path).ok_or(LoadError::HostFile("capture"))?;
            Some(image_file.as_slice())
        }
        CaptureSource::None => None,
    };
    let image = image.ok_or(LoadError::NoImage(match params.capture {
        CaptureSource::Embedded => "none is linked into this program",
        CaptureSource::Outside(_) => "the boot loader left no initrd",
        CaptureSource::None => "none was asked for",
    }))?;
    let initrd = match params.capture_initrd {
        Some(Source::Initrd) => boot_loader_initrd(dtb, map).ok_or(LoadError::NoInitrd)?,
        Some(Source::Semihosting(path)) => {
            initrd_file = read_host_file(path).ok_or(LoadError::HostFile("capture_initrd"))?;
            initrd_file.as_slice()
        }
        None => &[],
    };
    load_image(space, region, dtb, map, image, initrd)
}

/// The capture Image that the program brings: the one that is linked into it, which may be none, or itself as it was loaded.
///
/// # Errors
/// The heap has no room for a copy of the program.
pub(crate) fn embedded() -> Result<Cow<'static, [u8]>, LoadError> {
    if !IS_OWN.load(Ordering::Relaxed) {
        return Ok(Cow::Borrowed(machine::image::embedded_capture_image()));
    }
    let parts = [
        machine::image::constant_bytes(),
        machine::image::loaded_data(),
    ];
    let len = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| LoadError::NoImage("the heap has no room for a copy of this program"))?;
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Ok(Cow::Owned(bytes))
}

fn boot_loader_initrd(dtb: &Dtb<'_>, map: &MemoryMap) -> Option<&'static [u8]> {
    let initrd = dtb.initrd().ok().flatten()?;
    machine::ram::reserved_bytes(map, initrd)
}

/// Places, hashes and arms `image`, as often as there is room for. What is armed stays so until its place is needed, and until then
/// a copy of the new image is armed where there is room for two.
fn load_image(
    space: &mut AddressSpace,
    region: &CrashRegion,
    dtb: &Dtb<'_>,
    map: &MemoryMap,
    image: &[u8],
    initrd: &[u8],
) -> Result<(), LoadError> {
    let mut line = [0_u8; MAX_COMMAND_LINE];
    let parts = Parts {
        image,
        initrd,
        dtb,
        map,
        command_line: capture_command_line(dtb.boot_args(), &mut line)?,
    };
    let plans = Plan::all(region, &parts)?;
    // The last copy first: the first one, which the crash path prefers, is the old image until the new one is armed.
    for (copy, plan) in plans.iter().enumerate().rev() {
        let Some(plan) = plan else {
            disarm(space, region, copy)?;
            continue;
        };
        let is_in_the_way = |(other, places): &(usize, &[AtomicU64; 2])| {
            *other == copy || plan.place().overlaps(&armed_place(places))
        };
        for (other, _) in PLACES.iter().enumerate().filter(is_in_the_way) {
            disarm(space, region, other)?;
        }
        let mut others = plans.iter().enumerate();
        let other = others.find(|(other, _)| *other != copy);
        let other = other.and_then(|(_, plan)| plan.as_ref()).map(Plan::place);
        let filled = region.with_open(space, plan.part(), |bytes| {
            plan.fill(bytes, &parts, region, other)
        })?;
        region.arm(
            space,
            copy,
            plan.entry(),
            plan.dtb(),
            filled.segments,
            filled.digest,
        )?;
        if let Some([start, end]) = PLACES.get(copy) {
            start.store(plan.place().start, Ordering::Relaxed);
            end.store(plan.place().end, Ordering::Relaxed);
        }
        crate::fault::at(crate::fault::Place::Switch);
    }
    for (copy, plan) in plans.iter().enumerate() {
        let Some(plan) = plan else { continue };
        let name = if copy == 0 {
            "capture kernel armed"
        } else {
            "second copy armed"
        };
        log::info!(
            "{name} at {:#x}: {} KiB of Image in {} KiB",
            plan.entry(),
            image.len() / 1024,
            plan.image_len() / 1024
        );
        if !initrd.is_empty() {
            let left = region.supervisor().saturating_sub(plan.place().end);
            log::info!(
                "its initrd at {:#x}: {} KiB; {} KiB are left for it to work in",
                plan.initrd().start,
                initrd.len() / 1024,
                left / 1024
            );
        }
    }
    Ok(())
}

fn armed_place([start, end]: &[AtomicU64; 2]) -> PhysRange {
    PhysRange {
        start: start.load(Ordering::Relaxed),
        end: end.load(Ordering::Relaxed),
    }
}

fn disarm(space: &mut AddressSpace, region: &CrashRegion, copy: usize) -> Result<(), RegionError> {
    region.disarm(space, copy)?;
    if let Some([start, end]) = PLACES.get(copy) {
        start.store(0, Ordering::Relaxed);
        end.store(0, Ordering::Relaxed);
    }
    Ok(())
}

/// Replaces the capture kernel by `image` with the initial RAM disk `initrd`, which may be empty.
pub(crate) fn replace(image: &[u8], initrd: &[u8]) -> Result<(), LoadError> {
    let bytes = machine::arch::without_irq(|| *DTB.lock());
    let dtb = Dtb::validate(bytes.unwrap_or_default()).map_err(LoadError::MachineDtb)?;
    let mut map = MemoryMap::from_dtb(&dtb).map_err(LoadError::MachineDtb)?;
    map.limit(PHYSICAL_LIMIT);
    let mut result = Ok(());
    region::with_region(|region, space| {
        result = load_image(space, region, &dtb, &map, image, initrd);
        Ok(())
    })
    .map_err(LoadError::Change)?;
    result
}

/// Forgets the capture kernel.
pub(crate) fn unload() -> Result<(), region::ChangeError> {
    region::with_region(|region, space| {
        (0..COPIES)
            .try_for_each(|copy| disarm(space, region, copy))
            .map_err(region::ChangeError::Region)
    })
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
