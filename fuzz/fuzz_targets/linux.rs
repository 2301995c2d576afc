// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzes what is read of a crashed Linux: VMCOREINFO, page tables, the log, the symbols, the stacks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::linux::{Frames, Kallsyms, LinearMap, PrintkLog, VirtualMemory, Vmcoreinfo};
use vmcore::{FaultCause, PhysMemory, ReadFault, Registers};

/// The note of a Linux whose first GiB is mapped at 0xffffffc000000000 by a block, and whose structures are where the input begins.
const NOTE: &str = "OSRELEASE=6.13.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffbfffffe000\nNUMBER(VA_BITS)=39\n\
    NUMBER(TCR_EL1_T1SZ)=0x19\nNUMBER(kimage_voffset)=0xffffffbf00000000\nNUMBER(PHYS_OFFSET)=0x0\n\
    SYMBOL(prb)=ffffffc000000000\nOFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=48\n\
    OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
    OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)=24\n\
    OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8\nOFFSET(prb_data_blk_lpos.begin)=0\n\
    OFFSET(prb_data_blk_lpos.next)=8\nSIZE(printk_info)=88\nOFFSET(printk_info.ts_nsec)=8\n\
    OFFSET(printk_info.text_len)=16\nOFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\n\
    OFFSET(atomic_long_t.counter)=0\nSYMBOL(kallsyms_names)=ffffffc000000800\nSYMBOL(kallsyms_num_syms)=ffffffc000000100\n\
    SYMBOL(kallsyms_token_table)=ffffffc000000200\nSYMBOL(kallsyms_token_index)=ffffffc000000400\n\
    SYMBOL(kallsyms_offsets)=ffffffc000000600\nSYMBOL(kallsyms_relative_base)=ffffffc000000108\n";
/// Where swapper_pg_dir is: by the numbers of the note.
const TABLE: u64 = 0xffff_e000;

/// Records and symbols that are read: memory is the input again and again, so there may be millions of either.
const MOST: u32 = 1 << 12;

/// The first GiB of physical memory is the input, again and again; above is one page table where the note needs it.
struct Machine<'a>(&'a [u8]);

impl PhysMemory for Machine<'_> {
    fn read(&mut self, pa: u64, buf: &mut [u8]) -> Result<(), ReadFault> {
        if pa == TABLE + 256 * 8 && buf.len() == 8 {
            buf.copy_from_slice(&0x701_u64.to_le_bytes());
            return Ok(());
        }
        if pa >> 30 != 0 || self.0.is_empty() {
            return Err(ReadFault {
                address: pa,
                cause: FaultCause::NotRam,
            });
        }
        for (at, byte) in (pa..).zip(buf) {
            *byte = self.0[(at % self.0.len() as u64) as usize];
        }
        Ok(())
    }
}

/// Reads all there is to read.
fn exercise(info: &Vmcoreinfo<'_>, memory: impl PhysMemory, at: u64) {
    if let Ok(map) = LinearMap::of(info)
        && let Some(va) = map.va_of(at)
    {
        assert_eq!(map.translate(va).map(|span| span.pa), Some(at));
    }
    let Ok(mut memory) = VirtualMemory::new(info, memory) else {
        return;
    };
    let _ = memory.u64(at);
    if let Ok(mut log) = PrintkLog::open(info, &mut memory) {
        let mut text = [0; 256];
        for _ in 0..MOST {
            let Some(next) = log.next(&mut memory) else {
                break;
            };
            if let Ok(record) = next {
                let len = text.len().min(record.len as usize);
                let _ = memory.read(record.text, &mut text[..len]);
            }
        }
    }
    if let Ok(mut table) = Kallsyms::open(info, &mut memory) {
        for _ in 0..MOST {
            let Ok(Some(symbol)) = table.next(&mut memory) else {
                break;
            };
            assert!(symbol.name.len() < vmcore::linux::kallsyms::NAME_MAX);
        }
    }
    let mut registers = Registers {
        pc: at,
        pstate: 0x3c5,
        ..Registers::default()
    };
    registers.x[29] = at;
    let mut frames = Frames::new(info, &registers);
    let mut count = 0;
    while frames.next(&mut memory).is_some() {
        count += 1;
    }
    assert!(count <= 257);
}

fuzz_target!(|bytes: &[u8]| {
    let (word, rest) = bytes.split_at(bytes.len().min(8));
    let at = word.iter().fold(0, |at, byte| at << 8 | u64::from(*byte));
    // Structures of any content, where a note that makes sense says they are.
    let info = Vmcoreinfo::new(NOTE.as_bytes());
    exercise(&info, Machine(rest), at | 0xffff_ffc0_0000_0000);
    // A note of any content, whose first lines win, over the same memory.
    let mut note = rest.to_vec();
    note.retain(|byte| *byte != 0);
    note.extend_from_slice(b"\n");
    note.extend_from_slice(NOTE.as_bytes());
    exercise(&Vmcoreinfo::new(&note), Machine(rest), at);
});
