// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the binaries as arm64 Images.

fn main() {
    linker::kernel_binary("kernel", linker::RASPBERRY_PI_LOAD_ADDRESS);
    linker::capture_binary("capture", linker::RASPBERRY_PI_LOAD_ADDRESS);
    println!("cargo:rerun-if-env-changed=CAPTURE_IMAGE");
}
