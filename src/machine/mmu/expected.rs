// SPDX-License-Identifier: MIT OR Apache-2.0
//! An account of what was mapped, beside the tables, so that a crash can tell what happened to them.

use spin::Mutex;
use vmcore::afterimage_notes::Mapping;

/// Ranges that are kept: image, stacks of eight CPUs, RAM, devices.
pub const EXPECTED_MAX: usize = 96;

struct Account {
    mappings: [Mapping; EXPECTED_MAX],
    len: usize,
    /// Whether something was left out. All zeros at first: the capture kernel has no initialised data.
    has_left_out: bool,
}

impl Account {
    const fn new() -> Self {
        const NONE: Mapping = Mapping {
            va: 0,
            pa: 0,
            len: 0,
            attributes: 0,
        };
        Self {
            mappings: [NONE; EXPECTED_MAX],
            len: 0,
            has_left_out: false,
        }
    }

    fn used(&self) -> &[Mapping] {
        self.mappings.get(..self.len).unwrap_or_default()
    }

    fn add(&mut self, mapping: Mapping) {
        let last = self
            .len
            .checked_sub(1)
            .and_then(|at| self.mappings.get_mut(at));
        if let Some(last) = last
            && last.attributes == mapping.attributes
            && last.va.wrapping_add(last.len) == mapping.va
            && last.pa.wrapping_add(last.len) == mapping.pa
        {
            last.len = last.len.saturating_add(mapping.len);
            return;
        }
        match self.mappings.get_mut(self.len) {
            Some(place) => {
                *place = mapping;
                self.len = self.len.saturating_add(1);
            }
            None => self.has_left_out = true,
        }
    }

    /// Removes `va..va + len`; what reaches over its ends is cut.
    fn remove(&mut self, va: u64, len: u64) {
        let end = va.saturating_add(len);
        let mut kept = Self::new();
        kept.has_left_out = self.has_left_out;
        for mapping in self.used() {
            let mapping_end = mapping.va.saturating_add(mapping.len);
            let below = va.clamp(mapping.va, mapping_end) - mapping.va;
            let above = mapping_end - end.clamp(mapping.va, mapping_end);
            for (offset, len) in [(0, below), (mapping.len.saturating_sub(above), above)] {
                if len != 0 {
                    kept.add(Mapping {
                        va: mapping.va + offset,
                        pa: mapping.pa + offset,
                        len,
                        ..*mapping
                    });
                }
            }
        }
        *self = kept;
    }
}

static ACCOUNT: Mutex<Account> = Mutex::new(Account::new());

/// Notes that something was mapped.
#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "called on the target")
)]
pub(super) fn add(va: u64, pa: u64, len: u64, attributes: u64) {
    let mapping = Mapping {
        va,
        pa,
        len,
        attributes,
    };
    if len > 0 {
        ACCOUNT.lock().add(mapping);
    }
}

/// Notes that something was unmapped.
#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "called on the target")
)]
pub(super) fn remove(va: u64, len: u64) {
    ACCOUNT.lock().remove(va, len);
}

/// Calls `each` with what is mapped, and returns whether that is all; `None` while somebody maps something. Waits for nothing.
pub fn each_expected(each: impl FnMut(&Mapping)) -> Option<bool> {
    let account = ACCOUNT.try_lock()?;
    account.used().iter().for_each(each);
    Some(!account.has_left_out)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    const fn mapping(va: u64, len: u64) -> Mapping {
        Mapping {
            va,
            pa: va + 0x1_0000,
            len,
            attributes: 7,
        }
    }

    fn account(mappings: &[Mapping]) -> Account {
        let mut account = Account::new();
        mappings.iter().for_each(|mapping| account.add(*mapping));
        account
    }

    #[test]
    fn pages_that_follow_each_other_are_one_mapping() {
        let other = Mapping {
            attributes: 8,
            ..mapping(0x3000, 0x1000)
        };
        let account = account(&[mapping(0x1000, 0x1000), mapping(0x2000, 0x1000), other]);
        assert_eq!(account.used(), [mapping(0x1000, 0x2000), other]);
    }

    #[test]
    fn mapping_removed_leaves_what_lies_beside_it() {
        let all = [mapping(0x1000, 0x4000), mapping(0x9000, 0x1000)];
        for (va, len, left) in [
            (0x1000, 0x4000, Vec::from([all[1]])),
            (
                0x2000,
                0x1000,
                Vec::from([mapping(0x1000, 0x1000), mapping(0x3000, 0x2000), all[1]]),
            ),
            (
                0x4000,
                0x5800,
                Vec::from([mapping(0x1000, 0x3000), mapping(0x9800, 0x800)]),
            ),
            (0x6000, 0x1000, Vec::from(all)),
        ] {
            let mut account = account(&all);
            account.remove(va, len);
            assert_eq!(account.used(), left, "{va:#x}");
        }
    }

    #[test]
    fn account_that_is_full_says_so() {
        let mut account = Account::new();
        (0..EXPECTED_MAX as u64).for_each(|number| account.add(mapping(number * 0x2000, 0x1000)));
        assert!(!account.has_left_out);
        account.add(mapping(0x100_0000, 0x1000));
        assert!(account.has_left_out);
    }
}
