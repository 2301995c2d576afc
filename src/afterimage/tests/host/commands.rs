// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command as a user runs it, on recorded lines made here: files, messages and exit statuses.

use std::process::Command;

use crate::place::{Place, assert_exit, err, out, physical, run, text};
use crate::stream::{LINEAR, LINK, Machine, PAGE, RAM, first_memory_frame, framed};

#[test]
fn receive_whole_dump_writes_every_byte_and_passes_the_console() {
    let place = Place::new();
    let machine = Machine::new();
    let output = place.receive(&machine.line());
    assert_exit(&output, 0);
    assert_eq!(out(&output), "Hello from the kernel\r\nbye\r\n");
    assert!(!place.path("vmcore.part").exists());
    for (n, (class, bytes)) in (0_u64..).zip(&machine.pages) {
        let found = physical(&place.vmcore(), RAM + n * PAGE, PAGE as usize);
        let expected = match class.code() {
            0 => Some(bytes.clone()),
            1 => Some(vec![0; PAGE as usize]),
            _ => None,
        };
        assert_eq!(found, expected, "page {n}");
    }
}

#[test]
fn verify_whole_dump_exits_0_and_tells_what_was_left_out() {
    let place = Place::new();
    let output = run(&["verify", text(&place.whole())]);
    assert_exit(&output, 0);
    let expected = "whole (left out: free 4.0 KiB, secret 4.0 KiB, unreadable 4.0 KiB)\n";
    assert_eq!(out(&output), expected);
}

#[test]
fn info_json_tells_reason_cpus_and_build() {
    let place = Place::new();
    let output = run(&["info", "--json", text(&place.whole())]);
    assert_exit(&output, 0);
    let info: serde_json::Value = serde_json::from_str(&out(&output)).expect("json");
    assert_eq!(info["source"], "afterimage");
    assert_eq!(info["reason"]["text"], "write to NULL");
    assert_eq!(info["build_id"], "0102030405060708");
    assert_eq!(info["cpus"][0]["cpu"], 1);
    assert_eq!(info["cpus"][0]["stop"], "crashed");
    assert_eq!(info["cpus"][1]["stop"], "stopped-by-fiq");
    assert_eq!(info["ram"][0]["start"], RAM);
    assert_eq!(info["ram"][0]["end"], RAM + 32 * PAGE);
    assert_eq!(info["threads"][0]["name"], "net");
    assert_eq!(info["whole"], true);
}

#[test]
fn dmesg_prints_the_log_without_escapes() {
    let place = Place::new();
    let output = run(&["dmesg", text(&place.whole())]);
    assert_exit(&output, 0);
    assert_eq!(out(&output), "[0.1] booting\n[0.2] about to crash\n");
}

#[test]
fn bt_without_elf_prints_addresses_crashing_cpu_first() {
    let place = Place::new();
    let output = run(&["bt", text(&place.whole()), "--all"]);
    assert_exit(&output, 0);
    let text = out(&output);
    assert!(
        text.starts_with("exception: write to NULL\nCPU 1 (crashed):\n#0  0xffff800080000100\n"),
        "{text}"
    );
    assert!(text.contains("CPU 0 (stopped-by-fiq):"), "{text}");
    assert!(text.contains("Thread 0 \"net\":"), "{text}");
}

#[test]
fn missing_frame_is_a_gap_named_with_its_block_and_exit_3() {
    let place = Place::new();
    let mut frames = Machine::new().frames();
    frames.remove(first_memory_frame(&frames));
    let output = place.receive(&framed(&frames));
    assert_exit(&output, 3);
    assert!(
        err(&output).contains("block 3 did not arrive whole"),
        "{}",
        err(&output)
    );
    assert!(
        err(&output).contains("memory 0x40000000..0x40008000 was lost"),
        "{}",
        err(&output)
    );
    assert_eq!(physical(&place.vmcore(), RAM, 1), None);
    assert_eq!(physical(&place.vmcore(), RAM + 9 * PAGE, 1), Some(vec![10]));
    let verified = run(&["verify", "--json", text(&place.vmcore())]);
    assert_exit(&verified, 3);
    let json: serde_json::Value = serde_json::from_str(&out(&verified)).expect("json");
    assert_eq!(json["lost"][0]["start"], RAM);
    assert_eq!(json["lost"][0]["end"], RAM + 8 * PAGE);
}

#[test]
fn damaged_frame_is_noticed_named_and_left_out() {
    let place = Place::new();
    let mut frames = Machine::new().frames();
    let first = first_memory_frame(&frames);
    let middle = frames[first].len() / 2;
    frames[first][middle] ^= 0x40;
    let output = place.receive(&framed(&frames));
    assert_exit(&output, 3);
    let text = err(&output);
    assert!(text.contains(&format!("frame {first} of")), "{text}");
    assert!(text.contains("block 3 did not arrive whole"), "{text}");
}

