// SPDX-License-Identifier: MIT OR Apache-2.0
//! The payloads of the notes named `AFTERIMAGE`: what a core file cannot say otherwise.
//!
//! All little-endian and of fixed layout; docs/architecture.md lists the types. Every payload starts with a version.
//! Reason, kernel, fallback and taint are single structures; the others are a [`list`] of entries of one size, with a CRC-32C. The
//! capture kernel uses them as hints for order, never for bounds.

mod fallback;
mod gaps;
mod gic;
mod kernel;
pub mod list;
mod mappings;
mod moved;
mod reason;
mod regions;
mod stop;
mod sysregs;
mod taint;
mod threads;
mod timings;

pub use fallback::{CopyState, Fallback, FallbackLevel};
pub use gaps::Gap;
pub use gic::{GicPart, GicRegister};
pub use kernel::KernelInfo;
pub use list::{Entries, Entry, ListWriter};
pub use mappings::Mapping;
pub use moved::{MovedRange, granules_of, new_moved};
pub use reason::{CrashKind, Reason};
pub use regions::{Region, RegionKind};
pub use stop::{CpuStop, StopStatus};
pub use sysregs::{SysReg, SysRegId, cpu_of, new_sysregs};
pub use taint::Taint;
pub use threads::Thread;
pub use timings::{Phase, Timing};

use crate::Error;
use crate::cursor::Reader;

/// Types are counted from here: gdb takes small numbers for registers, whatever the note's name is (bfd/elf.c).
pub const FIRST: u32 = 0x4146_0000;
/// Note type of [`Reason`].
pub const REASON: u32 = FIRST + 1;
/// Note type of a list of [`SysReg`], one note per CPU.
pub const SYSREGS: u32 = FIRST + 2;
/// Note type of the crashed kernel's GNU build ID: the bare bytes.
pub const BUILD_ID: u32 = FIRST + 3;
/// Note type of a list of [`CpuStop`].
pub const STOP: u32 = FIRST + 4;
/// Note type of a list of [`Gap`].
pub const GAPS: u32 = FIRST + 5;
/// Note type of a list of [`Thread`].
pub const THREADS: u32 = FIRST + 6;
/// Note type of a list of [`Timing`]; the list's argument is the counter's frequency in Hz.
pub const TIMINGS: u32 = FIRST + 7;
/// Note type of a list of [`Region`].
pub const REGIONS: u32 = FIRST + 8;
/// Note type of [`KernelInfo`].
pub const KERNEL: u32 = FIRST + 9;
/// Note type of a list of [`GicRegister`]; the list's argument is the controller's version.
pub const GIC: u32 = FIRST + 10;
/// Note type of a list of [`MovedRange`]; absent when memory was not looked at twice.
pub const MOVED: u32 = FIRST + 11;
/// Note type of a list of [`Mapping`].
pub const MAPPINGS: u32 = FIRST + 12;
/// Note type of a list of [`Region`] that the capture kernel did not read, because others than the CPUs use them; absent without any.
pub const FOREIGN: u32 = FIRST + 13;
/// Note type of [`Fallback`].
pub const FALLBACK: u32 = FIRST + 32;
/// Note type of [`Taint`]; written only when there is any.
pub const TAINT: u32 = FIRST + 48;

/// The version that these layouts have.
pub const VERSION: u32 = 1;

/// Longest build ID believed, in bytes; the GNU linker's are 20.
pub const BUILD_ID_MAX: usize = 32;

/// Bytes of a name field; shorter names end in NULs.
pub const NAME_LEN: usize = 16;

/// Returns `name` cut to a name field, at a character's border.
#[must_use]
pub fn name_field(name: &str) -> [u8; NAME_LEN] {
    let mut field = [0; NAME_LEN];
    let mut len = name.len().min(NAME_LEN);
    while !name.is_char_boundary(len) {
        len = len.saturating_sub(1);
    }
    for (to, from) in field.iter_mut().zip(name.as_bytes().iter().take(len)) {
        *to = *from;
    }
    field
}

/// Returns the text of a name field: up to its first NUL, as far as it is UTF-8.
#[must_use]
pub fn name_text(field: &[u8; NAME_LEN]) -> &str {
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    valid_prefix(text)
}

/// Returns a reader behind the version that every payload of ours begins with.
fn payload(desc: &[u8]) -> Result<Reader<'_>, Error> {
    let mut reader = Reader::new(desc);
    match reader.u32()? {
        VERSION => Ok(reader),
        version => Err(Error::Version(version)),
    }
}

/// Returns as much of `bytes` as is UTF-8.
fn valid_prefix(bytes: &[u8]) -> &str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => bytes
            .get(..error.valid_up_to())
            .and_then(|valid| core::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    }
}

/// Makes an enumeration with fixed numbers that keeps numbers it does not know.
macro_rules! coded_enum {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
            /// A number that this version has no word for.
            Other(u32),
        }

        impl $name {
            /// Returns the number in notes.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self {
                    $(Self::$variant => $code,)+
                    Self::Other(code) => code,
                }
            }

            /// Returns the value with this number.
            #[must_use]
            pub const fn from_code(code: u32) -> Self {
                match code {
                    $($code => Self::$variant,)+
                    other => Self::Other(other),
                }
            }

            /// Returns the word for people and for `--json`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(_) => "unknown",
                }
            }
        }
    };
}
pub(crate) use coded_enum;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_longer_than_field_is_cut_at_a_character() {
        assert_eq!(
            name_text(&name_field("123456789012345é")),
            "123456789012345"
        );
        assert_eq!(name_text(&name_field("net")), "net");
    }

    #[test]
    fn name_field_with_bad_utf8_ends_before_it() {
        let mut field = name_field("ab");
        field[2] = 0xff;
        assert_eq!(name_text(&field), "ab");
    }
}
