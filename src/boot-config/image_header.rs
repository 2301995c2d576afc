// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 64-byte header of an arm64 `Image`, and where such an image has to lie.
//!
//! Implements "Call the kernel image" of Linux's Documentation/arch/arm64/booting.rst. All fields are little-endian.

use core::fmt;

use crate::range::{PhysRange, align_up};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;

/// The image sits `text_offset` above a multiple of this, in bytes.
pub const BASE_ALIGN: u64 = 2 << 20;

/// "ARM\x64".
const MAGIC: u32 = 0x644d_5241;

/// Where an image without `image_size` has to lie: its `text_offset` field has no defined byte order.
const LEGACY_TEXT_OFFSET: u64 = 0x8_0000;

/// Flag bit 0.
const FLAG_BIG_ENDIAN: u64 = 1;

/// Flag bit 3: the base may be anywhere in RAM.
const FLAG_ANYWHERE: u64 = 1 << 3;

/// The translation granule an image was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageSize {
    /// The header does not say.
    Unspecified,
    /// 4 KiB.
    Kib4,
    /// 16 KiB.
    Kib16,
    /// 64 KiB.
    Kib64,
}

/// Why an image cannot be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageError {
    /// The file ends inside the header.
    Truncated {
        /// Length of the file in bytes.
        len: usize,
    },
    /// The magic number at offset 56 is wrong: no arm64 `Image`.
    BadMagic {
        /// What stands there.
        found: u32,
    },
    /// The kernel is big-endian.
    BigEndian {
        /// The header's flags.
        flags: u64,
    },
    /// The kernel's page size is not one the caller supports.
    PageSize {
        /// The page size of the image.
        found: PageSize,
    },
    /// `image_size` is 0 (before Linux 3.17): how much memory the kernel needs cannot be known.
    SizeZero {
        /// Where such an image would lie above its base, in bytes.
        text_offset: u64,
    },
    /// The file is longer than the memory the header claims.
    FileTooLong {
        /// Length of the file in bytes.
        file_len: u64,
        /// `image_size` in bytes.
        image_size: u64,
    },
    /// The image does not fit into the region.
    TooLarge {
        /// Bytes needed from the start of the region, `u64::MAX` if that cannot be expressed.
        needed: u64,
        /// Bytes the region has.
        available: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len } => write!(f, "image of {len} bytes has no room for its header"),
            Self::BadMagic { found } => {
                write!(f, "image magic is {found:#010x}, not {MAGIC:#010x}")
            }
            Self::BigEndian { flags } => write!(f, "image is big-endian (flags {flags:#x})"),
            Self::PageSize { found } => write!(f, "image page size {found:?} is not supported"),
            Self::SizeZero { text_offset } => {
                write!(
                    f,
                    "image_size is 0 (legacy image, text_offset {text_offset:#x})"
                )
            }
            Self::FileTooLong {
                file_len,
                image_size,
            } => {
                write!(
                    f,
                    "image file of {file_len:#x} bytes exceeds its image_size {image_size:#x}"
                )
            }
            Self::TooLarge { needed, available } => {
                write!(
                    f,
                    "image needs {needed:#x} bytes of a region of {available:#x}"
                )
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// The fields of the header that matter to a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHeader {
    /// How far above a 2 MiB-aligned base the image lies, in bytes; 0x80000 for a legacy image.
    pub text_offset: u64,
    /// Bytes of memory the image needs from its first byte on, BSS included; 0 for a legacy image.
    pub image_size: u64,
    /// The flags as they stand in the header.
    pub flags: u64,
}

/// Where an image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImagePlacement {
    /// The 2 MiB-aligned base the image is relative to.
    pub base: u64,
    /// The memory of the image, file and BSS; the entry point is its start.
    pub memory: PhysRange,
}

