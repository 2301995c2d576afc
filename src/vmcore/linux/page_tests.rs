// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the page classes, on hand-made page arrays of kernels with 48 and with 52 bits of address.

use super::fake_linux::*;
use super::page_array::PageStruct;
use super::{Buffers, Key, PageClasses, Vmcoreinfo};
use crate::phys_memory::SliceMemory;
use crate::{DumpLevel, Error, PAGE_SIZE, PageClass};
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

/// One page of each kind, and what it is.
fn one_of_each(linux: &mut Linux) -> Vec<Option<PageClass>> {
    let anonymous = |page: PageStruct| PageStruct {
        mapping: 0xffff_0000_1234_5681,
        ..page
    };
    let at = |number: u64| ORDINARY + number;
    linux.set_free(at(0), 0);
    linux.set(at(1), with_flags(at(1), LRU));
    linux.set(at(2), with_flags(at(2), LRU | PRIVATE));
    linux.set(at(3), with_flags(at(3), SWAPCACHE | SWAPBACKED));
    linux.set(at(4), with_flags(at(4), SWAPCACHE));
    linux.set(at(5), anonymous(with_flags(at(5), LRU | SWAPBACKED)));
    linux.set(at(6), anonymous(kept(at(6))));
    linux.set(
        at(7),
        PageStruct {
            mapcount: SLAB,
            ..anonymous(kept(at(7)))
        },
    );
    linux.set(
        at(8),
        PageStruct {
            mapcount: HUGETLB,
            ..with_flags(at(8), HEAD)
        },
    );
    linux.set(
        at(9),
        PageStruct {
            mapcount: HUGETLB,
            ..kept(at(9))
        },
    );
    linux.set(
        at(10),
        PageStruct {
            refcount: 0,
            ..kept(at(10))
        },
    );
    let (cache, user) = (Some(PageClass::Cache), Some(PageClass::User));
    let private = Some(PageClass::PrivateCache);
    let free = Some(PageClass::Free);
    vec![
        free, cache, private, cache, None, user, user, None, user, None, None,
    ]
}

#[test]
fn each_class_is_told_with_48_bits() {
    let mut linux = Linux::new(48);
    let expected = one_of_each(&mut linux);
    assert_eq!(linux.asked(31, ORDINARY..ORDINARY + 11), (expected, None));
}

#[test]
fn each_class_is_told_with_52_bits() {
    let mut linux = Linux::new(52);
    let expected = one_of_each(&mut linux);
    assert_eq!(linux.asked(31, ORDINARY..ORDINARY + 11), (expected, None));
}

#[test]
fn each_bit_leaves_out_its_own() {
    let mut linux = Linux::new(48);
    let all = one_of_each(&mut linux);
    let at = |level: u32| linux.asked(level, ORDINARY..ORDINARY + 11).0;
    let only = |classes: &[PageClass]| -> Vec<Option<PageClass>> {
        let of = |class: &Option<PageClass>| class.filter(|class| classes.contains(class));
        all.iter().map(of).collect()
    };
    assert_eq!(at(1), only(&[]));
    assert_eq!(at(2), only(&[PageClass::Cache]));
    assert_eq!(at(4), only(&[PageClass::Cache, PageClass::PrivateCache]));
    assert_eq!(at(8), only(&[PageClass::User]));
    assert_eq!(at(17), only(&[PageClass::Free]));
}

#[test]
fn slab_and_hugetlb_of_6_1_are_told_by_flag_and_destructor() {
    let mut linux = Linux::new(48);
    linux.note.remove("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)");
    linux.note.remove("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)");
    let keys = [
        ("NUMBER(PG_slab)", "9"),
        ("NUMBER(HUGETLB_PAGE_DTOR)", "2"),
        ("OFFSET(page.compound_dtor)", "16"),
    ];
    linux
        .note
        .extend(keys.map(|(key, value)| (key.to_string(), value.to_string())));
    let slab = PageStruct {
        mapping: 1,
        ..with_flags(ORDINARY, SLAB_FLAG)
    };
    linux.set(ORDINARY, slab);
    linux.set_compound(ORDINARY + 2, 1, kept(ORDINARY + 2));
    assert_eq!(linux.class(ORDINARY), None);
    assert_eq!(linux.class(ORDINARY + 3), None);
    linux.put(ARRAY + (ORDINARY + 3 - FIRST) * STRUCT_LEN + 16, 2);
    assert_eq!(linux.class(ORDINARY + 2), Some(PageClass::User));
    assert_eq!(linux.class(ORDINARY + 3), Some(PageClass::User));
}

