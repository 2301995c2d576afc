// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arm semihosting (ARM-software/abi-aa semihosting.rst): exit codes and host files.
//!
//! `HLT #0xF000` without a debugger is an undefined instruction: the exception entry, which both kernels share, then lets the
//! call fail. A debugger that has enabled halting debug and never answers stops the CPU for good; no exception guard and no
//! time limit of ours reaches that. So a call is made only where the command line asked for one.

use core::ffi::CStr;

const SYS_OPEN: u64 = 0x01;
const SYS_CLOSE: u64 = 0x02;
const SYS_WRITE: u64 = 0x05;
const SYS_READ: u64 = 0x06;
const SYS_ISERROR: u64 = 0x08;
const SYS_FLEN: u64 = 0x0c;
const SYS_EXIT: u64 = 0x18;
const ADP_STOPPED_APPLICATION_EXIT: u64 = 0x20026;
/// Modes of SYS_OPEN: those of C's fopen, numbered.
const MODE_RB: u64 = 1;
const MODE_WB: u64 = 5;

unsafe extern "C" {
    /// One semihosting call; -1 when nobody takes it.
    ///
    /// # Safety
    /// `block` must be what the operation's section of the specification says, and stay valid during the call.
    fn semihosting_call(operation: u64, block: u64) -> i64;
}

/// Ends the emulation with `status`. Returns only where no host is listening.
pub fn exit(status: u32) {
    let block = [ADP_STOPPED_APPLICATION_EXIT, u64::from(status)];
    // SAFETY: SYS_EXIT on AArch64 takes two words: reason and subcode.
    unsafe { semihosting_call(SYS_EXIT, block.as_ptr().addr() as u64) };
}

/// Whether somebody takes semihosting calls.
pub fn is_present() -> bool {
    let block = [0_u64];
    // SAFETY: SYS_ISERROR takes one word, a status; it has no effect and returns 0 for the status 0.
    unsafe { semihosting_call(SYS_ISERROR, block.as_ptr().addr() as u64) == 0 }
}

/// A file on the host; closed when dropped.
#[derive(Debug)]
pub struct HostFile {
    handle: u64,
}

impl HostFile {
    /// Opens `path` for reading.
    pub fn open(path: &CStr) -> Option<Self> {
        Self::open_as(path, MODE_RB)
    }

    /// Makes `path`, or empties it, for writing.
    pub fn create(path: &CStr) -> Option<Self> {
        Self::open_as(path, MODE_WB)
    }

    /// Makes a file for a dump, beside those of earlier ones: `afterimage-00.frames` to `afterimage-99.frames`. `None` when nobody
    /// takes semihosting calls, or all of them are there.
    pub fn create_new() -> Option<Self> {
        if !is_present() {
            return None;
        }
        (0..100_u8).find_map(|number| {
            let mut name = *b"afterimage-00.frames\0";
            if let [tens, ones] = &mut name[11..13] {
                (*tens, *ones) = (b'0' + number / 10, b'0' + number % 10);
            }
            let path = CStr::from_bytes_with_nul(&name).ok()?;
            match Self::open(path) {
                Some(_is_there) => None,
                None => Self::create(path),
            }
        })
    }

    fn open_as(path: &CStr, mode: u64) -> Option<Self> {
        let block = [path.as_ptr().addr() as u64, mode, path.count_bytes() as u64];
        // SAFETY: SYS_OPEN takes pointer, mode, length without the NUL.
        let handle = unsafe { semihosting_call(SYS_OPEN, block.as_ptr().addr() as u64) };
        u64::try_from(handle).ok().map(|handle| Self { handle })
    }

    /// Writes `bytes` behind what was written before. Returns how many were written: fewer than given when the host's disk is full, say, and 0 when
    /// the file was opened for reading.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let block = [
            self.handle,
            bytes.as_ptr().addr() as u64,
            bytes.len() as u64,
        ];
        // SAFETY: SYS_WRITE takes handle, buffer, length; it reads at most that many bytes, and returns how many are missing.
        let missing = unsafe { semihosting_call(SYS_WRITE, block.as_ptr().addr() as u64) };
        bytes_done(bytes.len(), missing)
    }

    /// Length in bytes.
    pub fn size(&self) -> Option<u64> {
        let block = [self.handle];
        // SAFETY: SYS_FLEN takes the handle.
        u64::try_from(unsafe { semihosting_call(SYS_FLEN, block.as_ptr().addr() as u64) }).ok()
    }

    /// Reads until `buffer` is full. Returns the bytes read.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let block = [
            self.handle,
            buffer.as_mut_ptr().addr() as u64,
            buffer.len() as u64,
        ];
        // SAFETY: SYS_READ takes handle, buffer, length; it writes at most that many bytes, and returns how many are missing.
        let missing = unsafe { semihosting_call(SYS_READ, block.as_ptr().addr() as u64) };
        bytes_done(buffer.len(), missing)
    }
}

/// Bytes moved by a call that says how many of `len` are missing, or -1.
fn bytes_done(len: usize, missing: i64) -> usize {
    usize::try_from(missing).map_or(0, |missing| len.saturating_sub(missing))
}

impl Drop for HostFile {
    fn drop(&mut self) {
        let block = [self.handle];
        // SAFETY: SYS_CLOSE takes the handle, which is not used again.
        unsafe { semihosting_call(SYS_CLOSE, block.as_ptr().addr() as u64) };
    }
}
