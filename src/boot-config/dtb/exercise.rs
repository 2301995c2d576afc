// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads and edits all there is in any bytes: what the property tests and the fuzz target share.
//!
//! It asserts that an edited blob is valid and says what it was told to say; that nothing panics or hangs is what
//! the callers look for.

use boot_config::dtb::edit::{CaptureDtb, EditError, Edits, Value, add_crash_region};
use boot_config::{Dtb, MemoryMap, PhysRange};

const REGION: PhysRange = PhysRange {
    start: 0x5000_0000,
    end: 0x5020_0000,
};
const HEADER: PhysRange = PhysRange {
    start: 0x501f_f000,
    end: 0x5020_0000,
};

/// Room for what the edits add to the longest blob that is tried.
const ROOM: usize = 96 << 10;

/// Validates `bytes`, and when they pass, calls every accessor and every edit.
pub(crate) fn exercise(bytes: &[u8]) {
    let _ = Dtb::peek_total_size(bytes);
    let Ok(dtb) = Dtb::validate(bytes) else {
        return;
    };
    read(&dtb);
    edit(&dtb);
}

fn read(dtb: &Dtb<'_>) {
    let _ = (
        dtb.model(),
        dtb.is_compatible("x"),
        dtb.boot_cpu_id(),
        dtb.boot_args(),
    );
    let _ = (
        dtb.ram(),
        dtb.memory_reservations().count(),
        dtb.reserved_memory(),
    );
    let _ = (
        dtb.crash_region(),
        dtb.initrd(),
        dtb.kdump_info(),
        dtb.usable_memory(),
    );
    let _ = (dtb.cpus::<8>(), dtb.psci(), dtb.gic(), dtb.arch_timer());
    let _ = (
        dtb.bcm2836_interrupts(),
        dtb.bcm2835_pm(),
        dtb.npcm_watchdog(),
    );
    let buffer = PhysRange {
        start: 0x8_0000,
        end: 0x8_0040,
    };
    let _ = (dtb.bcm2835_gpio(), dtb.bcm2835_mailbox(&buffer));
    let _ = dtb.dma_end();
    let _ = (dtb.bcm2835_dma(), dtb.bcm2835_dma_target(0xc010_0000, 64));
    dtb.each_other_memory(|it| assert!(it.range.is_err() || !it.name.is_empty()));
    if let Ok(Some(console)) = dtb.console() {
        assert!(!console.registers.is_empty());
        let _ = console.is_compatible("arm,pl011");
    }
    let _ = MemoryMap::from_dtb(dtb);
    let mut nodes = 0_usize;
    let _ = dtb.find(|node| {
        nodes = nodes.saturating_add(1);
        let _ = (
            node.name(),
            node.base_name(),
            node.is_available(),
            node.phandle(),
        );
        let _ = node.registers(0);
        // Looking up phandles is a walk for each node; a few are enough.
        if nodes < 64 {
            let _ = dtb.interrupt(node, 0);
        }
        false
    });
    assert!(nodes > 0);
}

fn edit(dtb: &Dtb<'_>) {
    let mut out = std::vec![0; ROOM];
    match add_crash_region(dtb, REGION, &mut out) {
        Ok(len) => {
            let edited = Dtb::validate(&out[..len]).expect("the edited blob is valid");
            assert_eq!(edited.boot_cpu_id(), dtb.boot_cpu_id());
        }
        Err(EditError::TooManyEdits { .. }) => panic!("our own edits fit"),
        Err(_) => {}
    }
    let capture = CaptureDtb {
        usable_memory: &[REGION],
        elf_core_header: HEADER,
        boot_args: b"dump_level=17\0\0",
        initrd: None,
        reservations: &[],
    };
    if let Ok(len) = capture.write(dtb, &mut out) {
        let edited = Dtb::validate(&out[..len]).expect("the capture blob is valid");
        let first_chosen = edited
            .root()
            .child("chosen")
            .expect("there is a chosen node");
        // A tree that calls a node chosen@0 before ours hides it; it is valid, and no kernel finds ours.
        if first_chosen.name() == "chosen" {
            assert_eq!(edited.elf_core_header(), Ok(Some(HEADER)));
            assert_eq!(edited.boot_args(), b"dump_level=17");
        }
    }
    let unchanged = Edits::new().apply(dtb, &mut out);
    if let Ok(len) = unchanged {
        let again = Edits::new().apply(&Dtb::validate(&out[..len]).expect("valid"), &mut []);
        assert!(matches!(again, Err(EditError::DoesNotFit { needed, .. }) if needed == len));
    }
    let _ = Edits::new()
        .set("/a/b/c", "d", Value::Empty)
        .remove("/", "model")
        .apply(dtb, &mut out);
}
