// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file a dump goes to: a new one, or the one that an earlier run of the command left of it.

use std::path::{Path, PathBuf};

use wire::frame::{Frame, FrameType, Header, short_id};
use wire::manifest::Range;
use wire::{Assembler, Manifest};

use crate::dump_file::part_path;
use crate::error::{Error, Result};
use crate::journal::{Contents, journal_path};
use crate::symbols::hex;

/// Where dumps go.
#[derive(Debug, Clone)]
pub enum Destination {
    /// One file.
    File {
        /// Its name.
        path: PathBuf,
        /// Whether an existing one is replaced.
        overwrite: bool,
    },
    /// A directory, with a new name for each dump.
    Directory(PathBuf),
}

/// A dump that an earlier run left unfinished.
#[derive(Debug)]
pub struct Kept {
    /// What it is of.
    pub manifest: Manifest,
    /// Its memory.
    pub ranges: Vec<Range>,
    /// Blocks that its journal names.
    pub blocks: usize,
}

impl Kept {
    /// Returns what the part file `part` is of; `None` when its journal does not say.
    #[must_use]
    pub fn read(part: &Path) -> Option<Self> {
        let contents = Contents::read(part).ok().filter(|_| part.is_file())?;
        let first = wire::manifest::Part::decode(contents.manifest.first()?).ok()?;
        let mut assembler = Assembler::new(short_id(first.manifest.dump_id));
        for payload in &contents.manifest {
            let header = Header {
                version: 1,
                kind: FrameType::Manifest.code(),
                dump: assembler.dump(),
                sequence: 0,
            };
            assembler.accept(&Frame { header, payload }).ok()?;
        }
        let mut numbers: Vec<u32> = contents.blocks.iter().map(|entry| entry.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Some(Self {
            manifest: *assembler.manifest()?,
            ranges: Some(assembler.ranges().to_vec()).filter(|ranges| !ranges.is_empty())?,
            blocks: numbers.len(),
        })
    }

    /// Returns whether it is of the dump that this manifest announces.
    #[must_use]
    pub fn is_of(&self, manifest: &Manifest, ranges: &[Range]) -> bool {
        self.manifest == *manifest && self.ranges == ranges
    }
}

/// Returns the parts of a manifest, as a journal keeps them.
///
/// # Errors
///
/// [`Error::Manifest`] for more ranges than a manifest holds.
pub fn manifest_parts(manifest: &Manifest, ranges: &[Range]) -> Result<Vec<Vec<u8>>> {
    let bad = |error: wire::Error| Error::Manifest(error.to_string());
    let parts = Manifest::parts(ranges.len()).map_err(bad)?;
    let part = |number| {
        let mut payload = vec![0; wire::manifest::PART_MAX];
        let len = manifest.encode_part(ranges, number, Default::default(), &mut payload);
        payload.truncate(len.map_err(bad)?);
        Ok(payload)
    };
    (0..parts).map(part).collect()
}

/// The file of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its name when it is done.
    pub path: PathBuf,
    /// Whether its part file holds some of the dump.
    pub is_resumed: bool,
}

impl Destination {
    /// Returns whether an existing file is replaced.
    #[must_use]
    pub const fn is_overwritten(&self) -> bool {
        matches!(
            self,
            Self::File {
                overwrite: true,
                ..
            }
        )
    }

    /// Returns the file for the dump that this manifest announces.
    ///
    /// # Errors
    ///
    /// [`Error::OtherDump`] when the part file is of another dump and must not be overwritten.
    pub fn choose(&self, manifest: &Manifest, ranges: &[Range]) -> Result<Chosen> {
        match self {
            Self::File { path, overwrite } => {
                let part = part_path(path);
                let kept = Kept::read(&part);
                let is_resumed = kept
                    .as_ref()
                    .is_some_and(|kept| kept.is_of(manifest, ranges));
                if part.exists() && !is_resumed && !overwrite {
                    return Err(Error::OtherDump {
                        part,
                        found: kept.map(|kept| hex(&kept.manifest.dump_id)),
                        expected: hex(&manifest.dump_id),
                    });
                }
                Ok(Chosen {
                    path: path.clone(),
                    is_resumed,
                })
            }
            Self::Directory(directory) => {
                let kept = find_part(directory, manifest, ranges);
                Ok(Chosen {
                    is_resumed: kept.is_some(),
                    path: kept.unwrap_or_else(|| free_name(directory, &manifest.dump_id)),
                })
            }
        }
    }
}

