// SPDX-License-Identifier: MIT OR Apache-2.0
//! A core for gdb to read in place of the dump: threads that it can tell apart, and the segments that are wanted.
//!
//! The new headers and notes come first, and behind them the whole file as it is, sparsely: nothing in it is changed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use tempfile::NamedTempFile;
use vmcore::PAGE_SIZE;
use vmcore::elf_core::{CoreHeaderWriter, PT_NOTE, Segment, core_header_len};
use vmcore::notes::{CORE, note_len};
use vmcore::registers::NT_PRSTATUS;

use crate::core_file::CoreFile;
use crate::error::{Error, Result};

/// pr_pid in an NT_PRSTATUS payload.
const PID_OFFSET: usize = 32;
/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// Writes a core with the memory in `loads`, parts of `core`, into a temporary file that goes with its value. Its NT_PRSTATUS notes are
/// of the processes 1, 2, 3...
///
/// # Errors
///
/// [`Error::File`] when the dump cannot be read, or there is no room for the copy.
pub fn write(core: &CoreFile, loads: &[Segment]) -> Result<NamedTempFile> {
    copy(core, loads).map_err(Error::file("copy", core.path()))
}

fn copy(core: &CoreFile, loads: &[Segment]) -> std::io::Result<NamedTempFile> {
    let notes = numbered(core);
    let table_len = core_header_len(loads.len().saturating_add(1)) as u64;
    let notes_len = notes.len() as u64;
    // Where the file begins in the copy: its pages stay aligned.
    let start = table_len
        .saturating_add(notes_len)
        .next_multiple_of(PAGE_SIZE);
    let mut head = vec![0; usize::try_from(table_len).map_err(std::io::Error::other)?];
    let mut header = CoreHeaderWriter::new(&mut head);
    let mut add = |segment: &Segment| header.segment(segment).map_err(std::io::Error::other);
    add(&Segment {
        kind: PT_NOTE,
        offset: table_len,
        file_len: notes_len,
        align: 4,
        ..Segment::default()
    })?;
    for load in loads {
        let offset = load.offset.saturating_add(start);
        add(&Segment { offset, ..*load })?;
    }
    header.finish().map_err(std::io::Error::other)?;
    let copy = tempfile::Builder::new()
        .prefix("afterimage-")
        .suffix(".vmcore")
        .tempfile()?;
    copy.as_file().write_all_at(&head, 0)?;
    copy.as_file().write_all_at(&notes, table_len)?;
    copy_sparse(&File::open(core.path())?, copy.as_file(), start)?;
    Ok(copy)
}

/// Returns the notes with a number of its own for each thread.
fn numbered(core: &CoreFile) -> Vec<u8> {
    let mut notes = core.note_bytes().to_vec();
    let mut pid = 0_u32;
    for note in core.notes().filter(|note| note.is(CORE, NT_PRSTATUS)) {
        pid = pid.saturating_add(1);
        let desc_at = note.offset.saturating_add(note_len(note.name.len(), 0));
        let at = desc_at.saturating_add(PID_OFFSET);
        // One too short for it is none that gdb reads.
        if let Some(place) = notes.get_mut(at..at.saturating_add(4)) {
            place.copy_from_slice(&pid.to_le_bytes());
        }
    }
    notes
}

fn copy_sparse(from: &File, to: &File, start: u64) -> std::io::Result<()> {
    let len = from.metadata()?.len();
    to.set_len(start.saturating_add(len))?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        let count = from.read_at(&mut buffer, at)?;
        let Some(bytes) = buffer.get(..count).filter(|b| !b.is_empty()) else {
            break;
        };
        if bytes.iter().any(|b| *b != 0) {
            to.write_all_at(bytes, start.saturating_add(at))?;
        }
        at = at.saturating_add(count as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Contents;
    use crate::dump_file::{DumpFile, Mapping};
    use crate::note_bytes::NoteBytes;
    use std::path::Path;
    use vmcore::PhysRange;
    use vmcore::registers::PrStatus;

    fn core(dir: &Path) -> CoreFile {
        let path = dir.join("vmcore");
        let ram = PhysRange {
            start: 0x1000,
            end: 0x3000,
        };
        let mut dump = DumpFile::create(&dir.join("part"), &[ram]).expect("create");
        let memory = [[5; 4096], [0; 4096]].concat();
        dump.store(0x1000, &memory).expect("store");
        let mut notes = NoteBytes::default();
        notes.add(b"VMCOREINFO", 0, b"odd");
        notes.add_status(&PrStatus::default());
        notes.add_status(&PrStatus::default());
        let map = Mapping {
            vaddr: 0x1000,
            paddr: 0x1000,
            len: 0x2000,
        };
        dump.finish(&[map], notes.as_bytes(), &path, false)
            .expect("finish");
        CoreFile::open(&path).expect("core")
    }

    #[test]
    fn copy_has_unique_pids_and_the_same_memory() {
        let dir = tempfile::tempdir().expect("directory");
        let core = core(dir.path());
        let copy = write(&core, core.loads()).expect("copy");
        let copied = CoreFile::open(copy.path()).expect("core");
        let contents = Contents::of(copied.note_bytes());
        let pids: Vec<u32> = contents.statuses.iter().map(|s| s.pid).collect();
        assert_eq!(pids, [1, 2]);
        let mut bytes = [0; 2];
        copied
            .read_physical(0x1fff, &mut bytes)
            .expect("memory, and a page of zeros");
        assert_eq!(bytes, [5, 0]);
        assert_eq!(copied.note("VMCOREINFO", 0), Some(&b"odd"[..]));
    }

    #[test]
    fn copy_has_the_segments_that_are_wanted() {
        let dir = tempfile::tempdir().expect("directory");
        let core = core(dir.path());
        let load = core.loads()[0];
        let moved = Segment {
            vaddr: 0xffff_8000_0000_0000,
            ..load
        };
        let copy = write(&core, &[load, moved]).expect("copy");
        let copied = CoreFile::open(copy.path()).expect("core");
        assert_eq!(copied.loads().len(), 2);
        for at in [0x1ffe, 0xffff_8000_0000_0ffe] {
            let mut byte = [0];
            copied.read_virtual(at, &mut byte).expect("memory");
            assert_eq!(byte, [5]);
        }
    }

    #[test]
    fn copy_holds_more_segments_than_fit_the_header() {
        let dir = tempfile::tempdir().expect("directory");
        let core = core(dir.path());
        let one = |at: u64| Segment {
            vaddr: at << 12,
            mem_len: 0x1000,
            file_len: 0x1000,
            ..core.loads()[0]
        };
        let loads: Vec<Segment> = (1..=0x1_0000).map(one).collect();
        let copy = write(&core, &loads).expect("copy");
        let copied = CoreFile::open(copy.path()).expect("core");
        assert_eq!(copied.loads().len(), loads.len());
        let mut byte = [0];
        copied
            .read_virtual(0x1000_0001, &mut byte)
            .expect("the last");
        assert_eq!(byte, [5]);
    }
}
