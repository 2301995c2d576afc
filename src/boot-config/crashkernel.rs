// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `crashkernel=` parameter, with Linux's grammar and rules.
//!
//! ```text
//! crashkernel=SIZE[@OFFSET]
//! crashkernel=START-[END]:SIZE[,START-[END]:SIZE]...[@OFFSET]
//! crashkernel=SIZE,high   crashkernel=SIZE,low   crashkernel=SIZE,cma
//! ```
//!
//! Implements `parse_crashkernel` of Linux's kernel/crash_reserve.c, described in Documentation/admin-guide/kdump.
//! What is accepted is what Linux accepts, oddities included: the text `crashkernel=` is looked for anywhere, only a
//! blank ends it, the last parameter wins and hides malformed earlier ones, an octal number starts with `0`, what
//! follows the entry of a range list that matches is not looked at, and neither is what follows `@OFFSET`. One rule
//! is stricter: a number that does not fit into 64 bits is an error, where Linux drops its upper bits.

use core::fmt;

use crate::command_line::until_nul;

/// Linux's `DEFAULT_CRASH_KERNEL_LOW_SIZE`: reserved below 4 GiB beside a region above it, in bytes.
pub const DEFAULT_LOW_SIZE: u64 = 128 << 20;

/// Total RAM is rounded up to this before it is compared with ranges, in bytes.
const RAM_ROUNDING: u64 = 128 << 20;

const NAME: &[u8] = b"crashkernel=";
const HIGH: &[u8] = b",high";
const LOW: &[u8] = b",low";
const CMA: &[u8] = b",cma";

/// What `crashkernel=` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashKernel {
    /// Size of the region in bytes; 0 means that no region is wanted.
    pub size: u64,
    /// Physical address the region has to start at; `None` leaves the place to us.
    pub base: Option<u64>,
    /// Whether the region is looked for above 4 GiB first (`,high`).
    pub is_high: bool,
    /// Size in bytes of the extra region below 4 GiB when the main one lies above (`,low`); 0 means none.
    pub low_size: u64,
    /// Size in bytes of the movable-memory reservation (`,cma`); recognised, and of no use to a kernel without one.
    pub cma_size: u64,
    /// Where the value of the parameter that won begins, in bytes from the start of the command line.
    pub offset: usize,
}

impl CrashKernel {
    /// Returns the request for `size` bytes anywhere, as a board's default.
    #[must_use]
    pub const fn automatic(size: u64) -> Self {
        Self {
            size,
            base: None,
            is_high: false,
            low_size: 0,
            cma_size: 0,
            offset: 0,
        }
    }

    /// Returns whether the command line asks for no region: `crashkernel=0`, or no range that matches.
    #[must_use]
    pub const fn is_disabled(&self) -> bool {
        self.size == 0
    }
}

/// A malformed `crashkernel=` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashKernelError {
    /// The byte that is wrong, counted from the start of the command line.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: CrashKernelErrorKind,
}

/// What is wrong with a `crashkernel=` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashKernelErrorKind {
    /// A memory size was expected.
    ValueExpected,
    /// The `-` of a range was expected.
    DashExpected,
    /// The `:` between range and size was expected.
    ColonExpected,
    /// A range ends at or below its start.
    EndNotAboveStart {
        /// First byte of RAM of the range.
        start: u64,
        /// Where the range ends.
        end: u64,
    },
    /// The size is not smaller than the RAM there is.
    SizeNotBelowRam {
        /// Size asked for, in bytes.
        size: u64,
        /// RAM it was compared with, in bytes.
        ram: u64,
    },
    /// A character that does not belong there.
    UnexpectedCharacter(u8),
    /// The number does not fit into 64 bits.
    NumberTooLarge,
}

impl fmt::Display for CrashKernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crashkernel: byte {} of the command line: ", self.offset)?;
        match self.kind {
            CrashKernelErrorKind::ValueExpected => f.write_str("memory size expected"),
            CrashKernelErrorKind::DashExpected => f.write_str("'-' expected"),
            CrashKernelErrorKind::ColonExpected => f.write_str("':' expected"),
            CrashKernelErrorKind::EndNotAboveStart { start, end } => {
                write!(f, "range end {end:#x} is not above its start {start:#x}")
            }
            CrashKernelErrorKind::SizeNotBelowRam { size, ram } => {
                write!(f, "size {size:#x} is not below the {ram:#x} bytes of RAM")
            }
            CrashKernelErrorKind::UnexpectedCharacter(byte) => {
                write!(f, "unexpected character '{}'", byte.escape_ascii())
            }
            CrashKernelErrorKind::NumberTooLarge => f.write_str("number does not fit into 64 bits"),
        }
    }
}

