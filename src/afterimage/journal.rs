// SPDX-License-Identifier: MIT OR Apache-2.0
//! Beside a part file: which blocks it holds, so that a receiver that was killed goes on where it was.
//!
//! Append-only. A record is written after the bytes of its block are in the part file, and holds what these lack: for
//! memory the table of runs, for any other block all of it. Nothing here is believed before the hash of the block
//! agrees with what both files say. Layout of a record: magic u32, length of the body u32, body, CRC-32C of length and
//! body; of a body: type u8 (1 manifest part, 2 block); of a block: kind u8, reserved u16, number u32, raw length u32,
//! hash 16 bytes, bytes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use wire::BlockKind;
use wire::block::{BlockHash, RAW_MAX};

use crate::error::{Error, Result};

/// What a journal begins with; the last byte is the version.
const HEAD: [u8; 8] = *b"AFTJRNL\x01";
/// What a record begins with.
const MAGIC: [u8; 4] = *b"\xa5rec";
/// Bytes of a record before and after its body.
const FRAME_LEN: usize = 12;
/// Bytes of a block's body before its bytes.
const BLOCK_HEADER_LEN: usize = 28;
/// Longest body.
const BODY_MAX: usize = BLOCK_HEADER_LEN + RAW_MAX;
const TYPE_MANIFEST: u8 = 1;
const TYPE_BLOCK: u8 = 2;

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A block that the part file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub kind: BlockKind,
    /// Bytes of it, page data included; at most [`RAW_MAX`].
    pub raw_len: u32,
    /// Hash of all of them.
    pub hash: BlockHash,
    /// Its bytes, page data left out.
    pub bytes: Vec<u8>,
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Payloads of the manifest's parts.
    pub manifest: Vec<Vec<u8>>,
    /// The blocks, in the order in which they were stored; the same one may be there twice.
    pub blocks: Vec<Entry>,
    /// Where the last whole record ends.
    end: u64,
}

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// Returns the name of the journal of a part file.
#[must_use]
pub fn journal_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}

impl Journal {
    /// Creates the journal of `part`, with the parts of the manifest; an old one is lost.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn create(part: &Path, manifest: &[Vec<u8>]) -> Result<Self> {
        let path = journal_path(part);
        let mut bytes = HEAD.to_vec();
        for payload in manifest {
            put_record(&mut bytes, &[&[TYPE_MANIFEST], payload]);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(Error::file("create", &path))?;
        file.write_all(&bytes)
            .map_err(Error::file("write", &path))?;
        Ok(Self { path, file })
    }

    /// Opens the journal of `part` to go on with it, and reads what it says.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn open(part: &Path) -> Result<(Self, Contents)> {
        let path = journal_path(part);
        let contents = Contents::read(part)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        // What was being written when the end came is no record.
        file.set_len(contents.end)
            .map_err(Error::file("size", &path))?;
        Ok((Self { path, file }, contents))
    }

    /// Notes that a block is in the part file.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the disk is full or fails.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        let mut body = vec![TYPE_BLOCK, entry.kind.code(), 0, 0];
        body.extend(entry.number.to_le_bytes());
        body.extend(entry.raw_len.to_le_bytes());
        body.extend(entry.hash);
        let mut record = Vec::with_capacity(FRAME_LEN + body.len() + entry.bytes.len());
        put_record(&mut record, &[&body, &entry.bytes]);
        // In one write: a record that is cut off is the last.
        self.file
            .write_all(&record)
            .map_err(Error::file("write", &self.path))
    }

    /// Removes it, when the dump is whole or will not go on.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(Error::file("remove", &self.path))
    }
}

fn put_record(out: &mut Vec<u8>, body: &[&[u8]]) {
    let len = body.iter().fold(0, |sum, part| sum + part.len());
    // A body is far below 4 GiB: see BODY_MAX.
    let len = (len as u32).to_le_bytes();
    let mut digest = CRC.digest();
    digest.update(&len);
    body.iter().for_each(|part| digest.update(part));
    out.extend(MAGIC);
    out.extend(len);
    body.iter().for_each(|part| out.extend(*part));
    out.extend(digest.finalize().to_le_bytes());
}

/// Returns the body of the record at the start of `bytes`, if there is one.
fn record(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (len, _) = rest.split_first_chunk::<4>()?;
    let body_len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    if body_len > BODY_MAX {
        return None;
    }
    let summed = rest.get(..body_len.checked_add(4)?)?;
    let (crc, _) = rest.get(summed.len()..)?.split_first_chunk::<4>()?;
    (CRC.checksum(summed) == u32::from_le_bytes(*crc)).then_some(summed.get(4..)?)
}

/// Reads the body of a block's record.
fn entry(body: &[u8]) -> Option<Entry> {
    let (&[_, kind, _, _], rest) = body.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (raw_len, rest) = rest.split_first_chunk()?;
    let (hash, bytes) = rest.split_first_chunk()?;
    let raw_len = u32::from_le_bytes(*raw_len);
    let is_possible = raw_len as usize <= RAW_MAX && bytes.len() <= raw_len as usize;
    is_possible.then_some(Entry {
        number: u32::from_le_bytes(*number),
        kind: BlockKind::from_code(kind).ok()?,
        raw_len,
        hash: *hash,
        bytes: bytes.to_vec(),
    })
}

