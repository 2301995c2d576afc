// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the binaries as arm64 Images that start on QEMU's virt machine.

fn main() {
    linker::kernel_image(linker::QEMU_VIRT_LOAD_ADDRESS);
}
