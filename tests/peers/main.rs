// SPDX-License-Identifier: MIT OR Apache-2.0
//! `peers IMAGE`: prints what others would put on the line for a RAM image.
//!
//! `scripts/linux-guest --ram-image IMAGE` makes one.

use std::env;
use std::fs;
use std::process::ExitCode;

use peers::{PAGE, distinct_pages, is_zero, pages, rows};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path] = &arguments[..] else {
        eprintln!("usage: peers IMAGE");
        return ExitCode::from(2);
    };
    let ram = match fs::read(path) {
        Ok(ram) if !ram.is_empty() && ram.len().is_multiple_of(PAGE) => ram,
        Ok(ram) => {
            eprintln!(
                "error: {path} has {} bytes: no whole number of pages",
                ram.len()
            );
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("error: {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let all = ram.len() / PAGE;
    let data = pages(&ram).filter(|page| !is_zero(page)).count();
    let distinct = distinct_pages(&ram).len();
    println!("{all} pages, {data} not zero, {distinct} distinct");
    for row in rows(&ram) {
        println!("{:>12}  {}", row.bytes, row.name);
    }
    ExitCode::SUCCESS
}
