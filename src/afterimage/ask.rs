// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage status` and `estimate`: ask the running kernel on its console, by the SysRq sequence and a letter.
//!
//! The answer is lines with a checksum (`vmcore::console_report`). What is not exactly that is an error, never a guess.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use vmcore::PAGE_SIZE;
use vmcore::afterimage_notes::Taint;
use vmcore::console_report::{Estimate, ReportError, Status};

use crate::cli::Ask;
use crate::connection::{Connection, Read};
use crate::error::{Error, Exit, Result};
use crate::interrupt::Interrupt;
use crate::output::{print, size};
use crate::terminal::harmless;

/// Time until the question is asked again: the machine may just be booting.
const REPEAT: Duration = Duration::from_secs(2);
/// Longest look at the line in one go.
const POLL: Duration = Duration::from_millis(100);
/// Text of the console that is kept; the answers are below 1 KiB.
const KEPT: usize = 64 << 10;
/// Rates for which a time is told, besides the console's own.
const RATES: [u64; 4] = [9600, 115_200, 921_600, 3_000_000];

/// Runs `status`.
///
/// # Errors
///
/// Nobody answers, or the answer is not to be believed.
pub fn status(args: &Ask, interrupt: &Interrupt) -> Result<Exit> {
    let Some(report) = ask(args, b's', Status::parse, interrupt)? else {
        return Ok(Exit::Interrupted);
    };
    print(
        if args.json {
            status_json(&report)
        } else {
            status_text(&report)
        }
        .as_bytes(),
    )?;
    Ok(Exit::Done)
}

/// Runs `estimate`.
///
/// # Errors
///
/// As [`status`].
pub fn estimate(args: &Ask, interrupt: &Interrupt) -> Result<Exit> {
    let Some(report) = ask(args, b'e', Estimate::parse, interrupt)? else {
        return Ok(Exit::Interrupted);
    };
    print(
        if args.json {
            estimate_json(&report)
        } else {
            estimate_text(&report)
        }
        .as_bytes(),
    )?;
    Ok(Exit::Done)
}

/// Asks until there is an answer; `None` after Ctrl-C.
fn ask<R>(
    args: &Ask,
    command: u8,
    parse: impl Fn(&str) -> std::result::Result<Option<R>, ReportError<'_>>,
    interrupt: &Interrupt,
) -> Result<Option<R>> {
    let link = args.link.to_string();
    if args.link.is_recording() {
        return Err(Error::NoAnswer {
            link,
            what: "a recording cannot be asked".to_owned(),
        });
    }
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let Some(mut connection) = Connection::open(&args.link, Some(deadline), interrupt)? else {
        return Ok(None);
    };
    let mut question = args.sysrq_sequence.clone().into_bytes();
    question.push(command);
    let mut heard = Vec::new();
    let mut asked: Option<Instant> = None;
    loop {
        if interrupt.is_raised() {
            return Ok(None);
        }
        if asked.is_none_or(|at| at.elapsed() >= REPEAT) {
            connection.write(&question)?;
            asked = Some(Instant::now());
        }
        let read = connection.read(&mut heard, POLL, None)?;
        let text = String::from_utf8_lossy(&heard);
        match parse(&text) {
            Ok(Some(report)) => return Ok(Some(report)),
            Ok(None) => {}
            Err(error) => {
                return Err(Error::BadAnswer {
                    link,
                    what: error.to_string(),
                });
            }
        }
        if read == Read::Closed || Instant::now() >= deadline {
            let what = silence(&heard, read == Read::Closed, args.timeout);
            return Err(Error::NoAnswer { link, what });
        }
        let excess = heard.len().saturating_sub(KEPT);
        heard.drain(..excess);
    }
}

/// Says what came instead of an answer.
fn silence(heard: &[u8], is_closed: bool, seconds: u64) -> String {
    if heard.contains(&0) {
        return "a dump is on the line: the machine has crashed (afterimage receive)".to_owned();
    }
    let text = String::from_utf8_lossy(heard);
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let came = last.map_or_else(
        || "nothing came".to_owned(),
        |line| {
            let line: String = harmless(line).chars().take(60).collect();
            format!("the last line was \"{line}\"")
        },
    );
    if is_closed {
        format!("the line was closed; {came}")
    } else {
        format!("not within {seconds} s; {came}")
    }
}

const fn word(value: u64) -> &'static str {
    if value == 0 { "no" } else { "yes" }
}

const fn good(value: u64) -> &'static str {
    if value == 0 { "BAD" } else { "good" }
}

fn status_text(report: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<16} {value}");
    };
    let verdict = if report.is_good() {
        "a crash would leave a dump"
    } else {
        "a crash would leave NO dump, or not all of one"
    };
    line("verdict", verdict.to_owned());
    line("loaded", word(report.loaded).to_owned());
    line(
        "crash region",
        format!("{:#x}, {}", report.region_start, size(report.region_bytes)),
    );
    line(
        "image",
        format!(
            "{}, digest in {} us",
            good(report.image_good),
            report.digest_us
        ),
    );
    line("device tree", good(report.dtb_good).to_owned());
    line("ELF core header", good(report.core_header_good).to_owned());
    line(
        "EL2 stub",
        if report.stub == 0 {
            "absent".to_owned()
        } else {
            good(report.stub_good).to_owned()
        },
    );
    line("CPUs", report.cpus.to_string());
    let flags = report.taint;
    line("taint", Taint { flags }.to_string());
    line("up", format!("{} s", report.uptime_us / 1_000_000));
    out
}

