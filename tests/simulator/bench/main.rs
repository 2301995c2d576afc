// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures in virtual time what a bad line, a slow line and a large machine cost, as sections of docs/benchmarks.md.
//!
//! Usage: simulator-bench [--seeds N] [--ram-image FILE]    Markdown on standard output
//!        simulator-bench --line NAME --seed N              one dump over a kind of bad line, as in scripts/soak

use std::path::PathBuf;
use std::process::ExitCode;

mod efforts;
mod lines;

/// What the command line says.
struct Arguments {
    seeds: u64,
    image: Option<PathBuf>,
    line: Option<String>,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("simulator-bench: {error}");
            return ExitCode::from(2);
        }
    };
    match print(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulator-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        seeds: 5,
        image: None,
        line: None,
        seed: 0,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => found.seeds = number(&value()?)?,
            "--seed" => found.seed = number(&value()?)?,
            "--line" => found.line = Some(value()?),
            "--ram-image" => found.image = Some(PathBuf::from(value()?)),
            _ => {
                return Err(format!(
                    "unknown argument '{word}'; usage: simulator-bench [--seeds N] [--ram-image FILE] | --line NAME --seed N"
                ));
            }
        }
    }
    Ok(found)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text}: no number"))
}

fn print(arguments: &Arguments) -> Result<(), String> {
    if let Some(name) = &arguments.line {
        return lines::one(name, arguments.seed);
    }
    lines::bad_lines(arguments.seeds)?;
    lines::one_way(arguments.seeds)?;
    lines::line_use()?;
    lines::large_machines()?;
    efforts::curve(arguments.image.as_deref())
}
