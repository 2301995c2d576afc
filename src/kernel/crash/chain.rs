// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way out of a crash, and what is left when it is barred: the chain of fallbacks.
//!
//! A capture kernel whose digest is right is entered; without one the minimal dumper sends what this kernel can send of itself. A crash
//! inside the crash path goes one level down each time, and the last level halts.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use machine::exceptions::continue_on_crash_stack;
use machine::region::{ArmedCopy, COPIES};
use machine::{arch, console, emergency, intc, timer, watchdog};
use sha2::{Digest, Sha256};
use vmcore::Registers;
use vmcore::afterimage_notes::{CopyState, FALLBACK, Fallback, FallbackLevel, Phase};
use vmcore::notes::AFTERIMAGE;

use super::{
    CRASH, Crash, READY, after, minimal, notes, reach, stop, write_machine_notes, write_timings,
};
use crate::region;

/// How often the winner came here again.
static ENTRIES: AtomicUsize = AtomicUsize::new(0);

/// A fault inside the crash path: each level does less. First what is missing is made up for and the handover is tried, then
/// the handover alone, then the minimal dump; then the CPU halts.
pub(super) fn crash_in_crash_path(
    registers: &Registers,
    fault: Option<(u64, u64)>,
    what: fmt::Arguments<'_>,
) -> ! {
    // Counted first: printing itself may be what faults.
    let level = ENTRIES.fetch_add(1, Ordering::AcqRel);
    if level > 2 {
        arch::halt();
    }
    let crash = CRASH.try_lock().and_then(|crash| *crash);
    if level == 0 {
        if READY.load(Ordering::Acquire) {
            intc::send_stop();
        }
        let (esr, far) = fault.unwrap_or((0, 0));
        emergency!("\nA second crash, in the crash path\n");
        emergency!(
            "  pc {:#018x} esr {esr:#010x} far {far:#018x}\n",
            registers.pc
        );
        if let Some(crash) = &crash {
            let stops = stop::wait_for_others(crash.slot);
            notes::write_cpu(crash.slot, &crash.registers, Some(&crash.system));
            notes::write_interrupts();
            intc::quiesce();
            timer::stop();
            notes::write_machine(|writer| write_machine_notes(writer, crash, &stops));
        }
        emergency!("  {what}\n");
    }
    // What it is on now, the exception stack perhaps, is too small for what follows.
    continue_on_crash_stack(go_on, level as u64)
}

/// Goes on after a fault at this level.
extern "C" fn go_on(level: u64) -> ! {
    let crash = CRASH.try_lock().and_then(|crash| *crash);
    if level <= 1 {
        leave(crash.as_ref())
    }
    end_minimal(
        crash.as_ref(),
        [CopyState::NotChecked; COPIES],
        "the crash path failed again and again",
    )
}

/// Opens the region, checks what is armed and enters it. Without a good image: the minimal dumper, and what is to follow.
pub(super) fn leave(crash: Option<&Crash>) -> ! {
    // What is armed stands in the region, out of the crashed kernel's reach: it knows better than any flag of ours.
    let Some(open) = region::active().and_then(|region| region.open_for_crash()) else {
        emergency!("No capture kernel is loaded\n");
        end_minimal(
            crash,
            [CopyState::Absent; COPIES],
            "no capture kernel is loaded",
        )
    };
    let mut states: [CopyState; COPIES] = core::array::from_fn(|number| match open.copy(number) {
        Some(_) => CopyState::NotChecked,
        None => CopyState::Absent,
    });
    for number in 0..COPIES {
        let Some(copy) = open.copy(number) else {
            continue;
        };
        let is_right = is_digest_right(&copy);
        if let Some(state) = states.get_mut(number) {
            *state = if is_right {
                CopyState::Good
            } else {
                CopyState::WrongDigest
            };
        }
        if is_right {
            reach(Phase::Verified);
            enter(copy, number, states)
        }
        emergency!(
            "{} is corrupted (its digest is wrong): it is not entered\n",
            if number == 0 {
                "The capture kernel"
            } else {
                "Its second copy"
            }
        );
    }
    end_minimal(
        crash,
        states,
        "the capture kernel is corrupted (its digest is wrong)",
    )
}

fn enter(copy: ArmedCopy, number: usize, states: [CopyState; COPIES]) -> ! {
    let (level, name) = if number == 0 {
        (FallbackLevel::FirstCopy, "the capture kernel")
    } else {
        (FallbackLevel::SecondCopy, "its second copy")
    };
    say_level(level, states);
    emergency!("  entering {name}\n");
    console::drain();
    watchdog::progress();
    reach(Phase::Jump);
    notes::append_machine(|writer| write_timings(writer, &[Phase::Verified, Phase::Jump]));
    copy.enter()
}

/// Whether a copy is what was loaded.
pub(super) fn is_digest_right(copy: &ArmedCopy) -> bool {
    let mut digest = Sha256::new();
    for segment in copy.segments() {
        digest.update(segment);
    }
    let found: [u8; 32] = digest.finalize().into();
    found == *copy.expected_digest()
}

fn say_level(level: FallbackLevel, copies: [CopyState; COPIES]) {
    let note = Fallback { level, copies };
    notes::append_machine(|writer| {
        writer.note_with(AFTERIMAGE, FALLBACK, |desc| note.encode(desc))
    });
}

fn end_minimal(crash: Option<&Crash>, copies: [CopyState; COPIES], why: &str) -> ! {
    say_level(FallbackLevel::Minimal, copies);
    minimal::dump(crash, why);
    after::go(why)
}
