// SPDX-License-Identifier: MIT OR Apache-2.0
//! The count of verdicts, and the last line of a transcript.

use core::fmt;

/// What became of the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Tests that only run when they are named.
    pub(crate) ignored: usize,
    /// Tests that were not named while others were.
    pub(crate) filtered_out: usize,
}

impl Summary {
    /// Whether tests ran and none failed: a run that tested nothing proves nothing.
    pub(crate) fn is_good(self) -> bool {
        self.failed == 0 && self.passed != 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            ignored,
            filtered_out,
        } = self;
        let verdict = if self.is_good() { "ok" } else { "FAILED" };
        write!(
            f,
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; {filtered_out} filtered out"
        )
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::Summary;

    #[test]
    fn passed_tests_are_good() {
        let summary = Summary {
            passed: 2,
            ignored: 1,
            ..Summary::default()
        };
        assert_eq!(
            summary.to_string(),
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 filtered out"
        );
    }

    #[test]
    fn one_failed_test_is_bad() {
        let summary = Summary {
            passed: 2,
            failed: 1,
            ..Summary::default()
        };
        assert_eq!(
            summary.to_string(),
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 filtered out"
        );
    }

    #[test]
    fn run_without_a_test_is_bad() {
        assert!(
            !Summary {
                filtered_out: 3,
                ..Summary::default()
            }
            .is_good()
        );
    }
}
