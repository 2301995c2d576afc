// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a Raspberry Pi's UARTs need besides themselves, where the tree has it: a clock, which the firmware knows, and pins.
//!
//! A question takes [`WAIT_US`] at most. The firmware sees the first GiB of RAM: a kernel that lies above it gets no answers.
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

use core::cell::UnsafeCell;
use core::fmt;

use boot_config::dtb::{Console, UartModel};
use boot_config::{Dtb, DtbError, PhysRange};

use crate::arch::{self, Deadline};
use crate::bcm2835_dma::{CHANNEL_LEN, CHANNELS};
use crate::bcm2835_gpio::{Bcm2835Gpio, Function};
use crate::bcm2835_mailbox::{self as mailbox, BUFFER_LEN, Mailbox};
use crate::image;
use crate::mmio::Block;
use crate::mmu::{AddressSpace, MapError};

/// Longest wait for an answer. Linux waits for a second, but a console must not; an answer takes less than one millisecond.
const WAIT_US: u64 = 50_000;
/// The firmware's numbers of the PL011s' clock, and of the core's, which the mini UART has.
const CLOCK_UART: u32 = 2;
const CLOCK_CORE: u32 = 4;
/// Clocks that are believed: a UART's are 3 MHz and more, no core runs at 1 GHz.
const CLOCKS_HZ: core::ops::RangeInclusive<u32> = 1_000_000..=1_000_000_000;

/// Bytes of the mailboxes' registers that are used, and of the pins'.
const MAILBOX_LEN: u64 = 0x3c;
const GPIO_LEN: u64 = 0xe8;
/// How far the two UARTs' registers lie behind the pins' (BCM2835 ARM Peripherals, sections 2.2 and 13.4; BCM2711, the same).
const PL011_FROM_GPIO: u64 = 0x1000;
const MINI_UART_FROM_GPIO: u64 = 0x1_5040;
/// More than 150 cycles of any core clock that is believed to be one: 150 at 50 MHz.
const PULL_US: u64 = 3;

/// The buffer, alone in its cache lines: what is dropped from the caches with it is nobody else's.
#[repr(C, align(128))]
struct Buffer(UnsafeCell<[u8; 128]>);

// SAFETY: it is reached by its address only, through `Block`, by who holds the one `AddressSpace` exclusively.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; 128]));

const _: () = assert!(BUFFER_LEN <= size_of::<Buffer>() as u64);

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Error {
    Dtb(DtbError),
    Map(MapError),
    Mailbox(mailbox::Error),
    /// Another clock, or a rate that cannot be: which, and Hz.
    Clock(u32, u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dtb(error) => write!(f, "device tree: {error}"),
            Self::Map(error) => write!(f, "registers: {error}"),
            Self::Mailbox(error) => write!(f, "{error}"),
            Self::Clock(clock, hz) => {
                write!(
                    f,
                    "the firmware says {hz} Hz of clock {clock}, not believed"
                )
            }
        }
    }
}

/// Asks for one tag; `None` where the tree has no mailbox. The space is held for as long as it takes.
#[inline(never)]
fn ask(
    space: &mut AddressSpace,
    dtb: &Dtb<'_>,
    tag: u32,
    values: [u32; 2],
) -> Result<Option<[u32; 2]>, Error> {
    let deadline = Deadline::after_us(WAIT_US);
    let virtual_address = BUFFER.0.get().addr() as u64;
    let start = image::physical(virtual_address);
    let bytes = PhysRange {
        start,
        end: start.saturating_add(BUFFER_LEN),
    };
    let Some(found) = dtb.bcm2835_mailbox(&bytes).map_err(Error::Dtb)? else {
        return Ok(None);
    };
    let bus_address = found
        .bus_address
        .ok_or(Error::Mailbox(mailbox::Error::OutOfReach))?;
    let registers = space
        .map_device(found.registers.start, MAILBOX_LEN)
        .map_err(Error::Map)?;
    let mailbox = Mailbox {
        // SAFETY: mapped just above, for good.
        registers: unsafe { Block::new(registers, MAILBOX_LEN) },
        // SAFETY: memory of this image, aligned, that nothing else refers to: `space` exists once and is held here.
        buffer: unsafe { Block::new(virtual_address, BUFFER_LEN) },
        bus_address,
    };
    let answer = mailbox.ask(tag, values, sync, || deadline.is_past());
    answer.map(Some).map_err(Error::Mailbox)
}