impl core::error::Error for CrashKernelError {}

/// Returns what the last `crashkernel=` of `command_line` asks for; `None` when there is none.
///
/// `total_ram` is the RAM of the machine in bytes. A request of size 0 is returned as such, since it differs from an
/// absent one where a board has a default.
///
/// # Errors
/// The byte of the command line that is wrong, and why.
pub fn parse<L: AsRef<[u8]> + ?Sized>(
    command_line: &L,
    total_ram: u64,
) -> Result<Option<CrashKernel>, CrashKernelError> {
    let line = until_nul(command_line.as_ref());
    let mut request = if let Some(offset) = find_last(line, None) {
        parse_plain(line, offset, total_ram)?
    } else if let Some(offset) = find_last(line, Some(HIGH)) {
        let size = parse_suffixed(line, offset, HIGH)?;
        let low_size = match find_last(line, Some(LOW)) {
            Some(low_offset) => parse_suffixed(line, low_offset, LOW)?,
            None => DEFAULT_LOW_SIZE,
        };
        CrashKernel {
            is_high: true,
            low_size,
            offset,
            ..CrashKernel::automatic(size)
        }
    } else {
        return Ok(None);
    };
    if request.size >= total_ram && !request.is_disabled() {
        let size = request.size;
        let kind = CrashKernelErrorKind::SizeNotBelowRam {
            size,
            ram: total_ram,
        };
        return Err(CrashKernelError {
            offset: request.offset,
            kind,
        });
    }
    if let Some(offset) = find_last(line, Some(CMA)) {
        // Linux ignores a malformed ,cma: the standard reservation must not fail for it.
        request.cma_size = parse_suffixed(line, offset, CMA).unwrap_or(0);
    }
    Ok(Some(request))
}

/// Returns where the value of the last parameter begins that ends in `suffix`, or in none of the suffixes.
fn find_last(line: &[u8], suffix: Option<&[u8]>) -> Option<usize> {
    let mut starts = line.windows(NAME.len()).enumerate().rev();
    starts.find_map(|(start, window)| {
        if window != NAME {
            return None;
        }
        let offset = start.checked_add(NAME.len())?;
        let value = until_blank(line.get(offset..)?);
        let wanted = match suffix {
            Some(suffix) => value.ends_with(suffix),
            None => ![HIGH, LOW, CMA].iter().any(|known| value.ends_with(known)),
        };
        wanted.then_some(offset)
    })
}

fn until_blank(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == b' ').next().unwrap_or(bytes)
}

fn parse_plain(
    line: &[u8],
    offset: usize,
    total_ram: u64,
) -> Result<CrashKernel, CrashKernelError> {
    let mut cursor = Cursor { line, offset };
    let value = until_blank(line.get(offset..).unwrap_or(&[]));
    let (size, base) = if value.contains(&b':') {
        parse_ranges(&mut cursor, total_ram)?
    } else {
        parse_simple(&mut cursor)?
    };
    Ok(CrashKernel {
        base: (base != 0).then_some(base),
        offset,
        ..CrashKernel::automatic(size)
    })
}

fn parse_simple(cursor: &mut Cursor<'_>) -> Result<(u64, u64), CrashKernelError> {
    let size = cursor.memory_size()?;
    match cursor.peek() {
        None | Some(b' ') => Ok((size, 0)),
        Some(b'@') => {
            cursor.advance();
            // Nothing after the '@' is offset 0, automatic placement, as in Linux.
            Ok((size, cursor.optional_memory_size()?.unwrap_or(0)))
        }
        Some(_) => Err(cursor.unexpected()),
    }
}

