// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints how many bytes a dump of a RAM image takes on the wire, beside its peers' encodings of the same memory.
//!
//! Usage: wire-bytes IMAGE [IMAGE-OF-ANOTHER-BOOT]    Markdown on standard output

use std::collections::HashMap;
use std::process::ExitCode;

use simulator::direct::{Direct, dump, library};

/// What a crash region leaves for the capture kernel's buffers: the Image's own, or the rest of 16 MiB.
const REGIONS: [(&str, usize); 2] = [("crashkernel=2M", 0), ("crashkernel=16M", 14 << 20)];

fn main() -> ExitCode {
    match print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wire-bytes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments
        .next()
        .ok_or("usage: wire-bytes IMAGE [IMAGE-OF-ANOTHER-BOOT]")?;
    let ram = read(&first)?;
    let effort = std::env::var("DUMP_EFFORT").unwrap_or_else(|_| "6".to_owned());
    let bootargs = format!("dump_level=1 dump_effort={effort}");
    let peers = peers::rows(&ram);
    let best = peers
        .iter()
        .filter(|row| row.name.starts_with("makedumpfile"))
        .map(|row| row.bytes)
        .min()
        .ok_or("the peers have no makedumpfile")?;
    let print = |name: &str, bytes: u64| {
        let baud = bytes as f64 * 10.0 / 115_200.0 / 60.0;
        let share = bytes as f64 / best as f64;
        println!("| {name} | {bytes} | {baud:.0} min | {share:.3} |");
    };
    println!("| same RAM by | bytes | at 115200 | to makedumpfile's best |");
    println!("|---|---|---|---|");
    peers.iter().for_each(|row| print(row.name, row.bytes));
    let mut ours = Vec::new();
    for (name, room) in REGIONS {
        let found = dump(&ram, &bootargs, room, &HashMap::new())?;
        print(&title(name, &found), found.line_bytes);
        ours.push(found);
    }
    if let Some(second) = arguments.next() {
        let again = read(&second)?;
        let known = library(&ram);
        println!(
            "\n| second boot of the same machine, `--have` the first | bytes | to its first dump |"
        );
        println!("|---|---|---|");
        for ((name, room), first) in REGIONS.into_iter().zip(&ours) {
            let found = dump(&again, &bootargs, room, &known)?;
            let share = found.line_bytes as f64 / first.line_bytes as f64;
            let title = title(name, &found);
            println!("| {title} | {} | {share:.4} |", found.line_bytes);
        }
    }
    Ok(())
}

fn title(name: &str, found: &Direct) -> String {
    format!(
        "**ours, `{name}`**, blocks of {} pages",
        found.pages_per_block
    )
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    if bytes.is_empty() || bytes.len() % 4096 != 0 {
        return Err(format!("{path}: {} bytes are no pages", bytes.len()));
    }
    Ok(bytes)
}
