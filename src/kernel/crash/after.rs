// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows a dump that this kernel sends itself: `dump_then=`, as the capture kernel takes it.

use core::sync::atomic::{AtomicU8, Ordering};

use machine::{arch, console, emergency, reset, watchdog};
use wire::Next;

/// Until the command line is known the machine halts: a crash that early would come again and again.
static THEN: AtomicU8 = AtomicU8::new(Next::Halt.code());

/// Returns what a value of `dump_then=` means. There is no prompt without a capture kernel: `wait` halts.
pub(crate) fn parse(value: &str) -> Option<Next> {
    let next = Next::named(value.as_bytes())?;
    Some(if next == Next::Wait { Next::Halt } else { next })
}

/// Keeps what follows.
pub(crate) fn set(next: Next) {
    THEN.store(next.code(), Ordering::Relaxed);
}

/// Returns what follows.
pub(super) fn next() -> Next {
    Next::from_code(THEN.load(Ordering::Relaxed))
}

/// Ends the dump that was made because of `why`, and does what follows; halts where that is not possible.
pub(super) fn go(why: &str) -> ! {
    let next = next();
    let name = next.name();
    emergency!("End of the minimal dump; {why}; next: {name}\n");
    console::drain();
    let refused = match next {
        Next::Reboot => reset::reset().err(),
        Next::PowerOff => reset::power_off().err(),
        _ => None,
    };
    if let Some(error) = refused {
        emergency!("{name} failed: {error}\n");
    }
    // It would end that.
    watchdog::stop();
    emergency!("Halted\n");
    console::drain();
    arch::halt()
}
