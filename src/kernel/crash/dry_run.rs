// SPDX-License-Identifier: MIT OR Apache-2.0
//! Would a crash leave a dump? Everything that the crash path relies on and that can be looked at without crashing.

use boot_config::Dtb;
use machine::arch;
use machine::region::{ArmedCopy, COPIES, CrashRegion};
use vmcore::elf_core::CoreHeader;

use super::ChangeError;
use super::chain::is_digest_right;
use crate::region;

/// What a dry run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// Whether a capture kernel is armed and the digest of every copy is right.
    pub is_image_good: bool,
    /// Whether each copy's DTB is one, and names the region and the ELF core header that are there.
    pub is_dtb_good: bool,
    /// Whether each copy's ELF core header is one, and its notes lie in this kernel's memory.
    pub is_core_header_good: bool,
    /// Whether the EL2 stub is installed (the kernel was entered at EL2).
    pub has_stub: bool,
    /// Whether the stub answers, and stage 2 refuses access to the closed region; `true` without a stub.
    pub is_stub_good: bool,
    /// Microseconds that the digest took.
    pub digest_us: u64,
}

impl TestReport {
    /// Whether all is well.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.is_image_good && self.is_dtb_good && self.is_core_header_good && self.is_stub_good
    }
}

impl core::fmt::Display for TestReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let word = |is_good| if is_good { "good" } else { "BAD" };
        write!(
            f,
            "image {} (digest in {} us), device tree {}, ELF core header {}, EL2 stub {}",
            word(self.is_image_good),
            self.digest_us,
            word(self.is_dtb_good),
            word(self.is_core_header_good),
            if self.has_stub {
                word(self.is_stub_good)
            } else {
                "absent"
            }
        )
    }
}

/// Checks what is armed, as the crash path would, without leaving: digest, DTB, ELF core header, EL2 stub.
///
/// # Errors
/// There is no region.
pub fn test() -> Result<TestReport, ChangeError> {
    region::with_region(|region, _| {
        let mut report = TestReport {
            is_image_good: false,
            is_dtb_good: false,
            is_core_header_good: false,
            has_stub: machine::region::stub::is_installed(),
            is_stub_good: region.is_stub_good(),
            digest_us: 0,
        };
        region.with_open_for_test(|open| {
            let Some(open) = open else { return };
            let copies = || (0..COPIES).filter_map(|number| open.copy(number));
            let is_armed = copies().next().is_some();
            let start = arch::counter();
            report.is_image_good = is_armed && copies().all(|copy| is_digest_right(&copy));
            report.digest_us = arch::ticks_to_us(arch::counter().saturating_sub(start));
            report.is_core_header_good =
                is_armed && copies().all(|copy| core_header(&copy).is_some());
            report.is_dtb_good = is_armed && copies().all(|copy| is_dtb_good(&copy, region));
        });
        Ok(report)
    })
}

/// Physical address of the armed ELF core header, when it is one.
fn core_header(copy: &ArmedCopy) -> Option<u64> {
    let kernel = machine::image::range();
    copy.segments().find_map(|segment| {
        let header = CoreHeader::parse(segment).ok()?;
        let mut notes = header.notes();
        let is_ours = header.wrapping().next().is_none()
            && header.notes().next().is_some()
            && notes.all(|note| {
                let end = note.paddr.saturating_add(note.len);
                note.len != 0
                    && kernel.contains(note.paddr)
                    && kernel.contains(end.saturating_sub(1))
            });
        // Segments are seen at their physical addresses.
        is_ours.then_some(segment.as_ptr().addr() as u64)
    })
}

fn is_dtb_good(copy: &ArmedCopy, region: &CrashRegion) -> bool {
    let core_header = core_header(copy);
    copy.segments().any(|segment| {
        let Ok(dtb) = Dtb::validate(segment) else {
            return false;
        };
        let names_header = dtb
            .elf_core_header()
            .is_ok_and(|named| named.map(|range| range.start) == core_header);
        let names_region = dtb
            .usable_memory()
            .is_ok_and(|usable| usable.iter().any(|range| range.contains(region.start())));
        core_header.is_some() && names_header && names_region
    })
}