/// Writes the buffer to memory and drops it from the caches, ordered before what follows.
fn sync() {
    arch::clean_invalidate(BUFFER.0.get().addr() as u64, size_of::<Buffer>() as u64);
}

/// Clock of a UART in Hz, with its name; `None` where no firmware is to be asked. It is what the firmware has set the clock to: a core
/// under turbo runs faster.
pub(crate) fn uart_clock(
    space: &mut AddressSpace,
    dtb: &Dtb<'_>,
    model: UartModel,
) -> Option<(&'static str, Result<u32, Error>)> {
    let (name, clock) = match model {
        UartModel::Bcm2835Aux => ("core", CLOCK_CORE),
        UartModel::Pl011 => ("UART", CLOCK_UART),
        _ => return None,
    };
    let asked = ask(space, dtb, mailbox::GET_CLOCK_RATE, [clock, 0]).transpose()?;
    let clock = asked.and_then(|[found, hz]| {
        let is_it = found == clock && CLOCKS_HZ.contains(&hz);
        is_it.then_some(hz).ok_or(Error::Clock(found, hz))
    });
    Some((name, clock))
}

/// Address and bytes of the memory that the VideoCore has for itself, by its firmware; `None` where there is none to be asked.
pub(crate) fn memory(space: &mut AddressSpace, dtb: &Dtb<'_>) -> Result<Option<(u64, u64)>, Error> {
    let told = ask(space, dtb, mailbox::GET_VC_MEMORY, [0, 0])?;
    Ok(told.map(|[base, len]| (base.into(), len.into())))
}

/// A DMA controller's registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dma {
    pub(crate) block: Block,
    /// Channels that they are of.
    pub(crate) channels: u64,
}

/// The DMA controller; `None` without one.
pub(crate) fn dma(space: &mut AddressSpace, dtb: &Dtb<'_>) -> Result<Option<Dma>, Error> {
    let Some(registers) = dtb.bcm2835_dma().map_err(Error::Dtb)? else {
        return Ok(None);
    };
    let channels = (registers.len() / CHANNEL_LEN).min(CHANNELS);
    let len = channels.saturating_mul(CHANNEL_LEN);
    let base = space.map_device(registers.start, len).map_err(Error::Map)?;
    // SAFETY: mapped just above, for good.
    let block = unsafe { Block::new(base, len) };
    Ok(Some(Dma { block, channels }))
}

/// Connects the header's pins with the console, where it is one of a Raspberry Pi's two UARTs that can be had there.
pub(crate) fn connect_pins(space: &mut AddressSpace, dtb: &Dtb<'_>, console: &Console<'_>) {
    let Ok(Some(gpio)) = dtb.bcm2835_gpio() else {
        return;
    };
    let distance = console.registers.start.checked_sub(gpio.registers.start);
    let function = match (console.model, distance) {
        (UartModel::Pl011, Some(PL011_FROM_GPIO)) => Function::Pl011,
        (UartModel::Bcm2835Aux, Some(MINI_UART_FROM_GPIO)) => Function::MiniUart,
        // Other PL011s of a BCM2711 have other pins.
        _ => return,
    };
    // A page that cannot be mapped leaves the pins as the firmware set them.
    if let Ok(base) = space.map_device(gpio.registers.start, GPIO_LEN) {
        let gpio = Bcm2835Gpio {
            // SAFETY: mapped just above, for good.
            registers: unsafe { Block::new(base, GPIO_LEN) },
            is_bcm2711: gpio.is_bcm2711,
        };
        gpio.connect(function, || {
            let deadline = Deadline::after_us(PULL_US);
            while !deadline.is_past() {
                core::hint::spin_loop();
            }
        });
    }
}
