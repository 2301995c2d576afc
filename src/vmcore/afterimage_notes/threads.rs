// SPDX-License-Identifier: MIT OR Apache-2.0
//! The THREADS note: threads of the program that did not run when the kernel crashed.

use super::NAME_LEN;
use super::list::Entry;
use crate::cursor::{Reader, Writer};
use crate::registers::REGISTERS_LEN;
use crate::{Error, Registers};

/// A thread and the registers it will go on with.
///
/// Layout, 296 bytes: id u32, reserved u32, name 16 bytes, registers 272 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number, unique among threads; the host makes pr_pid 1001 + id of it.
    pub id: u32,
    /// Its name; see [`super::name_text`].
    pub name: [u8; NAME_LEN],
    /// Saved registers.
    pub registers: Registers,
}

impl Entry for Thread {
    const LEN: usize = 8 + NAME_LEN + REGISTERS_LEN;

    fn put(&self, writer: &mut Writer<'_>) -> Result<(), Error> {
        writer.u32(self.id)?;
        writer.u32(0)?;
        writer.put(&self.name)?;
        self.registers.put(writer)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let id = reader.u32()?;
        reader.u32()?;
        Ok(Self {
            id,
            name: reader.name()?,
            registers: Registers::take(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{Entries, ListWriter};
    use super::super::name_field;
    use super::*;

    #[test]
    fn thread_has_its_golden_bytes() {
        let registers = Registers {
            pc: 0x1234,
            ..Registers::default()
        };
        let thread = Thread {
            id: 2,
            name: name_field("net"),
            registers,
        };
        let mut out = [0xff; 320];
        let mut list = ListWriter::new(&mut out, 0).unwrap();
        list.push(&thread).unwrap();
        assert_eq!(list.finish(), Ok(320));
        assert_eq!(out[24..36], [2, 0, 0, 0, 0, 0, 0, 0, b'n', b'e', b't', 0]);
        assert_eq!(out[48 + 32 * 8..48 + 33 * 8], 0x1234_u64.to_le_bytes());
        assert_eq!(
            Entries::<Thread>::decode(&out).unwrap().next(),
            Some(thread)
        );
    }
}
