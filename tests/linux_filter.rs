// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux crashes, and its free, cache and user pages are left out of the dump; with a wrong VMCOREINFO nothing is.
//!
//! What is left out is judged by drgn, which reads the page array in the dump; what is there by the guest's memory.
#![cfg(test)]

#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "bench/linux_guest.rs"]
mod linux_guest;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::Duration;

use blackbox::dump::{Dump, merged};
use blackbox::memory::{PAGE, Pages, RAM_START};
use blackbox::process::run;
use blackbox::{artefacts, host};
use linux_guest::{LinuxGuest, MEMORY_MIB, Setup};

/// Longest run of a reader.
const READER_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of `crashkernel=2M`.
const REGION_LEN: u64 = 2 << 20;
const RAM_END: u64 = RAM_START + (MEMORY_MIB << 20);

/// Memory of each class: files in tmpfs with large pages, files of the root, a block device written to (its cache has buffer heads, which
/// are private data, for as long as it is open), processes, deleted files, pages of hugetlbfs.
const WORK: &str = "#!/bin/busybox sh
mkdir -p /mnt
insmod /guest/modules/brd.ko rd_nr=1 rd_size=8192
sleep 100002 </dev/ram0 &
sleep 1
dd if=/bin/busybox of=/dev/ram0 bs=1k count=1200
echo always >/sys/kernel/mm/transparent_hugepage/enabled
mount -t tmpfs -o huge=always tmpfs /mnt
cat /proc/kallsyms >/tmp/symbols
dd if=/dev/zero bs=1M count=6 2>/dev/null | tr '\\0' 'x' >/mnt/large
mkdir /tmp/old
cp /bin/busybox /tmp/old/one
cp /bin/busybox /tmp/old/two
rm -r /tmp/old
awk 'BEGIN { s = \"0123456789abcdef\"; for (i = 0; i < 16; i++) s = s s; while (1) system(\"sleep 100000\"); print length(s) }' &
sleep 100001 &
echo 4 >/proc/sys/vm/nr_hugepages
sleep 3
";

/// Time for the memory to be changed in: `WAIT` is printed before it.
const WORK_AND_WAIT: &str = "#!/bin/busybox sh
echo 'guest: waiting'
sleep 15
";
const WAIT: &str = "guest: waiting";

/// What became of a guest's memory.
struct Crashed {
    guest: LinuxGuest,
    memory: Pages,
    dump: Dump,
}

impl Crashed {
    /// Reads the rest of the line and makes a vmcore of it.
    fn receive(mut guest: LinuxGuest) -> Self {
        guest.wait_for_end();
        let memory = guest.pages();
        let dump = host::receive_whole(guest.bytes(), guest.dir(), &guest.transcript());
        Self {
            guest,
            memory,
            dump,
        }
    }

    /// Every page in the dump is as it is in the guest's memory.
    fn assert_right(&self) {
        let pages = self.dump.pages();
        let covered = self.dump.covered();
        let wrong: Vec<u64> = covered
            .iter()
            .flat_map(|range| range.clone().step_by(PAGE as usize))
            .filter(|at| pages.get(at) != self.memory.get(at))
            .collect();
        assert!(
            wrong.is_empty(),
            "{} pages are wrong: {wrong:x?}",
            wrong.len()
        );
    }

    /// What the dump says is missing, by class.
    fn gaps(&self) -> BTreeMap<&'static str, Vec<Range<u64>>> {
        let mut gaps: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
        for gap in self.dump.gaps() {
            let name = match gap.class {
                2 => "free",
                8 => "cache",
                9 => "private-cache",
                10 => "user",
                other => panic!("class {other} at {:x?}", gap.range),
            };
            gaps.entry(name).or_default().push(gap.range);
        }
        gaps.into_iter()
            .map(|(name, ranges)| (name, merged(ranges)))
            .collect()
    }

    /// What drgn says of the page array in the dump, outside the crash region.
    fn judged(&self) -> BTreeMap<String, Vec<Range<u64>>> {
        let mut judge = Command::new(artefacts::drgn_python());
        judge
            .arg(artefacts::root().join("tests/linux_pages.py"))
            .arg(&self.dump.path)
            .args([RAM_START, RAM_END].map(|at| at.to_string()));
        let mut judged: BTreeMap<String, Vec<Range<u64>>> = BTreeMap::new();
        for line in run(&mut judge, READER_LIMIT).success().lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [name, start, end] = fields[..] else {
                panic!("{line:?}");
            };
            let at = |text: &str| {
                let digits = text.strip_prefix("0x").expect("an address");
                u64::from_str_radix(digits, 16).expect("an address")
            };
            let ranges = judged.entry(name.to_owned()).or_default();
            ranges.push(at(start)..at(end));
        }
        judged
            .into_iter()
            .map(|(name, ranges)| (name, merged(ranges)))
            .collect()
    }

    fn assert_log_is_whole(&self) {
        let log = run(
            Command::new("vmcore-dmesg").arg(&self.dump.path),
            READER_LIMIT,
        )
        .success();
        let last = log.lines().next_back().unwrap_or("");
        assert!(log.contains("sysrq: Trigger a crash"), "{log}");
        assert!(last.contains("Bye!"), "the log ends with {last:?}");
    }
}

