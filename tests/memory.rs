// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine's RAM, as files that QEMU shares with the test.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Start of RAM on QEMU virt (hw/arm/virt.c).
pub const RAM_START: u64 = 0x4000_0000;

/// Pages that are not all zeros, by physical address.
pub type Pages = BTreeMap<u64, Box<[u8; PAGE as usize]>>;

/// One file's part of RAM.
#[derive(Debug)]
struct Part {
    range: Range<u64>,
    file: File,
}

/// All of the machine's RAM. A clone is another way to the same.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Vec<Part>>);

impl Memory {
    /// Creates sparse files in `dir`, one for each size in MiB, one behind the other from physical address `start` on.
    pub(crate) fn create(dir: &Path, mut start: u64, sizes_mib: &[u64]) -> Self {
        let parts = sizes_mib.iter().enumerate().map(|(number, mib)| {
            let path = dir.join(format!("ram{number}"));
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .expect("a new file");
            file.set_len(mib << 20).expect("room for a sparse file");
            let range = start..start + (mib << 20);
            start = range.end;
            Part { range, file }
        });
        Self(Arc::new(parts.collect()))
    }

    /// Physical addresses of RAM, one range per file.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.0.iter().map(|part| part.range.clone()).collect()
    }

    /// Reads `len` bytes at physical address `at`.
    ///
    /// # Panics
    /// They do not lie in one range of RAM.
    #[must_use]
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let (part, offset) = self.place(at, len);
        let mut bytes = vec![0; len];
        part.file
            .read_exact_at(&mut bytes, offset)
            .expect("the memory file");
        bytes
    }

    /// Writes `bytes` at physical address `at`, behind the machine's back.
    ///
    /// # Panics
    /// They do not lie in one range of RAM.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let (part, offset) = self.place(at, bytes.len());
        part.file
            .write_all_at(bytes, offset)
            .expect("the memory file");
    }

    /// All pages that are not zero, as they are now.
    #[must_use]
    pub fn pages(&self) -> Pages {
        let mut pages = Pages::new();
        for Part { range, file } in self.0.iter() {
            let len = range.end - range.start;
            read_pages(file, 0..len, |offset, page| {
                pages.insert(range.start + offset, page);
            });
        }
        pages
    }

    fn place(&self, at: u64, len: usize) -> (&Part, u64) {
        let holds = |part: &&Part| part.range.contains(&at) && at + len as u64 <= part.range.end;
        match self.0.iter().find(holds) {
            Some(part) => (part, at - part.range.start),
            None => panic!("{len} bytes at {at:#x} are no RAM of this machine"),
        }
    }
}

/// Calls `each` with offset and bytes of every page of `within` that is not zero. Holes of the file are not read.
///
/// # Panics
/// The file cannot be read, or ends before `within`.
pub fn read_pages(
    file: &File,
    within: Range<u64>,
    mut each: impl FnMut(u64, Box<[u8; PAGE as usize]>),
) {
    let mut at = within.start;
    while at < within.end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return,
            Err(error) => panic!("a hole of the file at {at:#x}: {error}"),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data))
            .unwrap_or(within.end)
            .min(within.end);
        // Pages count from the range's start, which need not be a multiple of the page size in the file.
        at += (data - at) / PAGE * PAGE;
        while at < hole {
            let mut page = Box::new([0; PAGE as usize]);
            file.read_exact_at(page.as_mut_slice(), at)
                .unwrap_or_else(|error| panic!("page at {at:#x}: {error}"));
            if page.iter().any(|byte| *byte != 0) {
                each(at - within.start, page);
            }
            at += PAGE;
        }
    }
}
