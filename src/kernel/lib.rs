// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system kernel, as a library that a firmware program links.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! kernel::entry!(main);
//! kernel::capture_image!(env!("CAPTURE_IMAGE"));
//!
//! fn main(boot: kernel::Boot) -> ! {
//!     log::info!("{} CPUs", boot.cpus());
//!     kernel::idle()
//! }
//! ```
//! It owns the panic handler, the heap and the logger. On a panic, a fault or [`crash::trigger`] it stops the other CPUs, saves
//! all registers and leaves for the capture kernel.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod board;
mod boot;
mod cpus;
pub mod crash;
pub mod dump;
mod fault;
mod interrupts;
mod lkdtm;
mod lkdtm_state;
mod load;
mod logger;
mod memory;
mod params;
mod region;
mod status;
mod sysrq;
pub mod threads;
pub mod warn;
pub mod watch;

pub use board::Board;
pub use boot::{Boot, CaptureRole, start};
pub use cpus::{idle, idle_main};
pub use machine;

#[global_allocator]
static HEAP: machine::heap::KernelHeap = machine::heap::KernelHeap::new();

/// Makes `$main`, a `fn(kernel::Boot) -> !`, the program that runs once the kernel is up; a wrong signature does not compile.
///
/// `entry!(main)` runs on any machine whose DTB says all that is needed; `entry!(main, BOARD)` takes a [`Board`]'s policy.
///
/// `entry!(main, BOARD, capture: capture_kernel::run_in)` makes the program its own capture kernel: it loads a copy of itself into the
/// crash region, and when its DTB is that of a capture kernel it runs that function instead of `main`. `linker::both_image` links it.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, $crate::Board::GENERIC);
    };
    ($main:path, $board:expr) => {
        $crate::entry!(@ $main, $board, None);
    };
    ($main:path, $board:expr, capture: $capture:path) => {
        $crate::entry!(@ $main, $board, Some($capture));
    };
    (@ $main:path, $board:expr, $capture:expr) => {
        const _: () = {
            fn afterimage_first(entry: $crate::machine::boot::EntryState) -> ! {
                const MAIN: fn($crate::Boot) -> ! = $main;
                const CAPTURE: Option<$crate::CaptureRole> = $capture;
                static BOARD: $crate::Board = $board;
                $crate::start(entry, &BOARD, MAIN, CAPTURE)
            }
            $crate::machine::entry!(afterimage_first);
        };
    };
}

/// Links the arm64 Image at `$path` into the program as its capture kernel.
#[macro_export]
macro_rules! capture_image {
    ($path:expr) => {
        const _: () = {
            const BYTES: &[u8] = include_bytes!($path);
            #[used]
            #[unsafe(link_section = ".capture_image")]
            static IMAGE: [u8; BYTES.len()] = *include_bytes!($path);
        };
    };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if machine::capture_entry::is_running() {
        machine::capture_entry::fail(0, format_args!("{info}"));
    }
    let registers = machine::exceptions::capture_registers();
    crash::panicked(registers, info)
}
