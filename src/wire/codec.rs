// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a block's bytes are packed. State is reset at each block, so that blocks stand alone.

use crate::Error;

/// A way of packing a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Stored,
    /// Raw deflate (RFC 1951); sent by version 1 only.
    Deflate,
    /// A raw LZMA stream ([`crate::lzma`]).
    Lzma,
}

impl Codec {
    /// Returns the codec's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Deflate => 1,
            Self::Lzma => 2,
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
            2 => Ok(Self::Lzma),
            code => Err(Error::UnknownCodec(code)),
        }
    }
}

/// Unpacks `packed` and returns it when it is `raw_len` bytes, else `None`.
#[cfg(feature = "alloc")]
pub(crate) fn decode(codec: Codec, packed: &[u8], raw_len: usize) -> Option<alloc::vec::Vec<u8>> {
    use core::iter::once;
    use miniz_oxide::inflate::decompress_slice_iter_to_slice;

    match codec {
        Codec::Stored => (packed.len() == raw_len).then(|| packed.into()),
        Codec::Deflate => {
            // The output's size is the bound: what would grow past it fails.
            let mut raw = alloc::vec![0; raw_len];
            let found = decompress_slice_iter_to_slice(&mut raw, once(packed), false, true).ok()?;
            (found == raw_len).then_some(raw)
        }
        Codec::Lzma => crate::lzma::decode(packed, raw_len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_unknown_is_refused_by_number() {
        assert_eq!(Codec::from_code(77), Err(Error::UnknownCodec(77)));
        assert_eq!(Codec::from_code(Codec::Lzma.code()), Ok(Codec::Lzma));
        assert_eq!(Codec::from_code(Codec::Deflate.code()), Ok(Codec::Deflate));
    }

    #[cfg(feature = "alloc")]
    mod unpacking {
        use super::super::*;
        use miniz_oxide::deflate::compress_to_vec;

        #[test]
        fn deflate_to_more_or_less_than_announced_is_refused() {
            let packed = compress_to_vec(&[7; 4096], 6);
            assert_eq!(decode(Codec::Deflate, &packed, 4096).unwrap(), [7; 4096]);
            assert_eq!(decode(Codec::Deflate, &packed, 4095), None);
            assert_eq!(decode(Codec::Deflate, &packed, 4097), None);
        }

        #[test]
        fn stored_of_another_length_is_refused() {
            assert_eq!(decode(Codec::Stored, b"abc", 3).unwrap(), b"abc");
            assert_eq!(decode(Codec::Stored, b"abc", 4), None);
        }

        #[test]
        fn garbage_is_refused() {
            assert_eq!(decode(Codec::Deflate, &[0xff; 40], 100), None);
            assert_eq!(decode(Codec::Lzma, &[0xff; 40], 100), None);
        }
    }
}
