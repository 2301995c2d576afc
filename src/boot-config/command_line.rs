// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel command line, cut into parameters.
//!
//! The rules are those of Linux's `next_arg` (lib/cmdline.c): white space separates, double quotes keep white space
//! together and cannot be escaped, the first `=` after the first character separates key and value, and quotes
//! around the value or around the whole parameter are taken off. `--` ends the kernel's own parameters. A NUL ends
//! the line, so a property value with its terminators may be passed as it is.

/// One parameter of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// What stands before the `=`.
    pub key: &'a [u8],
    /// What stands after the `=`, without its quotes; `None` when there is no `=`.
    pub value: Option<&'a [u8]>,
    /// Where the parameter begins, in bytes from the start of the command line.
    pub offset: usize,
}

impl<'a> Parameter<'a> {
    /// Returns whether the key is `name`; hyphen and underscore are the same, as in Linux.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let dashed = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
        self.key
            .iter()
            .map(dashed)
            .eq(name.as_bytes().iter().map(dashed))
    }

    /// Returns the key as text, if it is UTF-8.
    #[must_use]
    pub fn key_str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.key).ok()
    }

    /// Returns the value as text, if there is one and it is UTF-8.
    #[must_use]
    pub fn value_str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.value?).ok()
    }
}

/// Iterator over the parameters of a command line, made by [`parameters`].
#[derive(Debug, Clone)]
pub struct Parameters<'a> {
    line: &'a [u8],
    offset: usize,
}

/// Returns the parameters of `line` up to a NUL or a lone `--`.
#[must_use]
pub fn parameters<L: AsRef<[u8]> + ?Sized>(line: &L) -> Parameters<'_> {
    Parameters {
        line: until_nul(line.as_ref()),
        offset: 0,
    }
}

/// Returns what stands before the first NUL.
pub(crate) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// Linux's `isspace`: the six ASCII white-space bytes and the Latin-1 no-break space.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d | 0xa0)
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Parameter<'a>;

    fn next(&mut self) -> Option<Parameter<'a>> {
        let unread = self.line.get(self.offset..)?;
        let offset = unread
            .iter()
            .position(|byte| !is_space(*byte))?
            .checked_add(self.offset)?;
        let rest = self.line.get(offset..)?;
        let mut in_quote = false;
        let len = rest
            .iter()
            .position(|byte| {
                in_quote ^= *byte == b'"';
                is_space(*byte) && !in_quote
            })
            .unwrap_or(rest.len());
        let word = rest.get(..len)?;
        self.offset = offset.checked_add(len)?;
        if word == b"--" {
            self.line = &[];
            return None;
        }
        Some(split(word, offset))
    }
}

fn split(word: &[u8], offset: usize) -> Parameter<'_> {
    let opened = word.strip_prefix(b"\"");
    let body = opened.unwrap_or(word);
    // A leading '=' is no separator: Linux uses position 0 for "none found".
    let equals = body
        .iter()
        .skip(1)
        .position(|byte| *byte == b'=')
        .map(|at| at.saturating_add(1));
    let (key, value) = match equals {
        Some(at) => (
            body.get(..at).unwrap_or(body),
            body.get(at.saturating_add(1)..),
        ),
        None => (body, None),
    };
    let trim_end = |bytes: &'_ [u8]| -> usize { bytes.strip_suffix(b"\"").unwrap_or(bytes).len() };
    match value {
        Some(value) => {
            let inner = value.strip_prefix(b"\"");
            let is_quoted = opened.is_some() || inner.is_some();
            let bare = inner.unwrap_or(value);
            let len = if is_quoted {
                trim_end(bare)
            } else {
                bare.len()
            };
            Parameter {
                key,
                value: Some(bare.get(..len).unwrap_or(bare)),
                offset,
            }
        }
        None => {
            let len = if opened.is_some() {
                trim_end(key)
            } else {
                key.len()
            };
            Parameter {
                key: key.get(..len).unwrap_or(key),
                value: None,
                offset,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn pairs(line: &str) -> Vec<(&str, Option<&str>, usize)> {
        parameters(line)
            .map(|p| (p.key_str().unwrap(), p.value_str(), p.offset))
            .collect()
    }

    #[test]
    fn parameters_of_a_usual_line_are_split_at_white_space() {
        let found = pairs("  quiet\tcrashkernel=2M  dump_level=17\n");
        let expected = [
            ("quiet", None, 2),
            ("crashkernel", Some("2M"), 8),
            ("dump_level", Some("17"), 24),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn quoted_values_keep_their_spaces_and_lose_their_quotes() {
        let found = pairs(r#"a="x y" "b=z w" c=1"2 3" "d e""#);
        let expected = [
            ("a", Some("x y"), 0),
            ("b", Some("z w"), 8),
            ("c", Some("1\"2 3\""), 16),
            ("d e", None, 25),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn unterminated_quote_reaches_to_the_end() {
        assert_eq!(pairs(r#"a="x y"#), [("a", Some("x y"), 0)]);
    }

    #[test]
    fn double_dash_ends_the_kernels_parameters() {
        assert_eq!(pairs("a -- crashkernel=2M"), [("a", None, 0)]);
    }

    #[test]
    fn leading_equals_is_part_of_the_key() {
        assert_eq!(pairs("=x=y a="), [("=x", Some("y"), 0), ("a", Some(""), 5)]);
    }

    #[test]
    fn two_trailing_nuls_are_no_parameter() {
        assert_eq!(pairs("a=1\0\0"), [("a", Some("1"), 0)]);
    }

    #[test]
    fn key_with_hyphen_equals_the_name_with_underscore() {
        let parameter = parameters("panic-on_warn").next().unwrap();
        assert!(parameter.is("panic_on_warn"));
        assert!(!parameter.is("panic_on_war"));
    }

    proptest! {
    #![proptest_config(crate::testing::config())]

            #[test]
            fn any_bytes_end_and_offsets_point_into_the_line(line in proptest::collection::vec(any::<u8>(), 0..200)) {
                let mut last = None;
                for parameter in parameters(&line) {
                    prop_assert!(parameter.offset < line.len());
                    prop_assert!(last.is_none_or(|offset| offset < parameter.offset));
                    last = Some(parameter.offset);
                }
            }
        }
}
