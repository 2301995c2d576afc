// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of the headers of an ELF core: ELF header, program headers, section header 0.

use vmcore::PhysRange;
use vmcore::elf_core::{EHDR_LEN, PF_RWX, PHDR_LEN, PT_LOAD, SHDR_LEN};

use super::Mapping;

pub(super) fn put_phdr(table: &mut Vec<u8>, words: [u32; 2], fields: [u64; 6]) {
    for word in words {
        table.extend_from_slice(&word.to_le_bytes());
    }
    for field in fields {
        table.extend_from_slice(&field.to_le_bytes());
    }
}

pub(super) fn put_load(
    table: &mut Vec<u8>,
    run: Option<PhysRange>,
    mapping: &Mapping,
    ram: &PhysRange,
    ram_offset: u64,
) {
    let Some(run) = run else { return };
    let offset = ram_offset.saturating_add(run.start.saturating_sub(ram.start));
    let vaddr = mapping
        .vaddr
        .wrapping_add(run.start.saturating_sub(mapping.paddr));
    // No alignment, as in Linux's /proc/vmcore: crash takes a core with page-aligned segments that says so for a netdump, and then does not look
    // for PHYS_OFFSET in VMCOREINFO.
    let fields = [offset, vaddr, run.start, run.len(), run.len(), 0];
    put_phdr(table, [PT_LOAD, PF_RWX], fields);
}

/// Returns the ELF header (gABI figure 4-3) of a little-endian AArch64 core.
pub(super) fn elf_header(table_at: u64, count: u16, has_section: bool, flags: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(EHDR_LEN + SHDR_LEN);
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend_from_slice(&4_u16.to_le_bytes()); // ET_CORE
    out.extend_from_slice(&183_u16.to_le_bytes()); // EM_AARCH64
    out.extend_from_slice(&1_u32.to_le_bytes()); // EV_CURRENT
    let section_at = if has_section { EHDR_LEN as u64 } else { 0 };
    for field in [0, table_at, section_at] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&flags.to_le_bytes()); // e_flags
    let (section_len, sections) = if has_section {
        (SHDR_LEN as u16, 1)
    } else {
        (0, 0)
    };
    for half in [
        EHDR_LEN as u16,
        PHDR_LEN as u16,
        count,
        section_len,
        sections,
        0,
    ] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out
}

/// Returns section header 0, whose sh_info is the number of segments.
pub(super) fn section_zero(count: u32) -> [u8; SHDR_LEN] {
    const SH_INFO: usize = 44;
    let mut out = [0; SHDR_LEN];
    for (slot, byte) in out.iter_mut().skip(SH_INFO).zip(count.to_le_bytes()) {
        *slot = byte;
    }
    out
}
