// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console UART: found in the DTB, written with bounded waits, never locked.
//!
//! `emergency!` is for exceptions, panics and the handover: no lock, no allocation. Ordinary output goes through a lock of
//! the kernel's logger and ends here too.
// Crash path: nothing here may panic on what is in memory, in the DTB or on the wire.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use boot_config::dtb::{Console, UartModel};
use boot_config::{Dtb, DtbError};

use crate::arch::Deadline;
use crate::cadence::{self, Cadence};
use crate::emergency;
use crate::mini_uart::{self, MiniUart};
use crate::mmio::Ports;
use crate::mmu::{AddressSpace, MapError};
use crate::ns16550::Ns16550;
use crate::pl011::{Pl011, Received, Registers};
use crate::uart::Uart;
use crate::videocore;
use crate::watchdog;

/// Longest wait for room in the transmit FIFO, for one byte. At 300 baud a byte takes 33 ms.
const BYTE_WAIT_US: u64 = 100_000;

/// Virtual address of the UART's registers, 0 when there is no console.
static ADDRESS: AtomicU64 = AtomicU64::new(0);
/// Of which kind it is: 0 for a PL011, [`LAYOUT_MINI`], [`LAYOUT_CADENCE`], else a 16550's [`LAYOUT_16550`], [`LAYOUT_WIDE`] and `reg-shift`.
static LAYOUT: AtomicU32 = AtomicU32::new(0);
const LAYOUT_16550: u32 = 1 << 31;
const LAYOUT_WIDE: u32 = 1 << 30;
const LAYOUT_MINI: u32 = 1 << 29;
const LAYOUT_CADENCE: u32 = 1 << 28;

/// Why there is no console.
#[derive(Clone, Copy, Debug)]
pub enum ConsoleError {
    /// Neither the DTB nor the command line names one.
    NotNamed,
    /// It names a device without driver here.
    NoDriver {
        /// Physical address of its registers.
        address: u64,
    },
    /// Its registers are further apart than a 16550's, or not where they could be accessed.
    Layout {
        /// `reg-shift`.
        shift: u32,
        /// `reg-io-width`.
        width: u32,
        /// Physical address of the first.
        address: u64,
    },
    /// The DTB's console is broken.
    Dtb(DtbError),
    /// Its registers could not be mapped.
    Map(MapError),
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNamed => {
                f.write_str("neither the device tree nor console= or earlycon= names one")
            }
            Self::NoDriver { address } => write!(f, "no driver for the UART at {address:#x}"),
            Self::Layout {
                shift,
                width,
                address,
            } => write!(
                f,
                "UART at {address:#x}: reg-shift {shift} with reg-io-width {width} is no layout of a 16550"
            ),
            Self::Dtb(error) => write!(f, "{error}"),
            Self::Map(error) => write!(f, "{error}"),
        }
    }
}

/// Uses the PL011 at the physical address `base` until the DTB has been read; a board's policy. Nothing is configured.
pub fn install_early(space: &mut AddressSpace, base: Option<u64>) {
    if let Some(base) = base
        && let Ok(registers) = space.map_device(base, size_of::<Registers>() as u64)
    {
        install(registers, 0);
        EARLY.store(base, Ordering::Relaxed);
    }
}

/// Uses a UART that nobody described, in the last message before the end: 8 bits, at whatever rate it has.
///
/// # Errors
/// There is no driver for it, or it cannot be mapped.
pub fn install_last_resort(
    space: &mut AddressSpace,
    model: UartModel,
    address: u64,
) -> Result<(), ConsoleError> {
    let (address, len, layout) =
        fixed_layout(model, address).ok_or(ConsoleError::NoDriver { address })?;
    let registers = space.map_device(address, len).map_err(ConsoleError::Map)?;
    install(registers, layout);
    if let Some(uart) = uart() {
        uart.configure(None);
    }
    Ok(())
}

/// Address and length of the registers, and what [`LAYOUT`] says of them, where the model says it all.
fn fixed_layout(model: UartModel, address: u64) -> Option<(u64, u64, u32)> {
    Some(match model {
        UartModel::Pl011 => (address, size_of::<Registers>() as u64, 0),
        UartModel::Bcm2835Aux => {
            let block = address.wrapping_sub(mini_uart::OFFSET_IN_BLOCK);
            (block, size_of::<mini_uart::Registers>() as u64, LAYOUT_MINI)
        }
        UartModel::Cadence => {
            let len = size_of::<cadence::Registers>() as u64;
            (address, len, LAYOUT_CADENCE)
        }
        UartModel::Ns16550 | UartModel::Other => return None,
    })
}

