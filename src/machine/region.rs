// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crash region: its layout, its protection, and the way into it.
//!
//! ```text
//! base                                                      end - 64 KiB      end
//! | capture Image, elfcorehdr, DTB | free room | second copy    | supervisor area |
//! ```
//! The supervisor area holds what the crash path needs and the kernel must not be able to spoil: trampoline, identity
//! tables, EL2 stub with its state, stage-2 tables. All of it is built when the region is set up (decision 2), and is out of
//! the kernel's reach afterwards: not mapped at EL1, and not mapped at stage 2 when there is a stub.

use core::mem::size_of;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::heap::FreeMemory;
use crate::layout::{BLOCK_SIZE, PAGE_SIZE};
use crate::mmu::{Access, AddressSpace, MapError, Tables, map_range};
use crate::{arch, gic, intc, psci};

mod armed;
mod dry_run;
mod error;
pub mod stub;
mod window_tables;

use armed::{ARMED_MAGIC, Armed};
pub use armed::{ArmedCopy, COPIES, MAX_SEGMENTS, OpenRegion, Segment};
pub use error::RegionError;
use stub::StubConfig;
use window_tables::WindowTables;

/// Bytes at the end of the region that belong to the crash path.
pub const SUPERVISOR_LEN: u64 = 0x1_0000;

const TRAMPOLINE: u64 = 0;
const IDENTITY: Pages = Pages { first: 1, count: 7 };
const STAGE_TWO: Pages = Pages { first: 8, count: 5 };
const STUB: u64 = 0xd000;
/// Distance from the stub's code to its configuration, known to stub.s; the code is no longer.
pub(crate) const STATE_CONFIG: u64 = 0x1800;
/// Distance from the stub's code to the state of each CPU.
pub(crate) const STUB_STATE: u64 = 0x2000;
/// What is armed, behind the state of eight CPUs.
const ARMED: u64 = STUB + STUB_STATE + 0x800;

/// Stage 2: normal write-back (stage 1 still makes devices devices), read-write, inner-shareable, AF (Arm ARM D8.5).
const STAGE_TWO_ATTRIBUTES: u64 = 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10;

/// A run of pages of the supervisor area.
#[derive(Clone, Copy)]
struct Pages {
    first: u64,
    count: u64,
}

/// The crash region, reserved and protected. There is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashRegion {
    start: u64,
    end: u64,
    has_stub: bool,
}

/// The region in use: start and end, both 0 without one. Read without a lock in the crash path.
static ACTIVE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// The crash region in use.
pub fn active() -> Option<CrashRegion> {
    let [start, end] = [0, 1].map(|word: usize| ACTIVE[word].load(Ordering::Acquire));
    (end != 0).then(|| CrashRegion {
        start,
        end,
        has_stub: stub::is_installed(),
    })
}

impl CrashRegion {
    /// Builds the supervisor area of `start..end` and, when the kernel was entered at EL2, installs the stub and stage 2.
    ///
    /// The region must not be mapped, or in use by anything.
    ///
    /// # Errors
    /// The region's shape, or a mapping that failed.
    pub fn prepare(
        space: &mut AddressSpace,
        start: u64,
        end: u64,
        was_entered_at_el2: bool,
    ) -> Result<Self, RegionError> {
        let is_shaped = (start | end).is_multiple_of(BLOCK_SIZE) && end > start;
        if !is_shaped {
            return Err(RegionError::Shape { start, end });
        }
        // Stage 2 covers 512 GiB.
        let has_stub = was_entered_at_el2 && space.highest() <= 1 << 39;
        let region = Self {
            start,
            end,
            has_stub,
        };
        let supervisor = region.supervisor();
        let window = space.open_window(1, supervisor, SUPERVISOR_LEN, Access::ReadWrite)?;
        let result = region.fill_supervisor(window);
        arch::clean_invalidate(window, SUPERVISOR_LEN);
        space.unmap(window, SUPERVISOR_LEN);
        arch::invalidate_instructions();
        result?;
        if has_stub {
            stub::install(region.supervisor() + STUB, region.page(STAGE_TWO.first));
        }
        ACTIVE[0].store(start, Ordering::Release);
        ACTIVE[1].store(end, Ordering::Release);
        Ok(region)
    }