#[test]
fn free_block_of_each_order_is_free_to_its_last_page_and_no_further() {
    let mut linux = Linux::new(48);
    for order in 0..9 {
        let first = FIRST + 512;
        linux.set_free(first, order);
        let (found, _) = linux.asked(16, first - 1..first + (1 << order) + 1);
        let free = found
            .iter()
            .filter(|class| **class == Some(PageClass::Free))
            .count();
        assert_eq!(
            (free, found[0], found[found.len() - 1]),
            (1 << order, None, None),
            "order {order}"
        );
    }
}

#[test]
fn page_that_somebody_holds_in_a_free_block_is_sent() {
    let mut linux = Linux::new(48);
    linux.set_free(ORDINARY, 6);
    linux.set(ORDINARY + 33, kept(ORDINARY + 33));
    assert_eq!(linux.class(ORDINARY + 33), None);
    assert_eq!(linux.class(ORDINARY + 34), Some(PageClass::Free));
}

#[test]
fn free_block_of_an_order_that_cannot_be_is_sent() {
    for (first, private) in [(FIRST + 512, 11), (FIRST + 512, u64::MAX), (FIRST + 516, 3)] {
        let mut linux = Linux::new(48);
        linux.set_free(first, 2);
        linux.set(
            first,
            PageStruct {
                mapcount: BUDDY,
                refcount: 0,
                private,
                ..kept(first)
            },
        );
        let (found, _) = linux.asked(31, first..first + 8);
        assert_eq!(found, [None; 8], "order {private} at {first:#x}");
    }
}

#[test]
fn tails_are_what_their_head_is() {
    let mut linux = Linux::new(48);
    linux.set_compound(ORDINARY, 4, with_flags(ORDINARY, LRU));
    let of_slab = PageStruct {
        mapcount: SLAB,
        ..kept(ORDINARY + 16)
    };
    linux.set_compound(ORDINARY + 16, 2, of_slab);
    let (found, _) = linux.asked(31, (ORDINARY..ORDINARY + 20).rev());
    assert_eq!(found[..4], [None; 4]);
    assert_eq!(found[4..], [Some(PageClass::Cache); 16]);
}

#[test]
fn tail_of_what_is_no_head_before_it_is_sent() {
    let mut linux = Linux::new(48);
    let tail = |of: u64| PageStruct {
        compound_head: of | 1,
        ..kept(ORDINARY)
    };
    linux.set(ORDINARY - 1, with_flags(ORDINARY - 1, LRU));
    linux.set(ORDINARY + 1, with_flags(ORDINARY + 1, LRU | HEAD));
    let heads = [
        struct_at(ORDINARY - 1),
        struct_at(ORDINARY + 1),
        struct_at(ORDINARY),
        struct_at(ORDINARY - 1) + 8,
        0,
        !1,
    ];
    for head in heads {
        linux.set(ORDINARY, tail(head));
        assert_eq!(linux.class(ORDINARY), None, "{head:#x}");
    }
}

#[test]
fn page_outside_the_array_is_sent_and_nothing_to_remark() {
    let linux = Linux::new(48);
    let frames = [0, FIRST - 1, FIRST + (1 << 15), u64::MAX / PAGE_SIZE];
    assert_eq!(linux.asked(31, frames), (vec![None; 4], None));
}

#[test]
fn part_of_the_array_that_is_not_mapped_is_named() {
    let mut linux = Linux::new(48);
    // Section 9 says that its part lies behind that of section 8, where nothing is mapped.
    let word = ARRAY_VA - FIRST * STRUCT_LEN;
    linux.put(SECTIONS + 0x100 + 9 * 16, word | 0b1111);
    let beyond = FIRST + (1 << 15) + 5;
    assert_eq!(
        linux.asked(31, [ORDINARY, beyond]),
        (vec![None; 2], Some(beyond))
    );
}

#[test]
fn note_without_a_key_or_with_an_absurd_value_is_refused() {
    for key in note_of_6_12(48).keys() {
        // Without them the kernel is of another age, not wrong.
        if ["PG_swapbacked", "HUGETLB", "T1SZ"]
            .iter()
            .any(|optional| key.contains(optional))
        {
            continue;
        }
        let mut linux = Linux::new(48);
        linux.note.remove(key);
        let said = linux.refusal().to_string();
        let is_slab = key.contains("SLAB") && said.contains("PG_slab");
        assert!(
            said.contains(&format!("no {key}")) || is_slab,
            "{key}: {said}"
        );
        linux
            .note
            .insert(key.clone(), "99999999999999999999".to_string());
        assert!(linux.refusal().to_string().contains(key.as_str()), "{key}");
    }
}

