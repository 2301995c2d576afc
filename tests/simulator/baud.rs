// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line's rate is raised by agreement, lowered when errors come, and is what it was at the end.

use simulator::{Case, Happening, Machine, Noise, Run, Setting, SmallHost, Spec, run};

const BASE: u32 = 115_200;
const SECOND: u64 = 1_000_000_000;

fn setting() -> Setting {
    Setting {
        rates: vec![230_400, 460_800, 921_600, 1_500_000, 3_000_000],
        fifo: 32,
        ..Setting::good(BASE)
    }
}

/// Dumps over `setting` to a host that can set up to `baud_max`; the dump must be whole, and the rate that of before.
#[track_caller]
fn dump(name: &'static str, setting: Setting, pages: u64, baud_max: u32) -> (Run<SmallHost>, u32) {
    let mut case = Case::new(name, 1, setting);
    case.host_baud_max = baud_max;
    let mut machine = Machine::new(&Spec::small(pages, 1));
    let mut run = run(&case, &mut machine);
    let rates = run.world.rates().to_vec();
    println!(
        "{name}: {:.1} s, rates {:?}, {:?}",
        run.ended_ns as f64 / 1e9,
        rates
            .iter()
            .map(|&(at, baud)| (at as f64 / 1e9, baud))
            .collect::<Vec<_>>(),
        run.figures()
    );
    run.is_whole(&machine)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(run.world.baud(), BASE, "{name}: the target's rate");
    assert_eq!(run.world.host_baud(), BASE, "{name}: the host's rate");
    let highest = rates.iter().map(|&(_, baud)| baud).max().unwrap_or(0);
    (run, highest)
}

#[test]
fn rate_is_raised_to_the_highest_that_both_can_set() {
    let (run, highest) = dump("up to 3 M", setting(), 1200, 3_000_000);
    assert_eq!(highest, 3_000_000);
    assert_eq!(run.world.overruns(), 0);
    let (_, highest) = dump("host up to 921600", setting(), 600, 1_000_000);
    assert_eq!(highest, 921_600);
}

#[test]
fn host_that_can_set_no_rate_is_served_at_the_first_one() {
    let (run, _) = dump("host sets none", setting(), 200, 0);
    assert_eq!(run.world.rates().len(), 1);
}

#[test]
fn rate_at_which_nothing_arrives_is_given_up() {
    let setting = setting().noisy(Noise {
        fast: Some((921_600, 0.05)),
        ..Noise::default()
    });
    let (run, _) = dump("nothing above 460800", setting, 600, 3_000_000);
    let last = run.world.rates().iter().rev().nth(1).map(|&(_, baud)| baud);
    assert_eq!(last, Some(460_800), "{:?}", run.world.rates());
}

#[test]
fn rate_with_errors_is_given_up() {
    let setting = setting().noisy(Noise {
        fast: Some((921_600, 3e-4)),
        ..Noise::default()
    });
    let (run, _) = dump("errors above 460800", setting, 900, 3_000_000);
    let last = run.world.rates().iter().rev().nth(1).map(|&(_, baud)| baud);
    assert_eq!(last, Some(460_800), "{:?}", run.world.rates());
}

#[test]
fn host_killed_at_a_raised_rate_finds_the_target_at_the_first_one() {
    let setting = Setting {
        events: vec![
            (0, Happening::Start),
            (2 * SECOND, Happening::Kill),
            (3 * SECOND, Happening::Start),
        ],
        ..setting()
    };
    dump("host killed", setting, 1200, 3_000_000);
}

#[test]
fn cable_pulled_while_the_rate_changes_costs_time_only() {
    for tenths in 3..14 {
        let at = tenths * SECOND / 10;
        let setting = Setting {
            events: vec![
                (0, Happening::Start),
                (at, Happening::Cut),
                (at + SECOND / 2, Happening::Mend),
            ],
            ..setting()
        };
        dump("cable pulled", setting, 400, 921_600);
    }
}
