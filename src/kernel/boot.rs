// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which the kernel comes up, from the first Rust function to the program's `main`.

use alloc::boxed::Box;
use alloc::vec;

use boot_config::dtb::Gic;
use boot_config::{Dtb, MemoryMap, PhysRange};
use machine::blob::{self, BlobError};
use machine::boot::EntryState;
use machine::layout::{PAGE_SIZE, PHYSICAL_LIMIT};
use machine::mmu::AddressSpace;
use machine::{arch, console, emergency, exceptions, gic, intc, reset};

use crate::board::Board;
use crate::params::Params;
use crate::{cpus, crash, interrupts, lkdtm, load, logger, memory, region, status, sysrq, watch};

/// What the program is told.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    command_line: &'static [u8],
    dtb: &'static [u8],
    cpus: usize,
    ram_bytes: u64,
    entry: EntryState,
}

impl Boot {
    /// The kernel's command line (`/chosen/bootargs`).
    #[must_use]
    pub fn command_line(&self) -> &'static [u8] {
        self.command_line
    }

    /// The machine's DTB, with `/reserved-memory/crashkernel@ADDR` when there is a crash region.
    #[must_use]
    pub fn dtb(&self) -> &'static [u8] {
        self.dtb
    }

    /// CPUs that run.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// How the kernel was entered.
    #[must_use]
    pub fn entry(&self) -> EntryState {
        self.entry
    }

    /// Whether the host said that it takes semihosting calls (`semihosting` on the command line).
    #[must_use]
    pub fn has_semihosting(&self) -> bool {
        Params::parse(self.command_line).semihosting
    }
}

/// What a program does that is its own capture kernel: dumps the crashed machine. The last argument is [`Board::early_pl011`].
pub type CaptureRole = fn(AddressSpace, EntryState, Option<u64>) -> !;

/// Brings the kernel up and runs `main`, or runs `capture`. The board's binary calls this through [`crate::entry!`].
pub fn start(
    entry: EntryState,
    board: &'static Board,
    main: fn(Boot) -> !,
    capture: Option<CaptureRole>,
) -> ! {
    let mut space = match AddressSpace::take(entry.image) {
        Ok(space) => space,
        // Nothing can be printed without a mapping.
        Err(_) => arch::halt(),
    };
    if let Some(capture) = capture
        && is_capture_kernel(&mut space, entry.dtb)
    {
        capture(space, entry, board.early_pl011);
    }
    console::install_early(&mut space, board.early_pl011);
    exceptions::install(&interrupts::HANDLERS);
    arch::unmask_serror_and_stop();

    let found = match find_dtb(&mut space, entry, board) {
        Ok(found) => found,
        Err(error) if board.last_resort.is_empty() => refuse(&error),
        Err(error) => refuse_on_last_resorts(&mut space, board, &error),
    };
    match bring_up(space, entry, board, found, capture.is_some()) {
        Ok(boot) => {
            lkdtm::boot_is_over();
            main(boot)
        }
        Err(error) => refuse(&error),
    }
}

/// Whether the DTB at this address is a capture kernel's: only whoever loads one says which memory is its own, and where the crashed
/// kernel's ELF core header lies, be it malformed (Documentation/arch/arm64/kdump.rst).
fn is_capture_kernel(space: &mut AddressSpace, dtb: u64) -> bool {
    blob::open_dtb(space, dtb).is_ok_and(|dtb| {
        let usable = dtb.usable_memory();
        let is_limited = usable.map_or(true, |usable| usable.iter().next().is_some());
        is_limited || !matches!(dtb.elf_core_header(), Ok(None))
    })
}

/// Says why this machine cannot be booted, and halts.
fn refuse(error: &dyn core::fmt::Display) -> ! {
    say_refusal(error);
    arch::halt()
}

fn say_refusal(error: &dyn core::fmt::Display) {
    emergency!("\nAfterimage cannot boot\n  {error}\n");
}

/// Says it on the UARTs that the board's policy has for a machine without DTB.
fn refuse_on_last_resorts(
    space: &mut AddressSpace,
    board: &Board,
    error: &dyn core::fmt::Display,
) -> ! {
    let part = arch::CpuPart::current();
    for uart in board.last_resort.iter().filter(|uart| uart.part == part) {
        if console::install_last_resort(space, uart.model, uart.address).is_ok() {
            say_refusal(error);
            console::drain();
        }
    }
    arch::halt()
}

/// Maps the blob at x0, or at the board's fallback when x0 holds none.
fn find_dtb(
    space: &mut AddressSpace,
    entry: EntryState,
    board: &Board,
) -> Result<(Dtb<'static>, u64), BlobError> {
    // 0 is what an ELF loader leaves.
    match blob::open_dtb(space, entry.dtb) {
        Ok(dtb) => Ok((dtb, entry.dtb)),
        Err(first) => match board.fallback_dtb.filter(|at| *at != entry.dtb) {
            Some(at) => blob::open_dtb(space, at)
                .map(|dtb| (dtb, at))
                .map_err(|_| first),
            None => Err(first),
        },
    }
}

