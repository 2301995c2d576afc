// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a file goes whose parts are not written in order: a file, or makedumpfile's flattened format of it.
//!
//! Flattened, each part travels with its offset, so that a pipe will do (makedumpfile, IMPLEMENTATION, "The flattened
//! format"): a header of 4096 bytes, records of offset and size as big-endian i64 and the bytes, an end record of -1 and
//! -1. `makedumpfile -R` rebuilds the file from it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Bytes of the flattened format's header.
const FLAT_HEADER_LEN: usize = 4096;
const FLAT_SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
const FLAT_TYPE: i64 = 1;
const FLAT_VERSION: i64 = 1;
const FLAT_END: i64 = -1;

/// Takes the parts of a file.
pub(super) trait Sink {
    /// Puts `bytes` at `offset`; what is never put reads as zeros, if something lies behind it.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Says that nothing follows.
    ///
    /// # Errors
    ///
    /// When what is still on its way cannot be written.
    fn finish(&mut self) -> Result<()>;
}

/// The file itself.
#[derive(Debug)]
pub(super) struct Plain<'a> {
    file: &'a File,
    path: &'a Path,
}

impl<'a> Plain<'a> {
    /// Writes into `file`, which is empty and called `path`.
    pub(super) const fn new(file: &'a File, path: &'a Path) -> Self {
        Self { file, path }
    }
}

impl Sink for Plain<'_> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(Error::file("write", self.path))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The flattened format.
#[derive(Debug)]
pub(super) struct Flattened<W: Write> {
    out: BufWriter<W>,
    name: PathBuf,
}

impl<W: Write> Flattened<W> {
    /// Begins in `out`, which is called `name`.
    ///
    /// # Errors
    ///
    /// When the header cannot be written.
    pub(super) fn new(out: W, name: &Path) -> Result<Self> {
        let mut header = Vec::with_capacity(FLAT_HEADER_LEN);
        header.extend_from_slice(FLAT_SIGNATURE);
        header.extend_from_slice(&FLAT_TYPE.to_be_bytes());
        header.extend_from_slice(&FLAT_VERSION.to_be_bytes());
        header.resize(FLAT_HEADER_LEN, 0);
        let mut flattened = Self {
            out: BufWriter::new(out),
            name: name.to_path_buf(),
        };
        flattened.write(&header)?;
        Ok(flattened)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(Error::file("write", &self.name))
    }

    fn record(&mut self, offset: i64, size: i64) -> Result<()> {
        self.write(&offset.to_be_bytes())?;
        self.write(&size.to_be_bytes())
    }
}

impl<W: Write> Sink for Flattened<W> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        // A record of no bytes would look like the end.
        if bytes.is_empty() {
            return Ok(());
        }
        // Files end far below 2^63: no file system has longer ones.
        self.record(offset.cast_signed(), bytes.len() as i64)?;
        self.write(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        self.record(FLAT_END, FLAT_END)?;
        self.out.flush().map_err(Error::file("write", &self.name))
    }
}

/// Bytes that follow each other, put in parts of a good size.
#[derive(Debug)]
pub(super) struct Stream {
    start: u64,
    bytes: Vec<u8>,
}

impl Stream {
    /// Bytes of a part.
    const PART: usize = 256 << 10;

    /// Begins at `start`.
    pub(super) const fn new(start: u64) -> Self {
        Self {
            start,
            bytes: Vec::new(),
        }
    }

    /// Returns where the next byte goes.
    pub(super) const fn at(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// Adds `bytes`.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(super) fn add(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() < Self::PART {
            return Ok(());
        }
        self.flush(sink)
    }

    /// Puts what was not put yet.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn flush(&mut self, sink: &mut dyn Sink) -> Result<()> {
        sink.put(self.start, &self.bytes)?;
        self.start = self.at();
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flattened_format_has_its_golden_bytes() {
        let mut out = Vec::new();
        let mut sink = Flattened::new(&mut out, Path::new("x")).expect("header");
        sink.put(0x1_0000_0002, b"ab").expect("record");
        sink.put(7, b"").expect("nothing");
        sink.finish().expect("end");
        drop(sink);
        #[rustfmt::skip]
        assert_eq!(out[..40], [
            b'm', b'a', b'k', b'e', b'd', b'u', b'm', b'p', b'f', b'i', b'l', b'e', 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        #[rustfmt::skip]
        assert_eq!(out[4096..], [
            0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, b'a', b'b',
            255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        ]);
    }

    #[test]
    fn stream_continues_where_a_part_ended() {
        let mut out = Vec::new();
        let mut sink = Flattened::new(&mut out, Path::new("x")).expect("header");
        let mut stream = Stream::new(100);
        stream.add(&[1; Stream::PART], &mut sink).expect("a part");
        stream.add(&[2; 3], &mut sink).expect("kept");
        assert_eq!(stream.at(), 100 + Stream::PART as u64 + 3);
        stream.flush(&mut sink).expect("the rest");
        drop(sink);
        let second = 4096 + 16 + Stream::PART;
        assert_eq!(out.len(), second + 16 + 3);
        assert_eq!(
            out[second..second + 8],
            (100 + Stream::PART as u64).to_be_bytes()
        );
    }
}
