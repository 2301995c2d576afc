// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of Linux's VMCOREINFO note.
//!
//! The note is `KEY=VALUE` lines (Linux, Documentation/admin-guide/kdump/vmcoreinfo.rst). It is passed through whole.

/// Longest value that is returned, in bytes.
const VALUE_BYTES: usize = 96;

/// Returns the value of the first line that begins with `key` and `=`, if it is text.
#[must_use]
pub fn value<'a>(note: &'a [u8], key: &str) -> Option<&'a str> {
    let text = note.split(|&byte| byte == 0).next()?;
    let line = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))?;
    core::str::from_utf8(line.get(..VALUE_BYTES).unwrap_or(line)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &[u8] = b"OSRELEASE=6.12.48+deb13-cloud-arm64\nBUILD-ID=27e2f1\nPAGESIZE=4096\nCRASHTIME=1764000000\n\0\0x=1";

    #[test]
    fn key_present_gives_its_value() {
        assert_eq!(value(NOTE, "OSRELEASE"), Some("6.12.48+deb13-cloud-arm64"));
        assert_eq!(value(NOTE, "CRASHTIME"), Some("1764000000"));
    }

    #[test]
    fn key_absent_or_only_a_prefix_gives_nothing() {
        assert_eq!(value(NOTE, "BUILD"), None);
        assert_eq!(value(NOTE, "x"), None);
        assert_eq!(value(b"", "OSRELEASE"), None);
    }

    #[test]
    fn value_not_text_gives_nothing() {
        assert_eq!(value(b"OSRELEASE=\xff\xfe", "OSRELEASE"), None);
    }
}
