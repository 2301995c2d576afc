// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page docs/benchmarks.md.

use std::fmt::Write;
use std::time::Duration;

use crate::crash_path::{self, PHASES};
use crate::linux_rows::LinuxRows;
use crate::side_by_side::SideBySide;
use crate::side_by_side_page;
use blackbox::stack_use::StackUse;

use crate::surroundings::Surroundings;
use crate::virt_rows::{Measured, Row};

/// Bytes in a second at 115200 baud, ten bits each.
const LINE_BYTES_PER_SECOND: f64 = 11_520.0;

const HEAD: &str = "\
# Benchmarks

Written by `scripts/bench`, in one run; nothing here is edited by hand.

**What these numbers are worth.** QEMU translates the target's code (TCG) on a machine that others use too: times differ between runs
by a factor of two and more, so compare sizes and ratios, and nothing in the test suite depends on a time. QEMU's PL011 keeps to no baud
rate: it takes a byte whenever the target writes one. So the times say how much work the target and QEMU do, not how long a real line
takes; the columns \"at 115200\" are computed from the bytes (ten bits each). Caches and DRAM are not modelled; nothing here was measured
on hardware.
";

/// Returns the whole page.
pub(crate) fn text(
    surroundings: &Surroundings,
    virt: &[Row],
    crash_path: &[crash_path::Row],
    linux: Result<&(LinuxRows, SideBySide), &String>,
) -> String {
    let mut out = String::from(HEAD);
    machine(&mut out, surroundings);
    times(&mut out, virt);
    zero_scan(&mut out, virt);
    out.push_str(&self::crash_path(crash_path));
    bytes(&mut out, virt);
    regions(&mut out, virt);
    match linux {
        Ok((rows, side_by_side)) => {
            linux_section(&mut out, rows);
            out.push_str(&side_by_side_page::text(side_by_side));
        }
        Err(why) => line(
            &mut out,
            format_args!("\n## Linux into our capture kernel\n\nNot measured: {why}."),
        ),
    }
    out
}

fn machine(out: &mut String, s: &Surroundings) {
    line(out, format_args!("\n| measured | |\n|---|---|"));
    line(
        out,
        format_args!("| date, commit | {}, {} |", s.date, s.commit),
    );
    line(
        out,
        format_args!(
            "| machine | {}, {} cores; load average {} at the start |",
            s.cpu, s.cores, s.load
        ),
    );
    line(out, format_args!("| QEMU | {} |", s.qemu));
    for image in &s.images {
        let (file, memory) = (grouped(image.file), grouped(image.memory));
        line(
            out,
            format_args!(
                "| {} | {file} bytes in the file, image_size {memory} |",
                image.name
            ),
        );
    }
    line(
        out,
        format_args!("\n`kernel.Image` holds a copy of `capture.Image`."),
    );
}

fn times(out: &mut String, virt: &[Row]) {
    out.push_str(
        "\n## Times of a crash\n
A NULL write in our own kernel. *Target*: by the system counter, from the fault to the first and to the last frame. *Host*: as seen on the
line, from the first message of the crash. Before the first frame come the crash path (stop, notes, digest), the hand-over, and the report in
plain text. *Stop*: from winning the crash to the last of the other CPUs being off; the first message is printed while they stop, which is all of the
time where there is one CPU.

| machine | dump level | target: first, last | host: first, last | stop |
|---|---|---|---|---|
",
    );
    for row in virt {
        for (level, m) in levels(row) {
            let name = row.name;
            let Measured {
                target, host, stop, ..
            } = m;
            let (first, last) = (ms(target.first_frame), ms(target.last_frame));
            let (host_first, host_last) = (ms(host.first_frame), ms(host.last_frame));
            let stop = ms(*stop);
            line(
                out,
                format_args!(
                    "| {name} | {level} | {first}, {last} | {host_first}, {host_last} | {stop} |"
                ),
            );
        }
    }
}