fn parse_ranges(cursor: &mut Cursor<'_>, total_ram: u64) -> Result<(u64, u64), CrashKernelError> {
    // Firmware takes some RAM for itself, so what is left is rounded up to what was probably built in.
    let ram = total_ram
        .checked_next_multiple_of(RAM_ROUNDING)
        .unwrap_or(u64::MAX);
    let size = loop {
        let start = cursor.memory_size()?;
        cursor.expect(b'-', CrashKernelErrorKind::DashExpected)?;
        let end_offset = cursor.offset;
        let end = match cursor.peek() {
            Some(b':') => u64::MAX,
            _ => cursor.memory_size()?,
        };
        if end <= start {
            let kind = CrashKernelErrorKind::EndNotAboveStart { start, end };
            return Err(CrashKernelError {
                offset: end_offset,
                kind,
            });
        }
        cursor.expect(b':', CrashKernelErrorKind::ColonExpected)?;
        let size_offset = cursor.offset;
        let size = cursor.memory_size()?;
        if size >= ram {
            let kind = CrashKernelErrorKind::SizeNotBelowRam { size, ram };
            return Err(CrashKernelError {
                offset: size_offset,
                kind,
            });
        }
        if (start..end).contains(&ram) {
            break size;
        }
        if cursor.peek() != Some(b',') {
            return Ok((0, 0));
        }
        cursor.advance();
    };
    if size > 0 && cursor.skip_to_offset() {
        return Ok((size, cursor.memory_size()?));
    }
    Ok((size, 0))
}

fn parse_suffixed(line: &[u8], offset: usize, suffix: &[u8]) -> Result<u64, CrashKernelError> {
    let mut cursor = Cursor { line, offset };
    let size = cursor.memory_size()?;
    if until_blank(cursor.rest()) == suffix {
        Ok(size)
    } else {
        Err(cursor.unexpected())
    }
}

/// A place in the command line.
struct Cursor<'a> {
    line: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.line.get(self.offset..).unwrap_or(&[])
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn advance(&mut self) {
        self.offset = self.offset.saturating_add(1);
    }

    fn error(&self, kind: CrashKernelErrorKind) -> CrashKernelError {
        CrashKernelError {
            offset: self.offset,
            kind,
        }
    }

    fn unexpected(&self) -> CrashKernelError {
        match self.peek() {
            Some(byte) => self.error(CrashKernelErrorKind::UnexpectedCharacter(byte)),
            None => self.error(CrashKernelErrorKind::ValueExpected),
        }
    }

    fn expect(&mut self, byte: u8, kind: CrashKernelErrorKind) -> Result<(), CrashKernelError> {
        if self.peek() != Some(byte) {
            return Err(self.error(kind));
        }
        self.advance();
        Ok(())
    }

    /// Skips to after the `@` of this parameter; returns whether there is one.
    fn skip_to_offset(&mut self) -> bool {
        let at = until_blank(self.rest())
            .iter()
            .position(|byte| *byte == b'@');
        self.offset = self
            .offset
            .saturating_add(at.map_or(0, |at| at.saturating_add(1)));
        at.is_some()
    }

    fn memory_size(&mut self) -> Result<u64, CrashKernelError> {
        self.optional_memory_size()?
            .ok_or_else(|| self.error(CrashKernelErrorKind::ValueExpected))
    }

    /// Linux's `memparse`: decimal, `0` octal or `0x` hexadecimal, then one of K, M, G, T, P, E in either case.
    ///
    /// A suffix without a digit is 0, as in Linux; nothing at all is `None`.
    fn optional_memory_size(&mut self) -> Result<Option<u64>, CrashKernelError> {
        let begin = self.offset;
        let too_large = CrashKernelError {
            offset: begin,
            kind: CrashKernelErrorKind::NumberTooLarge,
        };
        let radix = match self.rest() {
            [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => {
                self.offset = self.offset.saturating_add(2);
                16
            }
            [b'0', ..] => 8,
            _ => 10,
        };
        let mut value = 0_u64;
        while let Some(digit) = self
            .peek()
            .and_then(|byte| char::from(byte).to_digit(radix))
        {
            value = value
                .checked_mul(u64::from(radix))
                .and_then(|shifted| shifted.checked_add(u64::from(digit)))
                .ok_or(too_large)?;
            self.advance();
        }
        let unit: u64 = match self.peek().map(|byte| byte.to_ascii_uppercase()) {
            Some(b'K') => 1 << 10,
            Some(b'M') => 1 << 20,
            Some(b'G') => 1 << 30,
            Some(b'T') => 1 << 40,
            Some(b'P') => 1 << 50,
            Some(b'E') => 1 << 60,
            _ => return Ok((self.offset != begin).then_some(value)),
        };
        self.advance();
        value.checked_mul(unit).map(Some).ok_or(too_large)
    }
}

#[cfg(test)]
mod tests;
