// SPDX-License-Identifier: MIT OR Apache-2.0
//! The running image: where the linker put its parts, and where it lies physically.
//!
//! The symbols are those of linker/sections.ld; parts follow each other without holes, at whole pages.

use core::sync::atomic::{AtomicU64, Ordering};

use boot_config::PhysRange;

unsafe extern "C" {
    static image_begin: u8;
    static image_end: u8;
    static text_end: u8;
    static rodata_end: u8;
    static data_begin: u8;
    static data_end: u8;
    static data_loaded_end: u8;
    static data_copy_begin: u8;
    static bss_end: u8;
    static tables_begin: u8;
    static tables_end: u8;
    static capture_image_begin: u8;
    static capture_image_end: u8;
    static build_id_begin: u8;
    static build_id_end: u8;
}

macro_rules! symbol {
    ($name:ident) => {
        (&raw const $name).addr() as u64
    };
}

/// Physical address of the image, set once at boot.
static PHYSICAL: AtomicU64 = AtomicU64::new(0);

/// Notes where the image lies; the first thing that `AddressSpace::take` does.
pub(crate) fn set_physical(address: u64) {
    PHYSICAL.store(address, Ordering::Relaxed);
}

/// Virtual bounds of the image: begin, end of text, end of read-only data, end of initialised data, end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First byte; also the first byte of text.
    pub begin: u64,
    /// End of text.
    pub text_end: u64,
    /// End of read-only data.
    pub rodata_end: u64,
    /// End of initialised data, which is the end of the Image file.
    pub data_end: u64,
    /// End of BSS, without the stacks.
    pub bss_end: u64,
    /// End, stacks included.
    pub end: u64,
    /// Page-table pool inside BSS: begin and end.
    pub tables: (u64, u64),
}

/// Where the running image lies in virtual memory.
pub fn bounds() -> Bounds {
    Bounds {
        begin: symbol!(image_begin),
        text_end: symbol!(text_end),
        rodata_end: symbol!(rodata_end),
        data_end: symbol!(data_end),
        bss_end: symbol!(bss_end),
        end: symbol!(image_end),
        tables: (symbol!(tables_begin), symbol!(tables_end)),
    }
}

/// Code and constants of the running image, which nobody writes to.
pub fn constant_bytes() -> &'static [u8] {
    let begin = symbol!(image_begin);
    let len = symbol!(rodata_end) - begin;
    // SAFETY: text and read-only data lie between the two symbols, mapped readable, and nothing writes there.
    unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) }
}

/// Initialised data as it was loaded; boot keeps a copy. After [`constant_bytes`] it is the rest of the Image file.
pub fn loaded_data() -> &'static [u8] {
    let len = symbol!(data_loaded_end) - symbol!(data_begin);
    let begin = symbol!(data_copy_begin);
    // SAFETY: the linker script reserves so many bytes there, boot fills them before Rust runs, and nothing writes there after.
    unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) }
}

/// Makes initialised data again what it was when the image was loaded.
///
/// # Safety
/// Nothing else runs, and the caller reads no `static` with initialised data after; a restart follows.
pub(crate) unsafe fn restore_data() {
    let loaded = loaded_data();
    let to = symbol!(data_begin) as *mut u8;
    // SAFETY: the section lies there, writable, as long as its copy, and apart from it.
    unsafe { core::ptr::copy_nonoverlapping(loaded.as_ptr(), to, loaded.len()) };
}

/// GNU build ID of the running image: the note's descriptor.
pub fn build_id() -> &'static [u8] {
    let begin = symbol!(build_id_begin);
    let len = symbol!(build_id_end) - begin;
    // SAFETY: the linker script puts exactly the read-only note section between the two symbols.
    let note = unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) };
    note.get(16..).unwrap_or(&[])
}

/// The capture Image linked into this image; empty when there is none.
pub fn embedded_capture_image() -> &'static [u8] {
    let begin = symbol!(capture_image_begin);
    let len = symbol!(capture_image_end) - begin;
    // SAFETY: the linker script puts exactly the read-only section `.capture_image` between the two symbols.
    unsafe { core::slice::from_raw_parts(begin as *const u8, len as usize) }
}

/// Physical address of an address inside the running image.
pub fn physical(virtual_address: u64) -> u64 {
    PHYSICAL
        .load(Ordering::Relaxed)
        .wrapping_add(virtual_address.wrapping_sub(symbol!(image_begin)))
}

/// Physical range of the running image, its stacks included.
pub fn range() -> PhysRange {
    let bounds = bounds();
    let start = physical(bounds.begin);
    PhysRange {
        start,
        end: start + (bounds.end - bounds.begin),
    }
}