    /// Gives up the low end of the region so that `len` bytes are left; the supervisor area stays where it is. The caller
    /// unloads first. Returns what became free, mapped in the linear map.
    ///
    /// # Errors
    /// `len` is no smaller multiple of 2 MiB, or a mapping failed.
    pub fn shrink(
        &mut self,
        space: &mut AddressSpace,
        len: u64,
    ) -> Result<FreeMemory, RegionError> {
        let (old_start, end) = (self.start, self.end);
        let start = end
            .checked_sub(len)
            .filter(|start| len.is_multiple_of(BLOCK_SIZE) && *start > old_start && len != 0);
        let start = start.ok_or(RegionError::Shape {
            start: end.saturating_sub(len),
            end,
        })?;
        self.start = start;
        // Stage 2 only gains the freed blocks: entries that no CPU holds, so that nothing has to be dropped anywhere. The identity map
        // keeps the old region: what is entered through it is bounded by `start`.
        if self.has_stub {
            stub::set_stage_two(false);
            let built = space
                .open_window(1, self.supervisor(), SUPERVISOR_LEN, Access::ReadWrite)
                .and_then(|window| {
                    let mut tables = self.tables(window, STAGE_TWO);
                    tables.adopt_used();
                    let result = map_range(
                        &mut tables,
                        0,
                        1,
                        old_start,
                        old_start,
                        start - old_start,
                        STAGE_TWO_ATTRIBUTES,
                    );
                    arch::clean_invalidate(window, SUPERVISOR_LEN);
                    space.unmap(window, SUPERVISOR_LEN);
                    result
                });
            stub::set_stage_two(true);
            built?;
        }
        ACTIVE[0].store(start, Ordering::Release);
        let freed = start - old_start;
        space.map(
            crate::layout::LINEAR_BASE + old_start,
            old_start,
            freed,
            Access::ReadWrite,
        )?;
        Ok(FreeMemory {
            start: old_start,
            len: freed,
        })
    }

    /// First byte of the supervisor area.
    pub fn supervisor(&self) -> u64 {
        self.end - SUPERVISOR_LEN
    }

