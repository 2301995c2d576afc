// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small Linux for tests: memory that is mapped by one block, and its note.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::virtual_memory::VirtualMemory;
use super::vmcoreinfo::Vmcoreinfo;
use crate::phys_memory::SliceMemory;

/// Where memory begins; its first page is the page table.
const PA: u64 = 0x4000_0000;
/// Virtual address of physical address 0.
const DISTANCE: u64 = 0xffff_ff80_0000_0000;
/// Virtual address of the first byte behind the page table.
pub(super) const START: u64 = DISTANCE + PA + 0x1000;

/// The memory and the note.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    bytes: Vec<u8>,
    /// Lines of the note.
    pub(super) note: String,
}

impl Guest {
    /// Memory of `len` bytes from [`START`] on.
    pub(super) fn new(len: usize) -> Self {
        let mut bytes = vec![0; 0x1000 + len];
        // 39 bits of address begin at level 1, and its second GiB is a block.
        bytes[8..16].copy_from_slice(&(PA | 0x701).to_le_bytes());
        let note = format!(
            "PAGESIZE=4096\nSYMBOL(swapper_pg_dir)={:x}\nNUMBER(VA_BITS)=39\nNUMBER(TCR_EL1_T1SZ)=0x19\n\
             NUMBER(kimage_voffset)={DISTANCE:#x}\n",
            DISTANCE + PA
        );
        Self { bytes, note }
    }

    /// Places bytes at a virtual address.
    pub(super) fn put(&mut self, va: u64, bytes: &[u8]) {
        let at = (va - DISTANCE - PA) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Places a word.
    pub(super) fn put_u64(&mut self, va: u64, value: u64) {
        self.put(va, &value.to_le_bytes());
    }

    /// Places half a word.
    pub(super) fn put_u32(&mut self, va: u64, value: u32) {
        self.put(va, &value.to_le_bytes());
    }

    /// The note.
    pub(super) fn info(&self) -> Vmcoreinfo<'_> {
        Vmcoreinfo::new(self.note.as_bytes())
    }

    /// The memory by virtual address.
    pub(super) fn memory(&self) -> VirtualMemory<SliceMemory<'_>> {
        let memory = SliceMemory {
            base: PA,
            bytes: &self.bytes,
        };
        VirtualMemory::new(&self.info(), memory).unwrap()
    }
}
