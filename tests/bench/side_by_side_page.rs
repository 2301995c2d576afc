// SPDX-License-Identifier: MIT OR Apache-2.0
//! The section of docs/benchmarks.md on Linux and our capture kernel side by side.

use std::fmt::Write;

use crate::document::{grouped, ms, ratio};
use crate::side_by_side::{Attempt, MEMORY_MIB, Moment, Saved, SideBySide};

/// Returns the section.
pub(crate) fn text(measured: &SideBySide) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_section(&mut out, measured);
    out
}

fn write_section(out: &mut String, measured: &SideBySide) -> std::fmt::Result {
    write!(
        out,
        "
## Side by side: Linux captures, and ours captures

Debian's Linux {} on one cortex-a72 at EL1 with {MEMORY_MIB} MiB crashes by `echo c > /proc/sysrq-trigger`; `kexec -p` has loaded either the same Linux with an initramfs
of busybox and the modules for virtio (5 MB; a distribution's is several times as large), or our Image. Linux copies /proc/vmcore to a virtio disk by `dd oflag=direct`, we send frames
on the UART, and both go on until the whole dump is at the host. Times are from the line \"Kernel panic\" on the console, as the host sees them, and in brackets the CPU time of QEMU,
which other work on the machine stretches less. The purgatory of kexec-tools checks the digest of what it starts, which is twenty times as much for Linux. Under TCG none of it is the time of a board:
the ratio is what is worth something.

| capture kernel | `crashkernel=` | its first line | /proc/vmcore is there | first byte of the dump at the host |
|---|---|---|---|---|
",
        measured.version
    )?;
    for (name, attempts) in [("Linux", &measured.linux), ("Afterimage", &measured.ours)] {
        for attempt in attempts {
            let region = attempt.region;
            match &attempt.outcome {
                Ok(saved) => {
                    let (starts, first) = (moment(saved.starts), moment(saved.first_byte));
                    let there = saved.has_vmcore.map_or("-".to_owned(), moment);
                    writeln!(out, "| {name} | {region} | {starts} | {there} | {first} |")?;
                }
                Err(why) => {
                    let why = why.replace('|', "/");
                    writeln!(out, "| {name} | {region} | no dump: {why} | - | - |")?;
                }
            }
        }
    }
    if let (Some(linux), Some(ours)) = (smallest(&measured.linux), smallest(&measured.ours)) {
        writeln!(out, "\nSmallest region that works: {linux} against {ours}.")?;
    }
    if let (Some(linux), Some(ours)) = (quickest(&measured.linux), quickest(&measured.ours)) {
        let times = |of: fn(Moment) -> f64| of(linux) / of(ours).max(0.001);
        writeln!(
            out,
            "The least times to the first byte of the dump are {} and {}: Linux takes {:.0} times as long, and {:.0} times the CPU time.",
            moment(linux),
            moment(ours),
            times(|moment| moment.time.as_secs_f64()),
            times(|moment| moment.cpu_seconds)
        )?;
    }
    write_bytes(out, measured)
}

fn write_bytes(out: &mut String, measured: &SideBySide) -> std::fmt::Result {
    write!(
        out,
        "
### Bytes of the same dump

Each row is a crash of its own, and all of its numbers are of one dump: what went to the host, in our case with `dump_effort=0`, frames, headers and a fifth of parity included; the same dump as an
ELF core as Linux's /proc/vmcore is; that by gzip; and kdump-compressed at the same level, zlib page by page, by `makedumpfile -c` or `afterimage convert` ({}). Linux has no filter of its own: what
it sends is all of memory at every level. Its memory holds the 36 MB that it loaded once more in its page cache.

| dump level | who saves | to the host | ELF core | gzip of it | kdump-compressed | by | ELF core, to what we send | kdump-compressed, to what we send |
|---|---|---|---|---|---|---|---|---|
",
        measured.packer
    )?;
    for row in &measured.bytes {
        let [sent, elf, gzip, kdump] = [row.sent, row.elf, row.gzip, row.kdump].map(grouped);
        let is_ours = row.sent != row.elf;
        let to_ours = |len| {
            if is_ours {
                ratio(len, row.sent)
            } else {
                "-".to_owned()
            }
        };
        writeln!(
            out,
            "| {} | {} | {sent} | {elf} | {gzip} | {kdump} | {} | {} | {} |",
            row.level,
            row.way,
            if row.is_makedumpfiles {
                "makedumpfile"
            } else {
                "convert"
            },
            to_ours(row.elf),
            to_ours(row.kdump)
        )?;
    }
    Ok(())
}

fn moment(moment: Moment) -> String {
    format!("{} ({:.2} s)", ms(moment.time), moment.cpu_seconds)
}

/// The last region that works: they are tried from the largest on.
fn smallest(attempts: &[Attempt]) -> Option<&'static str> {
    let works = attempts
        .iter()
        .rev()
        .find(|attempt| attempt.outcome.is_ok());
    works.map(|attempt| attempt.region)
}

/// The least of each time to the first byte.
fn quickest(attempts: &[Attempt]) -> Option<Moment> {
    let saved: Vec<&Saved> = attempts
        .iter()
        .filter_map(|it| it.outcome.as_ref().ok())
        .collect();
    let time = saved.iter().map(|saved| saved.first_byte.time).min()?;
    let cpu = saved.iter().map(|saved| saved.first_byte.cpu_seconds);
    Some(Moment {
        time,
        cpu_seconds: cpu.fold(f64::INFINITY, f64::min),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn attempt(region: &'static str, seconds: Option<u64>) -> Attempt {
        let moment = |seconds| Moment {
            time: Duration::from_secs(seconds),
            cpu_seconds: 1.0,
        };
        let saved = |seconds| Saved {
            starts: moment(1),
            has_vmcore: None,
            first_byte: moment(seconds),
        };
        Attempt {
            region,
            outcome: seconds.map(saved).ok_or("it died".to_owned()),
        }
    }

    #[test]
    fn smallest_region_and_least_time_are_of_those_that_work() {
        let attempts = [
            attempt("3M", Some(4)),
            attempt("2M", Some(5)),
            attempt("1M", None),
        ];
        assert_eq!(smallest(&attempts), Some("2M"));
        let quickest = quickest(&attempts).map(|moment| moment.time);
        assert_eq!(quickest, Some(Duration::from_secs(4)));
    }

    #[test]
    fn nothing_that_works_has_no_smallest_and_no_least() {
        let attempts = [attempt("1M", None)];
        assert_eq!(smallest(&attempts), None);
        assert!(super::quickest(&attempts).is_none());
    }

    #[test]
    fn failure_is_in_the_table_with_what_was_said() {
        let measured = SideBySide {
            version: "6.12".to_owned(),
            packer: "a tool".to_owned(),
            linux: vec![attempt("40M", None)],
            ours: vec![attempt("2M", Some(1))],
            bytes: Vec::new(),
        };
        let text = text(&measured);
        assert!(
            text.contains("| Linux | 40M | no dump: it died |"),
            "{text}"
        );
        assert!(!text.contains("Smallest"), "{text}");
    }
}
