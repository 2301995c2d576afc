// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which tests the command line asks for.

/// The names of all `test=` words of a command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    line: &'a [u8],
}

impl<'a> Selection<'a> {
    pub(crate) fn of(line: &'a [u8]) -> Self {
        Self { line }
    }

    fn names(self) -> impl Iterator<Item = &'a [u8]> {
        let words = self.line.split(u8::is_ascii_whitespace);
        words
            .filter_map(|word| word.strip_prefix(b"test="))
            .flat_map(|names| names.split(|byte| *byte == b','))
    }

    /// Whether the command line leaves the choice to the program.
    pub(crate) fn is_open(self) -> bool {
        self.names().next().is_none()
    }

    /// Whether the test is named.
    pub(crate) fn names_test(self, name: &str) -> bool {
        self.names().any(|wanted| wanted == name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;

    #[test]
    fn empty_line_leaves_the_choice_open() {
        assert!(Selection::of(b"").is_open());
    }

    #[test]
    fn line_without_test_leaves_the_choice_open() {
        assert!(Selection::of(b"semihosting crashkernel=2M latest=one").is_open());
    }

    #[test]
    fn named_test_is_taken() {
        assert!(Selection::of(b"semihosting test=one").names_test("one"));
    }

    #[test]
    fn tests_named_with_comma_or_in_two_words_are_taken() {
        let selection = Selection::of(b"test=one,two  test=three\n");
        assert!(
            ["one", "two", "three"]
                .iter()
                .all(|name| selection.names_test(name))
        );
    }

    #[test]
    fn test_whose_name_is_only_a_part_is_not_taken() {
        assert!(!Selection::of(b"test=one_more").names_test("one"));
    }

    #[test]
    fn test_without_a_name_takes_nothing_and_closes_the_choice() {
        let selection = Selection::of(b"test=");
        assert!(!selection.is_open() && !selection.names_test("one"));
    }

    #[test]
    fn line_that_is_no_utf8_is_read() {
        assert!(Selection::of(b"\xff\xfe test=one \x80").names_test("one"));
    }
}
