// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of `kernel::crash`: status, dry run, unload and shrink. In this order: the last ones change the machine.
#![no_std]
#![no_main]

use harness::{check, check_eq};
use kernel::Boot;
use kernel::crash::{self, ChangeError, LoadError};
use machine::layout::LINEAR_BASE;
use target_tests::is_readable;

const MIB: u64 = 1 << 20;

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [
        status_names_the_region_and_says_loaded,
        dtb_names_the_region,
        dry_run_finds_a_good_image,
        dry_run_leaves_the_region_unmapped,
        load_replaces_the_capture_kernel,
        load_of_what_is_no_image_leaves_what_is_armed,
        load_with_an_initrd_arms_both,
        load_with_an_initrd_that_does_not_fit_leaves_what_is_armed,
        shrink_while_loaded_is_refused,
        unload_is_seen_in_status,
        dry_run_without_an_image_finds_none,
        shrink_to_nothing_is_refused,
        shrink_to_more_is_refused,
        shrink_to_odd_size_is_refused,
        refused_changes_change_nothing,
        shrink_gives_the_low_end_to_the_heap,
        shrink_to_the_same_size_is_refused,
    ],
}

fn status_names_the_region_and_says_loaded(boot: &Boot) -> harness::Result {
    let status = crash::status();
    check!(status.is_loaded);
    check_eq!(status.region_bytes, 4 * MIB);
    check_eq!(status.region_start % (2 * MIB), 0);
    check!(is_stub_right(boot, status.has_stub));
    Ok(())
}

/// Entered at EL2 there is a stub, entered at EL1 there is none; entered at EL3 it depends on whether the CPU has EL2.
fn is_stub_right(boot: &Boot, has_stub: bool) -> bool {
    match boot.entry().exception_level {
        1 => !has_stub,
        2 => has_stub,
        _ => true,
    }
}

fn dtb_names_the_region(boot: &Boot) -> harness::Result {
    check!(
        boot.dtb()
            .windows(12)
            .any(|window| window == b"crashkernel@")
    );
    Ok(())
}

fn dry_run_finds_a_good_image(boot: &Boot) -> harness::Result {
    let report = crash::test()?;
    check!(report.is_image_good);
    check!(is_stub_right(boot, report.has_stub));
    // Again: it must leave what it found.
    check!(crash::test()?.is_image_good);
    Ok(())
}

fn dry_run_leaves_the_region_unmapped(_: &Boot) -> harness::Result {
    let start = crash::status().region_start;
    check!(crash::test()?.is_image_good);
    check!(!is_readable(start), "the identity map is still there");
    check!(
        !is_readable(LINEAR_BASE + start),
        "the region is in the linear map"
    );
    check!(!is_readable(0));
    Ok(())
}

fn load_replaces_the_capture_kernel(_: &Boot) -> harness::Result {
    check!(crash::load(machine::image::embedded_capture_image()).is_ok());
    check!(crash::status().is_loaded);
    check!(crash::test()?.is_image_good);
    Ok(())
}

fn load_of_what_is_no_image_leaves_what_is_armed(_: &Boot) -> harness::Result {
    for image in [&[][..], &[0x5a; 4096][..]] {
        check!(crash::load(image).is_err());
        check!(crash::status().is_loaded);
        check!(crash::test()?.is_image_good);
    }
    Ok(())
}

fn load_with_an_initrd_arms_both(_: &Boot) -> harness::Result {
    let image = machine::image::embedded_capture_image();
    check!(crash::load_with_initrd(image, &[0x5a; 5000]).is_ok());
    check!(crash::status().is_loaded);
    check!(crash::test()?.is_image_good);
    Ok(())
}

fn load_with_an_initrd_that_does_not_fit_leaves_what_is_armed(_: &Boot) -> harness::Result {
    static LARGE: [u8; 4 << 20] = [0; 4 << 20];
    let image = machine::image::embedded_capture_image();
    check!(matches!(
        crash::load_with_initrd(image, &LARGE),
        Err(LoadError::NoRoom { .. })
    ));
    check!(crash::status().is_loaded);
    check!(crash::test()?.is_image_good);
    Ok(())
}

fn shrink_while_loaded_is_refused(_: &Boot) -> harness::Result {
    check_eq!(crash::shrink(2 * MIB), Err(ChangeError::Loaded));
    check_eq!(crash::status().region_bytes, 4 * MIB);
    Ok(())
}

fn unload_is_seen_in_status(_: &Boot) -> harness::Result {
    crash::unload()?;
    check!(!crash::status().is_loaded);
    // Nothing is left to unload, which is no error: the wish is fulfilled.
    crash::unload()?;
    Ok(())
}

fn dry_run_without_an_image_finds_none(_: &Boot) -> harness::Result {
    check!(!crash::test()?.is_image_good);
    Ok(())
}

fn shrink_to_nothing_is_refused(_: &Boot) -> harness::Result {
    check_eq!(
        crash::shrink(0),
        Err(ChangeError::Size {
            wanted: 0,
            current: 4 * MIB
        })
    );
    Ok(())
}

fn shrink_to_more_is_refused(_: &Boot) -> harness::Result {
    check_eq!(
        crash::shrink(6 * MIB),
        Err(ChangeError::Size {
            wanted: 6 * MIB,
            current: 4 * MIB
        })
    );
    Ok(())
}

fn shrink_to_odd_size_is_refused(_: &Boot) -> harness::Result {
    check_eq!(
        crash::shrink(3 * MIB),
        Err(ChangeError::Size {
            wanted: 3 * MIB,
            current: 4 * MIB
        })
    );
    Ok(())
}

fn refused_changes_change_nothing(_: &Boot) -> harness::Result {
    let status = crash::status();
    check_eq!(status.region_bytes, 4 * MIB);
    check!(!is_readable(LINEAR_BASE + status.region_start));
    Ok(())
}

fn shrink_gives_the_low_end_to_the_heap(_: &Boot) -> harness::Result {
    let before = crash::status();
    crash::shrink(2 * MIB)?;
    let after = crash::status();
    check_eq!(after.region_bytes, 2 * MIB);
    check_eq!(after.region_start, before.region_start + 2 * MIB);
    check!(
        is_readable(LINEAR_BASE + before.region_start),
        "what was given up is not mapped"
    );
    check!(
        is_readable(LINEAR_BASE + after.region_start - 16),
        "the end of what was given up is not mapped"
    );
    check!(
        !is_readable(LINEAR_BASE + after.region_start),
        "what is left is mapped"
    );
    check!(
        !is_readable(before.region_start),
        "the identity map is still there"
    );
    Ok(())
}

fn shrink_to_the_same_size_is_refused(_: &Boot) -> harness::Result {
    check_eq!(
        crash::shrink(2 * MIB),
        Err(ChangeError::Size {
            wanted: 2 * MIB,
            current: 2 * MIB
        })
    );
    Ok(())
}