impl ImageHeader {
    /// Reads the header at the start of `image`.
    ///
    /// # Errors
    /// [`ImageError::Truncated`], [`ImageError::BadMagic`], [`ImageError::BigEndian`]. An `image_size` of 0 is no
    /// error yet: [`Self::is_legacy`] tells, and [`Self::place`] refuses it.
    pub fn parse(image: &[u8]) -> Result<Self, ImageError> {
        let truncated = ImageError::Truncated { len: image.len() };
        let header: &[u8; HEADER_LEN] = image.first_chunk().ok_or(truncated)?;
        let word = |offset: usize| -> Result<u64, ImageError> {
            let bytes = header.get(offset..).and_then(|tail| tail.first_chunk());
            bytes.copied().map(u64::from_le_bytes).ok_or(truncated)
        };
        let magic = header
            .get(56..)
            .and_then(|tail| tail.first_chunk())
            .ok_or(truncated)?;
        let found = u32::from_le_bytes(*magic);
        if found != MAGIC {
            return Err(ImageError::BadMagic { found });
        }
        let (image_size, flags) = (word(16)?, word(24)?);
        if flags & FLAG_BIG_ENDIAN != 0 {
            return Err(ImageError::BigEndian { flags });
        }
        let text_offset = if image_size == 0 {
            LEGACY_TEXT_OFFSET
        } else {
            word(8)?
        };
        Ok(Self {
            text_offset,
            image_size,
            flags,
        })
    }

