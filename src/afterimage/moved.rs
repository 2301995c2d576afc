// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told of memory that changed while it was dumped.

use serde_json::{Value, json};
use vmcore::afterimage_notes::StopStatus;
use vmcore::{PAGE_SIZE, PhysRange};

use crate::contents::Contents;
use crate::output::size;

/// Memory that changed while it was dumped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that share a hash.
    pub granule_bytes: u64,
    /// Granules that changed, those that are not listed included.
    pub granules: u32,
    /// The first of them, joined where they touch.
    pub ranges: Vec<PhysRange>,
}

impl Moved {
    /// Makes it from a MOVED note's numbers and ranges.
    #[must_use]
    pub fn new(granule_pages: u32, granules: u32, ranges: Vec<PhysRange>) -> Self {
        Self {
            granule_bytes: u64::from(granule_pages).saturating_mul(PAGE_SIZE),
            granules,
            ranges,
        }
    }

    fn listed_bytes(&self) -> u64 {
        let lens = self.ranges.iter().map(PhysRange::len);
        lens.fold(0, u64::saturating_add)
    }
}

/// Returns what changed, a line each, and the CPUs that may have done it; nothing when nothing changed or nobody looked.
#[must_use]
pub fn moved_lines(contents: &Contents<'_>) -> Vec<String> {
    let Some(moved) = contents.moved.as_ref().filter(|moved| moved.granules > 0) else {
        return Vec::new();
    };
    let line = |range: &PhysRange| {
        format!(
            "{:#x}..{:#x} ({}) changed while it was dumped",
            range.start,
            range.end,
            size(range.len())
        )
    };
    let mut lines: Vec<String> = moved.ranges.iter().map(line).collect();
    let all = u64::from(moved.granules).saturating_mul(moved.granule_bytes);
    if all > moved.listed_bytes() {
        lines.push(format!("{} granules changed in all", moved.granules));
    }
    let suspects = contents.stops.iter().filter(|stop| is_suspect(stop.status));
    let suspects: Vec<String> = suspects
        .map(|stop| format!("CPU {} ({})", stop.cpu, stop.status.name()))
        .collect();
    lines.push(if suspects.is_empty() {
        "every CPU had stopped: a device may have written it".to_owned()
    } else {
        format!("may still have run: {}", suspects.join(", "))
    });
    lines
}

/// Returns whether a CPU of this status may have gone on.
const fn is_suspect(status: StopStatus) -> bool {
    matches!(status, StopStatus::NotResponding | StopStatus::Other(_))
}

/// Returns what changed, for `--json`; null when nobody looked.
#[must_use]
pub fn moved_json(contents: &Contents<'_>) -> Value {
    contents.moved.as_ref().map_or(Value::Null, |moved| {
        let ranges = moved.ranges.iter();
        json!({
            "granule_bytes": moved.granule_bytes,
            "granules": moved.granules,
            "ranges": ranges.map(|r| json!({ "start": r.start, "end": r.end })).collect::<Vec<_>>(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::afterimage_notes::CpuStop;

    fn moved(granules: u32) -> Option<Moved> {
        let range = PhysRange {
            start: 0x4000_0000,
            end: 0x4000_8000,
        };
        Some(Moved::new(8, granules, vec![range]))
    }

    fn stop(cpu: u32, status: StopStatus) -> CpuStop {
        CpuStop {
            cpu,
            status,
            mpidr: 0,
            waited_us: 0,
            is_off_confirmed: false,
            is_parked: false,
        }
    }

    #[test]
    fn change_is_told_with_the_cpu_that_did_not_stop() {
        let contents = Contents {
            moved: moved(1),
            stops: vec![
                stop(0, StopStatus::Crashed),
                stop(1, StopStatus::NotResponding),
            ],
            ..Contents::default()
        };
        let lines = moved_lines(&contents);
        assert!(
            lines[0].starts_with("0x40000000..0x40008000 (32.0 KiB)"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "may still have run: CPU 1 (not-responding)");
    }

    #[test]
    fn change_under_stopped_cpus_is_laid_to_a_device() {
        let contents = Contents {
            moved: moved(3),
            stops: vec![stop(0, StopStatus::Crashed)],
            ..Contents::default()
        };
        let lines = moved_lines(&contents);
        assert_eq!(lines[1], "3 granules changed in all");
        assert!(lines[2].contains("a device"), "{lines:?}");
    }

    #[test]
    fn nothing_changed_or_not_looked_for_is_no_line() {
        let mut contents = Contents {
            moved: Some(Moved::new(8, 0, Vec::new())),
            ..Contents::default()
        };
        assert!(moved_lines(&contents).is_empty());
        assert_eq!(moved_json(&contents)["granules"], 0);
        contents.moved = None;
        assert!(moved_lines(&contents).is_empty());
        assert_eq!(moved_json(&contents), Value::Null);
    }
}
