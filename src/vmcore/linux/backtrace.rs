// SPDX-License-Identifier: MIT OR Apache-2.0
//! A backtrace of Linux by its chain of frame records.
//!
//! Every arm64 Linux keeps one (CONFIG_FRAME_POINTER; Procedure Call Standard for the Arm 64-bit Architecture, 6.4.6): x29 points to the caller's x29
//! and the return address. The chain goes on through exceptions and from one stack to another, because entry code makes a record of
//! what it interrupted; a record of zeros ends it (arch/arm64/kernel/entry.S, stacktrace.c). Since 6.13 a third word says what a record of zeros stands
//! for: the end, or interrupted code whose registers lie around it (arch/arm64/include/asm/stacktrace/frame.h). The stacks may be what broke.

use super::virtual_memory::VirtualMemory;
use super::vmcoreinfo::Vmcoreinfo;
use crate::{Error, PhysMemory, Registers};

/// Frames at most.
const MOST_FRAMES: u32 = 256;
/// How often a record may lie below the one before: a stack grows down, but the chain leaves one for another.
const MOST_TURNS: u32 = 8;
/// What the third word says: the last record; one inside saved registers.
const FINAL: u64 = 1;
const SAVED_REGISTERS: u64 = 2;
/// Where in saved registers (struct pt_regs since 6.13) the record is, x29 and the program counter.
const RECORD_AT: u64 = 296;
const X29_AT: u64 = 29 * 8;
const PC_AT: u64 = 32 * 8;
/// M\[3:0\] of PSTATE is 0 at EL0.
const MODE: u64 = 0xf;
/// Tells an address of the kernel from one of user space, whatever the bits beside it hold.
const IS_KERNEL: u64 = 1 << 55;

/// Why a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The record of zeros: nothing called this.
    Outermost,
    /// The code ran in user space.
    User,
    /// A record could not be read, or its address is none.
    Unreadable {
        /// Where it should be.
        record: u64,
        /// Why not.
        error: Error,
    },
    /// No record can be there: it is not aligned.
    Misaligned(u64),
    /// A record of zeros says that it stands for something unknown.
    Unknown {
        /// Where it is.
        record: u64,
        /// What it says.
        kind: u64,
    },
    /// Records point back again and again.
    Loop(u64),
    /// There are more frames than are shown.
    TooDeep,
}

/// The chain, and how far it was followed.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The address to return next, and where the record of its caller is.
    next: Option<u64>,
    record: u64,
    is_user: bool,
    /// Whether records of zeros have a third word.
    has_kinds: bool,
    left: u32,
    turns: u32,
    end: End,
}

impl Frames {
    /// Begins with the code that a CPU ran, of the kernel that wrote this note.
    #[must_use]
    pub fn new(info: &Vmcoreinfo<'_>, registers: &Registers) -> Self {
        Self {
            next: Some(registers.pc),
            record: registers.x[29],
            is_user: registers.pstate & MODE == 0,
            has_kinds: info.is_at_least(6, 13),
            left: MOST_FRAMES,
            turns: MOST_TURNS,
            end: End::Outermost,
        }
    }

    /// Returns where the next frame is: first the program counter, then return addresses. `None` at the end.
    pub fn next<M: PhysMemory>(&mut self, memory: &mut VirtualMemory<M>) -> Option<u64> {
        let address = self.next.take()?;
        match self.follow(memory) {
            Ok(next) => self.next = Some(next),
            Err(end) => self.end = end,
        }
        Some(address)
    }

    /// Returns why there are no more; of meaning after the last.
    #[must_use]
    pub const fn end(&self) -> End {
        self.end
    }

