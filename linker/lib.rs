// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives a `build.rs` the linker script and flags of an Afterimage image.
//!
//! A firmware crate has `linker` as a build-dependency and calls [`kernel_image`] from its `build.rs`. Nothing is
//! said when the target is not bare metal, so the crate still builds for the host.
#![forbid(unsafe_code)]

use std::{env, path::Path};

/// Where an ELF loader puts the image on the QEMU `virt` machine: 2 MiB above the start of RAM, as for an Image.
pub const QEMU_VIRT_LOAD_ADDRESS: u64 = 0x4020_0000;

/// Where an ELF loader puts the image on a Raspberry Pi: 2 MiB above the start of RAM, as for an Image.
pub const RASPBERRY_PI_LOAD_ADDRESS: u64 = 0x20_0000;

/// Links every binary of the calling crate as a system kernel that an ELF loader puts at `load_address`.
pub fn kernel_image(load_address: u64) {
    each_binary(load_address, "kernel.ld", None);
}

/// Links every binary of the calling crate as a system kernel that is its own capture kernel.
pub fn both_image(load_address: u64) {
    each_binary(load_address, "both.ld", None);
}

/// Links the binary `name` as a system kernel.
pub fn kernel_binary(name: &str, load_address: u64) {
    each_binary(load_address, "kernel.ld", Some(name));
}

/// Links the binary `name` as a system kernel that is its own capture kernel.
pub fn both_binary(name: &str, load_address: u64) {
    each_binary(load_address, "both.ld", Some(name));
}

/// Links the binary `name` as a capture kernel.
pub fn capture_binary(name: &str, load_address: u64) {
    each_binary(load_address, "capture.ld", Some(name));
}

fn each_binary(load_address: u64, script: &str, binary: Option<&str>) {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let instruction = match binary {
        Some(name) => format!("cargo:rustc-link-arg-bin={name}"),
        None => "cargo:rustc-link-arg-bins".to_owned(),
    };
    for argument in [
        format!("-L{}", folder.display()),
        format!("-T{}", folder.join(script).display()),
        format!("--defsym=LOAD_PA={load_address:#x}"),
        "--build-id=sha1".to_owned(),
        "-zmax-page-size=4096".to_owned(),
    ] {
        println!("{instruction}={argument}");
    }
    for file in ["sections.ld", script] {
        println!("cargo:rerun-if-changed={}", folder.join(file).display());
    }
}
