// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the `crashkernel=` grammar, most of them examples of Linux's kdump documentation.

use super::CrashKernelErrorKind::*;
use super::*;
use proptest::prelude::*;
use std::format;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn accepted(line: &str, ram: u64) -> CrashKernel {
    parse(line, ram).unwrap().unwrap()
}

fn rejected(line: &str, ram: u64) -> (usize, CrashKernelErrorKind) {
    let error = parse(line, ram).unwrap_err();
    (error.offset, error.kind)
}

#[test]
fn size_and_offset_of_the_documentation_are_read() {
    // "crashkernel=64M@16M" (kdump.rst).
    let request = accepted("root=/dev/sda1 crashkernel=64M@16M quiet", GIB);
    assert_eq!(
        (request.size, request.base, request.offset),
        (64 * MIB, Some(16 * MIB), 27)
    );
}

#[test]
fn size_without_offset_is_placed_automatically() {
    assert_eq!(accepted("crashkernel=256M", GIB).base, None);
    assert_eq!(accepted("crashkernel=256M@0", GIB).base, None);
    assert_eq!(accepted("crashkernel=256M@", GIB).base, None);
}

#[test]
fn ranges_of_the_documentation_follow_the_ram_size() {
    // "crashkernel=512M-2G:64M,2G-:128M" (kdump.rst): below 512M nothing, below 2G 64M, else 128M.
    let line = "crashkernel=512M-2G:64M,2G-:128M";
    assert!(accepted(line, 256 * MIB).is_disabled());
    assert_eq!(accepted(line, 512 * MIB).size, 64 * MIB);
    assert_eq!(accepted(line, 2 * GIB).size, 128 * MIB);
    assert_eq!(accepted(line, 64 * GIB).size, 128 * MIB);
}

#[test]
fn ranges_compare_with_ram_rounded_up_to_128_mib() {
    // 1.9 GiB counts as 2 GiB, the exclusive end of the first range.
    let line = "crashkernel=512M-2G:64M,2G-:128M";
    assert_eq!(accepted(line, 2 * GIB - 100 * MIB).size, 128 * MIB);
    assert_eq!(accepted(line, 2 * GIB - 128 * MIB).size, 64 * MIB);
}

#[test]
fn ranges_with_offset_apply_it_to_the_one_that_matches() {
    let request = accepted("crashkernel=1M-1G:8M,1G-:16M@0x50000000 x", 512 * MIB);
    assert_eq!((request.size, request.base), (8 * MIB, Some(0x5000_0000)));
}

#[test]
fn ranges_that_result_in_zero_disable() {
    assert!(accepted("crashkernel=0-:0", GIB).is_disabled());
}

#[test]
fn high_alone_gets_the_default_low_size() {
    let request = accepted("crashkernel=256M,high", 8 * GIB);
    assert!(request.is_high);
    assert_eq!(
        (request.size, request.low_size),
        (256 * MIB, DEFAULT_LOW_SIZE)
    );
}

#[test]
fn high_with_low_takes_both_sizes() {
    let request = accepted("crashkernel=64M,low crashkernel=256M,high", 8 * GIB);
    assert_eq!((request.size, request.low_size), (256 * MIB, 64 * MIB));
    assert_eq!(
        accepted("crashkernel=256M,high crashkernel=0,low", 8 * GIB).low_size,
        0
    );
}

#[test]
fn high_is_ignored_beside_a_plain_form() {
    let request = accepted(
        "crashkernel=16M crashkernel=256M,high crashkernel=64M,low",
        8 * GIB,
    );
    assert_eq!(
        (request.size, request.is_high, request.low_size),
        (16 * MIB, false, 0)
    );
}

#[test]
fn low_alone_is_no_request() {
    assert_eq!(parse("crashkernel=64M,low", GIB), Ok(None));
}

#[test]
fn cma_is_recognised_beside_a_plain_form() {
    let request = accepted("crashkernel=16M crashkernel=128M,cma", GIB);
    assert_eq!((request.size, request.cma_size), (16 * MIB, 128 * MIB));
}

#[test]
fn cma_alone_or_malformed_reserves_nothing() {
    assert_eq!(parse("crashkernel=128M,cma", GIB), Ok(None));
    assert_eq!(
        accepted("crashkernel=16M crashkernel=1-2,cma", GIB).cma_size,
        0
    );
}

#[test]
fn absent_parameter_is_none() {
    assert_eq!(parse("console=ttyAMA0 crashkernel", GIB), Ok(None));
    assert_eq!(parse("", GIB), Ok(None));
}

#[test]
fn zero_disables() {
    assert!(accepted("crashkernel=64M crashkernel=0", GIB).is_disabled());
    assert!(accepted("crashkernel=0,high", GIB).is_disabled());
}

#[test]
fn last_parameter_wins_and_hides_malformed_ones() {
    assert_eq!(
        accepted("crashkernel=bad crashkernel=1M crashkernel=2M", GIB).size,
        2 * MIB
    );
    assert_eq!(
        rejected("crashkernel=2M crashkernel=bad", GIB),
        (27, ValueExpected)
    );
}

