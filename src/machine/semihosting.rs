// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arm semihosting (ARM-software/abi-aa semihosting.rst): exit codes and host files.
//!
//! `HLT #0xF000` without a debugger is an undefined instruction: the handler then lets the call fail. A call is made only where
//! the command line asked for one.

const SYS_OPEN: u64 = 0x01;
const SYS_CLOSE: u64 = 0x02;
const SYS_READ: u64 = 0x06;
const SYS_FLEN: u64 = 0x0c;
const SYS_EXIT: u64 = 0x18;
const ADP_STOPPED_APPLICATION_EXIT: u64 = 0x20026;

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

/// A file on the host, opened for reading.
#[derive(Debug)]
pub struct HostFile {
    handle: u64,
}

impl HostFile {
    /// Opens `path`, which ends in a NUL byte.
    pub fn open(path: &core::ffi::CStr) -> Option<Self> {
        let block = [path.as_ptr().addr() as u64, 1, path.count_bytes() as u64];
        // SAFETY: SYS_OPEN takes pointer, mode (1 = "rb"), length without the NUL.
        let handle = unsafe { semihosting_call(SYS_OPEN, block.as_ptr().addr() as u64) };
        u64::try_from(handle).ok().map(|handle| Self { handle })
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
        usize::try_from(missing).map_or(0, |missing| buffer.len().saturating_sub(missing))
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        let block = [self.handle];
        // SAFETY: SYS_CLOSE takes the handle, which is not used again.
        unsafe { semihosting_call(SYS_CLOSE, block.as_ptr().addr() as u64) };
    }
}
