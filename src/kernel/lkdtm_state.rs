// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lkdtm_state=WORD[,WORD]…`: state that is left behind just before a provoked crash, and must not reach the capture kernel.

use alloc::vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::layout::LINEAR_BASE;
use machine::{image, provoke_state};

/// What can be left behind, by its word; the bit is its place here.
const WORDS: [(&str, fn()); 8] = [
    ("timer", provoke_state::fire_timers),
    ("debug", debug),
    ("pmu", provoke_state::enable_pmu),
    ("irq", provoke_state::leave_interrupts),
    ("lpi", lpis),
    ("uart", provoke_state::disturb_console),
    ("pending-serror", provoke_state::leave_serror),
    ("serror", provoke_state::raise_serror),
];

/// Link address of a capture kernel (docs/architecture.md), where its first instructions run.
const CAPTURE_LINK: u64 = 0xffff_8000_c000_0000;

static PLANNED: AtomicU32 = AtomicU32::new(0);

/// Takes the parameter; unknown words are logged.
pub(crate) fn plan(words: &str) {
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match WORDS.iter().position(|(name, _)| *name == word) {
            Some(place) => {
                PLANNED.fetch_or(1 << place, Ordering::AcqRel);
                if *word == *"lpi" {
                    make_lpi_tables();
                }
            }
            None => log::warn!("lkdtm_state={word}: there is no such state"),
        }
    }
}

/// Leaves behind what was asked for. All of DAIF is masked then, unless that is nothing.
pub(crate) fn leave() {
    let planned = PLANNED.load(Ordering::Acquire);
    let wanted = WORDS.iter().enumerate();
    for (_, (_, leave)) in wanted.filter(|(place, _)| planned >> place & 1 != 0) {
        leave();
    }
}

fn debug() {
    provoke_state::enable_debug(CAPTURE_LINK, image::bounds().begin);
}

/// Physical address of tables for LPIs, once there are any.
static LPI_TABLES: AtomicU64 = AtomicU64::new(0);
/// Configuration and pending bits, 64 KiB each; and their alignment.
const LPI_TABLES_LEN: usize = 0x2_0000;
const LPI_ALIGN: u64 = 0x1_0000;

/// Takes memory for good: at boot, since where this ends nothing can be allocated.
fn make_lpi_tables() {
    let memory = vec![0_u8; LPI_TABLES_LEN + LPI_ALIGN as usize].leak();
    let address = (memory.as_ptr().addr() as u64).next_multiple_of(LPI_ALIGN);
    LPI_TABLES.store(address - LINEAR_BASE, Ordering::Release);
}

fn lpis() {
    provoke_state::enable_lpis(LPI_TABLES.load(Ordering::Acquire));
}