#[test]
fn truncated_stream_leaves_a_valid_core_and_exit_3() {
    let place = Place::new();
    let frames = Machine::new().frames();
    let line = framed(&frames[..frames.len() / 2]);
    let output = place.receive(&line[..line.len() - 300]);
    assert_exit(&output, 3);
    assert!(
        err(&output).contains("the summary did not arrive"),
        "{}",
        err(&output)
    );
    assert_exit(&run(&["verify", text(&place.vmcore())]), 3);
    assert_exit(&run(&["bt", text(&place.vmcore())]), 0);
}

#[test]
fn lost_summary_alone_is_not_vouched_for() {
    let place = Place::new();
    let frames = Machine::new().frames();
    let output = place.receive(&framed(&frames[..frames.len() - 2]));
    assert_exit(&output, 3);
    let verified = run(&["verify", text(&place.vmcore())]);
    assert_exit(&verified, 3);
    assert!(
        out(&verified).contains("no summary agrees"),
        "{}",
        out(&verified)
    );
}

#[test]
fn lost_last_frame_does_no_harm() {
    let place = Place::new();
    let frames = Machine::new().frames();
    assert_exit(&place.receive(&framed(&frames[..frames.len() - 1])), 0);
}

#[test]
fn lost_manifest_means_no_dump() {
    let place = Place::new();
    let frames = Machine::new().frames();
    let output = place.receive(&framed(&frames[1..]));
    assert_exit(&output, 1);
    assert!(err(&output).contains("manifest"), "{}", err(&output));
    assert!(!place.vmcore().exists());
}

#[test]
fn late_manifest_places_what_came_before() {
    let place = Place::new();
    let mut frames = Machine::new().frames();
    let manifest = frames.remove(0);
    frames.insert(10, manifest);
    assert_exit(&place.receive(&framed(&frames)), 0);
}

#[test]
fn garbage_line_is_no_dump() {
    let place = Place::new();
    let garbage: Vec<u8> = (0..50_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let output = place.receive(&garbage);
    assert_exit(&output, 1);
    assert!(err(&output).contains("no dump began"), "{}", err(&output));
}

#[test]
fn silent_peer_is_given_up_after_the_timeout() {
    let place = Place::new();
    let socket = place.path("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    let link = format!("unix:{}", socket.display());
    let output = run(&[
        "receive",
        &link,
        "-o",
        text(&place.vmcore()),
        "--timeout",
        "1",
    ]);
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("no dump began within 1 s"),
        "{}",
        err(&output)
    );
}

#[test]
fn existing_file_needs_force() {
    let place = Place::new();
    std::fs::write(place.vmcore(), "precious").expect("write");
    let line = Machine::new().line();
    let output = place.receive(&line);
    assert_exit(&output, 1);
    assert!(err(&output).contains("--force"), "{}", err(&output));
    assert_eq!(std::fs::read(place.vmcore()).expect("read"), b"precious");
    let link = place.record(&line);
    assert_exit(
        &run(&["receive", &link, "-o", text(&place.vmcore()), "--force"]),
        0,
    );
}

#[test]
fn unwritable_output_is_a_clear_error() {
    let place = Place::new();
    let link = place.record(&Machine::new().line());
    let output = run(&["receive", &link, "-o", "/proc/nowhere/vmcore"]);
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("cannot create /proc/nowhere/vmcore.part"),
        "{}",
        err(&output)
    );
}

#[test]
fn full_disk_is_a_clear_error_and_the_part_is_kept() {
    let place = Place::new();
    let mount = place.path("small");
    std::fs::create_dir(&mount).expect("directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("not run: a small file system can only be mounted by root");
        return;
    }
    let link = place.record(&Machine::new().line());
    let output = run(&["receive", &link, "-o", text(&mount.join("vmcore"))]);
    let has_part = mount.join("vmcore.part").exists();
    let unmounted = Command::new("umount").arg(&mount).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("No space left on device"),
        "{}",
        err(&output)
    );
    assert!(has_part);
}

