// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the free part of the crash region the capture kernel's [`Room`]: mapped, tried, cleaned.

use boot_config::{Dtb, PhysRange};

use super::Room;
use super::free_part::{free_part, probes};
use crate::exceptions::is_zero_guarded;
use crate::mmu::{Access, AddressSpace};
use crate::{arch, emergency};

/// Window slot of the room.
const WINDOW: u64 = 2;

/// The free part of the region, mapped read-write, when it is larger than `own`; else `own`.
pub(crate) fn carve(
    space: &mut AddressSpace,
    dtb: &Dtb<'_>,
    taken: &[PhysRange],
    own: &'static mut [u8],
) -> Room {
    match free_part(dtb, crate::image::range(), taken).filter(|part| part.len() > own.len() as u64)
    {
        Some(part) => match open(space, part) {
            Some(bytes) => Room::new(bytes),
            None => {
                emergency!("Afterimage: {part} of the crash region cannot be used\n");
                Room::new(own)
            }
        },
        None => Room::new(own),
    }
}

fn open(space: &mut AddressSpace, part: PhysRange) -> Option<&'static mut [u8]> {
    let window = space
        .open_window(WINDOW, part.start, part.len(), Access::ReadWrite)
        .ok()?;
    for address in probes(part) {
        is_zero_guarded(window + (address - part.start), 64).ok()?;
    }
    // A crashed kernel need not have cleaned more of the region than it loaded (Linux does not). Dirty lines that it left of the
    // rest go out now, and not over what is written here (decision 6).
    arch::clean_invalidate(window, part.len());
    let len = usize::try_from(part.len()).ok()?;
    // SAFETY: 1. `open_window` mapped `len` bytes at `window` read-write, for good, and RAM answers there. 2. The window slot is
    // this function's own and it maps a range once (a second call finds it occupied), so there is no other reference. 3. It is in
    // our region and outside everything that anybody else reads: Image, DTB, ELF core header, reservations. 4. Bytes of RAM
    // are initialised, with whatever.
    Some(unsafe { core::slice::from_raw_parts_mut(window as *mut u8, len) })
}
