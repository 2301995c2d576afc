// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `makedumpfile -F -d 1` writes: the kdump-compressed format, flattened, so that it can go through a pipe or a line.
//!
//! Follows makedumpfile 1.7: a descriptor for every page of RAM, zero ones included, which share one stored page; each
//! other page compressed alone, or stored when it does not shrink; two bitmaps that begin at address 0. All of it goes
//! through two buffers of 64 KiB, and every write of a buffer becomes a record with a header. Notes are left out.

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd_safe::CCtx;

use crate::{PAGE, is_zero, pages};

/// The flattened format's head, which is padded to this.
const FLAT_HEADER: u64 = 4096;
/// Offset and length of a record; the last record is such a header alone.
const RECORD_HEADER: u64 = 16;
/// `struct disk_dump_header` of a 64-bit system.
const HEADER: u64 = 464;
/// `struct kdump_sub_header` of version 6.
const SUB_HEADER: u64 = 104;
/// `page_desc_t`.
const DESCRIPTOR: u64 = 24;
/// Bytes of a bitmap that are written at once.
const BITMAP_RECORD: u64 = 4096;
/// A buffer: `page_size << DEFAULT_ORDER`.
const BUFFER: u64 = (PAGE as u64) << 4;

/// Length with zlib (`-c`), level `Z_BEST_SPEED`, of `ram` that begins at `start`.
///
/// # Panics
/// zlib fails, or `ram` is no whole number of pages.
#[must_use]
pub fn zlib(ram: &[u8], start: u64) -> u64 {
    let mut stream = Compress::new(Compression::fast(), true);
    let mut out = vec![0; 2 * PAGE];
    flattened(ram, start, |page| {
        stream.reset();
        let status = stream
            .compress(page, &mut out, FlushCompress::Finish)
            .expect("zlib");
        assert_eq!(status, Status::StreamEnd, "zlib");
        stream.total_out()
    })
}

/// Length with zstd (`-z`), level 1, of `ram` that begins at `start`.
///
/// # Panics
/// zstd fails, or `ram` is no whole number of pages.
#[must_use]
pub fn zstd(ram: &[u8], start: u64) -> u64 {
    let mut context = CCtx::create();
    let mut out = vec![0; zstd_safe::compress_bound(PAGE)];
    flattened(ram, start, |page| {
        let len = context.compress(&mut out[..], page, 1);
        len.expect("zstd") as u64
    })
}

/// Length of the whole, with `compressed_len` of a page.
fn flattened(ram: &[u8], start: u64, mut compressed_len: impl FnMut(&[u8]) -> u64) -> u64 {
    let page_len = PAGE as u64;
    let mut flat = Flat { len: FLAT_HEADER };
    flat.record(HEADER);
    flat.record(SUB_HEADER);
    let last_page = (start + ram.len() as u64) / page_len;
    for _ in 0..2 {
        flat.bitmap(last_page);
    }
    let (mut descriptors, mut data) = (0, 0);
    // The zero page that all share.
    flat.fill(&mut data, page_len);
    for page in pages(ram) {
        if is_zero(page) {
            flat.fill(&mut descriptors, DESCRIPTOR);
            continue;
        }
        let len = compressed_len(page).min(page_len);
        // Both are written when one is nearly full, so that descriptors never point at what is not there.
        if descriptors + DESCRIPTOR >= BUFFER || data + len >= BUFFER {
            flat.record(descriptors);
            flat.record(data);
            (descriptors, data) = (0, 0);
        }
        flat.fill(&mut descriptors, DESCRIPTOR);
        flat.fill(&mut data, len);
    }
    for rest in [data, descriptors] {
        if rest > 0 {
            flat.record(rest);
        }
    }
    flat.len + RECORD_HEADER
}

/// The length written so far.
#[derive(Debug)]
struct Flat {
    len: u64,
}

impl Flat {
    fn record(&mut self, len: u64) {
        self.len += RECORD_HEADER + len;
    }

    /// A bitmap of the pages from address 0 to `last_page`.
    fn bitmap(&mut self, last_page: u64) {
        let len = last_page.div_ceil(8);
        if !last_page.is_multiple_of(4) {
            // makedumpfile finds its buffer too small for both bitmaps, for want of a byte, and works in cycles: one.
            self.record(len);
            return;
        }
        for _ in 0..len.div_ceil(BITMAP_RECORD) {
            self.record(BITMAP_RECORD);
        }
    }

