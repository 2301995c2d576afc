// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system kernel on QEMU virt: boots, arms the capture kernel, idles until something crashes it.
#![no_std]
#![no_main]

kernel::entry!(main, qemu_virt::BOARD);
kernel::capture_image!(env!("CAPTURE_IMAGE"));

fn main(boot: kernel::Boot) -> ! {
    qemu_virt::idle(&boot)
}