impl Contents {
    /// Reads the journal of `part`; one that is damaged says less, one that is none says nothing.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be read.
    pub fn read(part: &Path) -> Result<Self> {
        let path = journal_path(part);
        let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        let Some(mut rest) = bytes.strip_prefix(&HEAD) else {
            return contents;
        };
        contents.end = HEAD.len() as u64;
        while !rest.is_empty() {
            let Some(body) = record(rest) else {
                // Damaged: the next record shows itself by its magic.
                let next = rest.get(1..).unwrap_or_default();
                let skipped = next.windows(MAGIC.len()).position(|word| word == MAGIC);
                rest = skipped.map_or(&[][..], |at| next.get(at..).unwrap_or_default());
                continue;
            };
            match body.split_first() {
                Some((&TYPE_MANIFEST, payload)) => contents.manifest.push(payload.to_vec()),
                Some((&TYPE_BLOCK, _)) => contents.blocks.extend(entry(body)),
                // A later version's.
                _ => {}
            }
            rest = rest.get(FRAME_LEN + body.len()..).unwrap_or_default();
            contents.end = bytes.len().saturating_sub(rest.len()) as u64;
        }
        contents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u32) -> Entry {
        Entry {
            number,
            kind: BlockKind::Memory,
            raw_len: 5000,
            hash: [number as u8; 16],
            bytes: vec![number as u8; 10],
        }
    }

    fn part(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("x.part")
    }

    /// Writes three blocks and returns the bytes of the journal.
    fn written(dir: &tempfile::TempDir) -> Vec<u8> {
        let mut journal = Journal::create(&part(dir), &[vec![1, 2, 3]]).expect("create");
        (0..3).for_each(|n| journal.add(&sample(n)).expect("add"));
        std::fs::read(journal_path(&part(dir))).expect("read")
    }

    fn numbers(bytes: &[u8]) -> Vec<u32> {
        let blocks = Contents::parse(bytes).blocks;
        blocks.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn record_of_version_1_has_its_golden_bytes() {
        let dir = tempfile::tempdir().expect("directory");
        let bytes = written(&dir);
        assert_eq!(bytes[..8], *b"AFTJRNL\x01");
        #[rustfmt::skip]
        assert_eq!(bytes[8..24], [0xa5, b'r', b'e', b'c', 4, 0, 0, 0, 1, 1, 2, 3, 0x3b, 0xcb, 0x24, 0xe1]);
        assert_eq!(bytes[24..32], [0xa5, b'r', b'e', b'c', 38, 0, 0, 0]);
        assert_eq!(bytes[32..44], [2, 1, 0, 0, 0, 0, 0, 0, 0x88, 0x13, 0, 0]);
    }

    #[test]
    fn what_was_written_is_read_and_gone_on_with() {
        let dir = tempfile::tempdir().expect("directory");
        written(&dir);
        let (mut journal, contents) = Journal::open(&part(&dir)).expect("open");
        assert_eq!(contents.manifest, [[1, 2, 3]]);
        assert_eq!(contents.blocks, [sample(0), sample(1), sample(2)]);
        journal.add(&sample(3)).expect("add");
        let blocks = Contents::read(&part(&dir)).expect("read").blocks;
        assert_eq!(blocks.len(), 4);
        journal.remove().expect("remove");
        assert!(!journal_path(&part(&dir)).exists());
    }

    #[test]
    fn journal_cut_anywhere_keeps_the_records_before() {
        let dir = tempfile::tempdir().expect("directory");
        let bytes = written(&dir);
        let record_len = FRAME_LEN + BLOCK_HEADER_LEN + 10;
        for len in bytes.len() - 2 * record_len..bytes.len() {
            let kept = 1 + usize::from(len >= bytes.len() - record_len);
            std::fs::write(journal_path(&part(&dir)), &bytes[..len]).expect("write");
            let (mut journal, contents) = Journal::open(&part(&dir)).expect("open");
            assert_eq!(contents.blocks.len(), kept, "{len} bytes");
            journal.add(&sample(7)).expect("add");
            let blocks = Contents::read(&part(&dir)).expect("read").blocks;
            assert_eq!(blocks.len(), kept + 1, "{len} bytes");
        }
    }

    #[test]
    fn damaged_record_costs_itself_only() {
        let dir = tempfile::tempdir().expect("directory");
        let bytes = written(&dir);
        let record_len = FRAME_LEN + BLOCK_HEADER_LEN + 10;
        let second = bytes.len() - 2 * record_len;
        for at in second..second + record_len {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(numbers(&damaged), [0, 2], "byte {at}");
        }
    }

    #[test]
    fn file_that_is_no_journal_says_nothing() {
        assert_eq!(Contents::parse(b"hello"), Contents::default());
        assert_eq!(Contents::parse(b""), Contents::default());
        let mut huge = HEAD.to_vec();
        huge.extend([MAGIC, [0xff; 4]].concat());
        assert!(numbers(&huge).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn journal_of_any_bytes_is_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            Contents::parse(&[&HEAD[..], &MAGIC, &bytes].concat());
        }
    }
}
