// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line carries frames nearly all the time, and the frames carry blocks.

use simulator::table::{HEAD, row};
use simulator::{Case, Machine, Noise, Setting, Spec, run};

/// Least share of the line's bytes that carry frames, from the first byte of a frame to the last of a block.
const LINE_SHARE: f64 = 0.98;
/// Least share of the frames' bytes that are bytes of blocks.
const PAYLOAD_SHARE: f64 = 0.985;
/// Pages in use: a dump of a minute at 115200 baud.
const PAGES: u64 = 600;

#[track_caller]
fn check(name: &'static str, baud: u32, bit_error_rate: f64) {
    println!("{HEAD}");
    let is_soak = std::env::var("AFTERIMAGE_SOAK").as_deref() == Ok("1");
    for seed in 0..if is_soak { 20 } else { 1 } {
        let setting = Setting::good(baud).noisy(Noise::bits(bit_error_rate));
        let mut case = Case::new(name, seed, setting);
        case.bootargs = "dump_then=halt".to_owned();
        let mut machine = Machine::new(&Spec::small(PAGES, seed));
        let mut run = run(&case, &mut machine);
        run.is_whole(&machine)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let figures = run.figures();
        println!("{}", row(name, seed, &figures));
        assert!(
            figures.line_share >= LINE_SHARE && figures.payload_share >= PAYLOAD_SHARE,
            "{name}, seed {seed}: {figures:?}"
        );
    }
}

#[test]
fn good_line_at_115200_is_used() {
    check("115200", 115_200, 0.0);
}

#[test]
fn line_at_115200_with_few_errors_is_used() {
    check("115200, bit errors 1e-6", 115_200, 1e-6);
}

#[test]
fn good_line_at_921600_is_used() {
    check("921600", 921_600, 0.0);
}

#[test]
fn line_at_921600_with_few_errors_is_used() {
    check("921600, bit errors 1e-6", 921_600, 1e-6);
}