    fn follow<M: PhysMemory>(&mut self, memory: &mut VirtualMemory<M>) -> Result<u64, End> {
        let record = self.record;
        if self.is_user {
            return Err(End::User);
        }
        self.left = self.left.checked_sub(1).ok_or(End::TooDeep)?;
        if record == 0 {
            return Err(End::Outermost);
        }
        if record & 7 != 0 {
            return Err(End::Misaligned(record));
        }
        let mut read = |va| {
            let word = memory.u64(va);
            word.map_err(|error| End::Unreadable { record, error })
        };
        let (mut below, mut address) = (read(record)?, read(record.wrapping_add(8))?);
        if below == 0 && address == 0 {
            match self
                .has_kinds
                .then(|| read(record.wrapping_add(16)))
                .transpose()?
            {
                None | Some(FINAL) => return Err(End::Outermost),
                Some(SAVED_REGISTERS) => {
                    let registers = record.wrapping_sub(RECORD_AT);
                    below = read(registers.wrapping_add(X29_AT))?;
                    address = read(registers.wrapping_add(PC_AT))?;
                }
                Some(kind) => return Err(End::Unknown { record, kind }),
            }
        }
        if below != 0 && below <= record {
            self.turns = self.turns.checked_sub(1).ok_or(End::Loop(below))?;
        }
        self.record = below;
        Ok(without_authentication(address, memory.tables().va_bits()))
    }
}

