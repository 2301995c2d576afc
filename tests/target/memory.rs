// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of the address space, the heap's page-state map and the log ring.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;

use harness::{Failure, check, check_eq};
use kernel::{Boot, crash};
use machine::layout::{DEVICE_BASE, GUARD, LINEAR_BASE, PAGE_SIZE, WINDOW_BASE};
use machine::{arch, exceptions, image, percpu};
use target_tests::{is_readable, read};

harness::tests! {
    board: target_tests::BOARD,
    capture: env!("CAPTURE_IMAGE"),
    tests: [
        null_page_is_unmapped,
        identity_addresses_are_unmapped,
        guarded_read_of_unmapped_address_returns_an_error,
        guarded_read_works_again_after_a_fault,
        guarded_read_of_odd_address_or_length_is_refused,
        stack_guard_pages_are_unmapped,
        kernel_runs_at_its_link_address,
        linear_map_leaves_the_image_out,
        crash_region_is_unmapped,
        capture_image_is_linked_in,
        build_id_is_there,
        allocation_counts_in_page_state_and_free_takes_it_back,
        small_allocations_share_a_page_in_page_state,
        allocation_larger_than_ram_fails_without_a_crash,
        log_ring_holds_what_was_logged,
    ],
}

fn null_page_is_unmapped(_: &Boot) -> harness::Result {
    check!(!is_readable(0));
    check!(!is_readable(PAGE_SIZE - 16));
    Ok(())
}

fn identity_addresses_are_unmapped(_: &Boot) -> harness::Result {
    let physical = image::physical(image::bounds().begin);
    check!(
        !is_readable(physical),
        "the image can be read at its physical address {physical:#x}"
    );
    Ok(())
}

fn guarded_read_of_unmapped_address_returns_an_error(_: &Boot) -> harness::Result {
    check!(!is_readable(WINDOW_BASE + (1 << 40)));
    check!(!is_readable(DEVICE_BASE + (1 << 45)));
    // Neither half of the address space.
    check!(!is_readable(1 << 60));
    Ok(())
}

fn guarded_read_works_again_after_a_fault(_: &Boot) -> harness::Result {
    let begin = image::bounds().begin;
    for _ in 0..100 {
        check!(!is_readable(0));
        check!(is_readable(begin));
    }
    Ok(())
}

fn guarded_read_of_odd_address_or_length_is_refused(_: &Boot) -> harness::Result {
    let begin = image::bounds().begin;
    let mut short = [0_u8; 15];
    check!(read::<16>(begin + 8).is_none());
    check!(exceptions::copy_guarded(&mut short, begin).is_err());
    check!(exceptions::copy_guarded(&mut [], begin).is_err());
    check!(exceptions::is_zero_guarded(begin, 63).is_err());
    check!(exceptions::is_zero_guarded(begin, 64).is_ok());
    Ok(())
}

fn stack_guard_pages_are_unmapped(boot: &Boot) -> harness::Result {
    for slot in 0..boot.cpus() {
        let stacks =
            percpu::stacks(slot).ok_or(Failure::new(format_args!("CPU {slot} has no stacks")))?;
        for (bottom, top) in [stacks.thread, stacks.exception, stacks.crash] {
            check!(
                !is_readable(bottom - 16),
                "CPU {slot}: no guard below {bottom:#x}"
            );
            check!(
                !is_readable(bottom - GUARD as u64),
                "CPU {slot}: half a guard below {bottom:#x}"
            );
            check!(
                is_readable(bottom) && is_readable(top - 16),
                "CPU {slot}: no stack {bottom:#x}..{top:#x}"
            );
        }
    }
    Ok(())
}

fn kernel_runs_at_its_link_address(_: &Boot) -> harness::Result {
    let bounds = image::bounds();
    let here = kernel_runs_at_its_link_address as *const () as u64;
    check_eq!(bounds.begin, 0xffff_8000_8000_0000_u64);
    check!((bounds.begin..bounds.end).contains(&here));
    check!((bounds.begin..bounds.end).contains(&exceptions::capture_registers().pc));
    Ok(())
}

fn linear_map_leaves_the_image_out(_: &Boot) -> harness::Result {
    // The linear map is writable: through it, text would be.
    let bounds = image::bounds();
    for at in [bounds.begin, bounds.text_end - 16, bounds.rodata_end - 16] {
        check!(
            !is_readable(LINEAR_BASE + image::physical(at)),
            "{at:#x} is in the linear map, too"
        );
    }
    Ok(())
}

fn crash_region_is_unmapped(_: &Boot) -> harness::Result {
    let status = crash::status();
    let (start, end) = (
        status.region_start,
        status.region_start + status.region_bytes,
    );
    check!(status.region_bytes != 0);
    for physical in [start, start + status.region_bytes / 2, end - 16] {
        check!(
            !is_readable(LINEAR_BASE + physical),
            "{physical:#x} of the crash region can be read"
        );
    }
    check!(
        is_readable(LINEAR_BASE + start - 16),
        "RAM below the crash region cannot be read"
    );
    Ok(())
}

