// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blobs that must not get past the validator, one for each error.

use super::*;

fn rejected(blob: Vec<u8>) -> DtbError {
    Dtb::validate(&blob).unwrap_err()
}

fn patched(offset: usize, word: u32) -> Vec<u8> {
    let mut blob = board().finish();
    blob[offset..offset + 4].copy_from_slice(&word.to_be_bytes());
    blob
}

#[test]
fn blob_in_a_longer_slice_is_cut_to_its_size() {
    let mut blob = board().finish();
    let len = blob.len();
    blob.resize(len + 4096, 0xff);
    assert_eq!(Dtb::validate(&blob).unwrap().as_bytes().len(), len);
    assert_eq!(Dtb::peek_total_size(&blob[..8]), Ok(len as u32));
}

#[test]
fn something_else_is_rejected() {
    assert_eq!(rejected(std::vec![0; 64]), DtbError::NotADtb { found: 0 });
    assert_eq!(
        rejected(b"\x7fELF".to_vec()),
        DtbError::NotADtb { found: 0x7f45_4c46 }
    );
    assert_eq!(
        rejected(Vec::new()),
        DtbError::Truncated { needed: 8, len: 0 }
    );
}

#[test]
fn every_truncation_is_rejected() {
    let blob = board().finish();
    let accepted = (0..blob.len())
        .filter(|len| Dtb::validate(&blob[..*len]).is_ok())
        .count();
    assert_eq!(accepted, 0);
    let (needed, len) = (blob.len(), blob.len() - 1);
    assert_eq!(
        rejected(blob[..len].to_vec()),
        DtbError::Truncated { needed, len }
    );
}

#[test]
fn total_size_that_lies_is_rejected() {
    let needed = 0x1000;
    let len = board().finish().len();
    assert_eq!(
        rejected(patched(4, 0x1000)),
        DtbError::Truncated { needed, len }
    );
    assert_eq!(
        rejected(patched(4, 39)),
        DtbError::TotalSize { total_size: 39 }
    );
    assert_eq!(
        rejected(patched(4, u32::MAX)),
        DtbError::TotalSize {
            total_size: u32::MAX
        }
    );
    let short = len as u32 - 4;
    assert!(matches!(
        rejected(patched(4, short)),
        DtbError::BlockBounds {
            block: Block::Strings,
            ..
        }
    ));
}

#[test]
fn version_16_is_rejected() {
    let error = DtbError::Version {
        version: 16,
        last_compatible: 16,
    };
    assert_eq!(rejected(patched(20, 16)), error);
    let error = DtbError::Version {
        version: 17,
        last_compatible: 18,
    };
    assert_eq!(rejected(patched(24, 18)), error);
}

#[test]
fn block_outside_the_blob_is_rejected() {
    let is_bounds =
        |error, wanted| matches!(error, DtbError::BlockBounds { block, .. } if block == wanted);
    assert!(is_bounds(rejected(patched(8, 2)), Block::Structure));
    assert!(is_bounds(rejected(patched(36, u32::MAX)), Block::Structure));
    assert!(is_bounds(
        rejected(patched(12, 0xffff_fff0)),
        Block::Strings
    ));
    assert!(is_bounds(
        rejected(patched(16, 44)),
        Block::MemoryReservations
    ));
}

#[test]
fn reservations_without_an_end_are_rejected() {
    let mut blob = board().finish();
    let at_the_end = (blob.len() / 8 * 8) as u32;
    blob[16..20].copy_from_slice(&at_the_end.to_be_bytes());
    assert_eq!(rejected(blob), DtbError::ReservationsUnterminated);
}

#[test]
fn structure_without_an_end_is_rejected() {
    let blob = Blob::new().end().assemble();
    let offset = blob.len();
    assert_eq!(rejected(blob), DtbError::BadEnd { offset });
}

#[test]
fn structure_that_goes_on_after_its_end_is_rejected() {
    let blob = Blob::new().end().token(9).token(4).assemble();
    let offset = blob.len() - 8;
    assert_eq!(rejected(blob), DtbError::BadEnd { offset });
}

#[test]
fn token_that_does_not_belong_there_is_rejected() {
    // The structure block begins at 56: header 40, one terminator 16; the root takes 8 bytes.
    let misplaced = |blob: Blob, offset, token| {
        assert_eq!(
            rejected(blob.assemble()),
            DtbError::BadToken { offset, token }
        );
    };
    misplaced(Blob::new().token(5), 64, 5);
    misplaced(Blob::new().token(9), 64, 9);
    misplaced(Blob::new().end().end(), 68, 2);
    misplaced(Blob::new().end().begin(""), 68, 1);
    misplaced(Blob::new().begin("a").end().cells("late", &[1]), 76, 3);
}

#[test]
fn node_name_with_a_slash_is_rejected() {
    let blob = Blob::new().begin("a/b").end().finish();
    assert_eq!(rejected(blob), DtbError::BadNodeName { offset: 68 });
}

#[test]
fn node_without_a_name_is_rejected() {
    let blob = Blob::new().begin("").end().finish();
    assert_eq!(rejected(blob), DtbError::BadNodeName { offset: 64 });
}

#[test]
fn property_beyond_the_structure_block_is_rejected() {
    let blob = Blob::new()
        .cells("name", &[])
        .token(3)
        .token(0x1000)
        .token(0)
        .finish();
    assert_eq!(
        rejected(blob),
        DtbError::PropertyTooLong {
            offset: 76,
            len: 0x1000
        }
    );
}

#[test]
fn property_name_outside_the_strings_is_rejected() {
    let blob = Blob::new().token(3).token(0).token(99).finish();
    assert_eq!(
        rejected(blob),
        DtbError::BadPropertyName {
            offset: 64,
            name_offset: 99
        }
    );
}

#[test]
fn nodes_nested_too_deep_are_rejected() {
    let nest = |levels: usize| {
        let open = (0..levels).fold(Blob::new(), |blob, _| blob.begin("n"));
        (0..levels).fold(open, |blob, _| blob.end()).finish()
    };
    assert!(Dtb::validate(&nest(MAX_DEPTH - 1)).is_ok());
    assert!(matches!(
        rejected(nest(MAX_DEPTH)),
        DtbError::TooDeep { .. }
    ));
}

#[test]
fn name_of_more_than_31_characters_is_accepted() {
    let name = "arm,cpu-registers-not-fw-configured";
    let blob = board().bytes(name, &[]);
    // The property comes after a child; put it into a node of its own.
    assert!(Dtb::validate(&blob.finish()).is_err());
    let blob = board().begin("timer").bytes(name, &[]).end().finish();
    let dtb = Dtb::validate(&blob).unwrap();
    assert_eq!(dtb.node("/timer").unwrap().property(name), Some(&[][..]));
}