/// What a page costs that is only looked at: the difference between the largest machine and the smallest, at level 0.
fn zero_scan(out: &mut String, virt: &[Row]) {
    let by_size = |row: &&Row| row.encodings.raw;
    let (Some(small), Some(large)) = (
        virt.iter().min_by_key(by_size),
        virt.iter().max_by_key(by_size),
    ) else {
        return;
    };
    let mib = (large.encodings.raw.saturating_sub(small.encodings.raw) >> 20) as f64;
    let seconds =
        |last: fn(&Row) -> Duration| last(large).as_secs_f64() - last(small).as_secs_f64();
    let zeros = seconds(|row| row.level_0.target.last_frame);
    let free = seconds(|row| row.level_17.target.last_frame);
    if zeros > 0.0 {
        line(
            out,
            format_args!(
                "\nLevel 0 looks at every page: {:.0} MiB/s of zeros. At level 17 the page-state map tells which are free: the \
                 largest machine's dump took {:.0} ns longer than the smallest's for each page that it has more (below zero: less \
                 than runs differ by).",
                mib / zeros,
                free * 1e9 / (mib * 256.0)
            ),
        );
    }
}

/// Returns the section on the crash path.
pub(crate) fn crash_path(rows: &[crash_path::Row]) -> String {
    let mut text = String::new();
    let out = &mut text;
    out.push_str(
        "\n## The crash path
\nTime from the fault to the end of each phase in ms, by the target's counter, and the stack that was used, read from the machine's memory: \
the crash and exception stack of the CPU that crashed, and the capture kernel's. *Stopped* holds the first message and the wait for the others, *verified* \
the digest; a fault in the crash path goes through its phases again.\n\n| crash | machine |",
    );
    for phase in PHASES {
        out.push_str(&format!(" {phase} |"));
    }
    line(
        out,
        format_args!(" crash stack | exception stack | capture stack |"),
    );
    line(out, format_args!("|{}", "---|".repeat(PHASES.len() + 5)));
    for row in rows {
        let mut cells = format!("| {} | {} |", row.crash, row.machine);
        for us in row.phases {
            cells
                .push_str(&us.map_or(" - |".to_owned(), |us| format!(" {:.1} |", us as f64 / 1e3)));
        }
        let of = |stack: StackUse| {
            format!(
                "{} of {}",
                grouped(stack.used as u64),
                grouped(stack.size as u64)
            )
        };
        let capture = row.capture_stack.map_or("-".to_owned(), of);
        line(
            out,
            format_args!(
                "{cells} {} | {} | {capture} |",
                of(row.crash_stack),
                of(row.exception_stack)
            ),
        );
    }
    text
}

