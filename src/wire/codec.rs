// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a block's bytes are packed. State is reset at each block, so that blocks stand alone.

use crate::Error;

/// A way of packing a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Stored,
    /// Raw deflate (RFC 1951).
    Deflate,
}

impl Codec {
    /// Returns the codec's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Deflate => 1,
        }
    }

    /// Returns the codec with this number.
    ///
    /// # Errors
    /// [`Error::UnknownCodec`].
    pub const fn from_code(code: u8) -> Result<Self, Error> {
        match code {
            0 => Ok(Self::Stored),
            1 => Ok(Self::Deflate),
            code => Err(Error::UnknownCodec(code)),
        }
    }
}

/// Packs blocks.
pub trait Encoder {
    /// Returns which codec undoes it.
    fn codec(&self) -> Codec;

    /// Packs `raw` into `out` from a fresh state and returns the length; `None` when it does not fit.
    fn encode(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize>;
}

/// Packs nothing: every block travels stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoredEncoder;

impl Encoder for StoredEncoder {
    fn codec(&self) -> Codec {
        Codec::Stored
    }

    fn encode(&mut self, _raw: &[u8], _out: &mut [u8]) -> Option<usize> {
        None
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use miniz_oxide::DataFormat;
    use miniz_oxide::deflate::core::{
        CompressionStrategy, CompressorOxide, TDEFLFlush, TDEFLStatus, compress,
    };

    use super::{Codec, Encoder};

    /// Largest window, in bits.
    const WINDOW_BITS: u8 = 15;

    /// Packs with deflate; allocates about 250 KiB when made, and never again.
    pub struct DeflateEncoder {
        compressor: CompressorOxide,
    }

    impl DeflateEncoder {
        /// Makes an encoder of a level from 1 (fast) to 10 (small); 0 stores.
        ///
        /// Takes up to 128 KiB of stack, and so does each block.
        #[must_use]
        pub fn new(level: u8) -> Self {
            let strategy = CompressionStrategy::Default;
            Self {
                compressor: CompressorOxide::with_params(
                    DataFormat::Raw,
                    level,
                    strategy,
                    WINDOW_BITS,
                ),
            }
        }
    }

    impl core::fmt::Debug for DeflateEncoder {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.debug_struct("DeflateEncoder").finish_non_exhaustive()
        }
    }

    impl Encoder for DeflateEncoder {
        fn codec(&self) -> Codec {
            Codec::Deflate
        }

        fn encode(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
            self.compressor.reset();
            match compress(&mut self.compressor, raw, out, TDEFLFlush::Finish) {
                (TDEFLStatus::Done, read, written) if read == raw.len() => Some(written),
                _ => None,
            }
        }
    }
}
#[cfg(feature = "deflate")]
pub use deflate::DeflateEncoder;

/// Unpacks `encoded` and returns it when it is `raw_len` bytes, else `None`.
#[cfg(feature = "alloc")]
pub(crate) fn decode(codec: Codec, encoded: &[u8], raw_len: usize) -> Option<alloc::vec::Vec<u8>> {
    use core::iter::once;
    use miniz_oxide::inflate::decompress_slice_iter_to_slice;

    match codec {
        Codec::Stored => (encoded.len() == raw_len).then(|| encoded.into()),
        Codec::Deflate => {
            // The output's size is the bound: what would grow past it fails.
            let mut raw = alloc::vec![0; raw_len];
            let found =
                decompress_slice_iter_to_slice(&mut raw, once(encoded), false, true).ok()?;
            (found == raw_len).then_some(raw)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_unknown_is_refused_by_number() {
        assert_eq!(Codec::from_code(2), Err(Error::UnknownCodec(2)));
        assert_eq!(Codec::from_code(Codec::Deflate.code()), Ok(Codec::Deflate));
    }

    #[test]
    fn stored_encoder_never_packs() {
        assert_eq!(StoredEncoder.encode(&[0; 100], &mut [0; 100]), None);
        assert_eq!(StoredEncoder.codec(), Codec::Stored);
    }

    #[cfg(all(feature = "alloc", feature = "deflate"))]
    mod both_ends {
        use super::super::*;
        use std::vec::Vec;

        #[test]
        fn deflate_of_two_blocks_stands_alone() {
            let raw: Vec<u8> = b"the same words ".repeat(400);
            let mut encoder = DeflateEncoder::new(6);
            let mut out = [0; 6000];
            let first = encoder.encode(&raw, &mut out).unwrap();
            let first = out[..first].to_vec();
            let second = encoder.encode(&raw, &mut out).unwrap();
            assert_eq!(out[..second], first);
            assert_eq!(decode(Codec::Deflate, &first, raw.len()).unwrap(), raw);
        }

        #[test]
        fn deflate_without_room_says_so_and_works_again() {
            let raw = [7; 4096];
            let mut encoder = DeflateEncoder::new(1);
            assert_eq!(encoder.encode(&raw, &mut [0; 4]), None);
            let mut out = [0; 4096];
            let len = encoder.encode(&raw, &mut out).unwrap();
            assert_eq!(decode(Codec::Deflate, &out[..len], 4096).unwrap(), raw);
        }

        #[test]
        fn deflate_to_more_than_announced_is_refused() {
            let mut out = [0; 4096];
            let len = DeflateEncoder::new(9).encode(&[7; 4096], &mut out).unwrap();
            assert_eq!(decode(Codec::Deflate, &out[..len], 4095), None);
            assert_eq!(decode(Codec::Deflate, &out[..len], 4097), None);
        }

        #[test]
        fn deflate_of_garbage_is_refused() {
            assert_eq!(decode(Codec::Deflate, &[0xff; 40], 100), None);
        }
    }
}
