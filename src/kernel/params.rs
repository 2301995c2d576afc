// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's command line (`/chosen/bootargs`): what we understand of it, and a word about what is malformed.
//!
//! `crashkernel=` has a parser of its own (`boot_config::crashkernel`). Unknown or malformed parameters are logged, never fatal.

use boot_config::parameters;

use wire::Next;

use crate::crash::after;
use crate::watch;

/// Where the capture Image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaptureSource<'a> {
    /// Linked into the kernel.
    Embedded,
    /// Brought from outside.
    Outside(Source<'a>),
    /// None is loaded at boot.
    None,
}

/// Where a file comes from that is not linked into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// The boot loader's initrd.
    Initrd,
    /// A host file, by semihosting.
    Semihosting(&'a str),
}

/// `lkdtm=NAME[@MS]`, and our own `lkdtm_cpu=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Provoked<'a> {
    pub(crate) name: &'a str,
    pub(crate) after_ms: Option<u64>,
    pub(crate) cpu: usize,
}

/// The parameters that are ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Params<'a> {
    pub(crate) capture: CaptureSource<'a>,
    /// The capture kernel's own initial RAM disk.
    pub(crate) capture_initrd: Option<Source<'a>>,
    pub(crate) panic_on_warn: bool,
    pub(crate) panic_on_taint: u64,
    pub(crate) sysrq_sequence: &'a str,
    pub(crate) lkdtm: Option<Provoked<'a>>,
    pub(crate) lkdtm_state: &'a str,
    pub(crate) lkdtm_secondaries: &'a str,
    pub(crate) max_cpus: usize,
    pub(crate) semihosting: bool,
    pub(crate) watch: watch::Policy,
    /// What follows a dump that this kernel sends itself.
    pub(crate) then: Next,
    /// `crash_stop=irq`: the others are asked to stop by IRQ, as where firmware owns the GIC's Group 0.
    pub(crate) stops_by_irq: bool,
}

/// Sequence that stands for BREAK on lines without one.
const SYSRQ_SEQUENCE: &str = "~~~SysRq";