fn bytes(out: &mut String, virt: &[Row]) {
    out.push_str(
        "\n## Bytes on the wire\n
*Wire* is everything from the crash's first message to the end of the dump: text, manifest, notes, memory, summary. Beside it the same RAM
as lines of hexadecimal (Zephyr's logging backend, `#CD:` and 32 bytes a line) and of base64 (ESP-IDF, 48 bytes a line), whose
length depends on the number of bytes only; then the pages that are not zero, as they are and by zlib level 1 page by page
(what makedumpfile stores, from the zlib of Python). The ratio is hexadecimal of all RAM to wire. Level 0 sends every page that is not
zero; level 17 leaves out free pages. Nobody answers here, so all of it goes out twice with parity: 2.6 times what an answered dump takes. This RAM is nearly empty, so the ratio says mostly that zero pages do not travel; Linux's, further down,
says more.

| machine | level | wire | at 115200 | raw RAM | hex | base64 | not zero | zlib | ratio |
|---|---|---|---|---|---|---|---|---|---|
",
    );
    for row in virt {
        for (level, m) in levels(row) {
            let e = &row.encodings;
            let (wire, time) = (grouped(m.wire), at_115200(m.wire));
            let (raw, hex, base64) = (grouped(e.raw), grouped(e.hex), grouped(e.base64));
            let (data, zlib, ratio) = (grouped(e.data), grouped(e.data_zlib), ratio(e.hex, m.wire));
            let name = row.name;
            line(
                out,
                format_args!(
                    "| {name} | {level} | {wire} | {time} | {raw} | {hex} | {base64} | {data} | {zlib} | {ratio} |"
                ),
            );
        }
    }
}

fn regions(out: &mut String, virt: &[Row]) {
    out.push_str(
        "\n## Crash region\n
What lies in it when it is armed, in bytes, read from the machine's memory. *Image* is the image_size of the capture kernel: file, BSS, stacks
and all its buffers. *Supervisor* is kept from the capture kernel: the EL2 stub with its tables, and the park page.

| machine | region | Image | device tree | ELF core header | supervisor | in use |
|---|---|---|---|---|---|---|
",
    );
    for row in virt {
        let r = &row.region;
        let share = 100.0 * r.sum() as f64 / r.region.max(1) as f64;
        let [region, image, tree] = [r.region, r.image, r.device_tree].map(grouped);
        let [header, supervisor, sum] = [r.core_header, r.supervisor, r.sum()].map(grouped);
        let name = row.name;
        line(
            out,
            format_args!(
                "| {name} | {region} | {image} | {tree} | {header} | {supervisor} | {sum} ({share:.0} %) |"
            ),
        );
    }
}

fn linux_section(out: &mut String, rows: &LinuxRows) {
    let LinuxRows {
        version,
        wire,
        encodings: e,
        ..
    } = rows;
    line(
        out,
        format_args!(
            "\n## Linux into our capture kernel\n
Debian's Linux {version} on cortex-a72 at EL1, {} MiB, `crashkernel=2M`, `kexec -p`, `echo c > /proc/sysrq-trigger`; all pages that are not zero
(dump level 1). Nobody answers, at the least effort (`dump_effort=0`): a fifth of the bytes is
parity.
\n| same RAM as | bytes | at 115200 | to wire |\n|---|---|---|---|",
            e.raw >> 20
        ),
    );
    let forms = [
        ("**on the wire**", *wire),
        ("raw", e.raw),
        ("hexadecimal lines", e.hex),
        ("base64 lines", e.base64),
        ("pages that are not zero", e.data),
        ("– in hexadecimal lines", e.data_hex),
        ("– in base64 lines", e.data_base64),
        ("– zlib level 1 per page", e.data_zlib),
    ];
    for (name, len) in forms {
        let (bytes, time, ratio) = (grouped(len), at_115200(len), ratio(len, *wire));
        line(out, format_args!("| {name} | {bytes} | {time} | {ratio} |"));
    }
    let (first, last) = (ms(rows.first_frame), ms(rows.last_frame));
    line(
        out,
        format_args!(
            "\nFrom Linux's last message to the first frame {first}, to the end of the line {last} (line to a FIFO).
\n### Where the time goes
\nThe same crash with different lines. CPU time is that of QEMU from the crash to the end; \"user\" is the translated guest and the UART model,
\"system\" the host's kernel, which takes each byte with a system call of its own.
\n| line | CPU: user | system | in all | per byte | whole run, boot included |\n|---|---|---|---|---|---|"
        ),
    );
    for way in &rows.ways {
        let (user, system) = (way.cpu.user, way.cpu.system);
        let (all, whole, name) = (user + system, way.whole.as_secs_f64(), way.name);
        let per_byte = all / (*wire).max(1) as f64 * 1e6;
        line(
            out,
            format_args!(
                "| {name} | {user:.1} s | {system:.1} s | {all:.1} s | {per_byte:.2} us | {whole:.1} s |"
            ),
        );
    }
    let host = rows.host.as_secs_f64();
    line(
        out,
        format_args!(
            "\n`afterimage receive` takes {host:.1} s for the whole recording, so the host is not what is waited for. The last row is the guest
alone: walk over memory, hashing, packing, parity, and two accesses to UART registers for each byte, each of which leaves the translated code. What the
rows above it add is QEMU's character device and, on a machine of few cores, the reader that each byte wakes. On a real board the line is the
limit: {} at 115200 baud.",
            at_115200(*wire)
        ),
    );
}

fn levels(row: &Row) -> [(u32, &Measured); 2] {
    [(0, &row.level_0), (17, &row.level_17)]
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

pub(crate) fn ms(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 10.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

fn at_115200(bytes: u64) -> String {
    let seconds = bytes as f64 / LINE_BYTES_PER_SECOND;
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

pub(crate) fn ratio(larger: u64, smaller: u64) -> String {
    match larger as f64 / smaller.max(1) as f64 {
        ratio if ratio < 100.0 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

/// Digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let grouped = digits.char_indices().flat_map(|(at, digit)| {
        let is_group_end = at > 0 && (digits.len() - at).is_multiple_of(3);
        is_group_end.then_some(' ').into_iter().chain([digit])
    });
    grouped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1 000", "1 234 567"]
        );
    }

    #[test]
    fn mebibyte_at_115200_takes_a_minute_and_a_half() {
        assert_eq!(at_115200(1 << 20), "91 s");
    }

    #[test]
    fn gibibyte_at_115200_takes_a_day() {
        assert_eq!(at_115200(1 << 30), "25.9 h");
    }

    #[test]
    fn ratio_to_nothing_does_not_divide_by_zero() {
        assert_eq!(ratio(5, 0), "5.0");
    }
}
