// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every dump over a line on which the host can answer arrives whole, whatever the line does.
//!
//! A sample here; with `AFTERIMAGE_SOAK=1`, a hundred seeds and larger machines.

use simulator::suite::TWO_WAY;
use simulator::table::{HEAD, SUMMARY_HEAD, Summary, row};

/// Runs the kind of this name over its seeds.
#[track_caller]
fn check(name: &str) {
    let is_soak = std::env::var("AFTERIMAGE_SOAK").as_deref() == Ok("1");
    let (seeds, times) = if is_soak { (100, 4) } else { (1, 1) };
    let kind = TWO_WAY.iter().find(|kind| kind.name == name);
    let kind = kind.expect("a kind of this name");
    let mut summary = Summary::default();
    let mut wrong = Vec::new();
    println!("{HEAD}");
    for seed in 0..seeds {
        let (figures, is_whole) = kind.run(seed, times);
        println!("{}", row(name, seed, &figures));
        summary.add(figures, is_whole.is_ok());
        wrong.extend(is_whole.err().map(|error| format!("seed {seed}: {error}")));
    }
    println!("{SUMMARY_HEAD}\n{}", summary.row(name));
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

#[test]
fn dump_over_a_good_line_is_whole() {
    check("good line");
}

#[test]
fn dump_with_bit_errors_of_1e_6_is_whole() {
    check("bit errors 1e-6");
}

#[test]
fn dump_with_bit_errors_of_1e_5_is_whole() {
    check("bit errors 1e-5");
}

#[test]
fn dump_with_bit_errors_of_1e_4_is_whole() {
    check("bit errors 1e-4");
}

#[test]
fn dump_with_bit_errors_of_1e_3_is_whole() {
    check("bit errors 1e-3");
}

#[test]
fn dump_over_a_fast_line_with_bit_errors_is_whole() {
    check("bit errors 1e-5 at 921600");
}

#[test]
fn dump_with_bursts_is_whole() {
    check("bursts of 60");
}

#[test]
fn dump_with_bytes_dropped_is_whole() {
    check("bytes dropped");
}

#[test]
fn dump_with_bytes_inserted_and_doubled_is_whole() {
    check("bytes inserted and doubled");
}

#[test]
fn dump_with_text_of_others_in_between_is_whole() {
    check("text of others in between");
}

#[test]
fn dump_with_the_cable_pulled_is_whole() {
    check("cable pulled");
}

#[test]
fn dump_with_the_host_killed_and_restarted_is_whole() {
    check("host killed and restarted");
}

#[test]
fn dump_with_a_late_host_is_whole() {
    check("host comes late");
}

#[test]
fn dump_whose_answers_are_nearly_all_lost_is_whole() {
    check("answers nearly all lost");
}

#[test]
fn dump_of_which_the_host_has_half_is_whole() {
    check("half of the pages known");
}

#[test]
fn dump_with_everything_at_once_is_whole() {
    check("everything at once");
}