#[test]
fn numbers_are_read_as_memparse_does() {
    assert_eq!(accepted("crashkernel=0x200000", GIB).size, 2 * MIB);
    assert_eq!(accepted("crashkernel=0X800k", GIB).size, 2 * MIB);
    assert_eq!(accepted("crashkernel=010M", GIB).size, 8 * MIB);
    assert_eq!(accepted("crashkernel=1T", 1 << 41).size, 1 << 40);
    assert_eq!(accepted("crashkernel=1p", 1 << 51).size, 1 << 50);
    assert_eq!(accepted("crashkernel=1E", 1 << 61).size, 1 << 60);
}

#[test]
fn colon_after_the_blank_does_not_make_ranges() {
    assert_eq!(
        accepted("crashkernel=2M capture=semihosting:x", GIB).size,
        2 * MIB
    );
}

#[test]
fn missing_size_is_rejected() {
    assert_eq!(rejected("crashkernel=", GIB), (12, ValueExpected));
    assert_eq!(rejected("crashkernel=@16M", GIB), (12, ValueExpected));
    assert_eq!(
        rejected("quiet crashkernel=,high", GIB),
        (18, ValueExpected)
    );
}

#[test]
fn range_without_dash_is_rejected() {
    assert_eq!(rejected("crashkernel=512M:64M", GIB), (16, DashExpected));
}

#[test]
fn range_without_start_or_end_is_rejected() {
    assert_eq!(rejected("crashkernel=-2G:64M", GIB), (12, ValueExpected));
    assert_eq!(rejected("crashkernel=1M-x:64M", GIB), (15, ValueExpected));
}

#[test]
fn range_end_not_above_start_is_rejected() {
    let kind = EndNotAboveStart {
        start: 2 * GIB,
        end: 2 * GIB,
    };
    assert_eq!(rejected("crashkernel=2G-2G:64M", GIB), (15, kind));
}

#[test]
fn range_without_colon_is_rejected() {
    assert_eq!(
        rejected("crashkernel=1M-2M,2M-:1M", GIB),
        (17, ColonExpected)
    );
}

#[test]
fn range_without_size_is_rejected() {
    assert_eq!(
        rejected("crashkernel=1M-2M:,2M-:1M", GIB),
        (18, ValueExpected)
    );
    assert_eq!(rejected("crashkernel=1M-2M:1M,", GIB), (21, ValueExpected));
}

#[test]
fn range_without_offset_after_at_is_rejected() {
    assert_eq!(rejected("crashkernel=0-:1M@ x", GIB), (18, ValueExpected));
}

#[test]
fn range_size_of_all_ram_is_rejected_even_if_it_does_not_match() {
    let kind = SizeNotBelowRam {
        size: 2 * GIB,
        ram: GIB,
    };
    assert_eq!(rejected("crashkernel=4G-:2G", GIB), (16, kind));
}

#[test]
fn size_of_all_ram_is_rejected() {
    let kind = SizeNotBelowRam {
        size: GIB,
        ram: GIB,
    };
    assert_eq!(rejected("crashkernel=1G", GIB), (12, kind));
    assert_eq!(rejected("crashkernel=1G,high", GIB), (12, kind));
}

#[test]
fn trailing_character_is_rejected() {
    assert_eq!(
        rejected("crashkernel=64MB", GIB),
        (15, UnexpectedCharacter(b'B'))
    );
    assert_eq!(
        rejected("crashkernel=64M,hig", GIB),
        (15, UnexpectedCharacter(b','))
    );
    assert_eq!(
        rejected("crashkernel=1G-:2M,high", GIB),
        (14, UnexpectedCharacter(b'-'))
    );
}

#[test]
fn malformed_low_is_rejected_beside_high() {
    let line = "crashkernel=64M,high crashkernel=x,low";
    assert_eq!(rejected(line, GIB), (33, ValueExpected));
}

#[test]
fn number_beyond_64_bits_is_rejected() {
    assert_eq!(rejected("crashkernel=16E", GIB), (12, NumberTooLarge));
    assert_eq!(
        rejected("crashkernel=99999999999999999999", GIB),
        (12, NumberTooLarge)
    );
}

#[test]
fn error_text_names_the_byte() {
    let error = parse("crashkernel=64MB", GIB).unwrap_err();
    let text = "crashkernel: byte 15 of the command line: unexpected character 'B'";
    assert_eq!(format!("{error}"), text);
}

proptest! {
#![proptest_config(crate::testing::config())]

    #[test]
    fn any_bytes_give_a_value_below_ram_or_an_offset_in_the_line(
        tail in "[-0-9a-zA-Z:,@ =]{0,40}", ram in any::<u64>()
    ) {
        let line = format!("crashkernel={tail}");
        match parse(&line, ram) {
            Ok(Some(request)) => prop_assert!(request.is_disabled() || request.size < ram),
            Ok(None) => {}
            Err(error) => prop_assert!((12..=line.len()).contains(&error.offset)),
        }
    }

    #[test]
    fn written_requests_are_read_back(size in 1_u64..1 << 40, base in any::<u64>(), ram in 1_u64 << 40..) {
        let request = parse(&format!("a crashkernel={size}@{base:#x} b"), ram).unwrap().unwrap();
        prop_assert_eq!(request.size, size);
        prop_assert_eq!(request.base.unwrap_or(0), base);
    }
}
