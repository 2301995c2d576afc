// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scripts/flash`: what it leaves for a Raspberry Pi, read back by mtools, fsck and dtc, and what it refuses. No Pi has booted from it.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blackbox::process::{Finished, run};
use blackbox::{artefacts, device_tree};

/// Longest run of the script, which looks whether the kernels are built.
const LIMIT: Duration = Duration::from_secs(300);
/// Where the partition of an image begins, in bytes.
const PARTITION: usize = 1 << 20;

fn flash(arguments: &[&str]) -> Finished {
    let mut script = Command::new(artefacts::root().join("scripts/flash"));
    run(script.arg("--yes").args(arguments), LIMIT)
}

/// Runs a program that has to succeed.
fn tool(name: &str, arguments: &[&str]) -> String {
    run(Command::new(name).args(arguments), LIMIT).success()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn assert_boot_files(dir: &Path, append: &str) {
    let kernel = fs::read(artefacts::image_of("raspberry-pi", "kernel8.img")).expect("kernel8.img");
    assert!(fs::read(dir.join("kernel8.img")).expect("a kernel") == kernel);
    let line = fs::read_to_string(dir.join("cmdline.txt")).expect("a command line");
    assert_eq!(line.trim_end(), append);
    let config = fs::read_to_string(dir.join("config.txt")).expect("config.txt");
    for setting in [
        "arm_64bit=1",
        "kernel=kernel8.img",
        "kernel_address=0x200000",
        "upstream_kernel=1",
        "enable_uart=1",
    ] {
        assert!(
            config.lines().any(|line| line == setting),
            "{setting} is not in {config}"
        );
    }
    for (name, model) in [
        ("bcm2837-rpi-3-a-plus.dtb", "Raspberry Pi 3 Model A+"),
        ("bcm2837-rpi-3-b.dtb", "Raspberry Pi 3 Model B"),
        ("bcm2837-rpi-3-b-plus.dtb", "Raspberry Pi 3 Model B+"),
        ("bcm2711-rpi-4-b.dtb", "Raspberry Pi 4 Model B"),
        ("bcm2711-rpi-400.dtb", "Raspberry Pi 400"),
        ("bcm2712-rpi-5-b.dtb", "Raspberry Pi 5"),
    ] {
        let tree = fs::read(dir.join(name)).expect("a device tree");
        let source = device_tree::decompile(&tree).text;
        assert!(source.contains(&format!("model = \"{model}\"")), "{name}");
    }
}

#[test]
fn directory_gets_what_a_pi_needs_and_the_missing_firmware_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let done = flash(&["--append", "crashkernel=4M", &text(dir.path())]);
    assert_boot_files(dir.path(), "crashkernel=4M");
    let has_firmware = dir.path().join("start4.elf").exists();
    assert_eq!(
        done.status.code(),
        Some(i32::from(!has_firmware)),
        "{}",
        done.stderr
    );
    if !has_firmware {
        let said =
            "no Pi 3 or 4 boots without it: bootcode.bin start.elf fixup.dat start4.elf fixup4.dat";
        assert!(done.stderr.contains(said), "{}", done.stderr);
    }
    // With the firmware of an earlier system there, or from elsewhere, all is well.
    for file in [
        "bootcode.bin",
        "start.elf",
        "fixup.dat",
        "start4.elf",
        "fixup4.dat",
    ] {
        fs::write(dir.path().join(file), "firmware").expect("a file");
    }
    let done = flash(&["--append", "quiet", &text(dir.path())]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    assert_boot_files(dir.path(), "quiet");
    assert_eq!(
        fs::read(dir.path().join("start.elf")).expect("a file"),
        b"firmware"
    );
}

#[test]
fn image_is_a_disk_with_a_sound_partition() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (image, out) = (dir.path().join("sd.img"), dir.path().join("out"));
    let done = flash(&["--without-firmware", &text(&image)]);
    assert_eq!(done.status.code(), Some(0), "{}", done.stderr);
    let table = tool("/sbin/sfdisk", &["--json", &text(&image)]);
    let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
    let partitions = &table["partitiontable"]["partitions"];
    assert_eq!(partitions.as_array().map(Vec::len), Some(1), "{table}");
    assert_eq!(partitions[0]["start"], 2048, "{table}");
    assert_eq!(partitions[0]["type"], "e", "{table}");
    let part = dir.path().join("part");
    let bytes = fs::read(&image).expect("the image");
    fs::write(&part, &bytes[PARTITION..]).expect("a file");
    let _ = tool("/sbin/fsck.vfat", &["-n", &text(&part)]);
    fs::create_dir(&out).expect("a directory");
    let _ = tool("mcopy", &["-i", &text(&part), "::/*", &text(&out)]);
    assert_boot_files(&out, "");
}

#[test]
fn what_is_somebody_elses_is_not_touched() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = dir.path().join("config.txt");
    fs::write(&config, "dtparam=audio=on\n").expect("a file");
    let file = dir.path().join("notes");
    fs::write(&file, "mine").expect("a file");
    for (target, said) in [
        (dir.path(), "config.txt is somebody else's"),
        (file.as_path(), "neither a directory nor a block device"),
        (
            Path::new("/dev/null"),
            "neither a directory nor a block device",
        ),
        (
            Path::new("/nowhere/sd.img"),
            "there is no directory /nowhere",
        ),
    ] {
        let done = flash(&[&text(target)]);
        assert_eq!(done.status.code(), Some(1), "{}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
    }
    assert_eq!(
        fs::read_to_string(&config).expect("config.txt"),
        "dtparam=audio=on\n"
    );
    assert_eq!(fs::read_to_string(&file).expect("a file"), "mine");
    let names: Vec<_> = fs::read_dir(dir.path()).expect("a directory").collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn help_says_how_to_wire_the_adapter() {
    let done = flash(&["--help"]);
    assert_eq!(done.status.code(), Some(0));
    for said in [
        "3.3 V",
        "pin 8",
        "GPIO 14",
        "pin 10",
        "GPIO 15",
        "serial:/dev/ttyUSB0,115200",
    ] {
        assert!(
            done.stdout.contains(said),
            "{said} is not in {}",
            done.stdout
        );
    }
}
