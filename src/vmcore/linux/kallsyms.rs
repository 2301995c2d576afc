// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's table of its own symbols, as it lies in memory.
//!
//! Since Linux 6.0 VMCOREINFO names its parts (kernel/vmcore_info.c). Names are compressed: each byte stands for a token
//! of a table of 256 (scripts/kallsyms.c, kernel/kallsyms.c); addresses are unsigned offsets from a base, which is how every arm64 kernel
//! of these versions has them (CONFIG_KALLSYMS_ABSOLUTE_PERCPU is of x86). Modules have tables of their own, which are not read.

use super::virtual_memory::VirtualMemory;
use super::vmcoreinfo::Vmcoreinfo;
use crate::{Error, PhysMemory};

/// Longest name, with its type and the zero byte that Linux adds (KSYM_NAME_LEN).
pub const NAME_MAX: usize = 512;
/// Symbols that are believed: a Debian kernel has 150,000.
const MOST_SYMBOLS: u32 = 1 << 22;
const TOKENS: usize = 256;
/// Bytes of the table of tokens that are believed; it is about 1000.
const TOKEN_BYTES: usize = 8192;
/// Bytes of names, and of offsets, that are read at once.
const CHUNK: usize = 1024;

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its virtual address.
    pub address: u64,
    /// Its type, as `nm` prints it.
    pub kind: u8,
    /// Its name; bytes, since a corrupted table makes any.
    pub name: &'a [u8],
}

/// A part of memory that is read from front to back.
#[derive(Clone, Debug)]
struct Stream {
    va: u64,
    bytes: [u8; CHUNK],
    at: usize,
    len: usize,
}

impl Stream {
    const fn new(va: u64) -> Self {
        Self {
            va,
            bytes: [0; CHUNK],
            at: 0,
            len: 0,
        }
    }

    fn byte<M: PhysMemory>(&mut self, memory: &mut VirtualMemory<M>) -> Result<u8, Error> {
        if self.at >= self.len {
            // Up to the end of a page at most, so that what follows the table need not be there.
            let left = 4096_u64.saturating_sub(self.va & 4095);
            let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            memory.read(self.va, self.bytes.get_mut(..len).unwrap_or_default())?;
            self.va = self.va.wrapping_add(len as u64);
            (self.at, self.len) = (0, len);
        }
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }
}

/// The table, and how far it was read.
#[derive(Clone, Debug)]
pub struct Kallsyms {
    names: Stream,
    offsets: Stream,
    base: u64,
    left: u32,
    index: [u16; TOKENS],
    tokens: [u8; TOKEN_BYTES],
    name: [u8; NAME_MAX],
}

impl Kallsyms {
    /// Finds the table.
    ///
    /// # Errors
    /// [`Error::KeyMissing`] for a kernel before 6.0, or one that lays its table out in another way; [`Error::BadValue`] for a count or a table
    /// of tokens that cannot be; what reading memory gives.
    pub fn open<M: PhysMemory>(
        info: &Vmcoreinfo<'_>,
        memory: &mut VirtualMemory<M>,
    ) -> Result<Self, Error> {
        let names = info.symbol("kallsyms_names")?;
        let offsets = info.symbol("kallsyms_offsets")?;
        let left = memory.u32(info.symbol("kallsyms_num_syms")?)?;
        if left == 0 || left > MOST_SYMBOLS {
            return Err(Error::BadValue {
                offset: 0,
                value: u64::from(left),
            });
        }
        let base = memory.u64(info.symbol("kallsyms_relative_base")?)?;
        let index_at = info.symbol("kallsyms_token_index")?;
        let mut bytes = [0; TOKENS.saturating_mul(2)];
        memory.read(index_at, &mut bytes)?;
        let mut index = [0; TOKENS];
        let mut last = 0;
        for (at, (to, from)) in (0_u64..).zip(index.iter_mut().zip(bytes.as_chunks::<2>().0)) {
            let value = u16::from_le_bytes(*from);
            // Tokens stand one behind the other.
            if value < last || usize::from(value) >= TOKEN_BYTES {
                return Err(Error::BadValue {
                    offset: at.saturating_mul(2),
                    value: u64::from(value),
                });
            }
            (*to, last) = (value, value);
        }
        let mut tokens = [0; TOKEN_BYTES];
        // The last token ends with the first zero byte behind its start; bytes that are not there are zero.
        let mut table = Stream::new(info.symbol("kallsyms_token_table")?);
        for (at, to) in tokens.iter_mut().enumerate() {
            *to = table.byte(memory)?;
            if at >= usize::from(last) && *to == 0 {
                break;
            }
        }
        Ok(Self {
            names: Stream::new(names),
            offsets: Stream::new(offsets),
            base,
            left,
            index,
            tokens,
            name: [0; NAME_MAX],
        })
    }

