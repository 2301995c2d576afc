// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages that this host has already: of the kernel's ELF, of earlier dumps. They need not travel again.
//!
//! An index of hashes; the pages stay in their files. Whether a page that was found is the right one the hash of its block
//! tells, so nothing here needs to be believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use object::{Object as _, ObjectSegment as _};
use rustix::fs::SeekFrom;
use wire::PAGE_SIZE;
use wire::offer::{PageHash, page_hash};

use crate::core_file::CoreFile;
use crate::error::{Error, Result};

/// Most pages: 64 GiB of them, and 256 MiB of index.
const PAGES_MAX: usize = 1 << 24;
/// Bits of a location that are the offset in the file; the file's number is above.
const OFFSET_BITS: u32 = 48;
/// Number of the file that is none: the pages that were put together.
const MADE: u64 = 0xffff;

/// A page's bytes.
type Page = [u8; PAGE_SIZE];

/// The pages of some files.
#[derive(Debug, Default)]
pub struct PageLibrary {
    files: Vec<File>,
    /// Pages of which only a part is in a file.
    made: Vec<Page>,
    /// Hash and location, sorted.
    index: Vec<(PageHash, u64)>,
}

impl PageLibrary {
    /// Reads what is in `places`: files, and directories whose files count. A file that cannot be used is named to `tell`,
    /// in a directory only when it is an ELF.
    pub fn build(places: &[PathBuf], tell: &mut dyn FnMut(String)) -> Self {
        let mut library = Self::default();
        for place in places {
            if !place.is_dir() {
                library.add_or_tell(place, tell);
                continue;
            }
            match std::fs::read_dir(place) {
                Ok(entries) => {
                    let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
                    let mut files: Vec<PathBuf> = entries.filter(|path| is_elf(path)).collect();
                    files.sort();
                    files
                        .iter()
                        .for_each(|file| library.add_or_tell(file, tell));
                }
                Err(error) => tell(Error::file("read", place)(error).to_string()),
            }
        }
        library.index.sort_unstable();
        library.index.dedup_by_key(|(hash, _)| *hash);
        library
    }

    /// Returns how many pages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns the page of this hash.
    #[must_use]
    pub fn find(&self, hash: &PageHash) -> Option<Vec<u8>> {
        let at = self
            .index
            .binary_search_by_key(hash, |(hash, _)| *hash)
            .ok()?;
        let (_, location) = *self.index.get(at)?;
        let (file, offset) = (location >> OFFSET_BITS, location & ((1 << OFFSET_BITS) - 1));
        let mut page = [0; PAGE_SIZE];
        if file == MADE {
            page = *self.made.get(usize::try_from(offset).ok()?)?;
        } else {
            let file = self.files.get(usize::try_from(file).ok()?)?;
            file.read_exact_at(&mut page, offset).ok()?;
        }
        // The file may have changed since.
        (page_hash(&page) == *hash).then(|| page.to_vec())
    }

    fn add_or_tell(&mut self, path: &Path, tell: &mut dyn FnMut(String)) {
        if let Err(error) = self.add(path) {
            tell(format!("no pages are taken from it: {error}"));
        }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        let number = self.files.len() as u64;
        if number >= MADE {
            return Err(Error::BadElf {
                path: path.to_path_buf(),
                what: format!("it is the file number {number}"),
            });
        }
        match CoreFile::open(path) {
            Ok(core) => self.add_core(&core, &file, number, path)?,
            Err(_) => self.add_program(&file, number, path)?,
        }
        self.files.push(file);
        Ok(())
    }

    /// Adds the pages of a dump's segments.
    fn add_core(&mut self, core: &CoreFile, file: &File, number: u64, path: &Path) -> Result<()> {
        for load in core.loads() {
            // Pages lie in memory where they begin a page; only whole ones are there.
            let skipped = load.paddr.wrapping_neg() % PAGE_SIZE as u64;
            let start = load.offset.saturating_add(skipped);
            let end = load.offset.saturating_add(load.file_len).min(core.len());
            self.add_pages(file, number, start, end)
                .map_err(Error::file("read", path))?;
        }
        Ok(())
    }