/// Physical address of the early console, 0 without one.
static EARLY: AtomicU64 = AtomicU64::new(0);

/// Puts the layout beside the address; a crash between the two finds no console.
fn install(registers: u64, layout: u32) {
    ADDRESS.store(0, Ordering::Release);
    LAYOUT.store(layout, Ordering::Release);
    ADDRESS.store(registers, Ordering::Release);
}

/// Makes the UART that the DTB names the console, at the baud rate it names.
///
/// # Errors
/// See [`ConsoleError`]; an early console stays if the DTB has a PL011 there. On another board it may be RAM, and is written no more.
pub fn install_from_dtb(space: &mut AddressSpace, dtb: &Dtb<'_>) -> Result<(), ConsoleError> {
    let result = try_install_from_dtb(space, dtb);
    if result.is_err() {
        let early = EARLY.load(Ordering::Relaxed);
        let is_there = dtb.find(|node| {
            // In a tree that cannot be read the address is not contradicted.
            let is_it = node
                .registers(0)
                .map_or(true, |range| range.is_some_and(|it| it.start == early));
            UartModel::of(node) == UartModel::Pl011 && is_it
        });
        if is_there.is_none() {
            install(0, 0);
        }
    }
    result
}

fn try_install_from_dtb(space: &mut AddressSpace, dtb: &Dtb<'_>) -> Result<(), ConsoleError> {
    let console = dtb
        .console()
        .map_err(ConsoleError::Dtb)?
        .ok_or(ConsoleError::NotNamed)?;
    let address = console.registers.start;
    let (address, len, layout) = match console.model {
        UartModel::Ns16550 => layout_16550(&console)?,
        model => fixed_layout(model, address).ok_or(ConsoleError::NoDriver { address })?,
    };
    let registers = space.map_device(address, len).map_err(ConsoleError::Map)?;
    videocore::connect_pins(space, dtb, &console);
    install(registers, layout);
    // What an earlier kernel left in the FIFO goes out first.
    drain();
    let asked = match console.clock_hz {
        Some(_) => None,
        None => videocore::uart_clock(space, dtb, console.model),
    };
    let told = asked.and_then(|(_, clock)| clock.ok());
    let clock = console.clock_hz.or(told).unwrap_or(0);
    if let Some(uart) = uart() {
        let rate = console.baud.and_then(|baud| uart.divisors_for(clock, baud));
        uart.configure(rate);
        let divisors = uart.divisors();
        // Without a clock nothing is known of the divisors; what the DTB says then was set by the boot loader.
        let baud = rate
            .and(console.baud)
            .or_else(|| uart.actual_baud(clock, divisors))
            .or(console.baud)
            .unwrap_or(0);
        CLOCK_HZ.store(clock, Ordering::Relaxed);
        BAUD.store(baud, Ordering::Relaxed);
        FIRST_BAUD.store(baud, Ordering::Relaxed);
        FIRST_INTEGER.store(divisors.0, Ordering::Relaxed);
        FIRST_FRACTION.store(divisors.1, Ordering::Relaxed);
    }
    match asked {
        Some((name, Ok(hz))) => emergency!("console: {name} clock {hz} Hz by the firmware\n"),
        Some((name, Err(error))) => {
            emergency!("console: {name} clock not known, its rate stays: {error}\n");
        }
        None => {}
    }
    Ok(())
}

/// Address and bytes of a 16550's registers, and what [`LAYOUT`] says of them.
fn layout_16550(console: &Console<'_>) -> Result<(u64, u64, u32), ConsoleError> {
    let (shift, width) = (console.register_shift, console.register_width);
    let address = console.registers.start;
    let is_wide = width == 4;
    let is_sound = shift <= Ports::MAX_SHIFT
        && matches!(width, 1 | 4)
        && (!is_wide || (shift >= 2 && address.is_multiple_of(4)));
    if !is_sound {
        return Err(ConsoleError::Layout {
            shift,
            width,
            address,
        });
    }
    let wide = if is_wide { LAYOUT_WIDE } else { 0 };
    let layout = LAYOUT_16550 | wide | shift;
    Ok((address, 8_u64.wrapping_shl(shift), layout))
}

