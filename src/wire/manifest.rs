// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manifest: what is being dumped. The first frames, and sent again so that a late host finds it.

use crate::cursor::{Reader, Writer};
use crate::{Error, VERSION, VERSION_MIN};

/// Longest payload of a part, in bytes.
pub const PART_MAX: usize = 512;
/// Bytes of the fixed fields.
pub const HEADER_LEN: usize = 96;
/// Bytes of a range.
pub const RANGE_LEN: usize = 32;
/// Ranges that fit a part.
pub const RANGES_PER_PART: usize = (PART_MAX - HEADER_LEN) / RANGE_LEN;
/// Longest build ID, in bytes.
pub const BUILD_ID_MAX: usize = 32;

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A kernel with Afterimage's notes.
    Afterimage,
    /// A Linux kernel.
    Linux,
    /// Some other kernel; its number.
    Other(u8),
}

impl Source {
    /// Returns the source's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Afterimage => 1,
            Self::Linux => 2,
            Self::Other(code) => code,
        }
    }

    /// Returns the source with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Afterimage,
            2 => Self::Linux,
            code => Self::Other(code),
        }
    }
}

/// A range of memory: a PT_LOAD of the elfcorehdr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Virtual address in the crashed kernel.
    pub vaddr: u64,
    /// Physical address.
    pub paddr: u64,
    /// Bytes.
    pub len: u64,
    /// p_flags.
    pub flags: u32,
}

/// The fixed fields of a manifest, the same in each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Oldest protocol version that the sender can speak.
    pub version_min: u8,
    /// Newest protocol version that the sender can speak.
    pub version_max: u8,
    /// Names the dump; random, or drawn from counter and registers.
    pub dump_id: [u8; 16],
    /// Whose memory it is.
    pub source: Source,
    /// The crashed kernel's build ID; the first `build_id_len` bytes count.
    pub build_id: [u8; BUILD_ID_MAX],
    /// Bytes of the build ID, 0 when unknown.
    pub build_id_len: u8,
    /// Bytes of a page in memory blocks.
    pub page_size: u32,
    /// How many CPUs the crashed kernel had; the number of per-CPU note buffers.
    pub cpu_count: u32,
    /// The dump level that is filtered by.
    pub dump_level: u32,
    /// Bytes of the elfcorehdr.
    pub elfcorehdr_len: u32,
    /// Number of PT_NOTEs.
    pub note_segments: u32,
    /// Number of ranges in all parts.
    pub range_count: u32,
    /// The system counter's frequency in Hz.
    pub counter_hz: u32,
    /// Whether the crashed kernel itself sends what it can, because no capture kernel could be entered.
    pub is_minimal: bool,
}

impl Manifest {
    /// Returns a manifest of this protocol version, with everything else empty.
    #[must_use]
    pub const fn new(dump_id: [u8; 16], source: Source) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION,
            dump_id,
            source,
            build_id: [0; BUILD_ID_MAX],
            build_id_len: 0,
            page_size: crate::PAGE_SIZE as u32,
            cpu_count: 0,
            dump_level: 0,
            elfcorehdr_len: 0,
            note_segments: 0,
            range_count: 0,
            counter_hz: 0,
            is_minimal: false,
        }
    }

    /// Sets the build ID, cut to what there is room for.
    pub fn set_build_id(&mut self, build_id: &[u8]) {
        self.build_id = [0; BUILD_ID_MAX];
        self.build_id_len = build_id.len().min(BUILD_ID_MAX) as u8;
        for (to, from) in self.build_id.iter_mut().zip(build_id) {
            *to = *from;
        }
    }

    /// Returns the build ID, empty when unknown.
    #[must_use]
    pub fn build_id(&self) -> &[u8] {
        self.build_id
            .get(..usize::from(self.build_id_len))
            .unwrap_or(&self.build_id)
    }

    /// Returns how many parts a manifest with this many ranges has.
    ///
    /// # Errors
    /// [`Error::TooLong`] when 255 parts do not hold them.
    pub fn parts(range_count: usize) -> Result<u8, Error> {
        let parts = range_count.div_ceil(RANGES_PER_PART).max(1);
        let limit = u64::from(u8::MAX).saturating_mul(RANGES_PER_PART as u64);
        u8::try_from(parts).map_err(|_| Error::TooLong {
            len: range_count as u64,
            limit,
        })
    }

    /// Writes part number `part` of the manifest with all these ranges and returns its length.
    ///
    /// Layout: part u8, parts u8, version min u8, version max u8, source u8, build ID length u8, ranges in this part u16,
    /// dump id 16 bytes, build ID 32 bytes, page size u32, CPUs u32, dump level u32, elfcorehdr length u32, PT_NOTEs u32,
    /// ranges in all u32, counter Hz u32, session u32, round u8, flags u8 (bit 0: minimal), reserved 6 bytes; per range vaddr u64, paddr u64, length u64, flags u32,
    /// reserved u32.
    ///
    /// # Errors
    /// [`Error::TooLong`]; [`Error::BadValue`] when there is no such part; [`Error::BufferTooSmall`].
    pub fn encode_part(
        &self,
        ranges: &[Range],
        part: u8,
        pass: Pass,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let parts = Self::parts(ranges.len())?;
        if part >= parts {
            return Err(Error::BadValue {
                offset: 0,
                value: u64::from(part),
            });
        }
        let skipped = usize::from(part).saturating_mul(RANGES_PER_PART);
        let here = ranges.iter().skip(skipped).take(RANGES_PER_PART);
        let mut writer = Writer::new(out);
        writer.put(&[part, parts, self.version_min, self.version_max])?;
        writer.put(&[self.source.code(), self.build_id_len])?;
        writer.u16(here.len() as u16)?;
        writer.put(&self.dump_id)?;
        writer.put(&self.build_id)?;
        writer.u32(self.page_size)?;
        writer.u32(self.cpu_count)?;
        writer.u32(self.dump_level)?;
        writer.u32(self.elfcorehdr_len)?;
        writer.u32(self.note_segments)?;
        writer.u32(ranges.len() as u32)?;
        writer.u32(self.counter_hz)?;
        writer.u32(pass.session)?;
        writer.u8(pass.round)?;
        writer.u8(u8::from(self.is_minimal))?;
        writer.zeros(6)?;
        for range in here {
            writer.u64(range.vaddr)?;
            writer.u64(range.paddr)?;
            writer.u64(range.len)?;
            writer.u32(range.flags)?;
            writer.u32(0)?;
        }
        Ok(writer.offset())
    }
}

