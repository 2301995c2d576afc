// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links each test program as a system kernel.

fn main() {
    linker::kernel_image(linker::QEMU_VIRT_LOAD_ADDRESS);
    println!("cargo:rerun-if-env-changed=CAPTURE_IMAGE");
}
