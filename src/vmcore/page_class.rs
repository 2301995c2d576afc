// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pages a dump holds, by makedumpfile's levels.

/// A dump level: the sum of the bits of makedumpfile's `-d`, each leaving out a kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpLevel(pub u32);

impl DumpLevel {
    /// Bit 1: pages of zeros. They are holes in the file at every level, and never travel.
    pub const ZERO: u32 = 1;
    /// Bit 2: Linux's page cache without data of a file system's own; a kernel without one has no such pages.
    pub const CACHE: u32 = 2;
    /// Bit 4: all of Linux's page cache.
    pub const ALL_CACHE: u32 = 4;
    /// Bit 8: pages that the program marked as its own data; memory of Linux's processes.
    pub const APP_DATA: u32 = 8;
    /// Bit 16: pages that the allocator holds as free.
    pub const FREE: u32 = 16;
    /// All bits that makedumpfile knows.
    pub const ALL: u32 = 31;

    /// Tells whether pages that a kernel has put into this class are left out.
    #[must_use]
    pub const fn leaves_out(self, class: PageClass) -> bool {
        let bits = match class {
            PageClass::Free => Self::FREE,
            PageClass::Cache => Self::CACHE | Self::ALL_CACHE,
            PageClass::PrivateCache => Self::ALL_CACHE,
            PageClass::AppData | PageClass::User => Self::APP_DATA,
            _ => 0,
        };
        self.0 & bits != 0
    }

    /// Tells whether it takes a kernel's account of its pages to know what is left out.
    #[must_use]
    pub const fn needs_page_classes(self) -> bool {
        self.0 & Self::ALL & !Self::ZERO != 0
    }

    /// Tells whether bits are set that makedumpfile does not know.
    #[must_use]
    pub const fn has_unknown_bits(self) -> bool {
        self.0 & !Self::ALL != 0
    }
}

impl Default for DumpLevel {
    /// Returns 17: without zero pages and free pages.
    fn default() -> Self {
        Self(Self::ZERO | Self::FREE)
    }
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageClass {
    /// It is in the dump.
    Data,
    /// It holds zeros only.
    Zero,
    /// The allocator held it as free, and it was left out.
    Free,
    /// The program marked it as its own data, and it was left out.
    AppData,
    /// The program marked it as secret: never in a dump.
    Secret,
    /// Reading it failed.
    Unreadable,
    /// It was sent, or should have been, but did not arrive whole.
    Lost,
    /// It was not looked at: a minimal dump does without it, or the capture kernel failed when it came to it.
    Skipped,
    /// Linux's page cache, without data of a file system's own (`PG_private`), and it was left out.
    Cache,
    /// Linux's page cache, with such data, and it was left out.
    PrivateCache,
    /// Memory of a process of Linux, and it was left out.
    User,
}

impl PageClass {
    /// How many classes there are; codes are below this.
    pub const COUNT: usize = 11;

    /// Returns the class's number in notes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Zero => 1,
            Self::Free => 2,
            Self::AppData => 3,
            Self::Secret => 4,
            Self::Unreadable => 5,
            Self::Lost => 6,
            Self::Skipped => 7,
            Self::Cache => 8,
            Self::PrivateCache => 9,
            Self::User => 10,
        }
    }

    /// Returns the class with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Data),
            1 => Some(Self::Zero),
            2 => Some(Self::Free),
            3 => Some(Self::AppData),
            4 => Some(Self::Secret),
            5 => Some(Self::Unreadable),
            6 => Some(Self::Lost),
            7 => Some(Self::Skipped),
            8 => Some(Self::Cache),
            9 => Some(Self::PrivateCache),
            10 => Some(Self::User),
            _ => None,
        }
    }

    /// Returns the word for people and for `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Zero => "zero",
            Self::Free => "free",
            Self::AppData => "app-data",
            Self::Secret => "secret",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
            Self::Cache => "cache",
            Self::PrivateCache => "private-cache",
            Self::User => "user",
        }
    }

    /// Tells whether such a page is left out by a look at what the kernel says of it, not at the page.
    #[must_use]
    pub const fn is_by_account(self) -> bool {
        matches!(
            self,
            Self::Free | Self::Cache | Self::PrivateCache | Self::User
        )
    }

    /// Tells whether the page's contents are known: it is in the dump or is zero.
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(self, Self::Data | Self::Zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_level_is_seventeen() {
        assert_eq!(DumpLevel::default().0, 17);
    }

    #[test]
    fn level_zero_leaves_nothing_out() {
        let left_out = (0..=u8::MAX)
            .filter_map(PageClass::from_code)
            .filter(|class| DumpLevel(0).leaves_out(*class));
        assert_eq!(left_out.count(), 0);
        assert!(!DumpLevel(0).needs_page_classes());
    }

    #[test]
    fn each_bit_leaves_out_its_class_and_bit_four_all_of_the_cache() {
        let left_out = |level: u32| -> std::vec::Vec<PageClass> {
            (0..=u8::MAX)
                .filter_map(PageClass::from_code)
                .filter(|class| DumpLevel(level).leaves_out(*class))
                .collect()
        };
        assert_eq!(left_out(1), []);
        assert_eq!(left_out(2), [PageClass::Cache]);
        assert_eq!(left_out(4), [PageClass::Cache, PageClass::PrivateCache]);
        assert_eq!(left_out(8), [PageClass::AppData, PageClass::User]);
        assert_eq!(left_out(16), [PageClass::Free]);
    }

    #[test]
    fn level_with_bit_five_is_unknown() {
        assert!(DumpLevel(32).has_unknown_bits());
        assert!(!DumpLevel(31).has_unknown_bits());
    }

    #[test]
    fn class_codes_are_dense_and_round_trip() {
        let back: std::vec::Vec<u8> = (0..=u8::MAX)
            .filter_map(PageClass::from_code)
            .map(PageClass::code)
            .collect();
        assert_eq!(back, (0..11).collect::<std::vec::Vec<u8>>());
    }
}