/// What changes from one sending of the dump to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The session of the host that it is for; 0 while nobody answers.
    pub session: u32,
    /// How often the whole was sent before.
    pub round: u8,
}

/// A part of a manifest that was found right.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Its number, from 0.
    pub part: u8,
    /// How many parts there are.
    pub parts: u8,
    /// The fixed fields.
    pub manifest: Manifest,
    /// Which sending of the dump it begins, or repeats.
    pub pass: Pass,
    ranges: Reader<'a>,
}

impl<'a> Part<'a> {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::ManifestPart`]; [`Error::BadValue`] for versions, build ID or page size;
    /// [`Error::TooLong`] for the number of ranges.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let [part, parts, version_min, version_max] = reader.array()?;
        if part >= parts {
            return Err(Error::ManifestPart { part, parts });
        }
        if version_min > version_max || version_min == 0 {
            return Err(Error::BadValue {
                offset: 2,
                value: u64::from(version_min),
            });
        }
        let source = Source::from_code(reader.u8()?);
        let build_id_len = reader.u8()?;
        if usize::from(build_id_len) > BUILD_ID_MAX {
            return Err(Error::BadValue {
                offset: 5,
                value: u64::from(build_id_len),
            });
        }
        let ranges_here = usize::from(reader.u16()?);
        let mut manifest = Manifest {
            version_min,
            version_max,
            source,
            build_id_len,
            dump_id: reader.array()?,
            build_id: reader.array()?,
            page_size: reader.u32()?,
            cpu_count: reader.u32()?,
            dump_level: reader.u32()?,
            elfcorehdr_len: reader.u32()?,
            note_segments: reader.u32()?,
            range_count: reader.u32()?,
            counter_hz: reader.u32()?,
            is_minimal: false,
        };
        let pass = Pass {
            session: reader.u32()?,
            round: reader.u8()?,
        };
        manifest.is_minimal = reader.u8()? & 1 != 0;
        reader.take(6)?;
        if manifest.page_size as usize != crate::PAGE_SIZE {
            return Err(Error::BadValue {
                offset: 56,
                value: u64::from(manifest.page_size),
            });
        }
        let expected = Manifest::parts(manifest.range_count as usize)?;
        if expected != parts || ranges_here > RANGES_PER_PART {
            return Err(Error::ManifestPart { part, parts });
        }
        let ranges = Reader::new(reader.take(ranges_here.saturating_mul(RANGE_LEN))?);
        Ok(Self {
            part,
            parts,
            manifest,
            pass,
            ranges,
        })
    }

    /// Returns the ranges in this part.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        let mut reader = self.ranges.clone();
        core::iter::from_fn(move || take_range(&mut reader).ok())
    }
}

fn take_range(reader: &mut Reader<'_>) -> Result<Range, Error> {
    let range = Range {
        vaddr: reader.u64()?,
        paddr: reader.u64()?,
        len: reader.u64()?,
        flags: reader.u32()?,
    };
    reader.u32()?;
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new([0xd0; 16], Source::Afterimage);
        manifest.set_build_id(&[0xb1, 0xb2]);
        Manifest {
            cpu_count: 4,
            dump_level: 17,
            elfcorehdr_len: 344,
            note_segments: 5,
            range_count: 1,
            counter_hz: 62_500_000,
            ..manifest
        }
    }

    const PASS: Pass = Pass {
        session: 0x0102_0304,
        round: 5,
    };

    const RAM: Range = Range {
        vaddr: 0xffff_0000_4000_0000,
        paddr: 0x4000_0000,
        len: 0x800_0000,
        flags: 7,
    };

    #[test]
    fn manifest_has_its_golden_bytes() {
        let mut out = [0xff; PART_MAX];
        let len = sample().encode_part(&[RAM], 0, PASS, &mut out).unwrap();
        let mut expected = Vec::from([0, 1, 1, 2, 1, 2, 1, 0]);
        expected.extend([0xd0; 16]);
        expected.extend([0xb1, 0xb2]);
        expected.extend([0; 30]);
        #[rustfmt::skip]
        expected.extend([
            0, 16, 0, 0, 4, 0, 0, 0, 17, 0, 0, 0, 0x58, 1, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0,
            0xa0, 0xac, 0xb9, 3, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0, 0, 0x40, 0, 0, 0, 0,
            0, 0, 0, 8, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(out[..len], expected);
        let part = Part::decode(&out[..len]).unwrap();
        assert_eq!(part.manifest, sample());
        assert_eq!(part.manifest.build_id(), [0xb1, 0xb2]);
        assert_eq!(part.pass, PASS);
        assert_eq!(part.ranges().collect::<Vec<_>>(), [RAM]);
    }

    #[test]
    fn manifest_with_more_ranges_than_fit_has_a_second_part() {
        let ranges: Vec<Range> = (0..14)
            .map(|n| Range {
                paddr: n << 20,
                ..RAM
            })
            .collect();
        let mut out = [0; PART_MAX];
        let len = sample().encode_part(&ranges, 0, PASS, &mut out).unwrap();
        assert_eq!(len, PART_MAX);
        assert_eq!(Part::decode(&out).unwrap().ranges().count(), 13);
        let len = sample().encode_part(&ranges, 1, PASS, &mut out).unwrap();
        let part = Part::decode(&out[..len]).unwrap();
        assert_eq!(
            (part.part, part.parts, part.manifest.range_count),
            (1, 2, 14)
        );
        assert_eq!(part.ranges().next().unwrap().paddr, 13 << 20);
    }

    #[test]
    fn part_that_there_is_not_is_refused() {
        let error = sample()
            .encode_part(&[RAM], 1, PASS, &mut [0; PART_MAX])
            .unwrap_err();
        assert_eq!(
            error,
            Error::BadValue {
                offset: 0,
                value: 1
            }
        );
    }

    #[test]
    fn more_ranges_than_255_parts_hold_are_refused() {
        assert_eq!(Manifest::parts(255 * 13), Ok(255));
        assert_eq!(
            Manifest::parts(255 * 13 + 1),
            Err(Error::TooLong {
                len: 3316,
                limit: 3315
            })
        );
    }

    /// Decodes the golden manifest with one byte replaced.
    fn decode_with(offset: usize, value: u8) -> Result<(), Error> {
        let mut out = [0; PART_MAX];
        let len = sample().encode_part(&[RAM], 0, PASS, &mut out).unwrap();
        out[offset] = value;
        Part::decode(&out[..len]).map(|_| ())
    }

    #[test]
    fn manifest_with_wrong_fields_is_refused_by_name() {
        assert_eq!(
            decode_with(0, 1),
            Err(Error::ManifestPart { part: 1, parts: 1 })
        );
        assert_eq!(
            decode_with(1, 2),
            Err(Error::ManifestPart { part: 0, parts: 2 })
        );
        assert_eq!(
            decode_with(2, 3),
            Err(Error::BadValue {
                offset: 2,
                value: 3
            })
        );
        assert_eq!(
            decode_with(5, 33),
            Err(Error::BadValue {
                offset: 5,
                value: 33
            })
        );
        assert_eq!(
            decode_with(57, 0),
            Err(Error::BadValue {
                offset: 56,
                value: 0
            })
        );
        assert!(matches!(decode_with(6, 2), Err(Error::Truncated { .. })));
        assert!(matches!(decode_with(79, 1), Err(Error::TooLong { .. })));
    }

    #[test]
    fn build_id_too_long_is_cut() {
        let mut manifest = sample();
        manifest.set_build_id(&[7; 40]);
        assert_eq!(manifest.build_id(), [7; 32]);
    }
}