/// Leaves the UART as no kernel should: see `provoke_state`.
pub(crate) fn disturb() {
    if let Some(uart) = uart() {
        uart.disturb();
    }
}

/// The UART's clock in Hz, 0 when neither the DTB nor the firmware says it.
static CLOCK_HZ: AtomicU32 = AtomicU32::new(0);
/// The rate that is set, 0 when it is unknown; and the same with its divisors as [`install_from_dtb`] left them.
static BAUD: AtomicU32 = AtomicU32::new(0);
static FIRST_BAUD: AtomicU32 = AtomicU32::new(0);
static FIRST_INTEGER: AtomicU32 = AtomicU32::new(0);
static FIRST_FRACTION: AtomicU32 = AtomicU32::new(0);

/// The baud rate that is set: the last one that [`set_baud`] set, the DTB's, or what the divisors say; `None` when nothing is
/// known.
pub fn baud() -> Option<u32> {
    Some(BAUD.load(Ordering::Relaxed)).filter(|baud| *baud != 0)
}

/// Whether [`set_baud`] can make this rate: the UART's clock is known, and a divisor is near (DDI 0183, section 3.3.6).
pub fn can_set(baud: u32) -> bool {
    uart().is_some_and(|uart| {
        let clock = CLOCK_HZ.load(Ordering::Relaxed);
        uart.divisors_for(clock, baud).is_some()
    })
}

/// Sets the baud rate, after everything written has left. `false`, and nothing is changed, when the rate cannot be made or the
/// line takes no bytes; waits as long as [`drain`] at most. What the UART has received stays in its FIFO.
pub fn set_baud(baud: u32) -> bool {
    let Some(uart) = uart() else { return false };
    let Some(divisors) = uart.divisors_for(CLOCK_HZ.load(Ordering::Relaxed), baud) else {
        return false;
    };
    if !drain() {
        return false;
    }
    uart.configure(Some(divisors));
    BAUD.store(baud, Ordering::Relaxed);
    true
}