    /// Returns how many symbols are left to read.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.left
    }

    /// Reads the next symbol; they come in order of address. `None` at the end.
    ///
    /// # Errors
    /// What reading memory gives. Nothing more can be read then: where a name begins is known from the one before.
    pub fn next<M: PhysMemory>(
        &mut self,
        memory: &mut VirtualMemory<M>,
    ) -> Result<Option<Symbol<'_>>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        let mut offset = [0; 4];
        for byte in &mut offset {
            *byte = self.offsets.byte(memory)?;
        }
        let mut len = u32::from(self.names.byte(memory)?);
        // Since 6.1 the length of a long name takes two bytes.
        if len & 0x80 != 0 {
            len = len & 0x7f | u32::from(self.names.byte(memory)?) << 7;
        }
        let mut used = 0_usize;
        for _ in 0..len {
            let code = usize::from(self.names.byte(memory)?);
            let start = self
                .index
                .get(code)
                .map_or(TOKEN_BYTES, |at| usize::from(*at));
            let token = self.tokens.get(start..).unwrap_or_default();
            for byte in token.iter().take_while(|byte| **byte != 0) {
                if let Some(to) = self.name.get_mut(used) {
                    *to = *byte;
                    used = used.saturating_add(1);
                }
            }
        }
        self.left = left;
        let (kind, name) = self
            .name
            .get(..used)
            .unwrap_or_default()
            .split_first()
            .unwrap_or((&b'?', &[]));
        Ok(Some(Symbol {
            address: self
                .base
                .wrapping_add(u64::from(u32::from_le_bytes(offset))),
            kind: *kind,
            name,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::testing::{Guest, START};
    use proptest::prelude::*;
    use std::format;
    use std::string::{String, ToString as _};
    use std::vec;
    use std::vec::Vec;

    const COUNT: u64 = START;
    const BASE_AT: u64 = START + 8;
    const INDEX: u64 = START + 0x10;
    const TABLE: u64 = START + 0x400;
    const OFFSETS: u64 = START + 0x800;
    const NAMES: u64 = START + 0xff0;
    const BASE: u64 = 0xffff_ffc0_0800_0000;

    /// A table with these tokens (the code of each is its place), names of codes, and offsets.
    fn guest(tokens: &[&str], names: &[u8], offsets: &[u32]) -> Guest {
        let mut guest = Guest::new(0x3000);
        let mut table = Vec::new();
        for code in 0..256 {
            guest.put(INDEX + code as u64 * 2, &(table.len() as u16).to_le_bytes());
            table.extend_from_slice(tokens.get(code).unwrap_or(&"").as_bytes());
            table.push(0);
        }
        guest.put(TABLE, &table);
        guest.put(NAMES, names);
        for (at, offset) in (0..).zip(offsets) {
            guest.put_u32(OFFSETS + at * 4, *offset);
        }
        guest.put_u32(COUNT, offsets.len() as u32);
        guest.put_u64(BASE_AT, BASE);
        let symbols = [
            ("names", NAMES),
            ("num_syms", COUNT),
            ("token_table", TABLE),
            ("token_index", INDEX),
            ("offsets", OFFSETS),
            ("relative_base", BASE_AT),
        ];
        for (name, va) in symbols {
            guest
                .note
                .push_str(&format!("SYMBOL(kallsyms_{name})={va:x}\n"));
        }
        guest
    }

    fn read(guest: &Guest) -> Result<Vec<(u64, u8, String)>, Error> {
        let mut memory = guest.memory();
        let mut table = Kallsyms::open(&guest.info(), &mut memory)?;
        let mut all = Vec::new();
        while let Some(symbol) = table.next(&mut memory)? {
            let name = String::from_utf8_lossy(symbol.name).into_owned();
            all.push((symbol.address, symbol.kind, name));
        }
        Ok(all)
    }

    #[test]
    fn names_are_put_together_from_tokens() {
        // "T" + "do_" + "exit"; "t" + "sys_" + "exit"; offsets are unsigned.
        let tokens = ["Tdo_", "tsys_", "exit"];
        let guest = guest(&tokens, &[2, 0, 2, 2, 1, 2, 1, 0], &[0, 0x40, 0xffff_fff0]);
        let expected = [
            (BASE, b'T', "do_exit"),
            (BASE + 0x40, b't', "sys_exit"),
            (BASE + 0xffff_fff0, b'T', "do_"),
        ];
        let expected = expected.map(|(address, kind, name)| (address, kind, name.to_string()));
        assert_eq!(read(&guest).unwrap(), expected);
    }

    #[test]
    fn long_name_has_a_length_of_two_bytes() {
        let mut names = vec![0x80 | 2, 1];
        names.extend_from_slice(&[0; 130]);
        names.extend_from_slice(&[1, 1]);
        let all = read(&guest(&["x", "Ty"], &names, &[0, 4])).unwrap();
        assert_eq!(all[0].2, "x".repeat(129));
        assert_eq!(all[1].2, "y");
    }

    #[test]
    fn name_longer_than_any_is_cut_and_the_next_is_right() {
        let long = "x".repeat(200);
        let all = read(&guest(&[&long, "Ty"], &[3, 0, 0, 0, 1, 1], &[0, 4])).unwrap();
        assert_eq!(all[0].2.len(), NAME_MAX - 1);
        assert_eq!(all[1].2, "y");
    }

    #[test]
    fn empty_name_is_a_symbol_of_unknown_type() {
        assert_eq!(
            read(&guest(&["x"], &[0], &[8])).unwrap(),
            [(BASE + 8, b'?', String::new())]
        );
    }

    #[test]
    fn impossible_counts_and_tokens_are_refused() {
        let mut one = guest(&["x"], &[0], &[8]);
        one.put_u32(COUNT, 0);
        let none = Error::BadValue {
            offset: 0,
            value: 0,
        };
        assert_eq!(read(&one), Err(none));
        one.put_u32(COUNT, u32::MAX);
        assert!(matches!(
            read(&one),
            Err(Error::BadValue {
                value: 0xffff_ffff,
                ..
            })
        ));
        one.put_u32(COUNT, 1);
        one.put(INDEX + 20, &[0xff, 0xff]);
        let token = Error::BadValue {
            offset: 20,
            value: 0xffff,
        };
        assert_eq!(read(&one), Err(token));
    }

    #[test]
    fn names_that_leave_memory_are_an_error() {
        // More symbols than there is memory for their offsets.
        let mut one = guest(&["x"], &[0], &[8]);
        one.put_u32(COUNT, 0x1000);
        let error = read(&one).unwrap_err();
        assert!(matches!(error, Error::Read(_)), "{error}");
    }

    #[test]
    fn kernel_that_does_not_name_its_table_is_told_by_the_key() {
        let mut old = guest(&["x"], &[0], &[8]);
        old.note = old.note.replace("kallsyms_relative_base", "x");
        let error = read(&old).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vmcoreinfo has no SYMBOL(kallsyms_relative_base)"
        );
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "too slow under Miri")]
        fn any_table_is_read_in_bounds(
            bytes in proptest::collection::vec(any::<u8>(), 0x400),
            count in 1_u32..64,
            has_any_tokens: bool,
        ) {
            let mut guest = guest(&["Ta", "b", "c_", "dd"], &bytes, &[0]);
            guest.put_u32(COUNT, count);
            if has_any_tokens {
                guest.put(TABLE, &bytes);
            }
            if let Ok(all) = read(&guest) {
                prop_assert_eq!(all.len(), count as usize);
                prop_assert!(all.iter().all(|(_, _, name)| name.len() <= 3 * NAME_MAX));
            }
        }
    }
}