/// A guest that runs `script`, crashes, and is dumped without any page that can be left out.
fn after(script: &str) -> Setup<'_> {
    Setup {
        script: Some(script),
        append: "dump_level=31",
        module: Some("brd"),
        ..Setup::default()
    }
}

/// Pages that a block device's cache has at least in [`WORK`], less what may have been given back.
const PRIVATE_PAGES: u64 = 250;

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[test]
fn linux_pages_are_left_out_by_class_and_nothing_else_is() {
    if let Some(why) = linux_guest::missing() {
        panic!("{why}");
    }
    let guest = LinuxGuest::start(&after(WORK), &[]);
    let crashed = Crashed::receive(guest);
    crashed.assert_right();
    let gaps = crashed.gaps();
    for (name, ranges) in &gaps {
        println!(
            "{name}: {} pages in {} ranges",
            total(ranges) / PAGE,
            ranges.len()
        );
    }
    for (name, least) in [
        ("free", 100),
        ("cache", 100),
        ("user", 100),
        ("private-cache", PRIVATE_PAGES),
    ] {
        let pages = gaps.get(name).map_or(0, |ranges| total(ranges) / PAGE);
        assert!(pages > least, "{pages} {name} pages are left out");
    }
    let missing: u64 = gaps.values().map(|ranges| total(ranges)).sum();
    assert_eq!(
        missing + total(&crashed.dump.covered()),
        (MEMORY_MIB << 20) - REGION_LEN,
        "what is there and what is left out is all of RAM but the region"
    );
    let ours: BTreeMap<String, Vec<Range<u64>>> = gaps
        .into_iter()
        .map(|(name, ranges)| (name.to_owned(), ranges))
        .collect();
    assert_eq!(ours, crashed.judged(), "left out, and by the page array");
    crashed.assert_log_is_whole();
}

#[test]
fn linux_cache_with_private_data_is_kept_at_level_2() {
    if let Some(why) = linux_guest::missing() {
        panic!("{why}");
    }
    // And free pages, which have less to be sent then.
    let setup = Setup {
        append: "dump_level=19",
        ..after(WORK)
    };
    let crashed = Crashed::receive(LinuxGuest::start(&setup, &[]));
    crashed.assert_right();
    let (mut ours, mut judged) = (crashed.gaps(), crashed.judged());
    assert_eq!(ours.remove("cache"), judged.remove("cache"), "cache");
    assert_eq!(ours.remove("free"), judged.remove("free"), "free");
    assert!(ours.is_empty(), "left out as well: {ours:x?}");
    let private = judged.remove("private-cache").unwrap_or_default();
    println!("private-cache: {} pages are kept", total(&private) / PAGE);
    assert!(total(&private) / PAGE > PRIVATE_PAGES, "{private:x?}");
    let covered = crashed.dump.covered();
    for range in private {
        let is_there = |there: &Range<u64>| there.start <= range.start && range.end <= there.end;
        assert!(covered.iter().any(is_there), "{range:x?}");
    }
}

#[test]
fn linux_with_a_wrong_vmcoreinfo_is_dumped_whole_and_it_is_said() {
    if let Some(why) = linux_guest::missing() {
        panic!("{why}");
    }
    let mut guest = LinuxGuest::start(&after(WORK_AND_WAIT), &[]);
    guest.wait_for_text(WAIT);
    // The note that the kernel keeps, and the copy that it makes the note of when it crashes.
    let changed = replace(&guest, b"\nSIZE(page)=64\n", b"\nSIZE(page)=72\n");
    assert!(changed > 0, "no VMCOREINFO in the guest's RAM");
    let crashed = Crashed::receive(guest);
    let transcript = crashed.guest.transcript();
    let said = "Afterimage: no page classes: no struct page of the kernel's own page frame 0x";
    assert!(transcript.contains(said), "{transcript}");
    assert!(
        transcript.contains("; all but zero pages are sent"),
        "{transcript}"
    );
    crashed.assert_right();
    assert!(crashed.gaps().is_empty(), "{:?}", crashed.gaps().keys());
    assert_eq!(
        total(&crashed.dump.covered()),
        (MEMORY_MIB << 20) - REGION_LEN,
        "all of RAM but the region is there"
    );
    crashed.assert_log_is_whole();
}

/// Replaces `old` in the RAM of a guest that runs, wherever it stands in text of VMCOREINFO; returns how often.
fn replace(guest: &LinuxGuest, old: &[u8], new: &[u8]) -> usize {
    let path = guest.ram_path();
    let ram = fs::read(&path).expect("the guest's RAM");
    let file = File::options()
        .write(true)
        .open(path)
        .expect("the guest's RAM");
    let places = ram
        .windows(old.len())
        .enumerate()
        .filter(|(_, part)| *part == old)
        .map(|(at, _)| at as u64);
    let mut count = 0;
    for at in places {
        file.write_all_at(new, at).expect("the guest's RAM");
        count += 1;
    }
    count
}
