// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the line does to a dump: errors, silence, and how much of it carries the dump.

use simulator::machine::CRASHED_NOTE;
use simulator::suite::TWO_WAY;
use simulator::table::{HEAD, SUMMARY_HEAD, Summary, row};
use simulator::{Case, Machine, Noise, Run, Setting, SmallHost, Spec, run};

/// Machines are so many times as large as in the tests.
const TIMES: u64 = 4;

/// One dump, and all that is known of it.
pub(crate) fn one(name: &str, seed: u64) -> Result<(), String> {
    let kind = TWO_WAY.iter().find(|kind| kind.name == name);
    let (case, spec) = kind
        .ok_or(format!("no line is called '{name}'"))?
        .case(seed, TIMES);
    let mut machine = Machine::new(&spec);
    println!("{case:#?}\n{spec:?}\n");
    let mut run = run(&case, &mut machine);
    println!("{:#?}\n", run.outcome);
    println!("rates {:?}", run.world.rates());
    println!(
        "overruns {}, bytes hit {:?}",
        run.world.overruns(),
        run.world.hits()
    );
    println!("not believed: {:?}\n", run.world.host().errors());
    println!("{HEAD}\n{}", row(name, seed, &run.figures()));
    run.is_whole(&machine)
}

/// Dumps over each kind of bad line.
pub(crate) fn bad_lines(seeds: u64) -> Result<(), String> {
    println!("### Bad lines, with a host that answers\n");
    println!(
        "115200 baud, a USB adapter of 16 ms. Goodput is what a block's bytes, each counted once, are of what the line could carry.\n"
    );
    println!("{SUMMARY_HEAD}");
    for kind in &TWO_WAY {
        let mut summary = Summary::default();
        for seed in 0..seeds {
            let (figures, is_whole) = kind.run(seed, TIMES);
            summary.add(figures, is_whole.is_ok());
        }
        println!("{}", summary.row(kind.name));
    }
    println!();
    Ok(())
}

/// Dumps that nobody answers.
pub(crate) fn one_way(seeds: u64) -> Result<(), String> {
    println!("### A line that only transmits\n");
    println!(
        "Up to three rounds, each with 25 % parity, at 115200 baud and a bit error rate of 1e-5.\n"
    );
    println!(
        "| seed | whole after round | frames of a round, to its distinct payload | time of the three rounds |"
    );
    println!("|---|---|---|---|");
    for seed in 0..seeds {
        let setting = Setting {
            is_one_way: true,
            ..Setting::good(115_200).noisy(Noise::bits(1e-5))
        };
        let mut machine = Machine::new(&Spec::small(800, seed));
        let mut whole_after = None;
        let mut last = None;
        for rounds in 1..=3 {
            let mut case = Case::new("one-way", seed, setting.clone());
            case.bootargs = format!("dump_then=halt dump_effort=1 dump_rounds={rounds}");
            let run = run(&case, &mut machine);
            if run.is_whole(&machine).is_ok() && whole_after.is_none() {
                whole_after = Some(rounds);
            }
            last = Some(run);
        }
        let mut run = last.ok_or("no round ran")?;
        let rounds = run.world.tap().rounds();
        let shares = rounds
            .iter()
            .map(|round| format!("{:.3}", round.frame_bytes as f64 / round.payload as f64));
        println!(
            "| {seed} | {} | {} | {:.1} s |",
            whole_after.map_or("never".to_owned(), |rounds| rounds.to_string()),
            shares.collect::<Vec<_>>().join(", "),
            run.ended_ns as f64 / 1e9
        );
    }
    println!();
    Ok(())
}

/// Dumps over good lines.
pub(crate) fn line_use() -> Result<(), String> {
    println!("### Use of a good line\n");
    println!(
        "From the first byte of a frame to the last of a block; an idle line counts against it.\n"
    );
    println!("{HEAD}");
    for (name, baud, bits) in [
        ("115200", 115_200, 0.0),
        ("115200, bit errors 1e-6", 115_200, 1e-6),
        ("921600", 921_600, 0.0),
        ("921600, bit errors 1e-6", 921_600, 1e-6),
    ] {
        let setting = Setting::good(baud).noisy(Noise::bits(bits));
        let mut run = whole(name, setting, &Spec::small(1200, 1), "")?.0;
        println!("{}", row(name, 1, &run.figures()));
    }
    println!();
    Ok(())
}

/// First bytes and whole dumps of machines of which most is empty.
pub(crate) fn large_machines() -> Result<(), String> {
    println!("### Large machines\n");
    println!("120 pages of heap in use; registers and stack are those of the CPU that crashed.\n");
    println!("| RAM | registers and stack after | at 115200 baud | whole dump | time |");
    println!("|---|---|---|---|---|");
    for (name, ram_bytes, has_page_states) in [
        ("128 MiB, rest free", 128 << 20, true),
        ("8 GiB, rest free", 8 << 30, true),
        ("128 MiB, rest zeros", 128 << 20, false),
        ("8 GiB, rest zeros", 8 << 30, false),
    ] {
        let spec = Spec {
            ram_bytes,
            own_bytes: 2 << 20,
            used_pages: 120,
            has_page_states,
            seed: 1,
        };
        let (mut run, machine) = whole("large machine", Setting::good(115_200), &spec, "")?;
        let sequence = run.world.host().backtrace_sequence(&machine, CRASHED_NOTE);
        let bytes = run.world.tap().bytes();
        let frames = run.world.tap().frames();
        let seen = frames.iter().find(|seen| Some(seen.sequence) == sequence);
        let seen = seen.ok_or("registers and stack never came")?;
        println!(
            "| {name} | {} bytes | {:.2} s | {bytes} bytes | {:.1} s |",
            seen.bytes,
            seen.at_ns as f64 / 1e9,
            run.ended_ns as f64 / 1e9
        );
    }
    println!();
    Ok(())
}

/// Runs a dump that has to be whole.
fn whole(
    name: &'static str,
    setting: Setting,
    spec: &Spec,
    bootargs: &str,
) -> Result<(Run<SmallHost>, Machine), String> {
    let mut machine = Machine::new(spec);
    let mut case = Case::new(name, spec.seed, setting);
    case.bootargs = format!("dump_then=halt {bootargs}");
    let run = run(&case, &mut machine);
    run.is_whole(&machine)
        .map_err(|error| format!("{name}: {error}"))?;
    Ok((run, machine))
}
