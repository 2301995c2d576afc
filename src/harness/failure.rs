// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a test fails without a crash.
//!
//! A panic would end the run with a dump; a failure is printed and the next test runs.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::panic::Location;

/// What a test returns.
pub type Result = core::result::Result<(), Failure>;

/// Where a test failed, and why. Any error becomes one by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    at: &'static Location<'static>,
    why: String,
}

impl Failure {
    /// A failure at the caller's line.
    #[track_caller]
    #[must_use]
    pub fn new(why: fmt::Arguments<'_>) -> Self {
        Self {
            at: Location::caller(),
            why: format!("{why}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.why)
    }
}

// `Failure` is no `Error` itself, or this would overlap with `From<T> for T`.
impl<E: core::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(format_args!("{error}"))
    }
}

/// Fails the test unless the condition holds; what follows it says more, as in `assert!`.
#[macro_export]
macro_rules! check {
    ($condition:expr $(,)?) => {
        $crate::check!($condition, "{}", stringify!($condition))
    };
    ($condition:expr, $($argument:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new(format_args!($($argument)+)));
        }
    };
}

/// Fails the test unless both are equal, and prints them.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        match (&$left, &$right) {
            (left, right) => $crate::check!(
                *left == *right,
                "{} is {left:?}, not {right:?}",
                stringify!($left)
            ),
        }
    };
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn checked(value: u8) -> Result {
        check!(value > 1);
        check!(value > 2, "value {value} is small");
        check_eq!(value, 7);
        Ok(())
    }

    fn parsed(text: &str) -> Result {
        text.parse::<u8>()?;
        Ok(())
    }

    #[test]
    fn check_that_holds_passes() {
        assert_eq!(checked(7), Ok(()));
    }

    #[test]
    fn check_without_words_names_its_condition() {
        assert!(checked(1).unwrap_err().to_string().ends_with(": value > 1"));
    }

    #[test]
    fn check_with_words_says_them() {
        assert!(
            checked(2)
                .unwrap_err()
                .to_string()
                .ends_with(": value 2 is small")
        );
    }

    #[test]
    fn check_eq_prints_both_sides() {
        assert!(
            checked(3)
                .unwrap_err()
                .to_string()
                .ends_with(": value is 3, not 7")
        );
    }

    #[test]
    fn failure_names_the_file_of_the_check() {
        assert!(checked(1).unwrap_err().to_string().contains("failure.rs:"));
    }

    #[test]
    fn error_becomes_a_failure_at_its_question_mark() {
        let failure = parsed("x").unwrap_err().to_string();
        assert!(
            failure.contains("failure.rs:") && failure.ends_with("invalid digit found in string"),
            "{failure}"
        );
    }
}
