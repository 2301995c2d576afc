// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of all modules share.

/// How property tests run: few cases under Miri, which has neither speed nor files.
pub(crate) fn config() -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
