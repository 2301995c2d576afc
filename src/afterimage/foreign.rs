// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told of memory that the capture kernel did not read, because others than the CPUs use it.

use serde_json::{Value, json};
use vmcore::afterimage_notes::{Region, name_text};

use crate::output::size;
use crate::terminal::harmless;

/// Returns a line on one range.
#[must_use]
pub fn foreign_line(region: &Region) -> String {
    let name = harmless(name_text(&region.name));
    let end = region.pa.saturating_add(region.len);
    format!("{:#x}..{end:#x} ({}): {name}", region.pa, size(region.len))
}

/// Returns one range for `--json`.
#[must_use]
pub fn foreign_json(region: &Region) -> Value {
    let end = region.pa.saturating_add(region.len);
    json!({ "name": name_text(&region.name), "start": region.pa, "end": end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::afterimage_notes::{FOREIGN, ListWriter, RegionKind, name_field};
    use vmcore::notes::{AFTERIMAGE, NoteWriter};

    use crate::contents::Contents;

    fn region(pa: u64, len: u64, name: &str) -> Region {
        Region {
            kind: RegionKind::Foreign,
            argument: 0,
            pa,
            len,
            va: 0,
            name: name_field(name),
        }
    }

    #[test]
    fn range_is_named_in_words_and_for_programs() {
        let one = region(0x3c00_0000, 0x400_0000, "VideoCore");
        assert_eq!(
            foreign_line(&one),
            "0x3c000000..0x40000000 (64.0 MiB): VideoCore"
        );
        let wanted = json!({ "name": "VideoCore", "start": 0x3c00_0000, "end": 0x4000_0000 });
        assert_eq!(foreign_json(&one), wanted);
    }

    #[test]
    fn range_of_a_forger_does_no_harm() {
        let one = region(u64::MAX - 1, u64::MAX, "\u{1b}[2J");
        let line = foreign_line(&one);
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert_eq!(foreign_json(&one)["end"], u64::MAX);
    }

    #[test]
    fn note_is_read_beside_the_crashed_kernels_own() {
        let mut notes = [0; 512];
        let mut writer = NoteWriter::new(&mut notes).expect("room");
        let list = |out: &mut [u8]| {
            let mut list = ListWriter::new(out, 0)?;
            list.push(&region(0x1000, 0x1000, "framebuffer"))?;
            list.finish()
        };
        writer
            .note_with(AFTERIMAGE, FOREIGN, list)
            .expect("room for a note");
        let contents = Contents::of(&notes);
        assert_eq!(contents.foreign, [region(0x1000, 0x1000, "framebuffer")]);
        // A kernel of another's stays one.
        assert!(!contents.is_afterimage() && contents.regions.is_empty());
    }
}