fn bring_up(
    mut space: AddressSpace,
    entry: EntryState,
    board: &'static Board,
    (dtb, dtb_address): (Dtb<'static>, u64),
    is_own_capture_kernel: bool,
) -> Result<Boot, Failure> {
    if let Err(error) = console::install_from_dtb(&mut space, &dtb) {
        emergency!("console: {error}\n");
    }
    logger::init();
    log::info!(
        "Afterimage {} on {}, entered at EL{}, image at {:#x}",
        env!("CARGO_PKG_VERSION"),
        dtb.model().unwrap_or(board.name),
        entry.exception_level,
        entry.image
    );

    let mut map = MemoryMap::from_dtb(&dtb)?;
    if let Some(cut) = map.limit(PHYSICAL_LIMIT) {
        log::warn!("RAM from {cut} on cannot be mapped and is not used");
    }
    let blob = PhysRange::from_len(dtb_address, dtb.as_bytes().len() as u64)
        .and_then(|range| range.align_outward(PAGE_SIZE))
        .map_err(Failure::Range)?;
    map.reserve(blob).map_err(Failure::Range)?;
    let image = machine::image::range();
    if !map.ram().contains_range(&image) {
        return Err(Failure::ImageOutsideRam { image });
    }
    map.reserve(image).map_err(Failure::Range)?;

    let line = dtb.boot_args();
    let crash_range = region::place(&dtb, &map, line, board);
    memory::init(&mut space, &map, crash_range).map_err(Failure::Map)?;

    // From here on there is a heap: a DTB of our own lies in it.
    let own = own_dtb(&dtb, crash_range);
    let dtb = Dtb::validate(own)?;
    let line = dtb.boot_args();
    let params = Params::parse(line);
    lkdtm::plan(&params);
    sysrq::set_sequence(params.sysrq_sequence);
    crate::warn::set_policy(params.panic_on_warn, params.panic_on_taint);
    watch::set_policy(&params.watch);
    crash::after::set(params.then);
    for range in map.ram().iter() {
        log::info!("RAM {range}");
    }

    // A kernel that cannot start its CPUs as its DTB says does not boot; a capture kernel goes on without.
    dtb.psci()?;
    reset::install(&mut space, &dtb);
    // The stub tells CPUs apart by what is known of them.
    cpus::list(&dtb, &map)?;
    if params.stops_by_irq {
        gic::leave_group0();
    }
    if let Some(location) = interrupt_controller(&dtb)? {
        intc::map(&mut space, location).map_err(Failure::Interrupts)?;
        if let (3, intc::Location::Gic(location)) = (entry.exception_level, location) {
            gic::adopt_from_el3(location);
        }
    } else {
        log::warn!("no interrupt controller that is known here: no interrupts");
    }
    if let Some(range) = crash_range {
        region::protect(
            &mut space,
            range,
            entry.exception_level >= 2 && arch::has_el2(),
        );
    }
    load::at_boot(&mut space, &dtb, &map, &params, is_own_capture_kernel);
    region::keep_address_space(space);

    intc::init().map_err(Failure::Interrupts)?;
    interrupts::init_boot_cpu(&dtb).map_err(Failure::Interrupts)?;
    crash::ready();
    let running = cpus::start_all(params.max_cpus);
    log::info!("{running} CPUs run");
    watch::announce(running);
    status::announce();
    Ok(Boot {
        command_line: line,
        dtb: own,
        cpus: running,
        ram_bytes: map.total_ram(),
        entry,
    })
}

/// Copies the DTB to the heap, with the crash region's node added when it has none.
fn own_dtb(dtb: &Dtb<'_>, crash_range: Option<PhysRange>) -> &'static [u8] {
    let bytes = dtb.as_bytes();
    if let Some(region) = crash_range {
        let mut edited = vec![0; bytes.len() + 512];
        match boot_config::dtb::edit::add_crash_region(dtb, region, &mut edited) {
            Ok(len) => {
                edited.truncate(len);
                return Box::leak(edited.into_boxed_slice());
            }
            // An existing node was honoured when the region was placed.
            Err(boot_config::dtb::edit::EditError::CrashRegionExists { .. }) => {}
            Err(error) => {
                log::error!("device tree: the crash region's node cannot be added: {error}")
            }
        }
    }
    Box::leak(bytes.to_vec().into_boxed_slice())
}

fn interrupt_controller(dtb: &Dtb<'_>) -> Result<Option<intc::Location>, Failure> {
    let gic = match dtb.gic()? {
        Some(Gic::V2 {
            distributor,
            cpu_interface,
        }) => Some(gic::Location::V2 {
            distributor: distributor.start,
            cpu_interface: cpu_interface.start,
        }),
        Some(Gic::V3 {
            distributor,
            redistributors,
        }) => redistributors.iter().next().map(|first| gic::Location::V3 {
            distributor: distributor.start,
            redistributor: first.start,
            redistributor_len: first.len(),
        }),
        None => {
            let found = dtb.bcm2836_interrupts()?;
            return Ok(found.map(|found| intc::Location::Bcm2836 {
                local: found.local.start,
                shared: found.shared.map(|shared| shared.start),
            }));
        }
    };
    Ok(gic.map(intc::Location::Gic))
}

/// Why the kernel did not come up.
enum Failure {
    Dtb(boot_config::DtbError),
    /// The DTB's memory does not hold the running kernel.
    ImageOutsideRam {
        image: PhysRange,
    },
    Range(boot_config::RangeError),
    Map(machine::mmu::MapError),
    Interrupts(intc::Error),
}

impl From<boot_config::DtbError> for Failure {
    fn from(error: boot_config::DtbError) -> Self {
        Self::Dtb(error)
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Dtb(error) => write!(f, "device tree: {error}"),
            Self::ImageOutsideRam { image } => {
                write!(f, "device tree, memory: the kernel at {image} lies in none")
            }
            Self::Range(error) => write!(f, "memory map: {error}"),
            Self::Map(error) => write!(f, "memory: {error}"),
            Self::Interrupts(error) => write!(f, "{error}"),
        }
    }
}
