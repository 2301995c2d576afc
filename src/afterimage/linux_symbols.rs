// SPDX-License-Identifier: MIT OR Apache-2.0
//! The symbols of a crashed Linux, out of its own memory.

use vmcore::linux::{Kallsyms, VirtualMemory, Vmcoreinfo};

use crate::core_file::CoreFile;
use crate::terminal::harmless;

/// The symbols of the kernel itself, in order of address; modules are not among them.
#[derive(Debug, Default)]
pub struct LinuxSymbols {
    symbols: Vec<(u64, String)>,
    /// Where the kernel ends.
    end: u64,
}

impl LinuxSymbols {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When the note does not name the table, as before Linux 6.0, or the dump does not have all of it.
    pub fn read(core: &CoreFile, info: &Vmcoreinfo<'_>) -> Result<Self, vmcore::Error> {
        let mut memory = VirtualMemory::new(info, core)?;
        let mut table = Kallsyms::open(info, &mut memory)?;
        let mut symbols = Vec::new();
        while let Some(symbol) = table.next(&mut memory)? {
            let name = harmless(&String::from_utf8_lossy(symbol.name));
            symbols.push((symbol.address, name));
        }
        Ok(Self::new(symbols))
    }

    fn new(mut symbols: Vec<(u64, String)>) -> Self {
        // They are sorted already, unless the table is corrupted. Of several at one address Linux shows the first.
        symbols.sort_by_key(|(address, _)| *address);
        let named = symbols.iter().find(|(_, name)| name == "_end");
        let end = named.or(symbols.last()).map_or(0, |(address, _)| *address);
        Self { symbols, end }
    }

    /// Returns each address with its name.
    #[must_use]
    pub fn all(&self) -> &[(u64, String)] {
        &self.symbols
    }

    /// Returns `name+0xoffset/0xsize` of `address`, as Linux prints it (`%pS`); nothing outside the kernel. A return address is looked up by the
    /// call before it (`%pSb`).
    #[must_use]
    pub fn describe(&self, address: u64, is_return: bool) -> Option<String> {
        let called_from = address.checked_sub(u64::from(is_return))?;
        if called_from >= self.end {
            return None;
        }
        let behind = self
            .symbols
            .partition_point(|(start, _)| *start <= called_from);
        let (start, _) = self.symbols.get(behind.checked_sub(1)?)?;
        let first = self.symbols.partition_point(|(other, _)| other < start);
        let (_, name) = self.symbols.get(first)?;
        let next = self.symbols.get(behind).map_or(self.end, |(next, _)| *next);
        let (offset, size) = (address.wrapping_sub(*start), next.wrapping_sub(*start));
        Some(format!("{name}+{offset:#x}/{size:#x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> LinuxSymbols {
        let all = [
            (0x1000, "_text"),
            (0x1000, "_head"),
            (0x1040, "panic"),
            (0x1080, "die"),
            (0x2000, "_end"),
            (0x3000, "__kvm_nvhe_x"),
        ];
        LinuxSymbols::new(all.map(|(at, name)| (at, name.to_owned())).to_vec())
    }

    #[test]
    fn address_is_named_with_offset_and_size() {
        assert_eq!(
            symbols().describe(0x1044, false).as_deref(),
            Some("panic+0x4/0x40")
        );
        assert_eq!(
            symbols().describe(0x1fff, false).as_deref(),
            Some("die+0xf7f/0xf80")
        );
    }

    #[test]
    fn return_address_behind_the_last_call_is_of_the_caller() {
        assert_eq!(
            symbols().describe(0x1080, true).as_deref(),
            Some("panic+0x40/0x40")
        );
        assert_eq!(
            symbols().describe(0x1080, false).as_deref(),
            Some("die+0x0/0xf80")
        );
    }

    #[test]
    fn first_of_several_names_is_shown() {
        assert_eq!(
            symbols().describe(0x1008, false).as_deref(),
            Some("_text+0x8/0x40")
        );
    }

    #[test]
    fn address_outside_the_kernel_has_no_name() {
        assert_eq!(symbols().describe(0xfff, false), None);
        assert_eq!(symbols().describe(0x2000, false), None);
        assert_eq!(symbols().describe(0x3000, false), None);
        assert_eq!(symbols().describe(0, true), None);
        assert_eq!(LinuxSymbols::default().describe(0x1000, false), None);
    }
}