    /// First byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// End.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn fill_supervisor(&self, window: u64) -> Result<(), RegionError> {
        unsafe extern "C" {
            static stub_begin: u8;
            static stub_end: u8;
            static trampoline_begin: u8;
            static trampoline_end: u8;
        }
        // SAFETY: the window maps SUPERVISOR_LEN bytes read-write and nothing refers to them.
        let area =
            unsafe { core::slice::from_raw_parts_mut(window as *mut u8, SUPERVISOR_LEN as usize) };
        area.fill(0);
        let mut place = |at: u64, begin: u64, end: u64| -> Result<(), RegionError> {
            let len = end.saturating_sub(begin);
            // SAFETY: both symbols bound assembled code of this image's text, which is mapped readable.
            let code = unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) };
            let room = area
                .get_mut(at as usize..(at + len) as usize)
                .filter(|_| len <= STATE_CONFIG);
            room.ok_or(RegionError::Segment { start: at, len })?
                .copy_from_slice(code);
            Ok(())
        };
        place(
            TRAMPOLINE,
            (&raw const trampoline_begin).addr() as u64,
            (&raw const trampoline_end).addr() as u64,
        )?;
        place(
            STUB,
            (&raw const stub_begin).addr() as u64,
            (&raw const stub_end).addr() as u64,
        )?;

        self.build_identity(window)?;
        if self.has_stub {
            self.build_stage_two(window)?;
        }
        let config = StubConfig {
            last_hpfar: 0,
            last_far: 0,
            faults: 0,
            vttbr: self.page(STAGE_TWO.first),
            vtcr: stub::stage_two_control(),
            gicd: gic::v2_physical()[0],
            gicc: gic::v2_physical()[1],
            stop_intid: u64::from(gic::STOP_INTID),
            stop_frames: stub::stop_frames_physical(),
            arguments: crate::smp::arguments_physical(),
            local: intc::bcm2836_physical(),
            has_psci: u64::from(psci::is_there()),
            affinity: crate::smp::affinities(),
        };
        let at = (window + STUB + STATE_CONFIG) as *mut StubConfig;
        // SAFETY: inside the window, 8-byte aligned, nothing refers to it.
        unsafe { at.write(config) };
        Ok(())
    }

    fn page(&self, number: u64) -> u64 {
        self.supervisor() + number * PAGE_SIZE
    }

    fn tables(&self, window: u64, pages: Pages) -> WindowTables {
        WindowTables {
            window: window + pages.first * PAGE_SIZE,
            physical: self.page(pages.first),
            used: 0,
            count: pages.count as usize,
        }
    }

    /// TTBR0 of the crash path: the region read-write, the trampoline executable.
    fn build_identity(&self, window: u64) -> Result<(), RegionError> {
        let mut tables = self.tables(window, IDENTITY);
        let root = tables.allocate()?;
        let trampoline = self.supervisor() + TRAMPOLINE;
        let mut map = |start: u64, end: u64, access: Access| {
            map_range(
                &mut tables,
                root,
                0,
                start,
                start,
                end - start,
                access.attributes(),
            )
        };
        map(self.start, trampoline, Access::ReadWrite)?;
        map(trampoline, trampoline + PAGE_SIZE, Access::Execute)?;
        map(trampoline + PAGE_SIZE, self.end, Access::ReadWrite)?;
        Ok(())
    }

    /// Stage 2: 512 GiB one to one, without the region.
    fn build_stage_two(&self, window: u64) -> Result<(), RegionError> {
        let mut tables = self.tables(window, STAGE_TWO);
        let root = tables.allocate()?;
        map_range(&mut tables, root, 1, 0, 0, self.start, STAGE_TWO_ATTRIBUTES)?;
        map_range(
            &mut tables,
            root,
            1,
            self.end,
            self.end,
            (1 << 39) - self.end,
            STAGE_TWO_ATTRIBUTES,
        )?;
        Ok(())
    }

    /// Opens `part` of the region for loading: `fill` sees it as bytes. Closed again after, and cleaned to the point of coherency.
    ///
    /// # Errors
    /// Not whole pages inside the region, or of the supervisor area; a mapping that failed, or the error of `fill`.
    pub fn with_open<T, E: From<RegionError>>(
        &self,
        space: &mut AddressSpace,
        part: Segment,
        fill: impl FnOnce(&mut [u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        self.check(part)?;
        let len = part.len;
        stub::set_stage_two(false);
        let result = match space.open_window(1, part.start, len, Access::ReadWrite) {
            Ok(window) => {
                // SAFETY: mapped read-write just now, for this call only.
                let bytes =
                    unsafe { core::slice::from_raw_parts_mut(window as *mut u8, len as usize) };
                let result = fill(bytes);
                arch::clean_invalidate(window, len);
                space.unmap(window, len);
                result
            }
            Err(error) => Err(E::from(RegionError::Map(error))),
        };
        stub::set_stage_two(true);
        result
    }

    /// Arms copy number `copy`, which `with_open` has filled in: `segments` are immutable from here on and covered by `digest`.
    ///
    /// # Errors
    /// A segment outside the region, or a mapping that failed.
    pub fn arm(
        &self,
        space: &mut AddressSpace,
        copy: usize,
        entry: u64,
        dtb: u64,
        segments: [Segment; MAX_SEGMENTS],
        digest: [u8; 32],
    ) -> Result<(), RegionError> {
        for segment in segments {
            self.check(segment)?;
        }
        // The digest covers what is entered and what it is given.
        for (address, segment) in [(entry, segments[0]), (dtb, segments[1])] {
            if address != segment.start || segment.len == 0 {
                return Err(RegionError::Segment {
                    start: address,
                    len: segment.len,
                });
            }
        }
        self.write_armed(
            space,
            copy,
            Armed {
                magic: ARMED_MAGIC,
                entry,
                dtb,
                segments,
                digest,
            },
        )
    }

    /// Forgets copy number `copy`.
    ///
    /// # Errors
    /// A mapping that failed.
    pub fn disarm(&self, space: &mut AddressSpace, copy: usize) -> Result<(), RegionError> {
        let nothing = Armed {
            magic: 0,
            entry: 0,
            dtb: 0,
            segments: [Segment::default(); MAX_SEGMENTS],
            digest: [0; 32],
        };
        self.write_armed(space, copy, nothing)
    }

    fn write_armed(
        &self,
        space: &mut AddressSpace,
        copy: usize,
        armed: Armed,
    ) -> Result<(), RegionError> {
        if copy >= COPIES {
            return Err(RegionError::NoSuchCopy { copy });
        }
        let mut unmarked = armed;
        unmarked.magic = 0;
        stub::set_stage_two(false);
        let page = self.supervisor() + (ARMED & !(PAGE_SIZE - 1));
        let result = space
            .open_window(1, page, PAGE_SIZE, Access::ReadWrite)
            .map(|window| {
                let at = window + ARMED % PAGE_SIZE + (copy * size_of::<Armed>()) as u64;
                let place = at as *mut Armed;
                // A crash may come at any instruction: it finds the old copy, none, or the new one whole.
                // SAFETY: mapped read-write just now; the array of structs ends within the page (asserted beside it).
                unsafe { place.write_volatile(unmarked) };
                arch::clean_invalidate(at, size_of::<Armed>() as u64);
                // SAFETY: as above.
                unsafe { place.write_volatile(armed) };
                arch::clean_invalidate(at, size_of::<Armed>() as u64);
                space.unmap(window, PAGE_SIZE);
            });
        stub::set_stage_two(true);
        result.map_err(RegionError::Map)
    }

    fn check(&self, segment: Segment) -> Result<(), RegionError> {
        let Segment { start, len } = segment;
        let end = start
            .checked_add(len)
            .ok_or(RegionError::Segment { start, len })?;
        if len == 0 || (start >= self.start && end <= self.supervisor()) {
            Ok(())
        } else {
            Err(RegionError::Segment { start, len })
        }
    }

    /// Opens the region as the crash path does, runs `check`, and closes it again.
    pub fn with_open_for_test<T>(&self, check: impl FnOnce(Option<OpenRegion>) -> T) -> T {
        let result = check(self.open_for_crash());
        crate::mmu::empty_ttbr0();
        stub::set_stage_two(true);
        result
    }

    /// Opens the region for good in the crash path: stage 2 off, identity map in TTBR0. Returns what is armed; `None` for nothing.
    ///
    /// Only the winner of a crash calls this. Nothing of it needs memory that the kernel may have spoilt but this struct.
    pub fn open_for_crash(&self) -> Option<OpenRegion> {
        stub::set_stage_two(false);
        // SAFETY: the identity tables were built in the region by `prepare`.
        unsafe { arch::write_ttbr0(self.page(IDENTITY.first)) };
        let at = (self.supervisor() + ARMED) as *const [Armed; COPIES];
        // SAFETY: mapped by the identity map; plain data, checked below.
        let armed = unsafe { at.read_volatile() };
        let armed = armed.map(|armed| Some(armed).filter(|armed| self.is_valid(armed)));
        armed.iter().any(Option::is_some).then_some(OpenRegion {
            region: *self,
            armed,
        })
    }

    fn is_valid(&self, armed: &Armed) -> bool {
        armed.magic == ARMED_MAGIC
            && armed
                .segments
                .iter()
                .all(|segment| self.check(*segment).is_ok())
    }
}

/// Opens the region to a stray write for a test of its protection: returns an address at which the region's first page is
/// mapped writable at stage 1, so that only stage 2 stands before it.
///
/// # Errors
/// A mapping that failed.
pub(crate) fn map_for_refusal_test(space: &mut AddressSpace) -> Result<u64, MapError> {
    space.open_window(
        2,
        ACTIVE[0].load(Ordering::Acquire),
        PAGE_SIZE,
        Access::ReadWrite,
    )
}