/// Sets the baud rate at which the console was installed, in any case: a line that takes no bytes has lost them. Nothing happens
/// when [`set_baud`] changed nothing.
pub fn restore_baud() {
    // Without a clock `set_baud` changed nothing, and the early console's first divisors are not known.
    let Some(uart) = uart().filter(|_| CLOCK_HZ.load(Ordering::Relaxed) != 0) else {
        return;
    };
    let first = [&FIRST_INTEGER, &FIRST_FRACTION].map(|part| part.load(Ordering::Relaxed));
    let first = (first[0], first[1]);
    if uart.divisors() != first {
        drain();
        uart.configure(Some(first));
        BAUD.store(FIRST_BAUD.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn uart() -> Option<Uart> {
    let address = ADDRESS.load(Ordering::Acquire);
    if address == 0 {
        return None;
    }
    let layout = LAYOUT.load(Ordering::Acquire);
    Some(
        match layout & (LAYOUT_16550 | LAYOUT_MINI | LAYOUT_CADENCE) {
            // SAFETY: only `install` stores here, an address at which `map_device` mapped the register block for good.
            0 => Uart::Pl011(Pl011::new(unsafe { &*(address as *const Registers) })),
            LAYOUT_MINI => {
                let registers = address as *const mini_uart::Registers;
                // SAFETY: as above.
                Uart::Mini(MiniUart::new(unsafe { &*registers }))
            }
            LAYOUT_CADENCE => {
                let registers = address as *const cadence::Registers;
                // SAFETY: as above.
                Uart::Cadence(Cadence::new(unsafe { &*registers }))
            }
            _ => {
                let (shift, is_wide) = (layout & 0xff, layout & LAYOUT_WIDE != 0);
                // SAFETY: as above; `layout_16550` checked the rest.
                Uart::Ns16550(Ns16550::new(unsafe { Ports::new(address, shift, is_wide) }))
            }
        },
    )
}

/// Set when the UART took no byte for [`BYTE_WAIT_US`]; then nothing waits for it until it takes one again.
static STUCK: AtomicBool = AtomicBool::new(false);

/// Writes bytes as they are. Gives up on a UART that takes none: returns how many it took.
pub fn write_raw(bytes: &[u8]) -> usize {
    let Some(uart) = uart() else { return 0 };
    for (written, byte) in bytes.iter().enumerate() {
        if uart.try_write(*byte) {
            continue;
        }
        let deadline = Deadline::after_us(BYTE_WAIT_US);
        while !uart.try_write(*byte) {
            if STUCK.load(Ordering::Relaxed) || deadline.is_past() {
                STUCK.store(true, Ordering::Relaxed);
                return written;
            }
            core::hint::spin_loop();
        }
    }
    STUCK.store(false, Ordering::Relaxed);
    watchdog::progress();
    bytes.len()
}

/// Writes what the FIFO takes now, without waiting. Returns how many bytes it took; 0 when there is no console.
pub fn try_write(bytes: &[u8]) -> usize {
    let Some(uart) = uart() else { return 0 };
    let written = uart.write_some(bytes);
    // A full FIFO says nothing about whether the UART is stuck; a byte taken says that it is not.
    if written > 0 {
        STUCK.store(false, Ordering::Relaxed);
        watchdog::progress();
    }
    written
}

/// Waits, for at most the time of a full FIFO at 300 baud, until everything written has left, the last stop bit included
/// (DDI 0183, section 3.3.3). Returns whether it has.
pub fn drain() -> bool {
    let Some(uart) = uart() else { return true };
    let deadline = Deadline::after_us(600_000);
    while uart.is_busy() {
        if deadline.is_past() {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Takes the next received byte or BREAK.
pub fn read() -> Option<Received> {
    uart()?.try_read()
}

/// Characters that the receive FIFO holds (DDI 0183 r1p5; 16 before).
const RECEIVE_FIFO: usize = 32;

static OVERRUNS: AtomicU32 = AtomicU32::new(0);
static DAMAGED: AtomicU32 = AtomicU32::new(0);
static BREAKS: AtomicU32 = AtomicU32::new(0);

/// What [`try_read`] found wrong on the line since boot; each count wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveErrors {
    /// Times that at least one byte was lost because the FIFO was full.
    pub overruns: u32,
    /// Bytes whose stop bit was wrong; they were handed on.
    pub damaged: u32,
    /// BREAKs; they were left out.
    pub breaks: u32,
}

/// Counts of [`try_read`].
pub fn receive_errors() -> ReceiveErrors {
    ReceiveErrors {
        overruns: OVERRUNS.load(Ordering::Relaxed),
        damaged: DAMAGED.load(Ordering::Relaxed),
        breaks: BREAKS.load(Ordering::Relaxed),
    }
}

/// Takes the next received byte, without waiting; for a protocol with checksums of its own.
///
/// A byte with a framing error is handed on: most of its bits may be right, the frame's length stays right, and the checksum
/// judges. So is one behind an overrun, which is good itself. A BREAK is no byte of anybody and is left out.
pub fn try_read() -> Option<u8> {
    let uart = uart()?;
    for _ in 0..RECEIVE_FIFO {
        let character = uart.try_read_character()?;
        if character.is_after_overrun {
            OVERRUNS.fetch_add(1, Ordering::Relaxed);
        }
        if !character.is_break {
            if character.is_damaged {
                DAMAGED.fetch_add(1, Ordering::Relaxed);
            }
            return Some(character.byte);
        }
        BREAKS.fetch_add(1, Ordering::Relaxed);
    }
    None
}

/// Raises interrupts for received bytes from now on.
pub fn enable_receive_interrupt() {
    if let Some(uart) = uart() {
        uart.enable_receive_interrupt();
    }
}

/// Clears the receive interrupt.
pub fn acknowledge_receive_interrupt() {
    if let Some(uart) = uart() {
        uart.acknowledge();
    }
}

/// Text output with CR LF line ends.
#[derive(Debug, Default)]
pub struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(body) => {
                    write_raw(body.as_bytes());
                    write_raw(b"\r\n");
                }
                None => {
                    write_raw(line.as_bytes());
                }
            }
        }
        Ok(())
    }
}

/// Prints on the console without lock, allocation or unbounded wait.
#[macro_export]
macro_rules! emergency {
    ($($argument:tt)*) => {{
        // A UART that takes nothing has nowhere to report it.
        let _ = core::fmt::Write::write_fmt(&mut $crate::console::Emergency, format_args!($($argument)*));
    }};
}