#[test]
fn note_of_another_kernel_is_found_out() {
    let wrong = [
        ("SIZE(page)", "56"),
        ("SIZE(page)", "72"),
        ("OFFSET(page._refcount)", "48"),
        ("OFFSET(page._mapcount)", "52"),
        ("OFFSET(page.lru)", "0"),
        ("OFFSET(page.mapping)", "8"),
        ("SYMBOL(mem_section)", "ffff000040020008"),
    ];
    for (key, value) in wrong {
        let mut linux = Linux::new(48);
        linux.note.insert(key.to_string(), value.to_string());
        assert!(
            matches!(linux.refusal(), Error::NoPageArray { .. }),
            "{key}={value}"
        );
    }
}

#[test]
fn other_memory_model_and_tables_that_are_gone_are_refused() {
    let mut linux = Linux::new(48);
    linux
        .note
        .insert("LENGTH(mem_section)".to_string(), "1".to_string());
    assert!(matches!(
        linux.refusal(),
        Error::KeyValue {
            key: Key::Length("mem_section"),
            ..
        }
    ));
    let mut linux = Linux::new(48);
    linux.ram[..PAGE_SIZE as usize].fill(0);
    assert_eq!(
        linux.refusal(),
        Error::NoPageArray {
            frame: TEXT / PAGE_SIZE
        }
    );
}

/// What makedumpfile's walk over the array leaves out at level 31, of blocks that are as a kernel has them.
#[derive(Clone, Copy, Debug)]
enum Block {
    Free,
    Cache,
    Anonymous,
    Kernel,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn blocks_of_a_sound_kernel_are_told_in_any_order_of_asking(
        blocks in proptest::collection::vec((0_u32..6, prop_oneof![
            Just(Block::Free), Just(Block::Cache), Just(Block::Anonymous), Just(Block::Kernel)
        ]), 1..30),
        order in Just((0..512_u64).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut linux = Linux::new(52);
        let (mut at, mut expected) = (FIRST + 256, vec![None; 512]);
        for (order, block) in blocks {
            at = at.next_multiple_of(1 << order);
            if at + (1 << order) > FIRST + 768 { break }
            let page = kept(at);
            let class = match block {
                Block::Free => { linux.set_free(at, order); Some(PageClass::Free) }
                Block::Cache => { linux.set_compound(at, order, with_flags(at, LRU)); Some(PageClass::Cache) }
                Block::Anonymous => {
                    linux.set_compound(at, order, PageStruct { mapping: 1, ..page });
                    Some(PageClass::User)
                }
                Block::Kernel => { linux.set_compound(at, order, page); None }
            };
            expected[(at - FIRST - 256) as usize..][..1 << order].fill(class);
            at += 1 << order;
        }
        let (found, unread) = linux.asked(31, order.iter().map(|number| FIRST + 256 + number));
        prop_assert_eq!(unread, None);
        for (number, class) in order.iter().zip(found) {
            prop_assert_eq!(class, expected[*number as usize], "page {}", number);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn any_bytes_in_the_array_give_the_same_answers_in_any_order(
        words in proptest::collection::vec((0_u64..512, 0_u64..8, prop_oneof![
            any::<u64>(), 0_u64..16, Just(u64::from(BUDDY)), Just(LRU | HEAD), (0_u64..512).prop_map(|n| struct_at(FIRST + 256 + n) | 1)
        ]), 0..400),
        level in 0_u32..32,
        order in Just((0..512_u64).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut linux = Linux::new(48);
        for (page, word, value) in words {
            linux.put(ARRAY + (256 + page) * STRUCT_LEN + word * 8, value);
        }
        let (ascending, _) = linux.asked(level, FIRST + 256..FIRST + 768);
        let (shuffled, _) = linux.asked(level, order.iter().map(|number| FIRST + 256 + number));
        for (number, class) in order.iter().zip(shuffled) {
            prop_assert_eq!(class, ascending[*number as usize], "page {}", number);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow under Miri")]
    fn any_note_and_any_tables_are_survived(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            "[0-9a-f]{1,16}", "-?[0-9]{1,19}", Just(String::new())
        ]), 0..4),
        words in proptest::collection::vec((0_u64..33 * 512, any::<u64>()), 0..40),
    ) {
        let mut linux = Linux::new(48);
        let keys: Vec<String> = linux.note.keys().cloned().collect();
        for (key, value) in changes {
            linux.note.insert(key.get(&keys).clone(), value);
        }
        for (at, value) in words {
            linux.put(BASE + at * 8, value);
        }
        let (note, mut buffers) = (linux.note(), Buffers::new());
        let mut memory = SliceMemory { base: BASE, bytes: &linux.ram };
        if let Ok(mut classes) = PageClasses::open(&Vmcoreinfo::new(&note), &mut memory, &mut buffers) {
            for frame in FIRST..FIRST + PAGES {
                let class = classes.class(&mut memory, frame * PAGE_SIZE, DumpLevel(31));
                prop_assert!(class.is_none_or(|class| class.is_by_account()));
            }
        }
    }
}
