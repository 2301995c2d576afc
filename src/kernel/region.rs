// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crash region in the kernel: where it lies, and who may open it.

use boot_config::{CrashKernel, Dtb, MemoryMap, PhysRange, crashkernel};
use machine::arch;
use machine::mmu::AddressSpace;
pub(crate) use machine::region::active;
use machine::region::{CrashRegion, RegionError};
use spin::Mutex;

use crate::board::Board;

/// The live page tables, for mappings at run time. Never locked in the crash path.
static SPACE: Mutex<Option<AddressSpace>> = Mutex::new(None);

/// Finds the region's place: an existing node of the DTB, else `crashkernel=`, else the board's default. `None` when there is to
/// be none, with the reason in the log.
pub(crate) fn place(
    dtb: &Dtb<'_>,
    map: &MemoryMap,
    line: &[u8],
    board: &Board,
) -> Option<PhysRange> {
    match dtb.crash_region() {
        Ok(Some(node)) => {
            log::info!(
                "crash region {} as the device tree says ({})",
                node.range,
                node.name
            );
            return checked(map, node.range);
        }
        Ok(None) => {}
        Err(error) => log::error!("device tree, crashkernel node: {error}"),
    }
    let request = match crashkernel::parse(line, map.total_ram()) {
        Ok(Some(request)) if request.is_disabled() => {
            log::info!("crashkernel= asks for no region");
            return None;
        }
        Ok(Some(request)) => request,
        Ok(None) => CrashKernel::automatic(board.default_crashkernel),
        Err(error) => {
            log::error!("{error}; no crash region");
            return None;
        }
    };
    match map.place_crash_region(&request) {
        Ok(placement) => {
            log::info!(
                "crash region {}, {} KiB",
                placement.region,
                placement.region.len() / 1024
            );
            Some(placement.region)
        }
        Err(error) => {
            match request.offset {
                // No value of the parameter starts at 0.
                0 => log::error!("the board's default crash region: {error}; no crash region"),
                byte => log::error!(
                    "crashkernel: byte {byte} of the command line: {error}; no crash region"
                ),
            }
            None
        }
    }
}

/// A region that the DTB names must be RAM and aligned, and hold nothing of ours.
fn checked(map: &MemoryMap, range: PhysRange) -> Option<PhysRange> {
    let is_aligned = (range.start | range.end).is_multiple_of(machine::layout::BLOCK_SIZE);
    if is_aligned && map.ram().contains_range(&range) && !machine::image::range().overlaps(&range) {
        return Some(range);
    }
    log::error!(
        "the device tree's crash region {range} is no free RAM in 2 MiB blocks; no crash region"
    );
    None
}

/// Builds the supervisor area and puts the region out of reach.
pub(crate) fn protect(space: &mut AddressSpace, range: PhysRange, has_el2: bool) {
    match CrashRegion::prepare(space, range.start, range.end, has_el2) {
        Ok(_) => {
            let guard = if machine::region::stub::is_installed() {
                "stage 2 and stage 1"
            } else {
                "stage 1"
            };
            log::info!("crash region is out of reach at {guard}");
        }
        Err(error) => log::error!("{error}; no crash region"),
    }
}

/// Hands the page tables over for use at run time.
pub(crate) fn keep_address_space(space: AddressSpace) {
    *SPACE.lock() = Some(space);
}

/// Longest wait for the page tables: another CPU maps a few pages, or hangs.
const SPACE_US: u64 = 1_000_000;

/// Why the region could not be changed at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no crash region.
    NoRegion,
    /// A capture kernel is loaded: unload it first.
    Loaded,
    /// The new size is not smaller, or no multiple of 2 MiB.
    Size {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes now.
        current: u64,
    },
    /// Another CPU has had the page tables for a second, so it will not give them back.
    Busy,
    /// A mapping failed.
    Region(RegionError),
}

impl core::fmt::Display for ChangeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoRegion => f.write_str("there is no crash region"),
            Self::Loaded => f.write_str("a capture kernel is loaded: unload it first"),
            Self::Size { wanted, current } => {
                write!(
                    f,
                    "{wanted} bytes is no smaller multiple of 2 MiB than the {current} bytes of now"
                )
            }
            Self::Busy => f.write_str("another CPU keeps the page tables"),
            Self::Region(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for ChangeError {}

/// Runs `change` with the region and the page tables. Not in the crash path: it waits for the lock, up to a second.
pub(crate) fn with_region<T>(
    change: impl FnOnce(&mut CrashRegion, &mut AddressSpace) -> Result<T, ChangeError>,
) -> Result<T, ChangeError> {
    arch::without_irq(|| {
        let deadline = arch::Deadline::after_us(SPACE_US);
        let mut space = loop {
            match SPACE.try_lock() {
                Some(space) => break space,
                None if deadline.is_past() => return Err(ChangeError::Busy),
                None => core::hint::spin_loop(),
            }
        };
        let mut region = active().ok_or(ChangeError::NoRegion)?;
        change(&mut region, space.as_mut().ok_or(ChangeError::NoRegion)?)
    })
}

/// Runs `body` with the live page tables.
pub(crate) fn with_space<T>(body: impl FnOnce(&mut AddressSpace) -> T) -> Option<T> {
    arch::without_irq(|| SPACE.lock().as_mut().map(body))
}
