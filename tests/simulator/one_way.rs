// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line that only transmits: rounds with parity make the dump whole, or its gaps are named.

use simulator::table::{HEAD, row};
use simulator::{Case, Machine, Noise, Setting, Spec, run};

/// A round sends at most so many times its distinct payload: a quarter is parity, the rest headers and manifests.
const ROUND_MAX: f64 = 1.3;

struct Found {
    is_whole: bool,
    rounds: Vec<f64>,
}

/// Dumps over a line of this rate that nothing comes back on, in up to three rounds.
#[track_caller]
fn dump(name: &'static str, seed: u64, pages: u64, setting: Setting, bootargs: &str) -> Found {
    let setting = Setting {
        is_one_way: true,
        ..setting
    };
    let mut case = Case::new(name, seed, setting);
    case.bootargs = format!("dump_then=halt dump_rounds=3 {bootargs}");
    let mut machine = Machine::new(&Spec::small(pages, seed));
    let mut run = run(&case, &mut machine);
    assert!(run.outcome.totals.is_ok(), "seed {seed}: {:?}", run.outcome);
    let is_whole = run.is_whole(&machine);
    println!("{}", row(name, seed, &run.figures()));
    if let Err(error) = &is_whole {
        // What is not there is said, block by block.
        let (verdict, _) = run.world.host().verdict();
        let verdict = verdict.expect("a verdict");
        println!("seed {seed}: {error}");
        assert!(!verdict.missing.is_empty(), "seed {seed}: {error}");
    }
    let rounds = run.world.tap().rounds();
    Found {
        is_whole: is_whole.is_ok(),
        rounds: rounds
            .iter()
            .map(|round| round.frame_bytes as f64 / round.payload as f64)
            .collect(),
    }
}

#[test]
fn dump_one_way_is_whole_after_three_rounds() {
    let is_soak = std::env::var("AFTERIMAGE_SOAK").as_deref() == Ok("1");
    let (seeds, pages) = if is_soak { (100, 800) } else { (3, 300) };
    println!("{HEAD}");
    let mut whole = 0;
    for seed in 0..seeds {
        let setting = Setting::good(115_200).noisy(Noise::bits(1e-5));
        let found = dump(
            "one-way, bit errors 1e-5",
            seed,
            pages,
            setting,
            "dump_effort=1",
        );
        whole += u64::from(found.is_whole);
        println!("rounds: {:.3?}", found.rounds);
        assert_eq!(found.rounds.len(), 3);
        let most = found.rounds.iter().copied().fold(0.0, f64::max);
        assert!(most <= ROUND_MAX, "seed {seed}: {:?}", found.rounds);
    }
    println!("whole: {whole} of {seeds}");
    assert!(whole + seeds / 100 >= seeds, "{whole} of {seeds} are whole");
}

#[test]
fn dump_one_way_over_a_fast_line_is_whole_after_three_rounds() {
    // The effort follows the line here, and each round has to pack each block as the one before.
    let setting = Setting::good(921_600).noisy(Noise::bits(1e-5));
    let found = dump("one-way at 921600", 1, 300, setting, "");
    assert!(found.is_whole);
}
