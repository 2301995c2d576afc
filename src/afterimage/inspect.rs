// SPDX-License-Identifier: MIT OR Apache-2.0
//! `afterimage info` and `verify`: what is in a dump, and whether it is whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use vmcore::afterimage_notes::{Gap, Phase, name_text};
use vmcore::{PageClass, PhysRange};

use crate::cli::Inspect;
use crate::contents::Contents;
use crate::core_file::CoreFile;
use crate::error::{Exit, Result};
use crate::foreign::{foreign_json, foreign_line};
use crate::interrupts::{interrupt_lines, interrupts_json};
use crate::linux_info::{linux_json, linux_lines};
use crate::moved::{moved_json, moved_lines};
use crate::output::{print, size};
use crate::page_tables::{page_table_lines, page_tables_json};
use crate::phys_ranges::merged;
use crate::symbols::hex;
use crate::system_state::{fp_json, fp_lines, sysreg_lines, sysregs_json};
use crate::terminal::harmless;

/// Runs `info`.
///
/// # Errors
///
/// When the dump cannot be used.
pub fn info(args: &Inspect) -> Result<Exit> {
    let core = CoreFile::open(&args.vmcore)?;
    let contents = Contents::of(core.note_bytes());
    let text = if args.json {
        pretty(&info_json(&core, &contents))
    } else {
        info_text(&core, &contents)
    };
    print(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Runs `verify`.
///
/// # Errors
///
/// When the dump cannot be used at all; an incomplete one is no error but [`Exit::Incomplete`].
pub fn verify(args: &Inspect) -> Result<Exit> {
    let core = CoreFile::open(&args.vmcore)?;
    let contents = Contents::of(core.note_bytes());
    let faults = faults(&core, &contents);
    let is_whole = faults.is_empty();
    let text = if args.json {
        pretty(&json!({
            "whole": is_whole,
            "missing": faults,
            "left_out_bytes": gap_totals(&contents),
            "moved": moved_json(&contents),
            "lost": of_class(&contents, PageClass::Lost).iter().map(range_json).collect::<Vec<_>>(),
        }))
    } else {
        let mut text = if is_whole {
            format!("whole{}\n", left_out(&contents))
        } else {
            let list: String = faults.iter().map(|f| format!("  {f}\n")).collect();
            format!("incomplete{}; missing:\n{list}", left_out(&contents))
        };
        let moved = moved_lines(&contents);
        moved
            .iter()
            .for_each(|line| text.push_str(&format!("  {line}\n")));
        text
    };
    print(text.as_bytes())?;
    Ok(if is_whole {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// Returns what is missing though it should be there, a line each; empty for a whole dump.
#[must_use]
pub fn faults(core: &CoreFile, contents: &Contents<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    if core.missing_bytes() > 0 {
        faults.push(format!(
            "the file is cut off at {} bytes; {} bytes of memory are past its end",
            core.len(),
            core.missing_bytes()
        ));
    }
    if core.is_flagged_incomplete() {
        faults.push(FLAGGED.to_owned());
    }
    for range in of_class(contents, PageClass::Lost) {
        faults.push(format!(
            "memory {:#x}..{:#x} ({}) was lost",
            range.start,
            range.end,
            size(range.len())
        ));
    }
    if contents.is_minimal() {
        faults.push(MINIMAL.to_owned());
    } else {
        faults.extend(skipped(contents.gaps.as_deref().unwrap_or_default()));
    }
    if !contents.is_vouched_for && !contents.is_minimal() {
        faults.push("something that `receive` named, or the end of the dump: no summary agrees with what arrived".to_owned());
    }
    for note in &contents.unreadable_notes {
        faults.push(format!("note {}", harmless(note)));
    }
    if contents.statuses.is_empty() {
        faults.push("registers of any CPU".to_owned());
    }
    if core.loads().is_empty() {
        faults.push("memory: no segment".to_owned());
    }
    faults
}

/// What is said of a file whose header says that it is incomplete.
const FLAGGED: &str = "what whoever wrote the file had no room for, or had lost: its ELF header is flagged (e_flags 1)";

/// What is missing from a minimal dump.
pub const MINIMAL: &str = "most of memory: this is the minimal dump, which the crashed kernel sends itself when no capture kernel can be entered (registers, stacks, log, kernel data)";

/// Returns what is to be said of memory that a capture kernel skipped; nothing when it skipped none.
#[must_use]
pub fn skipped(gaps: &[Gap]) -> Option<String> {
    let skipped = gaps.iter().filter(|g| g.class == PageClass::Skipped);
    let (count, bytes) = skipped.fold((0_usize, 0_u64), |(count, bytes), gap| {
        let bytes = bytes.saturating_add(gap.range.len());
        (count.saturating_add(1), bytes)
    });
    let first = gaps.iter().find(|g| g.class == PageClass::Skipped)?;
    Some(format!(
        "{} of memory in {count} ranges, the first at {:#x}, was skipped: the capture kernel failed when it came to it",
        size(bytes),
        first.range.start
    ))
}

fn of_class(contents: &Contents<'_>, class: PageClass) -> Vec<PhysRange> {
    let gaps = contents.gaps.iter().flatten();
    gaps.filter(|g| g.class == class).map(|g| g.range).collect()
}

/// Returns the missing bytes by cause.
fn gap_totals(contents: &Contents<'_>) -> BTreeMap<&'static str, u64> {
    let mut totals = BTreeMap::new();
    for gap in contents.gaps.iter().flatten() {
        let total: &mut u64 = totals.entry(gap.class.name()).or_default();
        *total = total.saturating_add(gap.range.len());
    }
    totals
}

fn left_out(contents: &Contents<'_>) -> String {
    let parts: Vec<String> = gap_totals(contents)
        .iter()
        .filter(|(name, _)| **name != PageClass::Lost.name())
        .map(|(name, bytes)| format!("{name} {}", size(*bytes)))
        .collect();
    if parts.is_empty() {
        return String::new();
    }
    format!(" (left out: {})", parts.join(", "))
}

/// Returns the RAM that the dump describes, gaps included, as few ranges as possible.
#[must_use]
pub fn ram(core: &CoreFile, contents: &Contents<'_>) -> Vec<PhysRange> {
    let mut all = core.described();
    all.extend(contents.gaps.iter().flatten().map(|gap| gap.range));
    merged(all)
}

fn range_json(range: &PhysRange) -> Value {
    json!({ "start": range.start, "end": range.end })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn source(contents: &Contents<'_>) -> &'static str {
    if contents.is_afterimage() {
        "afterimage"
    } else if contents.vmcoreinfo.is_some() {
        "linux"
    } else {
        "unknown"
    }
}

fn info_json(core: &CoreFile, contents: &Contents<'_>) -> Value {
    let reason = contents.reason.as_ref().map(|r| {
        json!({
            "kind": r.kind.name(), "cpu": r.cpu, "pc": r.pc, "esr": r.esr, "far": r.far,
            "text": r.text, "counter": r.counter, "counter_hz": r.counter_hz,
        })
    });
    let cpus: Vec<Value> = contents
        .cpus()
        .iter()
        .map(|(cpu, s)| {
            json!({
                "cpu": cpu, "pid": s.pid, "stop": contents.stop_name(*cpu),
                "pc": s.registers.pc, "sp": s.registers.sp, "pstate": s.registers.pstate,
            })
        })
        .collect();
    let stops: Vec<Value> = contents
        .stops
        .iter()
        .map(|s| json!({ "cpu": s.cpu, "status": s.status.name(), "waited_us": s.waited_us, "off_confirmed": s.is_off_confirmed, "parked": s.is_parked }))
        .collect();
    let fallback = contents.fallback.map(|fallback| {
        let copies = fallback.copies.map(|copy| copy.name());
        json!({ "level": fallback.level.name(), "copies": copies })
    });
    json!({
        "source": source(contents),
        "reason": reason,
        "linux": linux_json(core, contents),
        "fallback": fallback,
        "taint": contents.taint.map_or(0, |taint| taint.flags),
        "build_id": contents.build_id.map(hex),
        "ram": ram(core, contents).iter().map(range_json).collect::<Vec<_>>(),
        "cpus": cpus,
        "stops": stops,
        "threads": contents.threads.iter().map(|t| json!({ "id": t.id, "name": name_text(&t.name) })).collect::<Vec<_>>(),
        "sysregs": sysregs_json(contents),
        "fp": fp_json(contents),
        "interrupts": interrupts_json(contents),
        "timings": timings(contents).iter().map(|(phase, us)| json!({ "phase": phase, "us": us })).collect::<Vec<_>>(),
        "segments": core.loads().len(),
        "file_bytes": core.len(),
        "missing_bytes": core.missing_bytes(),
        "gap_bytes": gap_totals(contents),
        "moved": moved_json(contents),
        "foreign": contents.foreign.iter().map(foreign_json).collect::<Vec<_>>(),
        "page_tables": page_tables_json(core, contents),
        "whole": faults(core, contents).is_empty(),
    })
}

/// Returns the phases in microseconds since the fault, or since the first where no fault is known.
fn timings(contents: &Contents<'_>) -> Vec<(&'static str, u64)> {
    let mut timings = contents.timings.clone();
    timings.sort_by_key(|timing| timing.ticks);
    let of_fault = timings.iter().find(|t| t.phase == Phase::Fault);
    let Some(begin) = of_fault.or_else(|| timings.first()).map(|t| t.ticks) else {
        return Vec::new();
    };
    let us = |ticks: u64| {
        let since = u128::from(ticks.saturating_sub(begin)).saturating_mul(1_000_000);
        since
            .checked_div(u128::from(contents.counter_hz))
            .and_then(|us| u64::try_from(us).ok())
    };
    let named = timings.iter();
    named
        .filter_map(|t| Some((t.phase.name(), us(t.ticks)?)))
        .collect()
}

/// Returns what `info` prints.
#[must_use]
pub fn info_text(core: &CoreFile, contents: &Contents<'_>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line(
        "file",
        format!(
            "{} ({}, {} segments)",
            core.path().display(),
            size(core.len()),
            core.loads().len()
        ),
    );
    line("source", source(contents).to_owned());
    if let Some(r) = &contents.reason {
        line(
            "reason",
            format!("{} on CPU {}: {}", r.kind.name(), r.cpu, harmless(r.text)),
        );
        line(
            "",
            format!("pc {:#x}, esr {:#x}, far {:#x}", r.pc, r.esr, r.far),
        );
    }
    if let Some(fallback) = &contents.fallback {
        let [first, second] = fallback.copies.map(|copy| copy.name());
        line(
            "dumped by",
            format!(
                "{} (capture kernel {first}, second copy {second})",
                fallback.level.name()
            ),
        );
    }
    if let Some(taint) = &contents.taint {
        line("taint", taint.to_string());
    }
    let linux = linux_lines(core, contents);
    if linux.is_empty() {
        let absent = || "not in the dump".to_owned();
        line("build ID", contents.build_id.map_or_else(absent, hex));
    }
    for (name, text) in linux {
        line(name, text);
    }
    for range in ram(core, contents) {
        line(
            "RAM",
            format!(
                "{:#x}..{:#x} ({})",
                range.start,
                range.end,
                size(range.len())
            ),
        );
    }
    for (cpu, status) in contents.cpus() {
        let how = match contents.linux() {
            Some(_) => format!("process {}", status.pid),
            None => contents
                .stop_name(cpu)
                .unwrap_or("stop status unknown")
                .to_owned(),
        };
        line(
            "CPU",
            format!(
                "{cpu}: {how}, pc {:#x}, sp {:#x}",
                status.registers.pc, status.registers.sp
            ),
        );
    }
    for stop in &contents.stops {
        if !contents.cpus().iter().any(|(cpu, _)| *cpu == stop.cpu) {
            line(
                "CPU",
                format!("{}: {}, no registers", stop.cpu, stop.status.name()),
            );
        }
    }
    for (name, state) in [
        ("sysregs", sysreg_lines(contents)),
        ("fp", fp_lines(contents)),
        ("interrupt", interrupt_lines(contents)),
        ("tables", page_table_lines(core, contents)),
    ] {
        for text in state {
            line(name, text);
        }
    }
    for thread in &contents.threads {
        line(
            "thread",
            format!("{}: {}", thread.id, harmless(name_text(&thread.name))),
        );
    }
    for (phase, us) in timings(contents) {
        line("time", format!("{phase}: {us} us"));
    }
    for (name, bytes) in gap_totals(contents) {
        line(
            "left out",
            format!("{name}: {} ({bytes} bytes)", size(bytes)),
        );
    }
    if contents.gaps.is_none() {
        line("left out", "the file does not say".to_owned());
    }
    for foreign in &contents.foreign {
        line("not read", foreign_line(foreign));
    }
    for moved in moved_lines(contents) {
        line("moved", moved);
    }
    for fault in faults(core, contents) {
        line("missing", fault);
    }
    out
}
