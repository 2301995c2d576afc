// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the binaries as arm64 Images, which run wherever they are loaded.

fn main() {
    linker::kernel_binary("kernel", linker::QEMU_VIRT_LOAD_ADDRESS);
    linker::capture_binary("capture", linker::QEMU_VIRT_LOAD_ADDRESS);
    println!("cargo:rerun-if-env-changed=CAPTURE_IMAGE");
}
