// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures dumps on QEMU virt and writes docs/benchmarks.md; started by scripts/bench.
//!
//! Nothing here judges: times on shared machines are noise, so that only sizes and ratios can be compared between runs.
#![forbid(unsafe_code)]

mod cpu_meter;
mod crash_path;
mod document;
mod encodings;
mod line;
mod linux_guest;
mod linux_rows;
mod region_use;
mod side_by_side;
mod side_by_side_page;
mod surroundings;
mod virt_rows;

use std::path::PathBuf;
use std::process::ExitCode;

use blackbox::artefacts;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let output = arguments.next().map_or_else(
        || artefacts::root().join("docs/benchmarks.md"),
        PathBuf::from,
    );
    if arguments.next().is_some() {
        eprintln!("usage: bench [OUTPUT | --crash-path | --side-by-side]");
        return ExitCode::from(2);
    }
    if output.as_os_str() == "--crash-path" {
        print!("{}", document::crash_path(&crash_path::measure()));
        return ExitCode::SUCCESS;
    }
    if output.as_os_str() == "--side-by-side" {
        if let Some(why) = linux_guest::missing() {
            eprintln!("bench: {why}");
            return ExitCode::FAILURE;
        }
        print!("{}", side_by_side_page::text(&side_by_side::measure()));
        return ExitCode::SUCCESS;
    }
    let surroundings = surroundings::look();
    let crash_path = crash_path::measure();
    let virt = virt_rows::measure();
    let linux = match linux_guest::missing() {
        None => Ok((linux_rows::measure(), side_by_side::measure())),
        Some(why) => {
            eprintln!("bench: no Linux rows: {why}");
            Err(why)
        }
    };
    let text = document::text(&surroundings, &virt, &crash_path, linux.as_ref());
    match std::fs::write(&output, text) {
        Ok(()) => {
            eprintln!("bench: wrote {}", output.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {}: {error}", output.display());
            ExitCode::FAILURE
        }
    }
}
