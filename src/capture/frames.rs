// SPDX-License-Identifier: MIT OR Apache-2.0
//! Return addresses by way of the frame-pointer chain (AAPCS64, section 6.4.6).
//!
//! A frame record is two 64-bit words at x29: the caller's x29 and the return address. The stack may be overwritten, so the
//! chain must climb, be aligned and end within a bound; where it does not, that is said and the walk ends.

use core::fmt;

/// Frames followed at most.
pub(crate) const MAX_FRAMES: usize = 24;

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainEnd {
    /// The outermost frame: its record holds a null pointer or a null return address.
    Outermost,
    /// The frame pointer is not a multiple of 8.
    Misaligned(u64),
    /// The frame pointer does not lie above the one before it.
    NotClimbing(u64),
    /// Its memory is not in the dump or cannot be read.
    Unreadable(u64),
    /// [`MAX_FRAMES`] were followed.
    TooDeep,
}

impl fmt::Display for ChainEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outermost => write!(f, "outermost frame"),
            Self::Misaligned(fp) => write!(f, "frame pointer {fp:#x} misaligned"),
            Self::NotClimbing(fp) => write!(f, "frame pointer {fp:#x} does not climb"),
            Self::Unreadable(fp) => write!(f, "frame at {fp:#x} not readable"),
            Self::TooDeep => write!(f, "{MAX_FRAMES} frames shown"),
        }
    }
}

/// Calls `visit` with each return address from the frame record at `frame` outwards.
///
/// `read` fetches the 16 bytes at a virtual address of the crashed machine, or nothing.
pub(crate) fn return_addresses(
    frame: u64,
    mut read: impl FnMut(u64) -> Option<[u8; 16]>,
    mut visit: impl FnMut(u64),
) -> ChainEnd {
    let mut frame = frame;
    for _ in 0..MAX_FRAMES {
        if frame == 0 {
            return ChainEnd::Outermost;
        }
        if !frame.is_multiple_of(8) {
            return ChainEnd::Misaligned(frame);
        }
        let Some(record) = read(frame) else {
            return ChainEnd::Unreadable(frame);
        };
        let record = u128::from_le_bytes(record);
        // The truncations take the low and the high word.
        let (caller, address) = (record as u64, (record >> 64) as u64);
        if address == 0 {
            return ChainEnd::Outermost;
        }
        visit(without_signature(address));
        if caller != 0 && caller <= frame {
            return ChainEnd::NotClimbing(caller);
        }
        frame = caller;
    }
    ChainEnd::TooDeep
}

/// Returns `address` with the bits that pointer authentication may have signed set to what bit 55 says.
fn without_signature(address: u64) -> u64 {
    const SIGNED: u64 = 0xffff_0000_0000_0000;
    if address & 1 << 55 == 0 {
        address & !SIGNED
    } else {
        address | SIGNED
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn walk(frame: u64, records: &[(u64, u64, u64)]) -> (Vec<u64>, ChainEnd) {
        let mut seen = Vec::new();
        let read = |at| {
            let (_, caller, address) = records.iter().find(|record| record.0 == at)?;
            Some((u128::from(*address) << 64 | u128::from(*caller)).to_le_bytes())
        };
        let end = return_addresses(frame, read, |address| seen.push(address));
        (seen, end)
    }

    #[test]
    fn chain_is_followed_to_its_outermost_frame() {
        let records = [(0x1000, 0x1020, 0xa), (0x1020, 0x1040, 0xb), (0x1040, 0, 0)];
        assert_eq!(
            walk(0x1000, &records),
            (Vec::from([0xa, 0xb]), ChainEnd::Outermost)
        );
    }

    #[test]
    fn chain_to_itself_ends() {
        assert_eq!(
            walk(0x1000, &[(0x1000, 0x1000, 0xa)]).1,
            ChainEnd::NotClimbing(0x1000)
        );
    }

    #[test]
    fn chain_going_down_ends() {
        assert_eq!(
            walk(0x1000, &[(0x1000, 0xff0, 0xa)]),
            (Vec::from([0xa]), ChainEnd::NotClimbing(0xff0))
        );
    }

    #[test]
    fn chain_misaligned_ends() {
        assert_eq!(
            walk(0x1000, &[(0x1000, 0x1234_5671, 0xa)]).1,
            ChainEnd::Misaligned(0x1234_5671)
        );
    }

    #[test]
    fn chain_out_of_memory_ends() {
        assert_eq!(
            walk(u64::MAX - 7, &[]),
            (Vec::new(), ChainEnd::Unreadable(u64::MAX - 7))
        );
    }

    #[test]
    fn chain_without_end_is_cut() {
        let mut seen = 0;
        let read = |at: u64| Some((u128::from(7_u64) << 64 | u128::from(at + 16)).to_le_bytes());
        assert_eq!(return_addresses(16, read, |_| seen += 1), ChainEnd::TooDeep);
        assert_eq!(seen, MAX_FRAMES);
    }

    #[test]
    fn return_address_signed_is_shown_without_signature() {
        assert_eq!(without_signature(0x002a_8000_8000_1234), 0x8000_8000_1234);
        assert_eq!(
            without_signature(0x12bf_8000_8000_1234),
            0xffff_8000_8000_1234
        );
    }
}
