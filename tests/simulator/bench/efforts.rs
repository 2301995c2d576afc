// SPDX-License-Identifier: MIT OR Apache-2.0
//! How hard to pack, on lines of different speeds: each effort, and the one that the capture kernel finds by itself.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use simulator::cpu::Cpu;
use simulator::machine::BASE;
use simulator::ram::Ram;
use simulator::{Case, Machine, Setting, Spec, run};
use vmcore::{PAGE_SIZE, PhysRange};
use wire::lzma::{Effort, Encoder};

/// Lines, in baud.
const RATES: [u32; 5] = [115_200, 460_800, 921_600, 3_000_000, 12_000_000];
/// Pages of an image that are dumped: half from its first quarter, so that kernel and heap are both there.
const IMAGE_PAGES: u64 = 4096;

/// Prints the time of a dump by line and effort.
pub(crate) fn curve(image: Option<&Path>) -> Result<(), String> {
    let mut machine = machine(image)?;
    let ram = match image {
        Some(_) => "16 MiB of the RAM image",
        None => "a drawn machine",
    };
    println!("### Effort and line speed\n");
    println!(
        "Seconds from crash to the end of the dump of {ram}, `crashkernel=2M`; bytes on the line in brackets. The fixed effort that is fastest is bold.\n"
    );
    speeds(&machine);
    let efforts = (0..=Effort::MAX.0).map(|effort| effort.to_string());
    let efforts: Vec<String> = ["stored".to_owned()].into_iter().chain(efforts).collect();
    println!(
        "| baud | {} | auto | auto to the best |",
        efforts.join(" | ")
    );
    println!("|---|{}---|---|", "---|".repeat(efforts.len()));
    for baud in RATES {
        let times: Vec<(f64, u64)> = efforts
            .iter()
            .map(|effort| time(&mut machine, baud, effort))
            .collect::<Result<_, _>>()?;
        let best = times.iter().map(|one| one.0).fold(f64::INFINITY, f64::min);
        let cells = times.iter().map(|&(seconds, bytes)| {
            let mark = if seconds == best { "**" } else { "" };
            format!("{mark}{seconds:.2}{mark} ({:.2} MB)", bytes as f64 / 1e6)
        });
        let cells: Vec<String> = cells.collect();
        let (auto, bytes) = time(&mut machine, baud, "auto")?;
        println!(
            "| {baud} | {} | {auto:.2} ({:.2} MB) | {:.2} |",
            cells.join(" | "),
            bytes as f64 / 1e6,
            auto / best
        );
    }
    println!();
    Ok(())
}

fn machine(image: Option<&Path>) -> Result<Machine, String> {
    let Some(path) = image else {
        return Ok(Machine::new(&Spec::small(1500, 1)));
    };
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let whole = Ram::of_image(path, BASE).map_err(fault)?;
    let len = whole.range().len().min(IMAGE_PAGES * PAGE_SIZE);
    // The region lies behind what is dumped.
    let range = PhysRange {
        start: BASE,
        end: BASE + len + 16 * PAGE_SIZE,
    };
    let mut ram = Ram::new(range);
    let step = whole.range().len() / len;
    for number in 0..len / PAGE_SIZE {
        // Runs of 64 pages from all over the image.
        let run = number / 64 * 64 * step + number % 64;
        if let Some(page) = whole.page(BASE + run * PAGE_SIZE) {
            ram.write(BASE + number * PAGE_SIZE, page);
        }
    }
    let own = PhysRange {
        start: BASE + len,
        end: range.end,
    };
    Ok(Machine::of_ram(ram, own))
}

/// Returns seconds of the dump, and bytes on the line.
fn time(machine: &mut Machine, baud: u32, effort: &str) -> Result<(f64, u64), String> {
    let mut case = Case::new("effort", 1, Setting::good(baud));
    case.bootargs = format!("dump_then=halt dump_effort={effort}");
    let mut run = run(&case, machine);
    run.is_whole(machine)
        .map_err(|error| format!("{baud} baud, effort {effort}: {error}"))?;
    let seconds = run.ended_ns as f64 / 1e9;
    Ok((seconds, run.world.tap().bytes()))
}

/// Prints how fast the encoder is here, and what the simulated CPU takes for it.
fn speeds(machine: &Machine) {
    println!(
        "The encoder on this machine, and the simulated CPU's time, from one poll of the line to the next:\n"
    );
    println!("| effort | packed | this machine | between polls | simulated CPU |");
    println!("|---|---|---|---|---|");
    let dumped = machine.dumped();
    let pages = (dumped.start..dumped.end).step_by(PAGE_SIZE as usize);
    let bytes: Vec<u8> = pages
        .filter_map(|pa| machine.ram.page(pa))
        .flatten()
        .copied()
        .collect();
    let sizes = capture::Sizes::LEAST;
    let mut encoder = Box::new(Encoder::new());
    let mut words = vec![0; sizes.encoder];
    for effort in 0..=Effort::MAX.0 {
        let (mut polls, mut packed) = (0_u64, 0);
        let began = cpu_seconds();
        for block in bytes.chunks(sizes.pages * PAGE_SIZE as usize) {
            let mut out = vec![0; block.len()];
            let cells = Cell::from_mut(&mut out[..]).as_slice_of_cells();
            let effort = Effort(effort);
            let len = encoder.encode(block, cells, &mut words, effort, &mut || polls += 1);
            packed += len.unwrap_or(block.len());
        }
        let seconds = (cpu_seconds() - began).max(1e-9);
        println!(
            "| {effort} | {:.1} % | {:.2} MB/s | {:.0} ns | {} ns |",
            packed as f64 * 100.0 / bytes.len() as f64,
            bytes.len() as f64 / seconds / 1e6,
            seconds * 1e9 / polls.max(1) as f64,
            Cpu::MODEST.encode_ns[usize::from(effort)]
        );
    }
    println!();
}

/// Returns the CPU time of this thread, which other programs do not disturb; 0 where Linux does not say.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text
        .split(' ')
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    first.unwrap_or(0.0) / 1e9
}
