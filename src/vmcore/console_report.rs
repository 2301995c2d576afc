// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a running kernel answers on its console, in lines that a program reads: whether it could be dumped, and at what cost.
//!
//! ```text
//! @afterimage 1 status
//! @afterimage loaded 1
//! ...
//! @afterimage end 1a2b3c4d
//! ```
//! A first line with version and kind, one line for each field in a fixed order, and a last one with the CRC-32C of all lines
//! before, each with its `\n`. The console carries other text before and behind, never between: a line that is not the one
//! expected is an error, not skipped. Numbers are decimal and 64 bits; a truth is 0 or 1.

use core::fmt;

use crate::Crc32c;

/// The version of the lines.
pub const VERSION: u32 = 1;
/// What each line starts with.
pub const PREFIX: &str = "@afterimage ";

/// Why an answer was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportError<'a> {
    /// The kernel speaks another version.
    Version {
        /// The line that says so.
        line: &'a str,
    },
    /// A line is not what it has to be.
    Line {
        /// The field that was expected.
        expected: &'static str,
        /// The line.
        line: &'a str,
    },
    /// The sum of all lines is wrong.
    Checksum {
        /// In the answer.
        stored: u32,
        /// Of the answer.
        computed: u32,
    },
}

impl fmt::Display for ReportError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { line } => write!(f, "not version {VERSION}: \"{}\"", shown(line)),
            Self::Line { expected, line } => {
                write!(f, "\"{expected}\" expected, \"{}\" found", shown(line))
            }
            Self::Checksum { stored, computed } => write!(
                f,
                "checksum {stored:#010x} does not fit {computed:#010x} of the lines"
            ),
        }
    }
}

impl core::error::Error for ReportError<'_> {}

/// A line as it may be shown: a part of it, without what a terminal obeys.
fn shown(line: &str) -> impl fmt::Display {
    let end = line.floor_char_boundary(60);
    line.get(..end).unwrap_or_default().escape_debug()
}

/// Writes the lines and sums them.
struct LineWriter<'a, W: fmt::Write> {
    out: &'a mut W,
    sum: Crc32c,
}

impl<W: fmt::Write> fmt::Write for LineWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.sum.add(text.as_bytes());
        self.out.write_str(text)
    }
}

/// Reads lines in order and sums them.
struct LineReader<'a> {
    rest: &'a str,
    sum: Crc32c,
}