    /// Returns whether `image_size` is 0, as before Linux 3.17.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        self.image_size == 0
    }

    /// Returns whether the base may be anywhere in RAM instead of near its start.
    #[must_use]
    pub const fn is_placeable_anywhere(&self) -> bool {
        self.flags & FLAG_ANYWHERE != 0
    }

    /// Returns the page size the image was built for.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        match (self.flags >> 1) & 3 {
            1 => PageSize::Kib4,
            2 => PageSize::Kib16,
            3 => PageSize::Kib64,
            _ => PageSize::Unspecified,
        }
    }

    /// Checks that the page size is one of `supported`; an unspecified one always passes.
    ///
    /// # Errors
    /// [`ImageError::PageSize`].
    pub fn require_page_size(&self, supported: &[PageSize]) -> Result<(), ImageError> {
        let found = self.page_size();
        if found == PageSize::Unspecified || supported.contains(&found) {
            return Ok(());
        }
        Err(ImageError::PageSize { found })
    }

    /// Places an image file of `file_len` bytes as low as possible in `region`.
    ///
    /// # Errors
    /// [`ImageError::SizeZero`], [`ImageError::FileTooLong`], [`ImageError::TooLarge`].
    pub fn place(&self, file_len: u64, region: PhysRange) -> Result<ImagePlacement, ImageError> {
        if self.is_legacy() {
            return Err(ImageError::SizeZero {
                text_offset: self.text_offset,
            });
        }
        if file_len > self.image_size {
            let image_size = self.image_size;
            return Err(ImageError::FileTooLong {
                file_len,
                image_size,
            });
        }
        let too_large = |needed| ImageError::TooLarge {
            needed,
            available: region.len(),
        };
        let base = align_up(region.start, BASE_ALIGN).ok_or(too_large(u64::MAX))?;
        let start = base
            .checked_add(self.text_offset)
            .ok_or(too_large(u64::MAX))?;
        let memory =
            PhysRange::from_len(start, self.image_size).map_err(|_| too_large(u64::MAX))?;
        if memory.end > region.end {
            return Err(too_large(memory.end.saturating_sub(region.start)));
        }
        Ok(ImagePlacement { base, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    /// A header with the fields that booting.rst defines; flags 0xa: little-endian, 4 KiB pages, anywhere.
    fn header(text_offset: u64, image_size: u64, flags: u64) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[24..32].copy_from_slice(&flags.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn parse_usual_header_gives_its_fields() {
        let image = ImageHeader::parse(&header(0, 0x1e_0000, 0xa)).unwrap();
        assert_eq!((image.text_offset, image.image_size), (0, 0x1e_0000));
        assert_eq!(image.page_size(), PageSize::Kib4);
        assert!(image.is_placeable_anywhere());
    }

    #[test]
    fn parse_short_file_is_rejected() {
        assert_eq!(
            ImageHeader::parse(&[0; 63]),
            Err(ImageError::Truncated { len: 63 })
        );
    }

    #[test]
    fn parse_wrong_magic_is_rejected() {
        let mut bytes = header(0, MIB, 0xa);
        bytes[56] = b'X';
        assert_eq!(
            ImageHeader::parse(&bytes),
            Err(ImageError::BadMagic { found: 0x644d_5258 })
        );
    }

    #[test]
    fn parse_big_endian_image_is_rejected() {
        assert_eq!(
            ImageHeader::parse(&header(0, MIB, 0xb)),
            Err(ImageError::BigEndian { flags: 0xb })
        );
    }

    #[test]
    fn page_size_not_supported_is_rejected() {
        let image = ImageHeader::parse(&header(0, MIB, 6)).unwrap();
        let error = ImageError::PageSize {
            found: PageSize::Kib64,
        };
        assert_eq!(image.require_page_size(&[PageSize::Kib4]), Err(error));
        assert_eq!(image.require_page_size(&[PageSize::Kib64]), Ok(()));
    }

    #[test]
    fn page_size_unspecified_passes() {
        let image = ImageHeader::parse(&header(0, MIB, 0)).unwrap();
        assert_eq!(image.require_page_size(&[]), Ok(()));
    }

    #[test]
    fn image_size_zero_is_legacy_and_cannot_be_placed() {
        let image = ImageHeader::parse(&header(0x1234, 0, 0)).unwrap();
        assert!(image.is_legacy());
        let placed = image.place(1, PhysRange::new(0, 64 * MIB).unwrap());
        assert_eq!(
            placed,
            Err(ImageError::SizeZero {
                text_offset: 0x8_0000
            })
        );
    }

    #[test]
    fn place_takes_the_lowest_aligned_base() {
        let image = ImageHeader::parse(&header(0x8_0000, MIB, 0xa)).unwrap();
        let region = PhysRange::new(0x4010_0000, 0x4100_0000).unwrap();
        let placed = image.place(100, region).unwrap();
        assert_eq!(placed.base, 0x4020_0000);
        assert_eq!(
            placed.memory,
            PhysRange::from_len(0x4028_0000, MIB).unwrap()
        );
    }

    #[test]
    fn place_fitting_exactly_is_accepted_and_one_byte_more_rejected() {
        let region = PhysRange::from_len(0x4020_0000, 2 * MIB).unwrap();
        let fits = ImageHeader::parse(&header(0, 2 * MIB, 0xa)).unwrap();
        assert!(fits.place(1, region).is_ok());
        let larger = ImageHeader::parse(&header(0, 2 * MIB + 1, 0xa)).unwrap();
        let error = ImageError::TooLarge {
            needed: 2 * MIB + 1,
            available: 2 * MIB,
        };
        assert_eq!(larger.place(1, region), Err(error));
    }

    #[test]
    fn place_file_longer_than_its_memory_is_rejected() {
        let image = ImageHeader::parse(&header(0, 100, 0xa)).unwrap();
        let error = ImageError::FileTooLong {
            file_len: 101,
            image_size: 100,
        };
        assert_eq!(image.place(101, PhysRange::EMPTY), Err(error));
    }

    proptest! {
    #![proptest_config(crate::testing::config())]

            #[test]
            fn any_header_is_placed_inside_the_region_or_rejected(
                text_offset in any::<u64>(), image_size in any::<u64>(), start in any::<u64>(), len in any::<u64>()
            ) {
                let image = ImageHeader::parse(&header(text_offset, image_size, 0)).unwrap();
                let region = PhysRange { start, end: start.saturating_add(len) };
                if let Ok(placed) = image.place(1, region) {
                    prop_assert!(region.contains_range(&placed.memory));
                    prop_assert_eq!(placed.base % BASE_ALIGN, 0);
                }
            }
        }
}