    /// Adds `len` bytes to a buffer that holds `filled`, and writes it when it is full.
    fn fill(&mut self, filled: &mut u64, len: u64) {
        *filled += len;
        if *filled >= BUFFER {
            self.record(BUFFER);
            *filled -= BUFFER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RAM_START;
    use crate::tests::{lines, noise};
    use std::fs;
    use std::process::{Command, Stdio};

    /// What does not depend on the pages: head, end and the records of headers and bitmaps.
    const AROUND: u64 = 4096 + 16 + (16 + 464) + (16 + 104);

    #[test]
    fn zero_page_costs_a_descriptor() {
        let one = zlib(&[0; 5 * PAGE], RAM_START);
        let two = zlib(&[0; 6 * PAGE], RAM_START);

        assert_eq!(two - one, 24);
        // Bitmaps up to page 0x40005: 0x8001 bytes. Two buffers are written at the end, one with the shared zero page.
        let expected = AROUND + 2 * (16 + 0x8001) + (16 + 4096) + (16 + 5 * 24);
        assert_eq!(one, expected);
    }

    #[test]
    fn bitmap_of_whole_groups_of_four_pages_is_written_by_pages() {
        // Bitmaps up to page 0x40004: 0x8001 bytes, which are nine pages.
        let expected = AROUND + 2 * 9 * (16 + 4096) + (16 + 4096) + (16 + 4 * 24);

        assert_eq!(zlib(&[0; 4 * PAGE], RAM_START), expected);
    }

    #[test]
    fn page_that_does_not_shrink_is_stored() {
        let expected = AROUND + 2 * (16 + 0x8001) + (16 + 2 * 4096) + (16 + 24);

        assert_eq!(zlib(&noise(PAGE), RAM_START), expected);
        assert_eq!(zstd(&noise(PAGE), RAM_START), expected);
    }

    #[test]
    fn record_headers_are_counted_for_each_full_buffer() {
        let fourteen = zlib(&noise(14 * PAGE), RAM_START);
        // With the zero page, the 15th page would fill the buffer: both buffers are written before it.
        let fifteen = zlib(&noise(15 * PAGE), RAM_START);

        assert_eq!(fifteen - fourteen, 4096 + 24 + 2 * 16);
    }

    /// zlib of each page by itself comes back: what is counted is what a reader needs.
    #[test]
    fn zlib_page_comes_back() {
        let page = lines(PAGE);
        let mut out = vec![0; 2 * PAGE];
        let mut stream = Compress::new(Compression::fast(), true);
        stream
            .compress(&page, &mut out, FlushCompress::Finish)
            .unwrap();
        let len = stream.total_out() as usize;
        let mut back = vec![0; PAGE];
        let mut reader = flate2::Decompress::new(true);
        reader
            .decompress(&out[..len], &mut back, flate2::FlushDecompress::Finish)
            .unwrap();

        assert_eq!(back, page);
    }

    #[test]
    fn zstd_page_comes_back() {
        let page = lines(PAGE);
        let mut out = vec![0; 2 * PAGE];
        let len = CCtx::create().compress(&mut out[..], &page, 1).unwrap();
        let mut back = vec![0; PAGE];
        let back_len = zstd_safe::decompress(&mut back[..], &out[..len]).unwrap();

        assert_eq!((back_len, back), (PAGE, page));
    }

    /// A core file of `ram` that makedumpfile takes on an x86-64 machine, with one note of `note_len` bytes.
    fn core(ram: &[u8], note_len: usize) -> Vec<u8> {
        let words = |values: &[u64]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let halves = |values: &[u16]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let (file_header, segment) = (64_u64, 56_u64);
        let note_at = file_header + 2 * segment;
        let note_len_word = note_len as u64;
        let linear_map = 0xffff_8880_0000_0000 + RAM_START;
        let len = ram.len() as u64;
        let mut core = [
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
            halves(&[4, 62, 1, 0]),
            words(&[0, file_header, 0]),
            halves(&[0, 0, 64, 56, 2, 0, 0, 0]),
            // PT_NOTE, then PT_LOAD.
            words(&[4, note_at, 0, 0, note_len_word, note_len_word, 0]),
            words(&[1 | 7 << 32, 4096, linear_map, RAM_START, len, len, 0]),
            // One note: NT_PRSTATUS of "CORE".
            words(&[5 | (note_len_word - 20) << 32]),
            b"\x01\0\0\0CORE\0\0\0\0".to_vec(),
        ]
        .concat();
        core.resize(4096, 0);
        core.extend_from_slice(ram);
        core
    }

    /// Compares with the real program on the same RAM, where it is installed, as scripts/test has it.
    fn assert_makedumpfile_writes_as_many_bytes(ram: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let (input, note_len) = (dir.path().join("core"), 356);
        fs::write(&input, core(ram, note_len)).unwrap();
        let mut command = Command::new("makedumpfile");
        command.args(["-c", "-d", "1", "-F"]).arg(&input);
        let done = match command.stdin(Stdio::null()).output() {
            Ok(done) if cfg!(target_arch = "x86_64") => done,
            other => {
                let why = other.map(|_| "this is no x86-64 machine");
                println!("not compared with makedumpfile: {why:?}");
                return;
            }
        };
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{text}");

        let with_notes = zlib(ram, RAM_START) + RECORD_HEADER + note_len as u64;
        assert_eq!(done.stdout.len() as u64, with_notes, "{text}");
    }

    #[test]
    fn makedumpfile_itself_writes_as_many_bytes() {
        let zeros = vec![0; 3000 * PAGE];
        let ram = [lines(96 * PAGE), zeros, noise(40 * PAGE), lines(8 * PAGE)].concat();

        assert_makedumpfile_writes_as_many_bytes(&ram);
    }

    #[test]
    fn makedumpfile_itself_writes_as_many_bytes_of_an_odd_number_of_pages() {
        let zeros = vec![0; 3000 * PAGE];
        let ram = [lines(96 * PAGE), zeros, noise(40 * PAGE), lines(7 * PAGE)].concat();

        assert_makedumpfile_writes_as_many_bytes(&ram);
    }
}
