// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux's VMCOREINFO note: `KEY=VALUE` lines, looked up by key.
//!
//! Formats are those of include/linux/vmcore_info.h: symbols in hexadecimal, offsets, sizes and lengths in decimal, numbers in
//! signed decimal or with `0x`. Described in Documentation/admin-guide/kdump/vmcoreinfo.rst.

use core::fmt;

use crate::Error;

/// Longest part of a value that an error shows, in bytes.
const SHOWN: usize = 32;

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A bare name: `OSRELEASE`.
    Bare(&'static str),
    /// The address of a variable, or of an array's first element.
    Symbol(&'static str),
    /// Bytes from the start of a structure to a member: `page.flags`.
    Offset(&'static str),
    /// Bytes of a structure.
    Size(&'static str),
    /// Elements of an array.
    Length(&'static str),
    /// A constant, or the value of a variable.
    Number(&'static str),
}

impl Key {
    const fn parts(&self) -> (&'static str, &'static str) {
        match *self {
            Self::Bare(name) => ("", name),
            Self::Symbol(name) => ("SYMBOL", name),
            Self::Offset(name) => ("OFFSET", name),
            Self::Size(name) => ("SIZE", name),
            Self::Length(name) => ("LENGTH", name),
            Self::Number(name) => ("NUMBER", name),
        }
    }

    /// Returns the value that `line` gives for this key.
    fn value_in<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (kind, name) = self.parts();
        if kind.is_empty() {
            return line.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
        }
        let inner = line.strip_prefix(kind.as_bytes())?.strip_prefix(b"(")?;
        inner.strip_prefix(name.as_bytes())?.strip_prefix(b")=")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            ("", name) => f.write_str(name),
            (kind, name) => write!(f, "{kind}({name})"),
        }
    }
}

/// The start of a value that was not believed, for an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value {
    bytes: [u8; SHOWN],
    /// Bytes of the value, which may be more than are kept.
    len: usize,
}

impl Value {
    /// Keeps the start of `text`.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut bytes = [0; SHOWN];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = *from;
        }
        let len = text.len();
        Self { bytes, len }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.bytes.get(..self.len).unwrap_or(&self.bytes);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if self.len > SHOWN {
            write!(f, "... ({} bytes)", self.len)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The note.
#[derive(Clone, Copy, Debug)]
pub struct Vmcoreinfo<'a> {
    text: &'a [u8],
}

impl<'a> Vmcoreinfo<'a> {
    /// Looks at the note's payload, which ends at the first zero byte.
    #[must_use]
    pub fn new(note: &'a [u8]) -> Self {
        let text = note.split(|&byte| byte == 0).next().unwrap_or_default();
        Self { text }
    }

    /// Returns the bytes of the first line with this key.
    fn find(&self, key: Key) -> Result<&'a [u8], Error> {
        let mut lines = self.text.split(|&byte| byte == b'\n');
        lines
            .find_map(|line| key.value_in(line))
            .ok_or(Error::KeyMissing(key))
    }

    fn parse<T>(&self, key: Key, read: impl FnOnce(&'a str) -> Option<T>) -> Result<T, Error> {
        let bytes = self.find(key)?;
        let parsed = core::str::from_utf8(bytes).ok().and_then(read);
        parsed.ok_or_else(|| self.refuse(key))
    }

    /// Returns the error that says that the value of `key` cannot be used.
    #[must_use]
    pub fn refuse(&self, key: Key) -> Error {
        match self.find(key) {
            Ok(bytes) => Error::KeyValue {
                key,
                value: Value::new(bytes),
            },
            Err(missing) => missing,
        }
    }

    /// Tells whether the note has this key, whatever its value.
    #[must_use]
    pub fn has(&self, key: Key) -> bool {
        self.find(key).is_ok()
    }

    /// Returns the text of a bare key, such as `OSRELEASE`.
    ///
    /// # Errors
    /// [`Error::KeyMissing`]; [`Error::KeyValue`] when it is no UTF-8.
    pub fn text(&self, name: &'static str) -> Result<&'a str, Error> {
        self.parse(Key::Bare(name), Some)
    }

    /// Returns the value of a bare key in decimal, such as `PAGESIZE`.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn decimal(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Bare(name), |text| digits(text, 10))
    }

    /// Returns the value of a bare key in hexadecimal without a prefix, such as `KERNELOFFSET`.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn hexadecimal(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Bare(name), |text| digits(text, 16))
    }

    /// Returns the address of a symbol.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn symbol(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Symbol(name), |text| digits(text, 16))
    }

    /// Returns the offset of a member, `structure.member`, in bytes.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn offset(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Offset(name), |text| digits(text, 10))
    }

    /// Returns the size of a structure in bytes.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn size(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Size(name), |text| digits(text, 10))
    }

    /// Returns how many elements an array, or an array member, has.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn length(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Length(name), |text| digits(text, 10))
    }

    /// Returns a number: decimal, where a negative one becomes its two's complement, or hexadecimal with `0x`.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], [`Error::KeyValue`].
    pub fn number(&self, name: &'static str) -> Result<u64, Error> {
        self.parse(Key::Number(name), number)
    }
}

/// Parses digits only: no sign, no prefix, no space.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let is_all_digits = text.chars().all(|character| character.is_digit(radix));
    (is_all_digits)
        .then(|| u64::from_str_radix(text, radix).ok())
        .flatten()
}