impl<'a> Params<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Self {
        let mut params = Self {
            capture: CaptureSource::Embedded,
            capture_initrd: None,
            panic_on_warn: false,
            panic_on_taint: 0,
            sysrq_sequence: SYSRQ_SEQUENCE,
            lkdtm: None,
            lkdtm_state: "",
            lkdtm_secondaries: "",
            max_cpus: usize::MAX,
            semihosting: false,
            watch: watch::Policy::DEFAULT,
            then: Next::Reboot,
            stops_by_irq: false,
        };
        let mut lkdtm_cpu = 0;
        for parameter in parameters(line) {
            let (Some(key), value) = (parameter.key_str(), parameter.value_str().unwrap_or(""))
            else {
                continue;
            };
            let is_understood = match key {
                "capture" => capture_source(value)
                    .map(|source| params.capture = source)
                    .is_some(),
                "capture_initrd" => source(value)
                    .map(|source| params.capture_initrd = Some(source))
                    .is_some(),
                "panic_on_warn" => flag(value).map(|on| params.panic_on_warn = on).is_some(),
                "panic_on_taint" => taint_mask(value)
                    .map(|mask| params.panic_on_taint = mask)
                    .is_some(),
                "sysrq_sequence" if !value.is_empty() => {
                    params.sysrq_sequence = value;
                    true
                }
                "lkdtm" => provoked(value)
                    .map(|provoked| params.lkdtm = Some(provoked))
                    .is_some(),
                "lkdtm_cpu" => number(value).map(|cpu| lkdtm_cpu = cpu as usize).is_some(),
                "lkdtm_state" => {
                    params.lkdtm_state = value;
                    true
                }
                "lkdtm_secondaries" => {
                    params.lkdtm_secondaries = value;
                    true
                }
                "maxcpus" | "nr_cpus" => number(value)
                    .map(|most| params.max_cpus = (most as usize).max(1))
                    .is_some(),
                "crash_stop" => stops_by_irq(value)
                    .map(|by_irq| params.stops_by_irq = by_irq)
                    .is_some(),
                "fault" => crate::fault::plan(value),
                "semihosting" => flag(value).map(|on| params.semihosting = on).is_some(),
                "watchdog_thresh" => at_most(value, watch::Policy::MAX_THRESH_S)
                    .map(|seconds| params.watch.thresh_s = seconds)
                    .is_some(),
                "nowatchdog" => flag(value)
                    .filter(|off| *off)
                    .map(|_| params.watch.thresh_s = 0)
                    .is_some(),
                "nosoftlockup" => flag(value)
                    .map(|off| params.watch.has_soft = !off)
                    .is_some(),
                "hung_task_timeout_secs" => at_most(value, watch::Policy::MAX_HUNG_TASK_S)
                    .map(|seconds| params.watch.hung_task_s = seconds)
                    .is_some(),
                "hardlockup_panic" => flag(value)
                    .map(|on| params.watch.hard_panics = on)
                    .is_some(),
                "softlockup_panic" => flag(value)
                    .map(|on| params.watch.soft_panics = on)
                    .is_some(),
                "hung_task_panic" => flag(value)
                    .map(|on| params.watch.hung_panics = on)
                    .is_some(),
                "dump_then" => after::parse(value).map(|then| params.then = then).is_some(),
                // Parsed elsewhere: crashkernel= by boot-config, dump_* by the capture kernel, the rest when loading.
                "crashkernel" | "dump_level" | "dump_to" | "dump_effort" | "dump_rounds"
                | "dump_timeout" | "dump_recheck" | "dump_fault" | "dump_watchdog"
                | "capture_append" => true,
                _ => {
                    log::info!(
                        "command line: {key} at byte {} is not ours",
                        parameter.offset
                    );
                    true
                }
            };
            if !is_understood {
                log::warn!(
                    "command line: {key}={value} at byte {} is malformed and ignored",
                    parameter.offset
                );
            }
        }
        if let Some(lkdtm) = &mut params.lkdtm {
            lkdtm.cpu = lkdtm_cpu;
        }
        params
    }
}

fn capture_source(value: &str) -> Option<CaptureSource<'_>> {
    match value {
        "embedded" => Some(CaptureSource::Embedded),
        "none" => Some(CaptureSource::None),
        _ => source(value).map(CaptureSource::Outside),
    }
}

fn stops_by_irq(value: &str) -> Option<bool> {
    match value {
        "irq" => Some(true),
        "fiq" => Some(false),
        _ => None,
    }
}

fn source(value: &str) -> Option<Source<'_>> {
    if value == "initrd" {
        return Some(Source::Initrd);
    }
    let path = value.strip_prefix("semihosting:")?;
    (!path.is_empty()).then_some(Source::Semihosting(path))
}

fn provoked(value: &str) -> Option<Provoked<'_>> {
    let (name, after_ms) = match value.split_once('@') {
        Some((name, after)) => (name, Some(number(after)?)),
        None => (value, None),
    };
    (!name.is_empty()).then_some(Provoked {
        name,
        after_ms,
        cpu: 0,
    })
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "y" | "on" => Some(true),
        "0" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// As Linux: hexadecimal with or without `0x`, at least one known flag. `,nousertaint` is taken and means nothing here.
fn taint_mask(value: &str) -> Option<u64> {
    let mask = value.strip_suffix(",nousertaint").unwrap_or(value);
    let digits = mask.strip_prefix("0x").unwrap_or(mask);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mask = u64::from_str_radix(digits, 16).ok()? & vmcore::afterimage_notes::Taint::KNOWN;
    (mask != 0).then_some(mask)
}

fn at_most(value: &str, most: u64) -> Option<u32> {
    number(value)
        .filter(|number| *number <= most)
        .and_then(|number| u32::try_from(number).ok())
}

fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}
