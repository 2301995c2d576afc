// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hardware: boot, exceptions, exception levels, MMU, caches, heap, UART, GIC, PSCI.
//!
//! The only library with `unsafe` and assembly. It offers narrow safe types to `kernel` and `capture`. Drivers take their
//! address from the caller. What needs an arm64 CPU is gated on `target_os = "none"`, so the rest runs in host tests.
#![no_std]

#[cfg(target_os = "none")]
pub mod arch;
#[cfg(any(target_os = "none", test))]
mod bcm2835_dma;
#[cfg(any(target_os = "none", test))]
mod bcm2835_gpio;
#[cfg(any(target_os = "none", test))]
mod bcm2835_mailbox;
#[cfg(any(target_os = "none", test))]
mod bcm2835_pm;
#[cfg(any(target_os = "none", test))]
mod bcm2836;
#[cfg(target_os = "none")]
pub mod blob;
#[cfg(target_os = "none")]
pub mod boot;
pub mod cadence;
#[cfg(target_os = "none")]
pub mod capture_entry;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
pub mod foreign;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(any(target_os = "none", test))]
mod gic_v2;
#[cfg(any(target_os = "none", test))]
mod gic_v3;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod image;
#[cfg(target_os = "none")]
pub mod intc;
pub mod layout;
pub mod mini_uart;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(any(target_os = "none", test))]
pub mod mmu;
pub mod no_heap;
#[cfg(any(target_os = "none", test))]
mod npcm_watchdog;
pub mod ns16550;
#[cfg(target_os = "none")]
pub mod old_memory;
pub mod once_buffer;
#[cfg(target_os = "none")]
pub mod own_memory;
#[cfg(target_os = "none")]
pub mod percpu;
pub mod pl011;
#[cfg(target_os = "none")]
pub mod provoke;
#[cfg(target_os = "none")]
pub mod provoke_state;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod ram;
#[cfg(target_os = "none")]
pub mod region;
#[cfg(any(target_os = "none", test))]
mod registers;
#[cfg(target_os = "none")]
pub mod reset;
#[cfg(target_os = "none")]
mod restart;
pub mod room;
#[cfg(target_os = "none")]
pub mod semihosting;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod survivor;
#[cfg(any(target_os = "none", test))]
pub mod system_registers;
#[cfg(target_os = "none")]
pub mod timer;
pub mod uart;
#[cfg(target_os = "none")]
mod videocore;
#[cfg(target_os = "none")]
pub mod watchdog;
#[cfg(target_os = "none")]
pub mod way_out;