/// Removes the pointer authentication code of a return address: the bits above those of an address are copies of bit 55.
const fn without_authentication(address: u64, va_bits: u32) -> u64 {
    match u64::MAX.checked_shl(va_bits) {
        Some(above) if address & IS_KERNEL != 0 => address | above,
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::testing::{Guest, START};
    use proptest::prelude::*;
    use std::vec::Vec;

    const TEXT: u64 = 0xffff_ffc0_0800_0000;
    /// PSTATE at EL1h.
    const EL1: u64 = 0x3c5;

    fn registers(pc: u64, fp: u64) -> Registers {
        let mut registers = Registers {
            pc,
            pstate: EL1,
            ..Registers::default()
        };
        registers.x[29] = fp;
        registers
    }

    fn walk(guest: &Guest, registers: &Registers) -> (Vec<u64>, End) {
        let mut memory = guest.memory();
        let mut frames = Frames::new(&guest.info(), registers);
        let mut all = Vec::new();
        while let Some(address) = frames.next(&mut memory) {
            all.push(address);
        }
        (all, frames.end())
    }

    /// Memory with these records: where, the caller's, the return address.
    fn stack(records: &[(u64, u64, u64)]) -> Guest {
        let mut guest = Guest::new(0x1000);
        for (at, below, address) in records {
            guest.put_u64(START + at, *below);
            guest.put_u64(START + at + 8, *address);
        }
        guest
    }

    #[test]
    fn chain_ends_with_the_record_of_zeros() {
        let guest = stack(&[
            (0x100, START + 0x140, TEXT + 4),
            (0x140, START + 0x180, TEXT + 8),
        ]);
        let (addresses, end) = walk(&guest, &registers(TEXT, START + 0x100));
        assert_eq!(addresses, [TEXT, TEXT + 4, TEXT + 8]);
        assert_eq!(end, End::Outermost);
    }

    #[test]
    fn chain_may_go_to_a_lower_stack() {
        let guest = stack(&[(0x800, START + 0x100, TEXT + 4), (0x100, 0, TEXT + 8)]);
        let (addresses, end) = walk(&guest, &registers(TEXT, START + 0x800));
        assert_eq!(addresses, [TEXT, TEXT + 4, TEXT + 8]);
        assert_eq!(end, End::Outermost);
    }

    #[test]
    fn record_of_zeros_is_told_by_its_kind_since_6_13() {
        let registers_at = 0x400;
        let mut guest = stack(&[
            (0x100, START + registers_at + RECORD_AT, TEXT + 4),
            (0x800, 0, 0),
        ]);
        guest.note.push_str("OSRELEASE=6.13.0\n");
        guest.put_u64(START + registers_at + RECORD_AT + 16, SAVED_REGISTERS);
        guest.put_u64(START + registers_at + X29_AT, START + 0x800);
        guest.put_u64(START + registers_at + PC_AT, TEXT + 8);
        guest.put_u64(START + 0x810, FINAL);
        let begin = registers(TEXT, START + 0x100);
        let (addresses, end) = walk(&guest, &begin);
        assert_eq!(addresses, [TEXT, TEXT + 4, TEXT + 8]);
        assert_eq!(end, End::Outermost);
        guest.put_u64(START + 0x810, 3);
        let record = START + 0x800;
        assert_eq!(walk(&guest, &begin).1, End::Unknown { record, kind: 3 });
        // Before, the word behind the record is anything.
        guest.note = guest.note.replace("6.13", "6.12");
        let (addresses, end) = walk(&guest, &begin);
        assert_eq!((addresses.len(), end), (2, End::Outermost));
    }

    #[test]
    fn authentication_codes_are_removed() {
        // 39 bits of address: bits 63:56 and 54:39 hold the code.
        let signed = (TEXT + 4) & !(0xff << 56) & !(0xffff << 39) | 0x5a << 56;
        let guest = stack(&[(0x100, 0, signed)]);
        let (addresses, _) = walk(&guest, &registers(TEXT, START + 0x100));
        assert_eq!(addresses, [TEXT, TEXT + 4]);
    }

    #[test]
    fn record_outside_memory_is_named() {
        let guest = stack(&[(0x100, START + 0x10_0000, TEXT + 4)]);
        let (addresses, end) = walk(&guest, &registers(TEXT, START + 0x100));
        assert_eq!(addresses, [TEXT, TEXT + 4]);
        assert!(
            matches!(end, End::Unreadable { record, error: Error::Read(_) } if record == START + 0x10_0000),
            "{end:?}"
        );
    }

    #[test]
    fn record_of_user_space_or_not_aligned_ends_the_chain() {
        let guest = stack(&[(0x100, 0x1000, TEXT + 4)]);
        let (_, end) = walk(&guest, &registers(TEXT, START + 0x100));
        assert!(
            matches!(end, End::Unreadable { record: 0x1000, .. }),
            "{end:?}"
        );
        let (_, end) = walk(&guest, &registers(TEXT, START + 0x101));
        assert_eq!(end, End::Misaligned(START + 0x101));
    }

    #[test]
    fn record_that_points_to_itself_ends_in_bounded_time() {
        let guest = stack(&[(0x100, START + 0x100, TEXT + 4)]);
        let (addresses, end) = walk(&guest, &registers(TEXT, START + 0x100));
        assert_eq!(end, End::Loop(START + 0x100));
        assert_eq!(addresses.len(), 9);
    }

    #[test]
    fn endless_chain_is_cut() {
        let records: Vec<_> = (0..0x100)
            .map(|at| (at * 16, START + at * 16 + 16, TEXT))
            .collect();
        let mut guest = Guest::new(0x2000);
        for (at, below, address) in records {
            guest.put_u64(START + at, below);
            guest.put_u64(START + at + 8, address);
        }
        guest.put_u64(START + 0x1000, START + 0x1010);
        let (addresses, end) = walk(&guest, &registers(TEXT, START));
        assert_eq!((addresses.len(), end), (257, End::TooDeep));
    }

    #[test]
    fn code_of_user_space_has_no_chain() {
        let mut user = registers(0x40_0000, START + 0x100);
        user.pstate = 0;
        let guest = stack(&[(0x100, 0, TEXT)]);
        assert_eq!(walk(&guest, &user), ([0x40_0000].to_vec(), End::User));
    }

    proptest! {
        #[test]
        fn any_stack_ends(bytes in proptest::collection::vec(0_u64..0x200, 0x200), pc: u64, fp in 0_u64..0x200) {
            let mut guest = Guest::new(0x1000);
            for (at, word) in (0..).zip(&bytes) {
                guest.put_u64(START + at * 8, START + word * 8);
            }
            let (addresses, _) = walk(&guest, &registers(pc, START + fp * 8));
            prop_assert!(addresses.len() <= MOST_FRAMES as usize + 1);
        }
    }
}
