// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `afterimage status` and `afterimage estimate` ask, and the estimate in the boot log.

use machine::exceptions::is_zero_guarded;
use machine::heap::MapLocation;
use machine::layout::{LINEAR_BASE, PAGE_SIZE};
use machine::own_memory::OwnMemory;
use machine::{arch, console};
use vmcore::afterimage_notes::RegionKind;
use vmcore::console_report::{Estimate, Status};
use vmcore::page_state::PageStateReader;

use crate::{cpus, crash, dump, logger, memory, region, warn};

/// Used pages that are looked at, so that asking costs milliseconds: 16 MiB.
const LOOKED_MAX: u64 = 4096;
/// Page-state maps that are read.
const MAPS: usize = machine::heap::MAX_RANGES;
/// Tries to get at the heap while another CPU has it.
const HEAP_TRIES: u32 = 1000;
/// Rates that the boot log names when the console's is not known.
const USUAL_BAUD: u64 = 115_200;

/// Answers `afterimage status`.
pub(crate) fn answer_status() {
    let status = crash::status();
    let test = crash::test();
    let of = |is_good: fn(&crash::TestReport) -> bool| u64::from(test.as_ref().is_ok_and(is_good));
    let report = Status {
        loaded: u64::from(status.is_loaded),
        region_start: status.region_start,
        region_bytes: status.region_bytes,
        stub: u64::from(status.has_stub),
        stub_good: of(|test| test.is_stub_good),
        image_good: of(|test| test.is_image_good),
        dtb_good: of(|test| test.is_dtb_good),
        core_header_good: of(|test| test.is_core_header_good),
        digest_us: test.map_or(0, |test| test.digest_us),
        cpus: (0..cpus::count())
            .filter(|slot| cpus::is_running(*slot))
            .count() as u64,
        taint: warn::taint(),
        uptime_us: arch::ticks_to_us(arch::counter()),
    };
    logger::raw(|out| {
        // The console reports no errors.
        let _ = report.write(out);
    });
}

/// Answers `afterimage estimate`.
pub(crate) fn answer_estimate() {
    let report = estimate();
    logger::raw(|out| {
        // As above.
        let _ = report.write(out);
    });
}

/// Says in the log whether a crash would leave a dump.
pub(crate) fn answer_test() {
    match crash::test() {
        Ok(test) if test.is_good() => log::info!("sysrq: a crash would leave a dump: {test}"),
        Ok(test) => log::error!("sysrq: a crash would leave no whole dump: {test}"),
        Err(error) => log::error!("sysrq: a crash would leave no dump: {error}"),
    }
}

/// Says in the boot log what a dump would cost now.
pub(crate) fn announce() {
    let now = estimate();
    let baud = if now.baud == 0 { USUAL_BAUD } else { now.baud };
    let bytes = now.data_pages().saturating_mul(PAGE_SIZE);
    log::info!(
        "a dump now: {} KiB of {} MiB are neither free nor seen to be zero, {} s at {baud} baud if nothing could be packed",
        bytes >> 10,
        now.ram_pages.saturating_mul(PAGE_SIZE) >> 20,
        Estimate::seconds(bytes, baud)
    );
}

/// Counts pages by class, as far as that takes no long time. In interrupt context, too: one map is looked at at a time, for the
/// stack's sake.
fn estimate() -> Estimate {
    let mut found = Estimate {
        baud: u64::from(console::baud().unwrap_or(0)),
        secret_pages: dump::marked_pages(RegionKind::Secret),
        app_pages: dump::marked_pages(RegionKind::AppData),
        ..Estimate::default()
    };
    let mut mapped = Mapped::default();
    for _ in 0..HEAP_TRIES {
        // Another CPU may be allocating.
        crate::HEAP.maps(|map| mapped.count(map, &mut found));
        if mapped.len != 0 {
            break;
        }
        core::hint::spin_loop();
    }
    let region = region::active().map_or(0..0, |region| region.start()..region.end());
    memory::each_range(|start, end| {
        let mut pfn = start.div_ceil(PAGE_SIZE);
        while pfn < end / PAGE_SIZE {
            if let Some(past) = mapped.end_of(pfn) {
                pfn = past;
                continue;
            }
            if !region.contains(&(pfn * PAGE_SIZE)) {
                use_page(pfn, &mut found);
            }
            pfn += 1;
        }
    });
    found.ram_pages = found.free_pages + found.used_pages;
    found
}

/// Page frames that a page-state map says everything of.
#[derive(Default)]
struct Mapped {
    ranges: [(u64, u64); MAPS],
    len: usize,
}

impl Mapped {
    /// Counts the pages of one map. A map that is not believed makes its pages count as used.
    fn count(&mut self, map: MapLocation, found: &mut Estimate) {
        let Ok(mut reader) = PageStateReader::open(&mut OwnMemory, map.physical, map.len) else {
            return;
        };
        let (first, pages) = reader.covered();
        let Some(place) = self.ranges.get_mut(self.len) else {
            return;
        };
        *place = (first, first.saturating_add(pages));
        self.len += 1;
        for pfn in place.0..place.1 {
            if reader.is_free(&mut OwnMemory, pfn) {
                found.free_pages += 1;
            } else {
                use_page(pfn, found);
            }
        }
    }

    /// End of the map that covers `pfn`.
    fn end_of(&self, pfn: u64) -> Option<u64> {
        let ranges = self.ranges.get(..self.len).unwrap_or_default();
        let found = ranges
            .iter()
            .find(|(first, end)| (*first..*end).contains(&pfn));
        found.map(|(_, end)| *end)
    }
}

fn use_page(pfn: u64, found: &mut Estimate) {
    found.used_pages += 1;
    if found.looked_pages < LOOKED_MAX {
        found.looked_pages += 1;
        found.zero_pages += u64::from(is_zero(pfn * PAGE_SIZE));
    }
}

fn is_zero(physical: u64) -> bool {
    let image = machine::image::range();
    let address = if image.contains(physical) {
        machine::image::bounds().begin + (physical - image.start)
    } else {
        LINEAR_BASE + physical
    };
    is_zero_guarded(address, PAGE_SIZE as usize).unwrap_or(false)
}
