// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stopping the other CPUs (decision 5): asked by FIQ, or by IRQ where Group 0 is not ours; each saves its registers and turns
//! itself off; PSCI AFFINITY_INFO is the proof, or the stub's word that it is parked. Bounded, and a CPU that does not answer is named.

use core::sync::atomic::{AtomicU32, Ordering};

use machine::exceptions::{CapturedRegisters, TrapFrame};
use machine::layout::MAX_CPUS;
use machine::{arch, psci, region, system_registers};
use spin::Mutex;
use vmcore::Registers;
use vmcore::afterimage_notes::{CpuStop, StopStatus};

use super::notes;
use crate::cpus;

/// Longest wait for all CPUs to save their registers.
const SAVE_US: u64 = 1_000_000;
/// Longest wait for a CPU that has saved to be off.
const OFF_US: u64 = 100_000;

/// How each CPU has stopped, by `StopStatus` code; 0: not yet.
static STATUS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// Registers of each CPU that crashed while another was winning, where the stub stops it.
static LOST: [Mutex<Option<Registers>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];

/// The STOP note's entries.
pub(super) struct Stops {
    entries: [Option<CpuStop>; MAX_CPUS],
}

impl Stops {
    pub(super) fn iter(&self) -> impl Iterator<Item = &CpuStop> {
        self.entries.iter().flatten()
    }
}

/// Waits for every running CPU but `winner`, takes over what the stub saved for it, and prints who did not answer.
pub(super) fn wait_for_others(winner: usize) -> Stops {
    let start = arch::counter();
    let deadline = arch::Deadline::after_us(SAVE_US);
    let mut stops = Stops {
        entries: [None; MAX_CPUS],
    };
    for (slot, entry) in stops.entries.iter_mut().enumerate() {
        let Some(mpidr) = cpus::mpidr(slot) else {
            continue;
        };
        let mut stop = CpuStop {
            cpu: slot as u32,
            status: StopStatus::NeverStarted,
            mpidr,
            waited_us: 0,
            is_off_confirmed: false,
            is_parked: false,
        };
        if slot == winner {
            stop.status = StopStatus::Crashed;
        } else if cpus::is_started(slot) {
            stop.status = wait_for(slot, &deadline);
            stop.waited_us = arch::ticks_to_us(arch::counter().saturating_sub(start));
            if stop.status == StopStatus::NotResponding {
                machine::emergency!(
                    "  CPU {slot} does not respond after {} us\n",
                    stop.waited_us
                );
            } else {
                stop.is_off_confirmed = psci::is_there() && wait_until_off(mpidr);
                stop.is_parked = !stop.is_off_confirmed && wait_until_parked(slot);
            }
        }
        *entry = Some(stop);
    }
    stops
}

fn wait_for(slot: usize, deadline: &arch::Deadline) -> StopStatus {
    loop {
        let own = STATUS
            .get(slot)
            .map_or(0, |status| status.load(Ordering::Acquire));
        if own != 0 {
            return StopStatus::from_code(own);
        }
        if region::stub::is_installed()
            && let Some(frame) = region::stub::stop_frame(slot)
        {
            // Where it crashed, rather than where it waited to be stopped.
            let lost = LOST.get(slot).and_then(Mutex::try_lock);
            let at = lost.and_then(|lost| *lost).unwrap_or(Registers {
                x: frame.x,
                sp: frame.sp,
                pc: frame.pc,
                pstate: frame.pstate,
            });
            notes::write_stopped_cpu(slot, &at, &frame);
            return StopStatus::StoppedAtEl2;
        }
        if deadline.is_past() {
            return StopStatus::NotResponding;
        }
        core::hint::spin_loop();
    }
}

fn wait_until_off(mpidr: u64) -> bool {
    let deadline = arch::Deadline::after_us(OFF_US);
    loop {
        match psci::is_off(mpidr) {
            Ok(true) => return true,
            Ok(false) if !deadline.is_past() => core::hint::spin_loop(),
            _ => return false,
        }
    }
}

/// Where PSCI does not turn CPUs off, the stub parks them in the region: this one's word for it.
fn wait_until_parked(slot: usize) -> bool {
    let deadline = arch::Deadline::after_us(OFF_US);
    loop {
        if region::stub::is_parked(slot) {
            return true;
        }
        if !region::stub::is_installed() || deadline.is_past() {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// The stop request, taken at EL1: saves the interrupted registers and turns this CPU off.
pub(crate) fn stop_this_cpu(frame: &TrapFrame, status: StopStatus) -> ! {
    arch::mask_all();
    save_and_turn_off(&notes::registers(&CapturedRegisters::from(frame)), status)
}

/// A CPU that crashed while another was winning.
pub(super) fn lose(registers: &Registers) -> ! {
    if region::stub::is_installed() {
        // The stub may stop this CPU at any instruction, with the lock of its note buffer in hand, too: the winner writes for it.
        if let Some(mut lost) = LOST
            .get(machine::percpu::current_slot())
            .and_then(Mutex::try_lock)
        {
            *lost = Some(*registers);
        }
        let deadline = arch::Deadline::after_us(SAVE_US / 2);
        while !deadline.is_past() {
            core::hint::spin_loop();
        }
    }
    save_and_turn_off(registers, StopStatus::StoppedItself)
}

fn save_and_turn_off(registers: &Registers, status: StopStatus) -> ! {
    let slot = machine::percpu::current_slot();
    notes::write_cpu(slot, registers, Some(&system_registers::read()));
    machine::timer::stop();
    machine::intc::quiesce_own();
    if let Some(own) = STATUS.get(slot) {
        own.store(status.code(), Ordering::Release);
    }
    // Refused, or no PSCI: the stub parks it in the region. Without a stub it is halted with everything masked, in this kernel's memory, which the
    // winner sees as neither confirmed off nor parked.
    let _ = psci::cpu_off();
    region::stub::park();
    arch::halt()
}