fn short_name(dump_id: &[u8; 16]) -> String {
    let [a, b, c, d, ..] = *dump_id;
    hex(&[a, b, c, d])
}

/// Returns the name of a dump in `directory` that nothing has yet: `UTC-DUMPID.vmcore`.
#[must_use]
pub fn free_name(directory: &Path, dump_id: &[u8; 16]) -> PathBuf {
    let id = short_name(dump_id);
    let stamp = crate::utc::stamp(std::time::SystemTime::now());
    let base = directory.join(format!("{stamp}-{id}.vmcore"));
    let later = (2..1000).map(|n| directory.join(format!("{stamp}-{id}-{n}.vmcore")));
    std::iter::once(base.clone())
        .chain(later)
        .find(|path| !path.exists() && !part_path(path).exists())
        .unwrap_or(base)
}

/// Returns the name of the dump in `directory` of which an earlier run left a part, the first by name.
fn find_part(directory: &Path, manifest: &Manifest, ranges: &[Range]) -> Option<PathBuf> {
    let id = short_name(&manifest.dump_id);
    let entries = std::fs::read_dir(directory).ok()?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Second and later dumps within a second have a number behind the id.
            name.ends_with(".vmcore.part") && name.contains(&format!("-{id}"))
        })
        .filter(|part| journal_path(part).exists())
        .filter(|part| Kept::read(part).is_some_and(|kept| kept.is_of(manifest, ranges)))
        .map(|part| part.with_extension(""))
        .filter(|path| !path.exists())
        .collect();
    found.sort();
    found.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use wire::manifest::Source;

    fn manifest(id: u8) -> (Manifest, Vec<Range>) {
        let ranges: Vec<Range> = (0..20)
            .map(|n| Range {
                paddr: n << 20,
                len: 4096,
                ..Range::default()
            })
            .collect();
        let mut manifest = Manifest::new([id; 16], Source::Linux);
        manifest.range_count = 20;
        (manifest, ranges)
    }

    /// Leaves a part and its journal at `path`.
    fn leave(path: &Path, id: u8) {
        let (manifest, ranges) = manifest(id);
        let part = part_path(path);
        std::fs::write(&part, "x").expect("write");
        let parts = manifest_parts(&manifest, &ranges).expect("parts");
        Journal::create(&part, &parts).expect("journal");
    }

    fn choose(destination: &Destination, id: u8) -> Result<Chosen> {
        let (manifest, ranges) = manifest(id);
        destination.choose(&manifest, &ranges)
    }

    fn file(path: &Path, overwrite: bool) -> Destination {
        Destination::File {
            path: path.to_path_buf(),
            overwrite,
        }
    }

    #[test]
    fn taken_name_gets_a_number() {
        let dir = tempfile::tempdir().expect("directory");
        let first = free_name(dir.path(), &[0xab; 16]);
        std::fs::write(&first, "").expect("write");
        let second = free_name(dir.path(), &[0xab; 16]);
        assert_ne!(first, second);
    }

    #[test]
    fn part_of_the_same_dump_is_gone_on_with() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("core");
        assert!(!choose(&file(&path, false), 7).expect("new").is_resumed);
        leave(&path, 7);
        assert!(choose(&file(&path, false), 7).expect("old").is_resumed);
        assert!(choose(&file(&path, true), 7).expect("old").is_resumed);
    }

    #[test]
    fn part_of_another_dump_is_kept_unless_forced() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("core");
        leave(&path, 7);
        let error = choose(&file(&path, false), 8).expect_err("another");
        assert!(error.to_string().contains("07070707"), "{error}");
        assert!(!choose(&file(&path, true), 8).expect("forced").is_resumed);
        std::fs::write(journal_path(&part_path(&path)), "rubbish").expect("write");
        assert!(choose(&file(&path, false), 7).is_err());
    }

    #[test]
    fn part_in_a_directory_is_found_by_its_dump() {
        let dir = tempfile::tempdir().expect("directory");
        let destination = Destination::Directory(dir.path().to_path_buf());
        let old = dir.path().join("20260101T000000Z-07070707.vmcore");
        leave(&old, 7);
        leave(&dir.path().join("20260101T000000Z-08080808.vmcore"), 9);
        let chosen = choose(&destination, 7).expect("old");
        assert_eq!((chosen.path, chosen.is_resumed), (old, true));
        assert!(!choose(&destination, 8).expect("new").is_resumed);
    }
}