impl<'a> LineReader<'a> {
    /// Finds the first line of an answer of this kind.
    fn begin(text: &'a str, kind: &str) -> Result<Option<Self>, ReportError<'a>> {
        let mut reader = Self {
            rest: text,
            sum: Crc32c::new(),
        };
        while let Some(line) = reader.line() {
            let Some(head) = line.strip_prefix(PREFIX) else {
                continue;
            };
            let (version, found) = head.split_once(' ').unwrap_or((head, ""));
            // Lines with a name are those of a report of another kind.
            if version.starts_with(|first: char| first.is_ascii_lowercase()) {
                continue;
            }
            if version.parse() != Ok(VERSION) {
                return Err(ReportError::Version { line });
            }
            if found == kind {
                reader.add(line);
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    /// The next line that has ended, without its end.
    fn line(&mut self) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        Some(line.trim_end_matches('\r'))
    }

    fn add(&mut self, line: &str) {
        self.sum.add(line.as_bytes());
        self.sum.add(b"\n");
    }

    /// The value on the next line, which has to be that of `name`; `None` when it has not come yet.
    fn value(&mut self, name: &'static str) -> Result<Option<&'a str>, ReportError<'a>> {
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let value = line
            .strip_prefix(PREFIX)
            .and_then(|line| line.strip_prefix(name))
            .and_then(|line| line.strip_prefix(' '))
            .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .ok_or(ReportError::Line {
                expected: name,
                line,
            })?;
        if name != "end" {
            self.add(line);
        }
        Ok(Some(value))
    }

    fn number(&mut self, name: &'static str) -> Result<Option<u64>, ReportError<'a>> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let number = value.parse().map_err(|_| ReportError::Line {
            expected: name,
            line: value,
        })?;
        Ok(Some(number))
    }

    /// Whether the last line has come.
    fn end(mut self) -> Result<bool, ReportError<'a>> {
        let Some(value) = self.value("end")? else {
            return Ok(false);
        };
        let stored = u32::from_str_radix(value, 16).map_err(|_| ReportError::Line {
            expected: "end",
            line: value,
        })?;
        let computed = self.sum.sum();
        if stored == computed {
            Ok(true)
        } else {
            Err(ReportError::Checksum { stored, computed })
        }
    }
}

macro_rules! report {
    (
        $(#[$meta:meta])*
        $name:ident, $kind:literal { $($(#[$doc:meta])* $field:ident,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl $name {
            /// Writes the lines.
            ///
            /// # Errors
            /// What `out` fails with.
            pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
                use fmt::Write as _;
                let mut lines = LineWriter { out, sum: Crc32c::new() };
                writeln!(lines, "{PREFIX}{VERSION} {}", $kind)?;
                $(writeln!(lines, "{PREFIX}{} {}", stringify!($field), self.$field)?;)+
                let sum = lines.sum.sum();
                writeln!(lines.out, "{PREFIX}end {sum:08x}")
            }

            /// Reads the lines out of what came on the console; `None` while they are not all there.
            ///
            /// # Errors
            /// [`ReportError`].
            pub fn parse(text: &str) -> Result<Option<Self>, ReportError<'_>> {
                let Some(mut lines) = LineReader::begin(text, $kind)? else {
                    return Ok(None);
                };
                let mut report = Self::default();
                $(match lines.number(stringify!($field))? {
                    Some(value) => report.$field = value,
                    None => return Ok(None),
                })+
                Ok(lines.end()?.then_some(report))
            }

            /// Returns names and values in order.
            #[must_use]
            pub fn fields(&self) -> [(&'static str, u64); [$(stringify!($field)),+].len()] {
                [$((stringify!($field), self.$field)),+]
            }
        }
    };
}

report! {
    /// Whether this machine could be dumped now.
    Status, "status" {
        /// Whether a capture kernel is armed.
        loaded,
        /// Physical address of the crash region, 0 without one.
        region_start,
        /// Bytes of the crash region, 0 without one.
        region_bytes,
        /// Whether there is an EL2 stub.
        stub,
        /// Whether the stub answers, and refuses access to the closed region; 1 without a stub.
        stub_good,
        /// Whether the armed image has its digest.
        image_good,
        /// Whether the capture kernel's DTB names region and ELF core header.
        dtb_good,
        /// Whether the ELF core header can be read and its notes lie where they should.
        core_header_good,
        /// Microseconds that the digest took.
        digest_us,
        /// CPUs that run.
        cpus,
        /// Linux's taint flags.
        taint,
        /// Microseconds since the counter started.
        uptime_us,
    }
}

report! {
    /// What a dump would hold now. Pages are of 4096 bytes.
    Estimate, "estimate" {
        /// RAM without the crash region.
        ram_pages,
        /// Free by the page-state map.
        free_pages,
        /// In use, or not known to the page-state map.
        used_pages,
        /// Of the used ones: looked at.
        looked_pages,
        /// Of the ones looked at: zero.
        zero_pages,
        /// Marked as secret; never sent.
        secret_pages,
        /// Marked as the program's own data; left out by dump level bit 8.
        app_pages,
        /// Baud rate of the console, 0 when it is not known.
        baud,
    }
}

impl Status {
    /// Tells whether a crash would leave a dump, as far as can be told without one.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        let all = self.loaded & self.stub_good & self.image_good & self.dtb_good;
        all & self.core_header_good == 1
    }
}

impl Estimate {
    /// Returns the pages that a dump of level 17 holds at most: zero pages that were not looked at count as data.
    #[must_use]
    pub const fn data_pages(&self) -> u64 {
        self.used_pages
            .saturating_sub(self.zero_pages)
            .saturating_sub(self.secret_pages)
    }

    /// Returns the seconds that `bytes` take at `baud` (8 data bits, a start and a stop bit), rounded up; 0 for no rate.
    #[must_use]
    pub const fn seconds(bytes: u64, baud: u64) -> u64 {
        match bytes.saturating_mul(10).checked_div(baud) {
            Some(seconds) => seconds.saturating_add(1),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    const SAMPLE: Estimate = Estimate {
        ram_pages: 32256,
        free_pages: 31480,
        used_pages: 776,
        looked_pages: 776,
        zero_pages: 500,
        secret_pages: 2,
        app_pages: 0,
        baud: 115_200,
    };

    fn written() -> String {
        let mut out = String::new();
        SAMPLE.write(&mut out).unwrap();
        out
    }

    #[test]
    fn estimate_has_its_golden_lines() {
        let lines = "@afterimage 1 estimate\n@afterimage ram_pages 32256\n@afterimage free_pages 31480\n@afterimage used_pages 776\n@afterimage looked_pages 776\n@afterimage zero_pages 500\n@afterimage secret_pages 2\n@afterimage app_pages 0\n@afterimage baud 115200\n";
        let sum = crate::crc32c(lines.as_bytes());
        assert_eq!(
            written(),
            std::format!("{lines}@afterimage end {sum:08x}\n")
        );
    }

    #[test]
    fn report_among_other_text_is_found() {
        let text = written().replace('\n', "\r\n");
        let text = std::format!("[ 1.0] boot\r\n@af\r\n{text}[ 2.0] more");
        assert_eq!(Estimate::parse(&text), Ok(Some(SAMPLE)));
        assert_eq!(Status::parse(&text), Ok(None));
    }

    #[test]
    fn report_cut_anywhere_is_waited_for() {
        let text = written();
        for len in 0..text.len() {
            assert_eq!(Estimate::parse(&text[..len]), Ok(None), "{len}");
        }
    }

    #[test]
    fn report_with_a_line_in_between_is_refused() {
        let text = written().replacen("@afterimage used", "[ 1.0] warning\n@afterimage used", 1);
        assert_eq!(
            Estimate::parse(&text),
            Err(ReportError::Line {
                expected: "used_pages",
                line: "[ 1.0] warning"
            })
        );
    }

    #[test]
    fn report_with_a_changed_digit_is_refused() {
        let text = written().replacen("776", "777", 1);
        assert!(matches!(
            Estimate::parse(&text),
            Err(ReportError::Checksum { .. })
        ));
    }

    #[test]
    fn report_with_a_value_that_is_no_number_is_refused() {
        for value in ["-1", "7a", "", "99999999999999999999"] {
            let text = written().replacen("776", value, 1);
            assert!(
                matches!(Estimate::parse(&text), Err(ReportError::Line { .. })),
                "{value}"
            );
        }
    }

    #[test]
    fn report_of_another_version_is_refused() {
        let text = written().replacen("@afterimage 1 ", "@afterimage 2 ", 1);
        assert_eq!(
            Estimate::parse(&text),
            Err(ReportError::Version {
                line: "@afterimage 2 estimate"
            })
        );
    }

    #[test]
    fn error_shows_no_escapes_of_the_line() {
        let error = ReportError::Line {
            expected: "end",
            line: "\x1b[2J",
        };
        assert!(!std::format!("{error}").contains('\x1b'));
    }

    #[test]
    fn seconds_are_rounded_up_and_bounded() {
        assert_eq!(Estimate::seconds(11_519, 115_200), 1);
        assert_eq!(Estimate::seconds(11_520, 115_200), 2);
        assert_eq!(Estimate::seconds(1, 0), 0);
        assert_eq!(Estimate::seconds(u64::MAX, 1), u64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn text_arbitrary_never_panics(text in "(@afterimage [a-z0-9 ]{0,20}\r?\n|.|\n){0,30}") {
            let _ = Status::parse(&text);
            let _ = Estimate::parse(&text);
        }
    }
}
