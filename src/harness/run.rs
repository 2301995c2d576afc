// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the tests on the target and ends the machine with their result.

use kernel::Boot;
use machine::{arch, console, emergency, semihosting};

use crate::selection::Selection;
use crate::summary::Summary;

/// What makes a test pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It returns `Ok`.
    Pass,
    /// It crashes the machine. It runs only when it is named, and fails when it returns.
    Crash,
}

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The property that it shows, in the letters of a function name.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Boot) -> crate::Result,
    /// What makes it pass.
    pub expects: Expect,
}

/// Runs the tests that the command line asks for, prints the transcript, and ends.
pub fn run(boot: &Boot, tests: &[Test]) -> ! {
    let selection = Selection::of(boot.command_line());
    let mut summary = Summary::default();
    emergency!("\nrunning {} tests\n", tests.len());
    for test in tests {
        let name = test.name;
        let is_named = selection.names_test(name);
        match test.expects {
            _ if !is_named && !selection.is_open() => summary.filtered_out += 1,
            Expect::Crash if !is_named => {
                emergency!("test {name} ... ignored, it should crash: name it by test=\n");
                summary.ignored += 1;
            }
            Expect::Crash => {
                emergency!("test {name} ... should crash\n");
                console::drain();
                let outcome = begin(test, boot);
                emergency!("test {name} ... FAILED\n");
                match outcome {
                    Ok(()) => emergency!("  it returned instead\n"),
                    Err(failure) => emergency!("  {failure}\n"),
                }
                summary.failed += 1;
            }
            Expect::Pass => match begin(test, boot) {
                Ok(()) => {
                    emergency!("test {name} ... ok\n");
                    summary.passed += 1;
                }
                Err(failure) => {
                    emergency!("test {name} ... FAILED\n  {failure}\n");
                    summary.failed += 1;
                }
            },
        }
    }
    emergency!("\n{summary}\n");
    end(boot, summary.is_good())
}

/// Starts a test. The name goes to the log, so that a dump tells which test was running.
fn begin(test: &Test, boot: &Boot) -> crate::Result {
    log::info!("harness: {} begins", test.name);
    (test.run)(boot)
}

/// Ends the machine: by exit status where a host takes one, else by a halt.
fn end(boot: &Boot, is_good: bool) -> ! {
    if boot.has_semihosting() {
        console::drain();
        semihosting::exit(u32::from(!is_good));
    }
    emergency!("halted: no host takes an exit status\n");
    console::drain();
    arch::halt()
}