fn number(text: &str) -> Option<u64> {
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return digits(hexadecimal, 16);
    }
    match text.strip_prefix('-') {
        Some(magnitude) => {
            digits(magnitude, 10)?;
            text.parse::<i64>().ok().map(i64::cast_unsigned)
        }
        None => digits(text, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString as _;

    const NOTE: &[u8] = b"OSRELEASE=6.12.48+deb13-cloud-arm64\nBUILD-ID=27e2f1\nPAGESIZE=4096\n\
        SYMBOL(init_uts_ns)=ffffd38a4d3f0a18\nOFFSET(page.flags)=0\nOFFSET(page.flags)=9\nSIZE(page)=64\nLENGTH(free_area.free_list)=6\n\
        NUMBER(PG_buddy)=-129\nNUMBER(VA_BITS)=52\nNUMBER(PHYS_OFFSET)=0xfff1000040000000\nKERNELOFFSET=538a4b400000\n\
        SYMBOL(bad)=ffffg\nSIZE(empty)=\nSIZE(minus)=-4\nNUMBER(plus)=+4\nSIZE(space)= 4\nNUMBER(text)=--1\n\
        SIZE(huge)=99999999999999999999999\nlast=\xff\0SIZE(behind)=8\n";

    fn info() -> Vmcoreinfo<'static> {
        Vmcoreinfo::new(NOTE)
    }

    #[track_caller]
    fn assert_value_refused(result: Result<u64, Error>, expected: &str) {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }

    #[test]
    fn bare_keys_give_text_and_numbers() {
        assert_eq!(info().text("OSRELEASE"), Ok("6.12.48+deb13-cloud-arm64"));
        assert_eq!(info().decimal("PAGESIZE"), Ok(4096));
        assert_eq!(info().hexadecimal("KERNELOFFSET"), Ok(0x538a_4b40_0000));
    }

    #[test]
    fn each_kind_is_read_in_its_own_form() {
        assert_eq!(info().symbol("init_uts_ns"), Ok(0xffff_d38a_4d3f_0a18));
        assert_eq!(info().size("page"), Ok(64));
        assert_eq!(info().length("free_area.free_list"), Ok(6));
        assert_eq!(info().number("VA_BITS"), Ok(52));
        assert_eq!(info().number("PHYS_OFFSET"), Ok(0xfff1_0000_4000_0000));
    }

    #[test]
    fn negative_number_is_its_twos_complement() {
        assert_eq!(info().number("PG_buddy"), Ok((-129_i64).cast_unsigned()));
    }

    #[test]
    fn key_given_twice_has_its_first_value() {
        assert_eq!(info().offset("page.flags"), Ok(0));
    }

    #[test]
    fn key_missing_is_named() {
        let error = info().symbol("prb").unwrap_err();
        assert_eq!(error, Error::KeyMissing(Key::Symbol("prb")));
        assert_eq!(error.to_string(), "vmcoreinfo has no SYMBOL(prb)");
        assert!(!info().has(Key::Size("init_uts_ns")));
        assert!(info().has(Key::Symbol("init_uts_ns")));
    }

    #[test]
    fn key_that_only_begins_alike_is_missing() {
        let missing = Err(Error::KeyMissing(Key::Bare("BUILD")));
        assert_eq!(info().text("BUILD"), missing);
        let missing = Err(Error::KeyMissing(Key::Size("pag")));
        assert_eq!(info().size("pag"), missing);
    }

    #[test]
    fn key_behind_the_zero_byte_is_missing() {
        assert!(!info().has(Key::Size("behind")));
        assert!(!Vmcoreinfo::new(b"").has(Key::Bare("OSRELEASE")));
    }

    #[test]
    fn malformed_values_are_named_with_their_key() {
        assert_value_refused(info().symbol("bad"), "vmcoreinfo: SYMBOL(bad) is \"ffffg\"");
        assert_value_refused(info().size("empty"), "vmcoreinfo: SIZE(empty) is \"\"");
        assert_value_refused(info().size("minus"), "vmcoreinfo: SIZE(minus) is \"-4\"");
        assert_value_refused(info().number("plus"), "vmcoreinfo: NUMBER(plus) is \"+4\"");
        assert_value_refused(info().size("space"), "vmcoreinfo: SIZE(space) is \" 4\"");
        assert_value_refused(info().number("text"), "vmcoreinfo: NUMBER(text) is \"--1\"");
        assert_value_refused(
            info().size("huge"),
            "vmcoreinfo: SIZE(huge) is \"99999999999999999999999\"",
        );
    }

    #[test]
    fn value_that_is_no_text_is_shown_escaped() {
        let error = info().text("last").unwrap_err();
        assert_eq!(error.to_string(), "vmcoreinfo: last is \"\\xff\"");
    }

    #[test]
    fn long_value_is_shown_in_part() {
        let value = Value::new(&[b'x'; 40]).to_string();
        assert_eq!(value, format!("\"{}\"... (40 bytes)", "x".repeat(32)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(note in proptest::collection::vec(any::<u8>(), 0..200)) {
            let info = Vmcoreinfo::new(&note);
            prop_assert!(info.number("VA_BITS").is_err());
            prop_assert!(info.text("OSRELEASE").is_err());
        }

        #[test]
        fn numbers_read_back(value: u64, signed: i64, other in "[A-Z()=.\n]{0,40}") {
            let note = format!(
                "{other}\nNUMBER(a)=0x{value:x}\nNUMBER(b)={signed}\nSYMBOL(c)={value:x}\nSIZE(d)={value}\n{other}"
            );
            let info = Vmcoreinfo::new(note.as_bytes());
            prop_assert_eq!(info.number("a"), Ok(value));
            prop_assert_eq!(info.number("b"), Ok(signed.cast_unsigned()));
            prop_assert_eq!(info.symbol("c"), Ok(value));
            prop_assert_eq!(info.size("d"), Ok(value));
        }
    }
}