    /// Adds whole pages between two offsets of a file; holes are passed over.
    fn add_pages(&mut self, file: &File, number: u64, start: u64, end: u64) -> std::io::Result<()> {
        let mut page = [0; PAGE_SIZE];
        let mut at = start;
        while at.saturating_add(PAGE_SIZE as u64) <= end && self.index.len() < PAGES_MAX {
            if at.wrapping_sub(start).is_multiple_of(SKIP_EVERY) {
                at = after_hole(file, start, at);
                if at.saturating_add(PAGE_SIZE as u64) > end {
                    break;
                }
            }
            file.read_exact_at(&mut page, at)?;
            self.add_page(&page, number << OFFSET_BITS | at);
            at = at.saturating_add(PAGE_SIZE as u64);
        }
        Ok(())
    }

    fn add_page(&mut self, page: &Page, location: u64) {
        let is_zero = page.iter().all(|byte| *byte == 0);
        if !is_zero && self.index.len() < PAGES_MAX {
            self.index.push((page_hash(page), location));
        }
    }

    /// Adds the pages that a program's segments make in memory.
    fn add_program(&mut self, file: &File, number: u64, path: &Path) -> Result<()> {
        let data = std::fs::read(path).map_err(Error::file("read", path))?;
        let elf = object::File::parse(&*data).map_err(|error| Error::BadElf {
            path: path.to_path_buf(),
            what: error.to_string(),
        })?;
        // Pages that segments only fill in part, by virtual address: two may share one.
        let mut made: BTreeMap<u64, Page> = BTreeMap::new();
        for segment in elf.segments() {
            let (offset, len) = segment.file_range();
            let Some(end) = segment.address().checked_add(len) else {
                continue;
            };
            let first = segment.address().checked_next_multiple_of(PAGE_SIZE as u64);
            let first = first.unwrap_or(end);
            let whole = first..(end - end % PAGE_SIZE as u64).max(first);
            let at = |vaddr: u64| offset.saturating_add(vaddr.wrapping_sub(segment.address()));
            if whole.start < whole.end {
                self.add_pages(file, number, at(whole.start), at(whole.end))
                    .map_err(Error::file("read", path))?;
            }
            let bytes = segment.data().unwrap_or_default();
            for (byte, vaddr) in bytes.iter().zip(segment.address()..) {
                if whole.contains(&vaddr) {
                    continue;
                }
                let page = made
                    .entry(vaddr / PAGE_SIZE as u64)
                    .or_insert([0; PAGE_SIZE]);
                if let Some(place) = page.get_mut((vaddr % PAGE_SIZE as u64) as usize) {
                    *place = *byte;
                }
            }
        }
        for page in made.values() {
            let location = MADE << OFFSET_BITS | self.made.len() as u64;
            self.add_page(page, location);
            self.made.push(*page);
        }
        Ok(())
    }
}

/// Bytes after which a hole is looked for.
const SKIP_EVERY: u64 = 64 * PAGE_SIZE as u64;

/// Returns the first page from `at` on, counted from `start`, that is not in a hole of the file.
fn after_hole(file: &File, start: u64, at: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => data.max(at) - (data.max(at) - start) % PAGE_SIZE as u64,
        // Nothing but a hole up to the end of the file.
        Err(rustix::io::Errno::NXIO) => u64::MAX,
        Err(_) => at,
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let is_read = File::open(path).and_then(|file| file.read_exact_at(&mut magic, 0));
    path.is_file() && is_read.is_ok() && magic == *b"\x7fELF"
}

/// A library in the making, so that the line is heard meanwhile.
#[derive(Debug)]
pub struct Building {
    told: Receiver<Told>,
}

/// What its thread has to say.
#[derive(Debug)]
enum Told {
    /// Something for the user.
    Message(String),
    /// It is done.
    Done(PageLibrary),
}

impl Building {
    /// Starts to read `places` in a thread of its own.
    #[must_use]
    pub fn start(places: Vec<PathBuf>) -> Self {
        let (tell, told) = channel();
        std::thread::spawn(move || {
            // When nobody listens any more, the command is about to end.
            let library = PageLibrary::build(&places, &mut |text| {
                let _ = tell.send(Told::Message(text));
            });
            let _ = tell.send(Told::Done(library));
        });
        Self { told }
    }

