// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who owns Group 0, whose SGI is the stop request (decision 5), as found out at boot.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arm_gic::InterruptGroup;

use crate::gic_v2::Groups;

/// [`Groups`]; one group until it is known.
static GROUPS: AtomicU8 = AtomicU8::new(Groups::One as u8);
/// Set when Group 0 is not to be asked for.
static IS_LEFT: AtomicBool = AtomicBool::new(false);

/// Does all as where firmware owns Group 0; before [`super::init`].
pub fn leave_group0() {
    IS_LEFT.store(true, Ordering::Release);
}

pub(super) fn is_left() -> bool {
    IS_LEFT.load(Ordering::Acquire)
}

pub(super) fn set(groups: Groups) {
    GROUPS.store(groups as u8, Ordering::Release);
}

pub(super) fn get() -> Groups {
    let known = GROUPS.load(Ordering::Acquire);
    [Groups::Both, Groups::Left]
        .into_iter()
        .find(|groups| *groups as u8 == known)
        .unwrap_or(Groups::One)
}

/// Whether the stop request can be a Group-0 SGI; known after [`super::init`].
pub fn owns_group0() -> bool {
    get() == Groups::Both
}

/// The group of an interrupt of a GICv2 other than the stop request.
pub(super) fn of_other() -> InterruptGroup {
    match get() {
        Groups::Left => InterruptGroup::Group0,
        Groups::Both | Groups::One => InterruptGroup::Group1,
    }
}