fn capture_image_is_linked_in(_: &Boot) -> harness::Result {
    let bytes = image::embedded_capture_image();
    check_eq!(bytes.get(56..60), Some(b"ARM\x64".as_slice()));
    Ok(())
}

fn build_id_is_there(_: &Boot) -> harness::Result {
    let id = image::build_id();
    // SHA-1.
    check_eq!(id.len(), 20);
    check!(id.iter().any(|byte| *byte != 0));
    Ok(())
}

fn allocation_counts_in_page_state_and_free_takes_it_back(_: &Boot) -> harness::Result {
    const PAGES: u64 = 8;
    let block = alloc::vec![0x5a_u8; (PAGES * PAGE_SIZE) as usize];
    let start = block.as_ptr().addr() as u64;
    let map = PageState::holding(start)?;
    for page in 0..PAGES {
        check_eq!(map.live(start + page * PAGE_SIZE)?, 1);
    }
    drop(block);
    for page in 0..PAGES {
        check_eq!(map.live(start + page * PAGE_SIZE)?, 0);
    }
    Ok(())
}

fn small_allocations_share_a_page_in_page_state(_: &Boot) -> harness::Result {
    let blocks: Vec<_> = (0..64_u8)
        .map(|number| alloc::boxed::Box::new([number; 512]))
        .collect();
    let page_of = |block: &[u8; 512]| block.as_ptr().addr() as u64 & !(PAGE_SIZE - 1);
    let page = page_of(&blocks[32]);
    let ours = blocks.iter().filter(|block| page_of(block) == page).count();
    let live = PageState::holding(page)?.live(page)?;
    check!(ours > 1, "blocks of 512 bytes lie in a page each");
    check!(
        usize::from(live) >= ours,
        "{live} allocations are counted where {ours} of ours lie"
    );
    drop(blocks);
    let after = PageState::holding(page)?.live(page)?;
    check_eq!(usize::from(live) - usize::from(after), ours);
    Ok(())
}

fn allocation_larger_than_ram_fails_without_a_crash(boot: &Boot) -> harness::Result {
    let mut bytes = Vec::<u8>::new();
    check!(bytes.try_reserve_exact(boot.ram_bytes() as usize).is_err());
    check!(bytes.try_reserve_exact(usize::MAX / 2).is_err());
    bytes.try_reserve_exact(1)?;
    Ok(())
}

fn log_ring_holds_what_was_logged(_: &Boot) -> harness::Result {
    const MAGIC: &[u8] = b"AFTIMLOG";
    // Made at run time, so that only the ring can hold it as text.
    let number = arch::counter();
    log::info!("marker {number:#018x}");
    let text = format!("marker {number:#018x}");
    let bounds = image::bounds();
    let data: Vec<u8> = (bounds.rodata_end..bounds.bss_end)
        .step_by(16)
        .filter_map(read::<16>)
        .flatten()
        .collect();
    let ring = data
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
        .and_then(|at| data.get(at..));
    let ring = ring.ok_or(Failure::new(format_args!(
        "no log ring in the kernel's data"
    )))?;
    let (capacity, total) = (u64_at(ring, 8), u64_at(ring, 16));
    check!(
        total > text.len() as u64 && total <= capacity,
        "{total} bytes in a ring of {capacity}"
    );
    let logged = ring.get(32..32 + total as usize).unwrap_or(&[]);
    check!(
        logged
            .windows(text.len())
            .any(|window| window == text.as_bytes()),
        "the ring does not hold {text:?}"
    );
    Ok(())
}

/// The eight bytes at an offset, little-endian; 0 past the end.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// A page-state map, found and read as the capture kernel would: from memory, by its layout.
struct PageState {
    map: u64,
    first_pfn: u64,
    pages: u64,
}

impl PageState {
    /// Finds the map of the heap range that holds a virtual address: it lies in the first pages of the range.
    fn holding(address: u64) -> Result<Self, Failure> {
        let pfn = (address - LINEAR_BASE) / PAGE_SIZE;
        let mut map = address & !(PAGE_SIZE - 1);
        while map > LINEAR_BASE {
            if let Some(header) = read::<48>(map).filter(|header| header.starts_with(b"AFTPGMAP")) {
                let found = Self {
                    map,
                    first_pfn: u64_at(&header, 16),
                    pages: u64_at(&header, 24),
                };
                if (found.first_pfn..found.first_pfn + found.pages).contains(&pfn) {
                    return Ok(found);
                }
            }
            map -= PAGE_SIZE;
        }
        Err(Failure::new(format_args!(
            "no page-state map holds {address:#x}"
        )))
    }

    /// Live allocations in the page of a virtual address.
    fn live(&self, address: u64) -> Result<u16, Failure> {
        const HEADER: u64 = 40;
        const PART_PAGES: u64 = 4096;
        let page = (address - LINEAR_BASE) / PAGE_SIZE - self.first_pfn;
        let at = self.map + HEADER + self.pages.div_ceil(PART_PAGES) * 4 + page * 2;
        let bytes =
            read::<16>(at & !15).ok_or(Failure::new(format_args!("{at:#x} cannot be read")))?;
        let offset = (at & 15) as usize;
        Ok(bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |count| u16::from_le_bytes(*count)))
    }
}
