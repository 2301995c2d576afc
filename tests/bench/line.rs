// SPDX-License-Identifier: MIT OR Apache-2.0
//! The SUMMARY frame in a recorded line (docs/protocol.md, version 1).
//!
//! Read anew here, because the tests link nothing of the project's own.

/// Type of the frame.
const TYPE_SUMMARY: u8 = 3;
const HEADER_LEN: usize = 10;
const CRC_LEN: usize = 4;
/// Where the counter at the first and at the last frame stands in the payload.
const TICKS_BEGIN: usize = 112;
const TICKS_END: usize = 120;
const SUMMARY_LEN: usize = 128;
/// A frame of this length on the line is surely longer than a summary.
const LONGEST: usize = 512;

/// When frames were sent, in ticks of the target's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameTicks {
    /// The first.
    pub(crate) begin: u64,
    /// The last.
    pub(crate) end: u64,
}

/// Finds the summary.
pub(crate) fn frame_ticks(recording: &[u8]) -> Option<FrameTicks> {
    let mut frames = recording
        .rsplit(|byte| *byte == 0)
        .filter(|frame| frame.len() < LONGEST)
        .filter_map(decode_cobs);
    let summary = frames.find(|frame| frame.get(1) == Some(&TYPE_SUMMARY))?;
    let payload = summary.get(HEADER_LEN..summary.len().checked_sub(CRC_LEN)?)?;
    let payload = payload.get(..SUMMARY_LEN)?;
    Some(FrameTicks {
        begin: word(payload, TICKS_BEGIN)?,
        end: word(payload, TICKS_END)?,
    })
}

/// Reads 64 bits, little-endian.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(part.try_into().ok()?))
}

/// Undoes COBS (Cheshire and Baker, 1999): each code byte says how far it is to the next zero.
fn decode_cobs(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = encoded;
    while let Some((code, after)) = rest.split_first() {
        let len = usize::from(*code).checked_sub(1)?;
        decoded.extend_from_slice(after.get(..len)?);
        rest = after.get(len..)?;
        if *code != u8::MAX && !rest.is_empty() {
            decoded.push(0);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cobs_of_the_papers_example_is_decoded() {
        assert_eq!(
            decode_cobs(&[3, 0x11, 0x22, 2, 0x33]),
            Some(vec![0x11, 0x22, 0, 0x33])
        );
    }

    #[test]
    fn cobs_that_points_beyond_its_end_is_refused() {
        assert_eq!(decode_cobs(&[5, 1, 2]), None);
    }

    #[test]
    fn line_without_a_summary_has_no_ticks() {
        assert_eq!(frame_ticks(b"console text\0\x03\x01\x02\0"), None);
    }

    #[test]
    fn summary_between_text_is_found() {
        let mut frame = vec![1, TYPE_SUMMARY];
        frame.extend([1; HEADER_LEN - 2 + SUMMARY_LEN + CRC_LEN]);
        let mut line = b"text\0".to_vec();
        line.push(frame.len() as u8 + 1);
        line.extend(frame);
        line.extend(b"\0more text");
        let ticks = u64::from_le_bytes([1; 8]);
        assert_eq!(
            frame_ticks(&line),
            Some(FrameTicks {
                begin: ticks,
                end: ticks
            })
        );
    }
}