fn status_json(report: &Status) -> String {
    let mut object = fields(&report.fields());
    for name in [
        "loaded",
        "stub",
        "stub_good",
        "image_good",
        "dtb_good",
        "core_header_good",
    ] {
        if let Some(value) = object.get_mut(name) {
            *value = json!(*value == json!(1));
        }
    }
    object.insert("good".to_owned(), json!(report.is_good()));
    format!("{:#}\n", Value::Object(object))
}

fn fields(fields: &[(&'static str, u64)]) -> Map<String, Value> {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect()
}

/// Returns rates and seconds for the data of a dump, ascending.
fn times(report: &Estimate) -> Vec<(u64, u64)> {
    let mut rates: Vec<u64> = RATES.into_iter().chain([report.baud]).collect();
    rates.retain(|&rate| rate != 0);
    rates.sort_unstable();
    rates.dedup();
    let bytes = data_bytes(report);
    let time = |rate| (rate, Estimate::seconds(bytes, rate));
    rates.into_iter().map(time).collect()
}

const fn data_bytes(report: &Estimate) -> u64 {
    report.data_pages().saturating_mul(PAGE_SIZE)
}

fn estimate_text(report: &Estimate) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<16} {value}");
    };
    let pages = |count: u64| format!("{} ({count} pages)", size(count.saturating_mul(PAGE_SIZE)));
    line("RAM", pages(report.ram_pages));
    line("free", format!("{}, not sent", pages(report.free_pages)));
    line("in use", pages(report.used_pages));
    line("zero", format!("{}, not sent", pages(report.zero_pages)));
    let unknown = report.used_pages.saturating_sub(report.looked_pages);
    line("not looked at", format!("{}, zero or not", pages(unknown)));
    line(
        "secret",
        format!("{}, never sent", pages(report.secret_pages)),
    );
    line(
        "program's data",
        format!("{}, not sent at level bit 8", pages(report.app_pages)),
    );
    line("a dump", format!("{} at most", pages(report.data_pages())));
    for (rate, seconds) in times(report) {
        let own = if rate == report.baud {
            ", the console's"
        } else {
            ""
        };
        line(
            "",
            format!("{seconds} s at {rate} baud{own}, if nothing could be packed"),
        );
    }
    out
}

fn estimate_json(report: &Estimate) -> String {
    let mut object = fields(&report.fields());
    object.insert("data_bytes".to_owned(), json!(data_bytes(report)));
    let times: Vec<Value> = times(report)
        .into_iter()
        .map(|(baud, seconds)| json!({ "baud": baud, "seconds": seconds }))
        .collect();
    object.insert("times".to_owned(), json!(times));
    format!("{:#}\n", Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Estimate = Estimate {
        ram_pages: 32_256,
        free_pages: 31_000,
        used_pages: 1256,
        looked_pages: 1000,
        zero_pages: 600,
        secret_pages: 6,
        app_pages: 0,
        baud: 115_200,
    };

    #[test]
    fn estimate_counts_unseen_pages_as_data() {
        assert_eq!(data_bytes(&REPORT), 650 * 4096);
        let text = estimate_text(&REPORT);
        assert!(text.contains("1.0 MiB (256 pages), zero or not"), "{text}");
        assert!(
            text.contains("232 s at 115200 baud, the console's"),
            "{text}"
        );
    }

    #[test]
    fn rate_of_the_console_is_listed_once() {
        let rates: Vec<u64> = times(&REPORT).into_iter().map(|(rate, _)| rate).collect();
        assert_eq!(rates, RATES);
        let unknown = Estimate { baud: 0, ..REPORT };
        assert_eq!(times(&unknown).len(), RATES.len());
    }

    #[test]
    fn status_with_one_thing_bad_is_not_good() {
        let report = Status {
            loaded: 1,
            stub_good: 1,
            image_good: 0,
            dtb_good: 1,
            core_header_good: 1,
            ..Status::default()
        };
        let json: Value = serde_json::from_str(&status_json(&report)).expect("JSON");
        assert_eq!(json["good"], json!(false));
        assert_eq!(json["image_good"], json!(false));
        assert_eq!(json["loaded"], json!(true));
        assert!(status_text(&report).contains("NO dump"));
    }

    #[test]
    fn silence_says_what_came() {
        assert!(silence(b"", false, 5).contains("nothing came"));
        assert!(silence(b"login:\r\n\r\n", false, 5).contains("\"login:\""));
        assert!(silence(b"x\0y", false, 5).contains("crashed"));
        assert!(!silence(b"\x1b[2Jx", true, 5).contains('\x1b'));
    }
}