    /// Returns the library once it is done; what there is to tell goes to `tell`.
    pub fn poll(&self, tell: &mut dyn FnMut(String)) -> Option<PageLibrary> {
        loop {
            match self.told.try_recv() {
                Ok(Told::Message(text)) => tell(text),
                Ok(Told::Done(library)) => return Some(library),
                Err(TryRecvError::Empty) => return None,
                // The thread failed; there is nothing to find then.
                Err(TryRecvError::Disconnected) => return Some(PageLibrary::default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump_file::{DumpFile, Mapping};
    use vmcore::PhysRange;

    const BASE: u64 = 0x4000_0000;

    /// Writes a core of the pages, each of one value, into `dir`.
    fn core(dir: &Path, name: &str, pages: &[u8]) {
        let len = (pages.len() * PAGE_SIZE) as u64;
        let ram = PhysRange {
            start: BASE,
            end: BASE + len,
        };
        let part = dir.join(format!("{name}.part"));
        let mut dump = DumpFile::create(&part, &[ram]).expect("create");
        for (n, value) in (0..).zip(pages) {
            let page = [*value; PAGE_SIZE];
            dump.store(BASE + n * PAGE_SIZE as u64, &page)
                .expect("store");
        }
        let mapping = Mapping {
            vaddr: BASE,
            paddr: BASE,
            len,
        };
        dump.finish(&[mapping], b"", &dir.join(name), false)
            .expect("finish");
    }

    fn build(places: &[PathBuf]) -> (PageLibrary, Vec<String>) {
        let mut told = Vec::new();
        let library = PageLibrary::build(places, &mut |text| told.push(text));
        (library, told)
    }

    #[test]
    fn pages_of_dumps_in_a_directory_are_found_once() {
        let dir = tempfile::tempdir().expect("directory");
        core(dir.path(), "a", &[1, 2, 0, 3]);
        core(dir.path(), "b", &[3, 4, 4]);
        std::fs::write(dir.path().join("notes.txt"), "text").expect("write");
        let (library, told) = build(&[dir.path().to_path_buf()]);
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(library.len(), 4);
        for value in [1, 2, 3, 4] {
            let page = [value; PAGE_SIZE];
            assert_eq!(library.find(&page_hash(&page)), Some(page.to_vec()));
        }
        assert_eq!(library.find(&page_hash(&[0; PAGE_SIZE])), None);
        assert_eq!(library.find(&page_hash(&[5; PAGE_SIZE])), None);
    }

    #[test]
    fn bad_file_is_named_and_the_others_are_read() {
        let dir = tempfile::tempdir().expect("directory");
        core(dir.path(), "good", &[7]);
        std::fs::write(dir.path().join("bad"), b"\x7fELF and no more").expect("write");
        let absent = dir.path().join("absent");
        let (library, told) = build(&[dir.path().to_path_buf(), absent]);
        assert_eq!(library.len(), 1);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].contains("bad") && told[1].contains("absent"),
            "{told:?}"
        );
    }

    #[test]
    fn page_that_changed_since_is_not_given_out() {
        let dir = tempfile::tempdir().expect("directory");
        core(dir.path(), "a", &[1, 2]);
        let (library, _) = build(&[dir.path().to_path_buf()]);
        let path = dir.path().join("a");
        let mut bytes = std::fs::read(&path).expect("read");
        let len = bytes.len();
        bytes[len - 1] ^= 1;
        std::fs::write(&path, bytes).expect("write");
        assert_eq!(library.find(&page_hash(&[2; PAGE_SIZE])), None);
        assert!(library.find(&page_hash(&[1; PAGE_SIZE])).is_some());
    }

    #[test]
    fn holes_are_passed_over() {
        let dir = tempfile::tempdir().expect("directory");
        let mut pages = vec![0; 3000];
        (pages[1], pages[2500], pages[2999]) = (1, 2, 3);
        core(dir.path(), "sparse", &pages);
        let (library, _) = build(&[dir.path().join("sparse")]);
        assert_eq!(library.len(), 3);
    }

    #[test]
    fn library_is_built_beside_the_line() {
        let dir = tempfile::tempdir().expect("directory");
        core(dir.path(), "a", &[1, 2]);
        let building = Building::start(vec![dir.path().to_path_buf(), "/nonexistent".into()]);
        let mut told = Vec::new();
        let library = loop {
            if let Some(library) = building.poll(&mut |text| told.push(text)) {
                break library;
            }
            std::thread::yield_now();
        };
        assert_eq!((library.len(), told.len()), (2, 1));
    }
}