#[test]
fn wrong_elf_is_refused_before_anything_is_written() {
    let place = Place::new();
    let elf = crate::program::build_program(place.0.path(), "ffffffffffffffff");
    let link = place.record(&Machine::new().line());
    let output = run(&[
        "receive",
        &link,
        "-o",
        text(&place.vmcore()),
        "--elf",
        text(&elf),
    ]);
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("is the wrong ELF"),
        "{}",
        err(&output)
    );
    assert!(!place.vmcore().exists() && !place.path("vmcore.part").exists());
    let core = place.whole();
    for command in ["bt", "gdb"] {
        let output = run(&[command, text(&core), "--elf", text(&elf)]);
        assert_exit(&output, 1);
        assert!(
            err(&output).contains("0102030405060708"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn right_elf_gives_names_and_lines() {
    let place = Place::new();
    let elf = crate::program::build_program(place.0.path(), "0102030405060708");
    let mut machine = Machine::new();
    machine.registers.pc = crate::program::address(&elf, "leaf") + 4;
    machine.registers.x[30] = crate::program::address(&elf, "middle") + 12;
    machine.make_notes();
    assert_exit(&place.receive(&machine.line()), 0);
    let output = run(&["bt", text(&place.vmcore()), "--elf", text(&elf)]);
    assert_exit(&output, 0);
    assert!(out(&output).contains("in leaf ()"), "{}", out(&output));
    assert!(out(&output).contains("in middle ()"), "{}", out(&output));
}

#[test]
fn garbage_file_is_an_error_that_names_the_offset() {
    let place = Place::new();
    std::fs::write(place.vmcore(), vec![0x41; 5000]).expect("write");
    for command in ["info", "verify", "bt", "dmesg"] {
        let output = run(&[command, text(&place.vmcore())]);
        assert_exit(&output, 1);
        assert!(
            err(&output).contains("no ELF magic at offset 0x0"),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn cut_off_file_is_incomplete_and_a_cut_off_header_an_error() {
    let place = Place::new();
    let path = place.whole();
    let bytes = std::fs::read(&path).expect("read");
    std::fs::write(&path, &bytes[..bytes.len() - 10_000]).expect("write");
    let output = run(&["verify", text(&path)]);
    assert_exit(&output, 3);
    assert!(out(&output).contains("cut off"), "{}", out(&output));
    std::fs::write(&path, &bytes[..100]).expect("write");
    let output = run(&["verify", text(&path)]);
    assert_exit(&output, 1);
    assert!(
        err(&output).contains("passes the end of the file"),
        "{}",
        err(&output)
    );
}

#[test]
fn watch_once_writes_dump_and_report() {
    let place = Place::new();
    let link = place.record(&Machine::new().line());
    let dir = place.path("dumps");
    let output = run(&["watch", &link, "-d", text(&dir), "--once"]);
    assert_exit(&output, 0);
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("directory")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names[0].ends_with("Z-d1d2d3d4.txt") && names[1].ends_with("Z-d1d2d3d4.vmcore"),
        "{names:?}"
    );
    let report = std::fs::read_to_string(dir.join(&names[0])).expect("report");
    assert!(
        report.contains("write to NULL") && report.contains("about to crash"),
        "{report}"
    );
    for word in ["began", "backtrace", "done"] {
        assert!(err(&output).contains(word), "{}", err(&output));
    }
}

#[test]
fn watch_takes_a_new_dump_id_for_the_end_of_the_old_dump() {
    let place = Place::new();
    let first = Machine::new().frames();
    let mut second = Machine::new();
    second.registers.pc += 4;
    let other = second.frames_of([9; 16]);
    let line = [framed(&first[..first.len() / 2]), framed(&other)].concat();
    let dir = place.path("dumps");
    let output = run(&["watch", &place.record(&line), "-d", text(&dir)]);
    assert_exit(&output, 3);
    let cores = std::fs::read_dir(&dir).expect("directory");
    assert_eq!(cores.count(), 4);
}

#[test]
fn readelf_accepts_the_file() {
    let place = Place::new();
    let core = place.whole();
    let output = Command::new("readelf")
        .args(["-h", "-l", "-n", "-W"])
        .arg(&core)
        .output();
    let Ok(output) = output else {
        eprintln!("not run: readelf is not installed");
        return;
    };
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        err(&output)
    );
    let text = out(&output);
    assert!(
        text.contains("CORE (Core file)") && text.contains("NT_PRSTATUS"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{:#018x}", LINEAR + RAM))
            && text.contains(&format!("{LINK:#018x}")),
        "{text}"
    );
}

#[test]
fn gdb_shows_the_crashing_cpu_and_refuses_what_is_absent() {
    let place = Place::new();
    let core = place.whole();
    let absent = LINEAR + RAM + 6 * PAGE;
    let output = Command::new("gdb-multiarch")
        .args(["-batch", "-nx", "-ex", "set architecture aarch64", "-ex"])
        .arg(format!("core-file {}", core.display()))
        .args(["-ex", "p/x $pc", "-ex", "info threads", "-ex"])
        .arg(format!("x/bx {:#x}", LINEAR + RAM + 5 * PAGE))
        .args(["-ex", &format!("x/bx {absent:#x}")])
        .output();
    let Ok(output) = output else {
        eprintln!("not run: gdb-multiarch is not installed");
        return;
    };
    let text = format!("{}{}", out(&output), err(&output));
    assert!(text.contains("= 0xffff800080000100"), "{text}");
    assert!(
        text.contains("LWP 2") && text.contains("LWP 1001"),
        "{text}"
    );
    assert!(
        text.contains("0x00") && text.contains("Cannot access memory at address"),
        "{text}"
    );
}

#[test]
fn usage_error_exits_2() {
    assert_exit(&run(&["receive", "nonsense:1", "-o", "x"]), 2);
    assert_exit(&run(&["frobnicate"]), 2);
}
